use std::net::IpAddr;

use proptest::prelude::*;

use super::{changes, difference, read, text};
use crate::model::{
    Config, Dest, DestId, DestSpec, Family, Method, Protocol, Request, ServiceConfig, ServiceId,
    ServiceSpec, Tunnel, TunnelChecksum,
};

const WHOLE: &str = r#"[timeouts]
tcp = 600
tcp-fin = 120
udp = 30

[sysctl]
conn_reuse_mode = 0
sloppy_tcp = 1

[[set]]
name = "bad"
family = "ipv4"
members = [
  "10.66.0.0/16",
  "10.77.0.1/32",
]

[[set]]
name = "none"
family = "ipv6"
members = []

[rules]
mark = [
  "-d 10.0.0.1/32 -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0x7/0xffffffff",
  "-d fd00::1/128 -j MARK --set-xmark 0x1/0xff",
]
filter = [
  '''-m set --match-set bad src -m comment --comment "it's \"bad\"" -j DROP''',
]

[[local]]
address = "10.9.0.16/28"
ports = "1024-65535"

[[local]]
address = "10.9.0.5"
service = "tcp:10.0.0.1:80"

[[service]]
tcp = "10.0.0.1:80"
scheduler = "sh"
flags = ["sh-fallback", "sh-port"]
persistent = 300
netmask = "255.255.255.0"
toa = true
server = [
  { address = "192.168.0.20:8080", method = "fullnat", weight = 5, upper = 100, lower = 50 },
  { address = "192.168.0.3:80", method = "nat", weight = 0 },
]

[[service]]
udp = "[fd00::1]:0"
scheduler = "wlc"
persistent = 60
netmask = 64
one-packet = true
server = [
  { address = "[fd00::2]:0", method = "dr", weight = 1 },
  { address = "10.0.0.7:0", method = "tunnel", weight = 1, tunnel = "gue", tunnel-port = 6080, tunnel-checksum = "remote" },
  { address = "10.0.0.8:0", method = "tunnel", weight = 1, tunnel = "gre", tunnel-checksum = "full" },
  { address = "10.0.0.9:0", method = "tunnel", weight = 1 },
]

[[service]]
mark = 7
scheduler = "rr"

[[service]]
mark = 7
family = "ipv6"
scheduler = "rr"
"#;

fn config(text: &str) -> Config {
    let read = read(text).unwrap_or_else(|faults| panic!("{faults:?}\n{text}"));
    read.0
}

#[test]
fn what_is_written_is_read_back() {
    let whole = config(WHOLE);
    assert_eq!(text(&whole), WHOLE);
    let empty = "service = []\n\nlocal = []\n\nset = []\n\n[timeouts]\ntcp = 900\ntcp-fin = 120\nudp = 300\n\n[sysctl]\n\n[rules]\nmark = []\nfilter = []\n";
    assert_eq!(text(&config(empty)), empty);
    assert_eq!(config(""), Config::default(), "what is not spoken of");
}

#[test]
fn short_forms() {
    let config = config(
        r#"
        [[service]]
        tcp = "10.0.0.1:80"
        [[service.server]]
        address = "192.168.0.3"
        [[service.server]]
        address = "192.168.0.4"
        method = "nat"
        weight = 3
        [rules]
        mark = ["-A -d 10.0.0.1,10.0.0.2 -p tcp -j MARK --set-mark 3"]
        "#,
    );
    let services = config.services.unwrap();
    assert_eq!(services[0].spec.scheduler, "wlc");
    let dests: Vec<_> = services[0]
        .dests
        .iter()
        .map(|dest| (dest.id.to_string(), dest.spec.weight))
        .collect();
    assert_eq!(
        dests,
        [("192.168.0.3:80".into(), 1), ("192.168.0.4:80".into(), 3)]
    );
    assert_eq!(
        config.marks.unwrap().len(),
        2,
        "two addresses are two rules"
    );
}

#[test]
fn faults_have_their_place() {
    let service = |lines: &str| format!("[[service]]\ntcp = \"10.0.0.1:80\"\n{lines}");
    let server = |keys: &str| service(&format!("server = [{{ {keys} }}]"));
    for (text, want) in [
        ("[[service]\n".to_owned(), "1:"),
        ("nonsense = 1\n".into(), "1:1: unknown field `nonsense`"),
        (
            "[[service]]\nscheduler = \"rr\"\n".into(),
            "1:1: this service has none of tcp, udp, sctp and mark",
        ),
        (
            service("udp = \"10.0.0.1:80\""),
            "3:7: a service has one of",
        ),
        (service("scheduler = \"rrr\""), "3:13: no scheduler rrr"),
        (
            service("scheduler = 7"),
            "3:13: invalid type: integer `7`, expected a string",
        ),
        (
            service("flags = [\"sh-port\"]"),
            "3:10: wlc has no flag sh-port",
        ),
        (service("persistent = 0"), "3:14: persistence is from 1"),
        (service("netmask = 33"), "3:11: a mask like"),
        (
            service("one-packet = true"),
            "3:14: one-packet scheduling is for UDP",
        ),
        (
            service("[[service]]\ntcp = \"10.0.0.1:80\""),
            "4:7: tcp:10.0.0.1:80 is in line 2 already",
        ),
        (
            "[[service]]\ntcp = \"10.0.0.1\"\n".into(),
            "2:7: `10.0.0.1' is not ADDRESS:PORT",
        ),
        (
            "[[service]]\ntcp = \"10.0.0.1:0\"\n".into(),
            "2:7: a service of any port (0) needs",
        ),
        ("[[service]]\nmark = 0\n".into(), "2:8: a mark is not 0"),
        (server("weight = 1"), "3:11: missing field `address`"),
        (
            server("address = \"192.168.0.3:81\""),
            "3:23: dr does not translate ports",
        ),
        (server("address = \"fd00::3\""), "3:23: only a tunnel leads"),
        (server("address = \"x\""), "3:23: `x' is neither"),
        (
            server("address = \"192.168.0.3\", weight = 3000000000"),
            "3:47: at most 2147483647",
        ),
        (
            server("address = \"192.168.0.3\", weight = -1"),
            "3:47: invalid value: integer `-1`",
        ),
        (
            server("address = \"192.168.0.3\", lower = 3"),
            "3:46: the lower threshold",
        ),
        (
            server("address = \"192.168.0.3\", tunnel = \"gre\""),
            "3:47: this goes with method",
        ),
        (
            server("address = \"192.168.0.3\", method = \"tunnel\", tunnel = \"gue\""),
            "3:23: tunnel = \"gue\" needs",
        ),
        (
            server("address = \"192.168.0.3\", method = \"bridge\""),
            "3:47: unknown variant `bridge`",
        ),
        (
            server("address = \"192.168.0.3\" }, { address = \"192.168.0.3:80\""),
            "3:52: server 192.168.0.3:80 is in line 3 already",
        ),
        ("[timeouts]\ntcp = 0\n".into(), "2:7: a time-out is from 1"),
        ("[sysctl]\nnosuch = 0\n".into(), "2:1: no setting nosuch"),
        (
            "[sysctl]\nbackup_only = 1\n".into(),
            "2:1: not supported yet",
        ),
        ("[rules]\nmark = [\n  \"-j NOSUCH\",\n]\n".into(), "3:3: "),
        ("[rules]\nmark = [\"-j DROP\"]\n".into(), "2:9: "),
        (
            "[[local]]\naddress = \"10.0.0.300\"\n".into(),
            "2:11: `10.0.0.300' is not an address",
        ),
        (
            "[[local]]\naddress = \"10.0.0.3\"\nports = \"9-1\"\n".into(),
            "3:9: two ports",
        ),
        (
            "[[local]]\naddress = \"10.0.0.3\"\nservice = \"x\"\n".into(),
            "3:11: `x' is no service",
        ),
        (
            "[[set]]\nname = \"a\"\nfamily = \"ipv4\"\nmembers = [\"::1\"]\n".into(),
            "4:12: ::1/128 is of the other family",
        ),
        (
            "# a rule file\n-A -t 10.0.0.1:80\n  -a -t 10.0.0.1:81 -r 10.0.0.2\n".into(),
            "3:3: Service not defined",
        ),
        (
            "-A -t 10.0.0.1:0 -s rr\n".into(),
            "1:1: Zero port specified",
        ),
        ("-A -t 10.0.0.1:80 -s rr\n-L -n\n".into(), "2:1: "),
    ] {
        let faults = read(&text).expect_err(&text);
        let got = faults[0].to_string();
        assert!(got.starts_with(want), "{text}\nwanted {want}\ngot    {got}");
    }
    // Not the first alone.
    let two = service("scheduler = \"rrr\"\npersistent = 0\n");
    assert_eq!(read(&two).unwrap_err().len(), 2);
}

#[test]
fn a_saved_table_is_a_configuration_of_services() {
    let saved = "# saved\nipvsadm -A -t 10.0.0.1:80 -s rr\n-a -t 10.0.0.1:80 -r 192.168.0.1:80 -m -w 2 -x 9\n\
                 -E -t 10.0.0.1:80 -s wrr\n-A -f 9\n-D -f 9\n--set 10 0 0\n";
    let config = config(saved);
    let services = config.services.unwrap();
    assert_eq!(services.len(), 1);
    assert_eq!(services[0].spec.scheduler, "wrr");
    assert_eq!(services[0].dests[0].spec.u_threshold, 9);
    assert_eq!(config.timeouts.unwrap().tcp, 10);
    assert!(config.marks.is_none() && config.pools.is_none());
}

fn lines(from: &str, to: &str) -> Vec<String> {
    let lines = difference(&config(from), &config(to));
    lines
        .iter()
        .map(|line| format!("{} {}", line.sign, line.text))
        .collect()
}

#[test]
fn differences_for_people() {
    assert!(lines(WHOLE, WHOLE).is_empty());
    assert!(
        lines(WHOLE, "").is_empty(),
        "sections that are not there are not compared"
    );
    let to = WHOLE
        .replace("udp = 30\n", "udp = 300\n")
        .replace("sloppy_tcp = 1\n", "")
        .replace("  \"10.77.0.1/32\",\n", "  \"10.78.0.1/32\",\n")
        .replace("  \"-d fd00::1/128 -j MARK --set-xmark 0x1/0xff\",\n", "")
        .replace("address = \"10.9.0.5\"", "address = \"10.9.0.6\"")
        .replace("weight = 5, upper = 100", "weight = 6, upper = 100")
        .replace("weight = 0 }", "weight = 1 }")
        .replace(
            "scheduler = \"sh\"\nflags = [\"sh-fallback\", \"sh-port\"]\n",
            "scheduler = \"wrr\"\n",
        )
        .replace(
            "  { address = \"10.0.0.9:0\", method = \"tunnel\", weight = 1 },\n",
            "  { address = \"10.0.0.10:0\", method = \"tunnel\", weight = 1 },\n",
        )
        .replace("[[service]]\nmark = 7\nscheduler = \"rr\"\n\n", "")
        + "\n[[service]]\nmark = 8\nscheduler = \"lc\"\n";
    assert_eq!(
        lines(WHOLE, &to),
        [
            "- service mark:7",
            "- server 10.0.0.9:0 of udp:[fd00::1]:0",
            "~ service tcp:10.0.0.1:80: scheduler \"sh\", flags [\"sh-fallback\", \"sh-port\"], persistent 300, netmask \"255.255.255.0\", toa true -> scheduler \"wrr\", persistent 300, netmask \"255.255.255.0\", toa true",
            "~ server 192.168.0.20:8080 of tcp:10.0.0.1:80: weight 5 -> weight 6",
            "~ server 192.168.0.3:80 of tcp:10.0.0.1:80: weight 0 -> weight 1",
            "+ server 10.0.0.10:0 of udp:[fd00::1]:0: method tunnel, weight 1",
            "+ service mark:8: scheduler \"lc\"",
            "- local 10.9.0.5 of tcp:10.0.0.1:80",
            "+ local 10.9.0.6 of tcp:10.0.0.1:80",
            "~ time-out udp: 30 -> 300",
            "~ sysctl sloppy_tcp: 1 -> 0",
            "- 10.77.0.1/32 in set bad",
            "+ 10.78.0.1/32 in set bad",
            "- mark -d fd00::1/128 -j MARK --set-xmark 0x1/0xff",
        ]
    );
    let back = lines(&to, WHOLE);
    assert!(
        back.contains(&"+ service mark:7: scheduler \"rr\"".to_owned()),
        "{back:?}"
    );
}

#[test]
fn a_change_knows_its_place() {
    let (_, places) = read(WHOLE).unwrap();
    let id: ServiceId = "tcp:10.0.0.1:80".parse().unwrap();
    let line = |request: &Request| {
        let (line, _) = places.of(request);
        WHOLE.lines().nth(line - 1).unwrap().to_owned()
    };
    let config = config(WHOLE);
    let service = &config.services.as_ref().unwrap()[0];
    assert_eq!(
        line(&Request::AddService(id, service.spec.clone())),
        "tcp = \"10.0.0.1:80\""
    );
    assert!(line(&Request::AddDest(id, service.dests[1])).contains("192.168.0.3:80"));
    assert_eq!(
        line(&Request::SetSysctl("sloppy_tcp".into(), 1)),
        "sloppy_tcp = 1"
    );
    assert_eq!(
        line(&Request::AddLocal(Some(id), Vec::new())),
        "address = \"10.9.0.5\""
    );
}

fn any_addr(family: Family) -> BoxedStrategy<IpAddr> {
    match family {
        Family::V4 => any::<[u8; 4]>().prop_map(IpAddr::from).boxed(),
        Family::V6 => any::<[u8; 16]>().prop_map(IpAddr::from).boxed(),
    }
}

prop_compose! {
    fn any_dest(id: ServiceId)(
        addr in any_addr(id.family()),
        port in any::<u16>(),
        method in prop::sample::select(vec![Method::Masq, Method::Tunnel, Method::Route, Method::Fullnat]),
        weight in 0..=i32::MAX as u32,
        upper in 0..1000_u32,
        tunnel in prop::sample::select(vec![
            Tunnel::Ipip,
            Tunnel::Gue { port: 6080, checksum: TunnelChecksum::Remote },
            Tunnel::Gre { checksum: TunnelChecksum::Full },
        ]),
    ) -> Dest {
        let own = match id {
            ServiceId::Address { port, .. } if !method.translates() => port,
            _ => port,
        };
        Dest {
            id: DestId { addr, port: own },
            spec: DestSpec {
                method,
                weight,
                u_threshold: upper,
                l_threshold: upper / 2,
                tunnel: if method == Method::Tunnel { tunnel } else { Tunnel::Ipip },
            },
        }
    }
}

fn any_id() -> impl Strategy<Value = ServiceId> {
    let family = prop::sample::select(vec![Family::V4, Family::V6]);
    let protocol = prop::sample::select(vec![Protocol::Tcp, Protocol::Udp, Protocol::Sctp]);
    (family, protocol, 1..=u16::MAX, 0..=u32::MAX).prop_flat_map(
        |(family, protocol, port, mark)| {
            any_addr(family).prop_map(move |addr| match mark % 4 {
                0 => ServiceId::Mark {
                    mark: mark | 1,
                    family,
                },
                _ => ServiceId::Address {
                    protocol,
                    addr,
                    port,
                },
            })
        },
    )
}

fn any_service() -> impl Strategy<Value = ServiceConfig> {
    any_id().prop_flat_map(|id| {
        let dests = prop::collection::vec(any_dest(id), 0..4);
        let scheduler = prop::sample::select(vec!["rr", "sh", "mh", "wlc"]);
        let masks = match id.family() {
            Family::V4 => vec![u32::MAX, 0xffff_ff00, 0x8000_0001],
            Family::V6 => vec![128, 64, 1],
        };
        let persistent = prop::option::of(1..1000_u32);
        (
            dests,
            scheduler,
            persistent,
            prop::sample::select(masks),
            0..8_u32,
        )
            .prop_map(move |(mut dests, scheduler, persistent, netmask, flags)| {
                dests.sort_by_key(|dest: &Dest| dest.id);
                dests.dedup_by_key(|dest| dest.id);
                let spec = ServiceSpec {
                    scheduler: scheduler.into(),
                    sched_flags: flags << 3,
                    ops: false,
                    persistent,
                    netmask,
                    pe: None,
                    toa: false,
                };
                ServiceConfig {
                    id,
                    spec,
                    dests,
                    check: None,
                }
            })
    })
}

fn any_config() -> impl Strategy<Value = Config> {
    prop::collection::vec(any_service(), 0..5).prop_map(|mut services| {
        services.sort_by_key(|service| service.id.name());
        services.dedup_by_key(|service| service.id);
        Config {
            services: Some(services),
            ..Config::default()
        }
    })
}

proptest! {
    #[test]
    fn every_configuration_is_written_and_read_back(config in any_config()) {
        let written = text(&config);
        let read = read(&written).map_err(|faults| TestCaseError::fail(format!("{faults:?}\n{written}")))?;
        prop_assert_eq!(read.0, config);
    }

    /// The reader meets anything that is close to a file.
    #[test]
    fn no_file_is_too_broken(config in any_config(), at in any::<prop::sample::Index>(), with in "\\PC{0,3}") {
        let mut written = text(&config);
        let at = written.floor_char_boundary(at.index(written.len().max(1)));
        written.insert_str(at.min(written.len()), &with);
        match read(&written) {
            Ok((read, _)) => prop_assert!(changes(&Config::default(), &read).len() < 1000),
            Err(faults) => {
                let lines = written.lines().count().max(1) + 1;
                for fault in faults {
                    prop_assert!((1..=lines).contains(&fault.line) && fault.column > 0, "{}", fault);
                }
            }
        }
    }
}

/// 100,000 servers: nothing in here may take a look at all for each.
#[test]
fn a_large_file() {
    let service = |number: u32| {
        let [_, a, b, c] = (0x0a00_0000 + number).to_be_bytes();
        let servers: String = (0..10)
            .map(|server| {
                format!("  {{ address = \"10.{a}.{b}.{server}:{c}\", method = \"nat\" }},\n")
            })
            .collect();
        format!("[[service]]\ntcp = \"10.{a}.{b}.{c}:80\"\nserver = [\n{servers}]\n")
    };
    let file: String = (0..10_000).map(service).collect();
    let started = std::time::Instant::now();
    let whole = config(&file);
    let none = Config {
        services: Some(Vec::new()),
        ..Config::default()
    };
    assert_eq!(changes(&none, &whole).len(), 110_000);
    assert_eq!(changes(&whole, &none).len(), 10_000);
    assert!(changes(&whole, &config(&text(&whole))).is_empty());
    let took = started.elapsed();
    assert!(took < std::time::Duration::from_secs(60), "{took:?}");
    println!("read twice, written, compared three times: {took:?}");
}

#[test]
fn a_file_with_a_name_declares_services() {
    let good = "name = \"web-1\"\n\n[[service]]\nmark = 7\nscheduler = \"rr\"\n";
    let (config, _) = read(good).unwrap();
    let declaration = config.declaration.clone().unwrap();
    assert_eq!(declaration.name, "web-1");
    assert_eq!(declaration.lines, [("mark:7".parse().unwrap(), 4)]);
    assert_eq!(text(&config), good);
    for (bad, why) in [
        ("name = \"web\"\n", "declares services"),
        ("name = \"web\"\n[timeouts]\ntcp = 9\n", "services alone"),
        ("name = \"manual\"\nservice = []\n", "manual is"),
        ("name = \"a b\"\nservice = []\n", "letters"),
        ("name = \"\"\nservice = []\n", "letters"),
    ] {
        let faults = read(bad).unwrap_err();
        assert!(faults[0].text.contains(why), "{bad} {faults:?}");
        assert_eq!((faults[0].line, faults[0].column), (1, 8));
    }
}

#[test]
fn checks_are_written_and_read_back() {
    let checks = [
        "type = \"on\"",
        "type = \"off\"",
        "type = \"ping\", tries = 3",
        "type = \"tcp\", port = 8080, interval = 0.5, timeout = 0.25, failures = 3, successes = 2",
        "type = \"tls\", on-failure = \"quiesce\", source = \"10.0.0.2\"",
        "type = \"udp\", request = \"hello\", expect = \"^hi\"",
        "type = \"http\", request = \"/x?a=\\\"b\\\"\", expect = \"ok\", status = [\"200-299\", 404], host = \"www.x.y\", method = \"HEAD\"",
        "type = \"https\", verify = true, connections = 4",
        "type = \"http\", proxy = true, request = \"http://www.x.y/\"",
        "type = \"dns\", request = \"www.x.y\", tcp = true, expect = \"10\"",
        "type = \"smtp\"",
        "type = \"nntp\"",
        "type = \"text\", request = \"PING\\r\\n\", expect = \"PONG\"",
        "type = \"mysql\", login = \"a\", password = \"b\", database = \"c\", request = \"SELECT 1\"",
        "type = \"postgresql\", login = \"a\", request = \"SELECT 1\"",
        "type = \"command\", command = \"/bin/x\", perl = true",
    ];
    for check in checks {
        let file = format!(
            "[[service]]\ntcp = \"10.0.0.1:80\"\ncheck = {{ {check} }}\n\
             sorry = {{ address = \"127.0.0.1\" }}\nserver = [{{ address = \"10.1.0.1\", check-port = 81 }}]\n"
        );
        let whole = config(&file);
        let written = text(&whole);
        assert_eq!(config(&written), whole, "{written}");
        let service = &whole.services.as_ref().unwrap()[0];
        let settings = service.check.as_ref().unwrap();
        assert_eq!(settings.sorry.unwrap().id.to_string(), "127.0.0.1:80");
        assert_eq!(settings.servers.len(), 1);
        // Another check is a change, and said in one line.
        let mut other = whole.clone();
        other.services.as_mut().unwrap()[0].check = None;
        let changed = changes(&whole, &other);
        assert!(
            matches!(&changed[..], [Request::SetCheck(_, None)]),
            "{changed:?}"
        );
        let lines = difference(&other, &whole);
        assert!(
            lines[0].text.starts_with("check of tcp:10.0.0.1:80: "),
            "{lines:?}"
        );
    }
}

#[test]
fn checks_that_make_no_sense_are_refused() {
    for (check, column, why) in [
        ("{ type = \"htp\" }", 18, "unknown variant"),
        ("{ type = \"tcp\", expect = \"x\" }", 34, "does not go with"),
        ("{ type = \"ping\", port = 3 }", 33, "does not go with"),
        ("{ type = \"tcp\", interval = 0 }", 36, "from 0.05"),
        ("{ type = \"tcp\", failures = 0 }", 36, "from 1 to"),
        (
            "{ type = \"http\", expect = \"(\" }",
            35,
            "regular expression",
        ),
        (
            "{ type = \"http\", status = \"299-200\" }",
            35,
            "a status is like",
        ),
        ("{ type = \"dns\" }", 18, "needs request"),
        ("{ type = \"command\" }", 18, "needs command"),
        ("{ type = \"tcp\", port = 0 }", 32, "not 0"),
    ] {
        let file = format!("[[service]]\nmark = 7\ncheck = {check}\n");
        let faults = read(&file).unwrap_err();
        let fault = &faults[0];
        assert!(fault.text.contains(why), "{file}: {fault}");
        assert_eq!(fault.line, 3, "{file}: {fault}");
        assert_eq!(fault.column, column, "{file}: {fault}");
    }
    let file = "[[service]]\nmark = 7\nsorry = { address = \"127.0.0.1\" }\n";
    assert!(
        read(file).unwrap_err()[0]
            .text
            .contains("goes with a check")
    );
    let file =
        "[[service]]\nmark = 7\nserver = [{ address = \"10.0.0.1\", check-request = \"/\" }]\n";
    assert!(read(file).unwrap_err()[0].text.contains("no check"));
}
