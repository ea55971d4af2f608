//! Health checks against real servers: what each check says of a server that
//! is healthy, stopped, frozen, wrong, or cut off, and what clients notice.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddrV4, TcpListener},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lb_userspace::model::{Condition, ServiceHealth};
use lvx_tests::{
    director::Director,
    http,
    lab::{Background, Namespace, OneArm, Server, tool},
};

const SERVICE: SocketAddrV4 = SocketAddrV4::new(OneArm::VIP, 80);

/// How long a condition may take: checks run five times a second here.
const PATIENCE: Duration = Duration::from_secs(15);

fn apply(director: &Director<'_>, dir: &Path, text: &str) {
    let file = dir.join("lvx.toml");
    fs::write(&file, text).expect("the laboratory works");
    director
        .lvx(&["apply", "-f", &file.display().to_string()])
        .ok();
}

fn health(director: &Director<'_>) -> Vec<ServiceHealth> {
    serde_json::from_str(&director.lvx(&["health", "--json"]).ok()).expect("the laboratory works")
}

/// Condition and reason of the only or the last server of each service, by port.
fn found(director: &Director<'_>) -> BTreeMap<String, (Condition, String)> {
    let of = |service: ServiceHealth| {
        let server = service.servers.last().expect("every service has servers");
        let last = server.last.as_ref().and_then(|last| last.error.clone());
        let reason = last.unwrap_or_else(|| server.reason.clone());
        (service.service.name(), (server.state, reason))
    };
    health(director).into_iter().map(of).collect()
}

/// Waits until servers are as told, by the service's port and a part of the reason.
#[track_caller]
fn wait_for(director: &Director<'_>, what: &str, wanted: &[(u16, Condition, &str)]) {
    let limit = Instant::now() + PATIENCE;
    loop {
        let found = found(director);
        let wrong: Vec<String> = wanted
            .iter()
            .filter_map(|(port, condition, part)| {
                let name = format!("tcp:{}:{port}", OneArm::VIP);
                let (state, reason) = &found[&name];
                let good = state == condition && reason.contains(part);
                (!good).then(|| format!("{port}: {state:?}, {reason}; wanted {condition:?} {part}"))
            })
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < limit, "{what}: {wrong:#?}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A name server that knows `who.test`.
fn name_server(server: &Server) -> Background {
    let mut command = server.node.ns.command(tool("dnsmasq"));
    command.args([
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--pid-file=",
        "--no-resolv",
        "--no-hosts",
        "--host-record=who.test,10.7.7.7",
    ]);
    server
        .node
        .ns
        .spawn("dnsmasq", command)
        .expect("the laboratory works")
}

/// nginx with a certificate of its own making, on port 8443.
fn secure_server(ns: &Namespace) -> Background {
    let dir = ns.lab().dir().join("secure");
    fs::create_dir_all(&dir).expect("the laboratory works");
    let made = rcgen::generate_simple_self_signed(vec!["www.test".to_owned()])
        .expect("the laboratory works");
    fs::write(dir.join("cert.pem"), made.cert.pem()).expect("the laboratory works");
    fs::write(dir.join("key.pem"), made.signing_key.serialize_pem()).expect("the laboratory works");
    let config = "daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 8443 ssl;
        ssl_certificate cert.pem;
        ssl_certificate_key key.pem;
        location / { return 200 \"host $host\\n\"; }
    }
}
";
    fs::write(dir.join("nginx.conf"), config).expect("the laboratory works");
    let mut command = ns.command(tool("nginx"));
    command
        .arg("-p")
        .arg(&dir)
        .arg("-c")
        .arg(dir.join("nginx.conf"));
    command.args(["-e", "stderr"]);
    ns.spawn("secure", command).expect("the laboratory works")
}

/// A mail server as far as a check goes: it greets, or refuses to.
struct Greeter {
    end: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Greeter {
    fn new(ns: &Namespace, port: u16, greeting: &'static str) -> Self {
        let end = Arc::new(AtomicBool::new(false));
        let listener =
            ns.enter(|| TcpListener::bind(("0.0.0.0", port)).expect("the laboratory works"));
        listener
            .set_nonblocking(true)
            .expect("the laboratory works");
        let stop = end.clone();
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                };
                stream.set_nonblocking(false).expect("the laboratory works");
                stream
                    .set_read_timeout(Some(Duration::from_secs(1)))
                    .expect("the laboratory works");
                // A client that has gone away is none of its business.
                let _ = write!(stream, "{greeting}\r\n");
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let _ = write!(stream, "221 bye\r\n");
            }
        });
        Self {
            end,
            thread: Some(thread),
        }
    }
}

impl Drop for Greeter {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn signal(process: &Background, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(process.pid() as i32);
    nix::sys::signal::kill(pid, signal).expect("the laboratory works");
}

/// A service at a port of its own for each check, of the first server.
fn services(checks: &[(u16, &str)]) -> String {
    checks
        .iter()
        .map(|(port, check)| {
            format!(
                "[[service]]\ntcp = \"{}:{port}\"\n\
                 check = {{ interval = 0.2, timeout = 0.4, failures = 2, {check} }}\n\
                 server = [{{ address = \"192.168.0.10\" }}]\n",
                OneArm::VIP
            )
        })
        .collect()
}

#[test]
fn each_check_sees_what_a_server_does() {
    use Condition::{Down, Up};
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let mut lab = OneArm::new().expect("the laboratory works");
    let director = Director::start(&lab.director.ns).expect("the laboratory works");
    let dir = lab.lab.dir().to_owned();
    let program = dir.join("program");
    fs::write(
        &program,
        "#!/bin/sh\nexec curl --silent --fail --max-time 5 --output /dev/null http://$3:8080/\n",
    )
    .expect("the laboratory works");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).expect("the laboratory works");
    let server = &lab.servers[0].node.ns;
    // Linux tells one asker once a second that nobody listens.
    server
        .sysctl("net/ipv4/icmp_ratelimit", "0")
        .expect("the laboratory works");
    let (names, secure) = (name_server(&lab.servers[0]), secure_server(server));
    let greeter = Greeter::new(server, 25, "220-mail\r\n220 ready");
    let rude = Greeter::new(server, 26, "554 go away");
    let command = format!(
        "type = \"command\", command = {:?}",
        program.display().to_string()
    );
    let checks = [
        (1, "type = \"http\", port = 80, expect = \"^rs1\""),
        (
            2,
            "type = \"https\", port = 8443, host = \"www.test\", expect = \"host www.test\"",
        ),
        (3, "type = \"tcp\", port = 8080"),
        (4, "type = \"tls\", port = 8443"),
        (5, "type = \"ping\""),
        (
            6,
            "type = \"dns\", port = 53, request = \"who.test\", expect = \"^10[.]7\"",
        ),
        (
            7,
            "type = \"dns\", port = 53, tcp = true, request = \"who.test\"",
        ),
        (8, "type = \"udp\", port = 53"),
        (9, "type = \"smtp\", port = 25"),
        (10, command.as_str()),
        (11, "type = \"http\", port = 80, connections = 2"),
        // Wrong answers.
        (21, "type = \"http\", port = 80, request = \"/busy\""),
        (22, "type = \"http\", port = 80, expect = \"rs2\""),
        (23, "type = \"http\", port = 53"),
        (
            24,
            "type = \"https\", port = 8443, verify = true, host = \"www.test\"",
        ),
        (25, "type = \"https\", port = 8080"),
        (26, "type = \"dns\", port = 53, request = \"nobody.test\""),
        (
            27,
            "type = \"dns\", port = 53, request = \"who.test\", expect = \"^99\"",
        ),
        (28, "type = \"smtp\", port = 26"),
        (29, "type = \"command\", command = \"/bin/false\""),
        (30, "type = \"command\", command = \"/nonexistent\""),
        (31, "type = \"text\", port = 26, expect = \"^220\""),
    ];
    apply(&director, &dir, &services(&checks));
    let healthy = [
        (1, Up, "http check good"),
        (2, Up, "https"),
        (3, Up, "tcp"),
        (4, Up, "tls"),
        (5, Up, "ping"),
        (6, Up, "dns"),
        (7, Up, "dns"),
        (8, Up, "udp"),
        (9, Up, "smtp"),
        (10, Up, "command"),
        (11, Up, "http"),
    ];
    wait_for(&director, "healthy", &healthy);
    wait_for(
        &director,
        "wrong",
        &[
            (21, Down, "HTTP 503 instead of 200"),
            (22, Down, "the answer does not match \"rs2\": \"rs1\""),
            (23, Down, ""),
            (24, Down, "TLS: "),
            (25, Down, "TLS: "),
            (26, Down, "DNS: "),
            (27, Down, "none of the answers matches \"^99\": 10.7.7.7"),
            (28, Down, "SMTP: \"554 go away\" instead of 220"),
            (29, Down, "/bin/false: exit status: 1"),
            (30, Down, "cannot run /nonexistent: no such file"),
            (31, Down, "no line matches \"^220\"; the last: \"221 bye\""),
        ],
    );

    // It takes connections, and never answers.
    lab.servers[0].freeze(true).expect("the laboratory works");
    signal(&names, SIGSTOP);
    signal(&secure, SIGSTOP);
    wait_for(
        &director,
        "hanging",
        &[
            (1, Down, "no answer within 0.4 s"),
            (2, Down, "no TLS handshake within 0.4 s"),
            (3, Up, ""),
            (4, Down, "no TLS handshake within 0.4 s"),
            (5, Up, ""),
            (6, Down, "no answer within 0.4 s"),
            (7, Down, "no answer within 0.4 s"),
            (8, Up, ""),
            (10, Down, "no answer within 0.4 s"),
            (11, Down, "no answer within 0.4 s"),
        ],
    );
    lab.servers[0].freeze(false).expect("the laboratory works");
    signal(&names, SIGCONT);
    signal(&secure, SIGCONT);
    wait_for(&director, "thawed", &healthy);

    lab.servers[0].stop();
    drop((names, secure, greeter));
    wait_for(
        &director,
        "stopped",
        &[
            (1, Down, "connection refused"),
            (2, Down, "connection refused"),
            (3, Down, "connection refused"),
            (4, Down, "connection refused"),
            (5, Up, ""),
            (6, Down, "nobody listens on port 53 (ICMP)"),
            (7, Down, "connection refused"),
            (8, Down, "nobody listens on port 53 (ICMP)"),
            (9, Down, "connection refused"),
            (10, Down, "exit status: 7"),
            (11, Down, "connection refused"),
        ],
    );
    lab.servers[0].start().expect("the laboratory works");
    let server = &lab.servers[0].node.ns;
    let again = (
        name_server(&lab.servers[0]),
        secure_server(server),
        Greeter::new(server, 25, "220 ready"),
    );
    wait_for(&director, "started again", &healthy);

    server
        .ip("link set eth0 down")
        .expect("the laboratory works");
    let cut: Vec<_> = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11]
        .into_iter()
        .map(|port| (port, Down, ""))
        .collect();
    wait_for(&director, "cut off", &cut);
    let (_, reason) = &found(&director)[&format!("tcp:{}:5", OneArm::VIP)];
    assert!(
        reason.contains("no echo within 0.4 s") || reason.contains("host"),
        "{reason}"
    );
    server.ip("link set eth0 up").expect("the laboratory works");
    wait_for(&director, "connected again", &healthy);
    drop((again, rude));

    // A line for every transition, with what an operator wants to know.
    let log = director.log();
    let line = log
        .lines()
        .find(|line| line.contains("HTTP 503"))
        .unwrap_or_else(|| panic!("{log}"));
    for part in [
        "server down",
        "service=\"tcp:192.168.0.200:21\"",
        "server=\"192.168.0.10:21\"",
        "was=\"waiting\"",
        "reason=\"HTTP 503 instead of 200\"",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    let text = director.lvx(&["health"]).ok();
    assert!(text.contains("SERVICE / SERVER"), "{text}");
    assert!(text.contains("HTTP 503 instead of 200"), "{text}");
}

const PAIR: &str = "[[service]]
tcp = \"192.168.0.200:80\"
scheduler = \"rr\"
check = { type = \"http\", interval = 0.2, timeout = 0.5, failures = 2, expect = \"^rs\" }
sorry = { address = \"127.0.0.1\" }
server = [{ address = \"192.168.0.10\" }, { address = \"192.168.0.20\" }]
";

/// Addresses in the table, with weights.
fn table(director: &Director<'_>) -> Vec<String> {
    let list = director.ipvsadm(&["-Ln"]).ok();
    list.lines()
        .filter(|line| line.starts_with("  -> ") && !line.contains("RemoteAddress"))
        .map(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            format!("{} {}", words[1], words[3])
        })
        .collect()
}

/// Waits for a table, and says how long that took.
#[track_caller]
fn wait_table(director: &Director<'_>, wanted: &[&str]) -> Duration {
    let started = Instant::now();
    loop {
        let found = table(director);
        if found == wanted {
            return started.elapsed();
        }
        assert!(
            started.elapsed() < PATIENCE,
            "wanted {wanted:?}, got {found:?}\n{}\n{}",
            director.lvx(&["health"]),
            director.log()
        );
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn clients_notice_a_death_for_a_moment_only() {
    let mut lab = OneArm::new().expect("the laboratory works");
    let director = Director::start(&lab.director.ns).expect("the laboratory works");
    let dir = lab.lab.dir().to_owned();
    apply(&director, &dir, PAIR);
    let both = ["192.168.0.10:80 1", "192.168.0.20:80 1"];
    wait_table(&director, &both);
    http::wait_for_answer(&lab.client.ns, SERVICE, PATIENCE).expect("the laboratory works");

    let load = http::Load::start(&lab.client.ns, SERVICE, 500, Duration::from_secs(1));
    thread::sleep(Duration::from_millis(300));
    lab.servers[1].stop();
    let gone = wait_table(&director, &both[..1]);
    thread::sleep(Duration::from_millis(300));
    let tally = load.stop();
    // Half of the requests while it is dead and not yet gone, and no others.
    let most = (gone.as_secs_f64() * 250.0) as usize + 25;
    println!(
        "stopped: out of the table after {gone:?}; {} of {} requests failed",
        tally.failures.len(),
        tally.requests()
    );
    assert!(gone < Duration::from_millis(1500), "{gone:?}");
    assert!(tally.failures.len() <= most, "{most} {:?}", tally.failures);
    // Once it is gone, every request is answered.
    let after = http::volume(&lab.client.ns, SERVICE, 100, 2);
    assert_eq!(after.failures, [""; 0]);
    lab.servers[1].start().expect("the laboratory works");
    let back = wait_table(&director, &both);
    println!("started: in the table again after {back:?}");

    // With both gone the director itself answers, until the first is back.
    let own =
        lvx_tests::lab::nginx(&lab.director.ns, "sorry", &[80]).expect("the laboratory works");
    lab.servers[0].stop();
    lab.servers[1].stop();
    wait_table(&director, &["127.0.0.1:80 1"]);
    assert_eq!(
        http::wait_for_answer(&lab.client.ns, SERVICE, PATIENCE).expect("the laboratory works"),
        "sorry"
    );
    lab.servers[0].start().expect("the laboratory works");
    wait_table(&director, &both[..1]);
    assert_eq!(
        http::sequence(&lab.client.ns, SERVICE, 2).expect("the laboratory works"),
        ["rs1", "rs1"]
    );
    drop(own);
}

#[test]
fn a_restart_brings_no_dead_server_back() {
    let mut lab = OneArm::new().expect("the laboratory works");
    let mut director = Director::start(&lab.director.ns).expect("the laboratory works");
    let dir = lab.lab.dir().to_owned();
    for mode in ["remove", "quiesce"] {
        let text = PAIR.replace("type =", &format!("on-failure = \"{mode}\", type ="));
        apply(&director, &dir, &text);
        let both = ["192.168.0.10:80 1", "192.168.0.20:80 1"];
        wait_table(&director, &both);
        lab.servers[1].stop();
        let left = match mode {
            "remove" => &["192.168.0.10:80 1"][..],
            _ => &["192.168.0.10:80 1", "192.168.0.20:80 0"],
        };
        wait_table(&director, left);
        director.kill();
        // What is known without a daemon.
        assert_eq!(table(&director), left, "{mode}");
        let told = director.lvx(&["health"]);
        assert!(told.stdout.contains("connection refused"), "{told}");
        director.restart().expect("the laboratory works");
        assert_eq!(table(&director), left, "{mode}");
        let history = health(&director)[0].servers[1].clone();
        assert_eq!(history.state, Condition::Down);
        assert_eq!(
            http::sequence(&lab.client.ns, SERVICE, 4).expect("the laboratory works"),
            ["rs1"; 4]
        );
        thread::sleep(Duration::from_millis(600));
        assert_eq!(table(&director), left, "{mode}");
        let log = director.log();
        assert!(
            !log.contains("server up") && !log.contains("sorry"),
            "{log}"
        );
        // A weight that is set by hand meanwhile is what it comes back with.
        director.configure("-e -t 192.168.0.200:80 -r 192.168.0.20:80 -g -w 5");
        assert_eq!(table(&director), left, "{mode}");
        lab.servers[1].start().expect("the laboratory works");
        wait_table(&director, &[both[0], "192.168.0.20:80 5"]);
    }
}

/// The kernel would send from the VIP here, which a server by direct routing has
/// itself: its answers would never come back.
#[test]
fn checks_never_leave_from_a_vip() {
    let lab = OneArm::new().expect("the laboratory works");
    let director = Director::start(&lab.director.ns).expect("the laboratory works");
    let dir = lab.lab.dir().to_owned();
    lab.director
        .ns
        .ip("route replace 192.168.0.0/24 dev eth0 src 192.168.0.200")
        .expect("the laboratory works");
    apply(&director, &dir, PAIR);
    wait_table(&director, &["192.168.0.10:80 1", "192.168.0.20:80 1"]);
    // A director that has no other address knows nothing, and changes nothing.
    lab.director
        .ns
        .ip("addr del 192.168.0.50/24 dev eth0")
        .expect("the laboratory works");
    lab.director
        .ns
        .ip("route replace 192.168.0.0/24 dev eth0 src 192.168.0.200")
        .expect("the laboratory works");
    let limit = Instant::now() + PATIENCE;
    while !director.log().contains("no address but VIPs") {
        assert!(Instant::now() < limit, "{}", director.log());
        thread::sleep(Duration::from_millis(20));
    }
    thread::sleep(Duration::from_millis(700));
    assert_eq!(table(&director), ["192.168.0.10:80 1", "192.168.0.20:80 1"]);
}
