//! What a transcript cannot show: the requests themselves, saving and
//! restoring, no daemon.

use crate::ipvsadm::fake::{FakeControl, FakeNames};
use crate::ipvsadm::run::{Io, Session};
use crate::model::{
    Dest, DestId, DestSpec, Family, Method, Protocol, Request, ServiceId, ServiceSpec, Tunnel,
};

fn run(line: &str, input: &str, control: &mut FakeControl) -> (u8, String, String) {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let (mut stdin, mut stdout, mut stderr) = (input.as_bytes(), Vec::new(), Vec::new());
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let status = Session {
        argv0: "/sbin/ipvsadm",
        control,
        io: &mut io,
        names: &FakeNames,
    }
    .run(&words);
    (
        status,
        String::from_utf8(stdout).unwrap(),
        String::from_utf8(stderr).unwrap(),
    )
}

/// The request a line makes.
fn request(line: &str) -> Request {
    let mut control = FakeControl::default();
    run(line, "", &mut control);
    control
        .requests
        .pop()
        .unwrap_or_else(|| panic!("{line}: no request"))
}

fn http(protocol: Protocol) -> ServiceId {
    ServiceId::Address {
        protocol,
        addr: [10, 0, 0, 1].into(),
        port: 80,
    }
}

#[test]
fn lines_to_requests() {
    let spec = ServiceSpec {
        scheduler: "wrr".to_owned(),
        sched_flags: 0,
        ops: false,
        persistent: None,
        netmask: u32::MAX,
        pe: None,
        toa: false,
    };
    assert_eq!(
        request("-A -t 10.0.0.1:http -s wrr"),
        Request::AddService(http(Protocol::Tcp), spec.clone())
    );
    assert_eq!(
        request("-Eu 10.0.0.1:80 --scheduler=wrr"),
        Request::EditService(http(Protocol::Udp), spec)
    );
    let id = DestId {
        addr: [10, 0, 0, 2].into(),
        port: 80,
    };
    let spec = DestSpec {
        method: Method::Route,
        weight: 5,
        u_threshold: 0,
        l_threshold: 0,
        tunnel: Tunnel::Ipip,
    };
    // Direct routing cannot change the port, whatever -r says and wherever it stands.
    for server in ["10.0.0.2", "10.0.0.2:8080"] {
        let add = Request::AddDest(http(Protocol::Tcp), Dest { id, spec });
        assert_eq!(request(&format!("-a -t 10.0.0.1:80 -r {server} -w 5")), add);
        assert_eq!(request(&format!("-a -r {server} -w 5 -t 10.0.0.1:80")), add);
    }
    // Taking a server out goes by what is written.
    let written = DestId { port: 8080, ..id };
    assert_eq!(
        request("-d -t 10.0.0.1:80 -r 10.0.0.2:8080"),
        Request::DeleteDest(http(Protocol::Tcp), written)
    );
    assert_eq!(
        request("-d -t 10.0.0.1:80 -r 10.0.0.2"),
        Request::DeleteDest(http(Protocol::Tcp), id)
    );
    assert_eq!(request("-Z"), Request::Zero(None));
    assert_eq!(
        request("-Z -t 10.0.0.1:80"),
        Request::Zero(Some(http(Protocol::Tcp)))
    );
    assert_eq!(request("-Z -t 0.0.0.0:0"), Request::Zero(None));
    assert_eq!(request("-C"), Request::Clear);
    assert_eq!(request(""), Request::List(None));
    assert_eq!(
        request("-L -u 10.0.0.1:80"),
        Request::List(Some(http(Protocol::Udp)))
    );
    assert_eq!(request("-Lnc"), Request::Connections);
    assert_eq!(request("-Sn"), Request::List(None));
}

/// What the original refuses: D-mark-hex and D-mark-sign.
#[test]
fn marks_that_are_written_otherwise() {
    for (text, wanted) in [
        ("0x10", 16),
        ("0xffffffff", u32::MAX),
        ("-1", u32::MAX),
        ("-2147483648", 1 << 31),
        ("4294967295", u32::MAX),
    ] {
        let line = format!("-D -f {text}");
        let mark = ServiceId::Mark {
            mark: wanted,
            family: Family::V4,
        };
        assert_eq!(request(&line), Request::DeleteService(mark), "{line}");
    }
    for text in ["0x", "0x0", "0x+1", "-0", "-6", "-2147483649", "4294967296"] {
        let (status, _, error) = run(&format!("-D -f {text}"), "", &mut FakeControl::default());
        let wanted = format!("invalid fwmark value `{text}' specified\n");
        assert_eq!((status, error), (2, wanted));
    }
}

#[test]
fn toa_is_a_parameter_of_tcp_services() {
    for command in ["-A", "-E"] {
        for (option, wanted) in [("", false), ("--toa", true)] {
            let line = format!("{command} -t 10.0.0.1:80 -s rr {option}");
            let (Request::AddService(_, spec) | Request::EditService(_, spec)) = request(&line)
            else {
                panic!("{line}")
            };
            assert_eq!(spec.toa, wanted, "{line}");
        }
    }
    for (line, text) in [
        (
            "-A -u 10.0.0.1:53 -s rr --toa",
            "The client's address can be told to TCP servers only",
        ),
        (
            "-a -t 10.0.0.1:80 -r 10.0.0.2 --fullnat --toa",
            "Illegal 'toa' option with the 'add-server' command",
        ),
    ] {
        let (status, _, error) = run(line, "", &mut FakeControl::default());
        assert_eq!((status, error.trim_end()), (2, text), "{line}");
    }
}

#[test]
fn fullnat_is_a_method_with_a_port_of_its_own() {
    for command in ["-a", "-e"] {
        let line = format!("{command} -t 10.0.0.1:80 -r 10.0.0.2:8080 --fullnat");
        let (Request::AddDest(_, dest) | Request::EditDest(_, dest)) = request(&line) else {
            panic!("{line}")
        };
        assert_eq!((dest.spec.method, dest.id.port), (Method::Fullnat, 8080));
    }
    let error = |line: &str| {
        let (status, _, error) = run(line, "", &mut FakeControl::default());
        (status, error.trim_end().to_owned())
    };
    let server = "-a -t 10.0.0.1:80 -r 10.0.0.2";
    for (line, status, text) in [
        (
            format!("{server} -m --fullnat"),
            2,
            "multiple 'forwarding-method' options specified",
        ),
        (
            format!("{server} --fullnat --tun-type ipip"),
            2,
            "Tunnel options conflict with forward method",
        ),
        (
            "-a -t 10.0.0.1:80 -r [fd00::1]:80 --fullnat".into(),
            2,
            "Different address family is allowed only for tunneling servers",
        ),
        (
            "-A -t 10.0.0.1:80 --fullnat".into(),
            2,
            "Illegal 'forwarding-method' option with the 'add-service' command",
        ),
        (
            format!("{server} --fullnat=1"),
            255,
            "--fullnat=1: option does not take an argument",
        ),
    ] {
        assert_eq!(error(&line), (status, text.to_owned()), "{line}");
    }
}

#[test]
fn a_scheduler_nobody_knows_is_cut_and_asked_for() {
    let Request::AddService(_, spec) =
        request("-A -t 10.0.0.1:80 -s averyveryverylongschedulername")
    else {
        panic!()
    };
    assert_eq!(spec.scheduler, "averyveryverylo");
}

#[test]
fn help_version_and_errors_of_grammar_need_no_daemon() {
    let mut dead = FakeControl {
        dead: true,
        ..FakeControl::default()
    };
    assert_eq!(run("-h", "", &mut dead).0, 0);
    assert_eq!(
        run("--version", "", &mut dead).1,
        "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)\n"
    );
    assert_eq!(
        run("-q", "", &mut dead).2,
        "Try `/sbin/ipvsadm -h' or '/sbin/ipvsadm --help' for more information.\n"
    );
    assert_eq!(
        run("-R", "\n# nothing\n", &mut dead),
        (0, String::new(), String::new())
    );
}

#[test]
fn without_a_daemon_one_line_says_what_to_do() {
    let mut dead = FakeControl {
        dead: true,
        ..FakeControl::default()
    };
    let line =
        "lvx: no daemon runs in this network namespace; start one: lvx run --interface eth0\n";
    for command in ["-A -t 10.0.0.1:80 -s rr", "-C", "-Ln", "-Sn", "-Lnc", "-Z"] {
        assert_eq!(
            run(command, "", &mut dead),
            (2, String::new(), line.to_owned()),
            "{command}"
        );
    }
    let restored = run("-R", "-C\n-A -t 10.0.0.1:80 -s rr\n", &mut dead);
    assert_eq!(restored, (2, String::new(), line.to_owned()));
}

#[test]
fn a_restore_is_one_request() {
    let mut control = FakeControl::default();
    let lines = "-A -t 10.0.0.1:80\n-A -t 10.0.0.1:80\n-S -n\n-A -t 10.0.0.2:80\n-x\n-C\n";
    let (status, stdout, stderr) = run("-R", lines, &mut control);
    assert_eq!(
        (status, stdout.as_str()),
        (255, "-A -t 10.0.0.1:80 -s wlc\n")
    );
    let wanted = "Service already exists\nTry `/sbin/ipvsadm -h' or '/sbin/ipvsadm --help' for more information.\n";
    assert_eq!(stderr, wanted);
    // Three changes and a listing; what could not be read and what follows is not asked.
    let [Request::Batch(requests)] = control.requests.as_slice() else {
        panic!("{:?}", control.requests)
    };
    assert_eq!(requests.len(), 4);

    let mut control = FakeControl::default();
    let (status, _, stderr) = run("-R --strict", lines, &mut control);
    assert_eq!(status, 255);
    assert!(
        stderr.starts_with("lvx: nothing was changed, because of line 5:\n"),
        "{stderr}"
    );
    assert!(control.requests.is_empty());
}

/// Recorded of ipvsadm 1.31: options that popt does not understand do not end a restore.
#[test]
fn an_unknown_option_does_not_end_a_restore() {
    let mut control = FakeControl::default();
    let lines = "-a -t 10.0.0.1:53 -r 10.0.0.2\n-Af 5 -6 --weigh\n-A -t 10.0.0.1:80 -s\n-A -t 10.0.0.1:81\n-C -n=1\n";
    let (status, _, stderr) = run("-R", lines, &mut control);
    let wanted = "Service not defined\n--weigh: unknown option\n-s: missing argument\n\
                  -n=1: option does not take an argument\n";
    assert_eq!((status, stderr.as_str()), (255, wanted));
    assert_eq!(run("-Sn", "", &mut control).1, "-A -t 10.0.0.1:81 -s wlc\n");
    let (status, _, stderr) = run("-R --strict", "-C\n-Af 5 --weigh\n-C\n", &mut control);
    let wanted = "lvx: nothing was changed, because of line 2:\n--weigh: unknown option\n";
    assert_eq!((status, stderr.as_str()), (255, wanted));
    assert_eq!(run("-Sn", "", &mut control).1, "-A -t 10.0.0.1:81 -s wlc\n");
}

#[test]
fn what_is_saved_restores_the_same() {
    let mut control = FakeControl::default();
    let table = "-A -t 10.0.0.1:80 -s wrr
-a -t 10.0.0.1:80 -r 10.0.1.1:80 -g -w 1
-a -t 10.0.0.1:80 -r 10.0.1.2:80 -g -w 7
-a -t 10.0.0.1:80 -r 10.0.1.3:8080 -m -w 1
-a -t 10.0.0.1:80 -r 10.0.1.4:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 10.0.0.1:80 -r 10.0.1.5:80 -i -w 1 --tun-type gre --tun-csum
-a -t 10.0.0.1:80 -r 10.0.1.6:8080 --fullnat -w 3
-A -u 10.0.0.1:53 -s rr
-A -t [2001:db8::1]:80 -s rr
-a -t [2001:db8::1]:80 -r 10.0.1.6:80 -i -w 1 --tun-type ipip
-a -t [2001:db8::1]:80 -r [2001:db8::2]:8080 -m -w 2
-a -t [2001:db8::1]:80 -r [2001:db8::3]:8080 --fullnat -w 1
";
    assert_eq!(
        run("-R", table, &mut control),
        (0, String::new(), String::new())
    );
    assert_eq!(run("-Sn", "", &mut control).1, table);
    assert_eq!(run("-R", "-v\n-C\n", &mut control).0, 0);
    assert_eq!(run("-Sn", "", &mut control).1, table, "-v ends the restore");
}
