//! Firewall marks and the filter with real clients and servers.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddrV4},
    process::Stdio,
    time::Duration,
};

use lvx_tests::{
    director::Director,
    http,
    lab::{Namespace, OneArm, run, tool},
    packet::ping,
};

const VIP: Ipv4Addr = OneArm::VIP;
const WEB: SocketAddrV4 = SocketAddrV4::new(VIP, 80);
const SECURE: SocketAddrV4 = SocketAddrV4::new(VIP, 443);

/// Runs `lvx` with the words of a line, which must succeed; what it printed.
#[track_caller]
fn lvx(director: &Director<'_>, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let answer = director.lvx(&words);
    assert!(answer.code == 0, "`lvx {line}`: {answer}");
    answer.stdout
}

/// Runs `lvx` with the words of a line, which must fail; what it complained.
#[track_caller]
fn refused(director: &Director<'_>, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let answer = director.lvx(&words);
    assert!(answer.code == 2, "`lvx {line}`: {answer}");
    answer.stderr
}

/// One request that waits a second at most.
fn get(client: &Namespace, to: SocketAddrV4) -> anyhow::Result<String> {
    client.enter(|| http::get(to, Duration::from_secs(1)))
}

fn reason(director: &Director<'_>, name: &str) -> u64 {
    let reasons = director.status().expect("lvx runs").reasons;
    let found = reasons.into_iter().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no reason {name}")).1
}

const MARK: &str =
    "mark -A -d 192.168.0.200 -p tcp -m multiport --dports 80,443 -j MARK --set-mark 6666";
const SERVICE: &str = "-A -f 6666 -s rr
    -a -f 6666 -r 192.168.0.10 -g
    -a -f 6666 -r 192.168.0.20 -g";

/// Recipe R5: HTTP and HTTPS as one service alternate over two servers.
#[test]
fn two_ports_as_one_service() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure(SERVICE);
    lvx(&director, MARK);
    let client = &lab.client.ns;
    let urls = [format!("http://{VIP}/"), format!("http://{VIP}:443/")];
    let bodies: Vec<String> = (0..8)
        .map(|n| http::curl(client, &urls[n % 2]).unwrap())
        .collect();
    // The one scheduler turns for both: each port would meet one server alone.
    assert_eq!(
        bodies,
        ["rs2", "rs1", "rs2", "rs1", "rs2", "rs1", "rs2", "rs1"]
    );
    let listing = director.ipvsadm(&["-Ln"]).stdout;
    assert!(listing.contains("FWM  6666 rr\n"), "{listing}");
    assert!(listing.contains("-> 192.168.0.10:0 "), "{listing}");
    let saved = director.ipvsadm(&["-S", "-n"]).stdout;
    assert!(
        saved.contains("-A -f 6666 -s rr\n-a -f 6666 -r 192.168.0.10:0 -g -w 1\n"),
        "{saved}"
    );

    // Another daemon finds the rules, and packets never missed them.
    director.kill();
    assert_eq!(http::curl(client, &urls[1]).unwrap(), "rs2");
    let rules = lvx(&director, "mark -S");
    assert_eq!(
        rules,
        "-A -d 192.168.0.200/32 -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0x1a0a/0xffffffff\n"
    );
    director.restart().unwrap();
    assert_eq!(lvx(&director, "mark -S"), rules);
    assert_eq!(http::curl(client, &urls[0]).unwrap(), "rs1");

    // Without the rule the packets are for no service; connections stay.
    let mut open = http::KeptOpen::open(client, SECURE, Duration::from_secs(2)).unwrap();
    let server = open.get().unwrap();
    lvx(&director, "mark -F");
    assert!(get(client, WEB).is_err());
    assert_eq!(open.get().unwrap(), server);
}

/// The mark before the address, and a VIP that is no address of the director.
#[test]
fn a_mark_comes_before_the_address() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -A -f 3 -s rr
         -a -f 3 -r 192.168.0.20:0 -g",
    );
    let client = &lab.client.ns;
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs1"; 2]);
    // No rule names a destination.
    lvx(
        &director,
        "mark -A -p tcp --dport 80 -i eth0 -j MARK --set-mark 3",
    );
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs2"; 2]);
    lvx(&director, "mark -I 1 -j MARK --or-mark 4");
    lvx(
        &director,
        "mark -A -s 192.168.0.0/16 -j MARK --and-mark 0xf0",
    );
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs1"; 2]);
    lvx(&director, "mark -D 3");
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs2"; 2]);
    lvx(&director, "mark -A -i eth9 -j MARK --set-mark 0");
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs2"; 2]);
    lvx(&director, "mark -A ! -i eth9 -j MARK --set-mark 0");
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs1"; 2]);
    lvx(&director, "mark -D ! -i eth9 -j MARK --set-mark 0");
    // The VIP moves away: the mark's service still gets it, the address's not.
    lab.client.fixed_neighbour(VIP, lab.director.mac()).unwrap();
    lab.director.remove_address(VIP, "eth0").unwrap();
    assert_eq!(http::sequence(client, WEB, 2).unwrap(), ["rs2"; 2]);
    // The stack's own traffic is as ever, through a filter that lets all in.
    ping(client, lab.director.addr, Duration::from_secs(2)).unwrap();
}

#[test]
fn the_filter_ends_connections_and_touches_nothing_else() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();
    director.configure(
        "-A -t 192.168.0.200:80 -s rr
         -a -t 192.168.0.200:80 -r 192.168.0.10:80 -g
         -A -t 192.168.0.200:443 -s rr
         -a -t 192.168.0.200:443 -r 192.168.0.20:443 -g",
    );
    let client = &lab.client.ns;
    let second = Duration::from_secs(1);
    let mut web = http::KeptOpen::open(client, WEB, second).unwrap();
    let mut secure = http::KeptOpen::open(client, SECURE, second).unwrap();
    assert_eq!(web.get().unwrap(), "rs1");
    assert_eq!(secure.get().unwrap(), "rs2");
    let connections = |director: &Director<'_>| {
        let listing = director.ipvsadm(&["-Lnc"]).stdout;
        listing
            .lines()
            .filter(|line| line.starts_with("TCP"))
            .count()
    };
    assert_eq!(connections(&director), 2);
    lvx(
        &director,
        "filter -A -s 192.168.0.0/24 -d 192.168.0.200 -p tcp --dport 80 -j DROP",
    );
    // At once: the command has waited for it.
    assert_eq!(connections(&director), 1);
    let listing = director.ipvsadm(&["-Ln"]).stdout;
    assert!(
        listing.contains("192.168.0.10:80              Route   1      0          0"),
        "{listing}"
    );
    assert!(web.get().is_err(), "the connection is over");
    assert_eq!(secure.get().unwrap(), "rs2");
    assert!(get(client, WEB).is_err());
    assert!(reason(&director, "dropped-filter") >= 2);
    let list = lvx(&director, "filter -L -v");
    let rule = list.lines().find(|line| line.contains("DROP")).unwrap();
    let packets: u64 = rule.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(packets, reason(&director, "dropped-filter"), "{list}");

    // What is for no service is the stack's: refused, not lost.
    lvx(&director, "filter -I -j DROP");
    let other = get(client, SocketAddrV4::new(VIP, 81)).unwrap_err();
    assert!(format!("{other:#}").contains("refused"), "{other:#}");
    assert!(secure.get().is_err());
    lvx(
        &director,
        "filter -I 1 -s 192.168.0.100 -m comment --comment me -j ACCEPT",
    );
    assert_eq!(http::sequence(client, WEB, 1).unwrap(), ["rs1"]);

    // Sets, and another daemon.
    lvx(&director, "filter -F");
    lvx(&director, "filter set create bad");
    lvx(&director, "filter set add bad 10.0.0.0/8 192.168.0.64/26");
    lvx(&director, "filter -A -m set --match-set bad src -j DROP");
    assert!(get(client, WEB).is_err());
    assert!(refused(&director, "filter set destroy bad").contains("a rule asks for the set bad"));
    director.kill();
    assert!(get(client, WEB).is_err());
    director.restart().unwrap();
    lvx(&director, "filter set del bad 192.168.0.64/26");
    assert_eq!(http::sequence(client, WEB, 1).unwrap(), ["rs1"]);
    assert_eq!(lvx(&director, "filter set list"), "bad 1 members\n");

    // A hundred thousand prefixes.
    let file = lab.lab.dir().join("sets");
    let mut text = String::from("create many hash:net family inet hashsize 65536 maxelem 200000\n");
    for n in 0..100_000_u32 {
        let addr = Ipv4Addr::from(0x0b00_0000 + (n << 9));
        text.push_str(&format!("add many {addr}/24\n"));
    }
    text.push_str("add many 192.168.0.100\n");
    fs::write(&file, text).unwrap();
    lvx(&director, &format!("filter set import {}", file.display()));
    lvx(
        &director,
        "filter -A -m set --match-set many src -d 192.168.0.200 -j DROP",
    );
    assert!(get(client, WEB).is_err());
}

#[test]
fn rules_of_a_real_iptables_are_taken() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    director.configure(SERVICE);
    for rule in [
        "-A PREROUTING -d 192.168.0.200/32 -p tcp -m multiport --dports 80,443 -j MARK --set-mark 6666",
        "-A PREROUTING -p tcp -m tcp --dport 25 -m comment --comment no_quotes -j MARK --or-mark 1",
        "-A PREROUTING -m conntrack --ctstate NEW -j MARK --set-mark 7",
    ] {
        let mut iptables = lab.director.ns.command(tool("iptables-legacy"));
        iptables.args(["-t", "mangle"]).args(rule.split(' '));
        run(&mut iptables).unwrap();
    }
    let saved = run(&mut lab.director.ns.command(tool("iptables-legacy-save")))
        .unwrap()
        .stdout;
    let mut import = director.command(&["mark", "import", "-"]);
    import
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut import = import.spawn().unwrap();
    import.stdin.take().unwrap().write_all(&saved).unwrap();
    let output = import.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("2 rules taken, 1 not"), "{said}");
    assert!(said.contains("-m conntrack is not known here"), "{said}");
    assert_eq!(
        lvx(&director, "mark -S"),
        "-A -d 192.168.0.200/32 -p tcp -m multiport --dports 80,443 -j MARK --set-xmark 0x1a0a/0xffffffff\n\
         -A -p tcp -m tcp --dport 25 -m comment --comment no_quotes -j MARK --set-xmark 0x1/0x1\n"
    );
    assert_eq!(
        http::sequence(&lab.client.ns, SECURE, 4).unwrap(),
        ["rs2", "rs1", "rs2", "rs1"]
    );
}

/// Refusals, each with nothing changed.
#[test]
fn what_is_refused_changes_nothing() {
    let lab = OneArm::new().unwrap();
    let director = Director::start(&lab.director.ns).unwrap();
    lvx(&director, MARK);
    let before = lvx(&director, "mark -S");
    for (line, part) in [
        ("mark -A -d 10.0.0.1", "a mark rule needs -j MARK"),
        ("mark -A -d 10.0.0.1 -j ACCEPT", "mark rules have -j MARK"),
        (
            "mark -A -d 10.0.0.1 --dport 80 -j MARK --set-mark 1",
            "--dport needs -p tcp",
        ),
        (
            "mark -A -p tcp --dports 80,443 -j MARK --set-mark 1",
            "needs -m multiport",
        ),
        (
            "mark -A -p icmp -j MARK --set-mark 1",
            "services are of tcp, udp and sctp",
        ),
        (
            "mark -A -m state --state NEW -j MARK --set-mark 1",
            "-m state is not known here",
        ),
        (
            "mark -A -s 10.0.0.1 -d fd00::1 -j MARK --set-mark 1",
            "of the other family",
        ),
        (
            "mark -A -m set --match-set none src -j MARK --set-mark 1",
            "there is no set none",
        ),
        ("mark -D 2", "there is no rule 2"),
        ("mark -I 3 -j MARK --set-mark 1", "there is no rule 3"),
        ("mark -D -j MARK --set-mark 1", "there is no such rule"),
        (
            "mark -A OUTPUT -j MARK --set-mark 1",
            "there is no chain OUTPUT",
        ),
        ("mark", "no command given"),
        (
            "filter -A -s 10.0.0.1 -j REJECT",
            "filter rules have -j DROP or -j ACCEPT",
        ),
        ("filter -A -i eth0 -j DROP", "filter rules have no -i"),
        ("filter set add none 10.0.0.1", "there is no set none"),
    ] {
        let said = refused(&director, line);
        assert!(said.contains(part), "`lvx {line}`: {said}");
    }
    assert_eq!(lvx(&director, "mark -S"), before);
    assert_eq!(lvx(&director, "filter -S"), "");
    assert_eq!(
        lvx(&director, "mark -L"),
        "Chain mark (IPv4)\n\
         num  target  prot  source               destination\n\
         1    MARK    tcp   0.0.0.0/0            192.168.0.200        dpt:80,443 MARK set 0x1a0a\n"
    );
}
