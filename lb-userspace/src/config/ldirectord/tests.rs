use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::{
    config::{self, place::Fault},
    model::{Check, Http, OnFailure, Protocol, ServiceCheck, Timing},
};

struct Hosts;

impl Names for Hosts {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        match name {
            "sql01" => Some([192, 168, 10, 1].into()),
            "sql03" => Some([192, 168, 10, 3].into()),
            "www.baidu.com" => Some([10, 9, 9, 9].into()),
            _ => None,
        }
    }

    fn host6(&self, name: &str) -> Option<Ipv6Addr> {
        (name == "six").then_some(Ipv6Addr::LOCALHOST)
    }

    fn host_of(&self, _: IpAddr) -> Option<String> {
        None
    }

    fn port(&self, name: &str, _: Protocol) -> Option<u16> {
        (name == "http").then_some(80)
    }

    fn port_of(&self, _: u16, _: Protocol) -> Option<String> {
        None
    }
}

fn good(text: &str) -> Ldirectord {
    read(text, "cf", &Hosts).unwrap_or_else(|faults| panic!("{faults:?}"))
}

fn services(text: &str) -> Vec<ServiceConfig> {
    good(text).config.services.unwrap()
}

fn check(service: &ServiceConfig) -> &ServiceCheck {
    service.check.as_deref().unwrap()
}

fn bad(text: &str) -> Vec<Fault> {
    read(text, "cf", &Hosts).map(drop).unwrap_err()
}

/// Recipe R7, as it stands.
const WEB: &str = "checktimeout=3
checkinterval=1
autoreload=yes
quiescent=no
virtual=192.168.80.99:80
        real=192.168.80.11:80 gate
        real=192.168.80.12:80 gate
        fallback=127.0.0.1:80 gate
        service=http
        scheduler=rr
        protocol=tcp
        checktype=negotiate
        checkport=80
        request=\"index.html\"
        receive=\"80\"
";

#[test]
fn http_with_a_sorry_server() {
    let file = good(WEB);
    assert!(file.autoreload && file.warnings.is_empty());
    let services = file.config.services.clone().unwrap();
    let [web] = &services[..] else {
        panic!("{services:?}")
    };
    assert_eq!(web.id.name(), "tcp:192.168.80.99:80");
    assert_eq!(web.spec.scheduler, "rr");
    let ids: Vec<String> = web.dests.iter().map(|dest| dest.id.to_string()).collect();
    assert_eq!(ids, ["192.168.80.11:80", "192.168.80.12:80"]);
    let check = check(web);
    assert_eq!(
        check.timing,
        Timing {
            interval: 1000,
            timeout: 3000,
            failures: 1,
            successes: 1
        }
    );
    assert_eq!(check.on_failure, OnFailure::Remove);
    assert_eq!(check.sorry.unwrap().id.to_string(), "127.0.0.1:80");
    assert_eq!(
        check.check,
        Check::Http(Http {
            path: "/index.html".into(),
            expect: Some("80".into()),
            ..Http::default()
        })
    );
    // What it means as lvx.toml means the same.
    let toml = config::text(&file.config);
    let (back, _) = config::read(&toml).unwrap_or_else(|faults| panic!("{faults:?}\n{toml}"));
    assert_eq!(back.services, file.config.services, "{toml}");
}

/// Recipe R8, as it stands.
#[test]
fn mysql_over_a_range() {
    let [sql] = &services(
        "virtual = 192.168.10.74:3306
        real=sql01->sql03:3306 gate 10
        fallback=127.0.0.1:3306
        service=mysql
        scheduler=wrr
        protocol=tcp
        checktype=negotiate
        login=\"readuser\"
        passwd=\"genericpassword\"
        database=\"portal\"
        request=\"SELECT * FROM link\"
",
    )[..] else {
        panic!()
    };
    let ids: Vec<String> = sql.dests.iter().map(|dest| dest.id.to_string()).collect();
    assert_eq!(
        ids,
        [
            "192.168.10.1:3306",
            "192.168.10.2:3306",
            "192.168.10.3:3306"
        ]
    );
    assert!(sql.dests.iter().all(|dest| dest.spec.weight == 10));
    let check = check(sql);
    assert_eq!(
        (check.timing.interval, check.timing.timeout),
        (10_000, 30_000)
    );
    let Check::Mysql(query) = &check.check else {
        panic!("{check:?}")
    };
    assert_eq!(
        (
            &*query.login,
            &*query.password,
            &*query.database,
            &*query.query
        ),
        (
            "readuser",
            "genericpassword",
            "portal",
            "SELECT * FROM link"
        )
    );
}

#[test]
fn ranges_cross_digits() {
    let [one] = &services("virtual=10.0.0.1:80\n\treal=9.255.255.254->10.0.0.2:80 gate\n")[..]
    else {
        panic!()
    };
    assert_eq!(one.dests.len(), 5);
}

#[test]
fn marks_names_and_global_fallbacks() {
    let text = "# a comment
fallback=www.baidu.com:80
fallback6=[::1]:80
negotiatetimeout = 7
failurecount=3
quiescent=yes
virtual=5
    # a comment inside
    real=192.168.1.1 gate 2
    real=192.168.1.2:8080 masq 3 \"a.html\", \"x+\" l:10 u:20   # and behind
    service=http
    persistent=600
    netmask=255.255.255.0
    protocol=fwm
    checktype=2
    virtualhost=www.x.y.z

virtual6=[2001:db8::1]:http
\treal6=[fd00::1]:8080 masq
\treal6=six:8080 masq
\tchecktype=connect
\tcheckinterval=4
virtual=10.0.0.1:53
\treal=10.1.0.1:53 masq
\trequest=\"www.x.y\"
\treceive=\"^10\\.\"
";
    let all = services(text);
    let [mark, six, dns] = &all[..] else {
        panic!("{all:?}")
    };
    assert_eq!(mark.id.name(), "mark:5");
    assert_eq!(mark.spec.persistent, Some(600));
    assert_eq!(mark.spec.netmask, 0xffff_ff00);
    let ids: Vec<String> = mark.dests.iter().map(|dest| dest.id.to_string()).collect();
    assert_eq!(ids, ["192.168.1.1:0", "192.168.1.2:8080"]);
    assert_eq!(
        (
            mark.dests[1].spec.u_threshold,
            mark.dests[1].spec.l_threshold
        ),
        (20, 10)
    );
    let mine = check(mark);
    assert_eq!(mine.sorry.unwrap().id.to_string(), "10.9.9.9:80");
    assert_eq!(mine.on_failure, OnFailure::Quiesce);
    assert_eq!((mine.timing.failures, mine.timing.timeout), (3, 7000));
    let Check::Mixed {
        connections: 2,
        other,
    } = &mine.check
    else {
        panic!("{mine:?}")
    };
    assert!(matches!(&**other, Check::Http(http) if http.host.as_deref() == Some("www.x.y.z")));
    assert_eq!(
        mine.own(mark.dests[0].id).and_then(|own| own.port),
        Some(80)
    );
    let own = mine.own(mark.dests[1].id).unwrap();
    assert_eq!(own.request.as_deref(), Some("/a.html"));
    assert_eq!(own.expect.as_deref(), Some("x+"));

    assert_eq!(six.id.name(), "tcp:[2001:db8::1]:80");
    assert_eq!(six.dests.len(), 2);
    assert_eq!(check(six).check, Check::Tcp);
    assert_eq!(check(six).timing.interval, 4000);
    assert_eq!(check(six).sorry.unwrap().id.to_string(), "[::1]:80");

    assert_eq!(dns.id.name(), "udp:10.0.0.1:53");
    assert!(matches!(&check(dns).check, Check::Dns { name, tcp: false, .. } if name == "www.x.y"));
}

#[test]
fn ports_are_as_the_table_has_them_and_checks_as_written() {
    let all = services(
        "fallback=127.0.0.1:8888
virtual=10.0.0.1:80
    real=10.1.0.1:8080 gate
    real=10.1.0.2:8080 masq
virtual=10.0.0.1:25
    real=10.1.0.1 gate
    checktype=external
    checkcommand=/bin/x
",
    );
    let ids = |service: &ServiceConfig| -> Vec<String> {
        service
            .dests
            .iter()
            .map(|dest| dest.id.to_string())
            .collect()
    };
    assert_eq!(ids(&all[0]), ["10.1.0.1:80", "10.1.0.2:8080"]);
    let web = check(&all[0]);
    assert_eq!(web.own(all[0].dests[0].id).unwrap().port, Some(8080));
    assert_eq!(web.own(all[0].dests[1].id), None);
    assert_eq!(web.sorry.unwrap().id.to_string(), "127.0.0.1:80");
    assert_eq!(ids(&all[1]), ["10.1.0.1:25"]);
}

#[test]
fn every_fault_has_its_line() {
    let at = |text: &str| -> Vec<(usize, String)> {
        bad(text)
            .into_iter()
            .map(|fault| (fault.line, fault.text))
            .collect()
    };
    for (text, line, why) in [
        ("nosuch=1\n", 1, "unknown directive: nosuch"),
        ("checkinterval=0\n", 1, "greater than 0"),
        ("\nquiescent=maybe\n", 2, "yes or no"),
        ("quiescent=yes \n", 1, "yes or no"),
        ("timeout=3\n", 1, "obsolete"),
        ("virtual=10.0.0.1\n", 1, "neither ADDRESS:PORT nor a mark"),
        ("virtual=[fd00::1]:80\n", 1, "virtual6"),
        ("virtual=nosuch.invalid:80\n", 1, "nor a name of one"),
        (
            "virtual=10.0.0.1:80\n real=10.1.0.1 gate\n",
            2,
            "unknown directive",
        ),
        ("    real=10.1.0.1 gate\n", 1, "follow its virtual="),
        (
            "virtual=10.0.0.1:80\n\n\treal=10.1.0.1:80 gate\n",
            3,
            "follow its virtual=",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.1:80\n",
            2,
            "a method must follow",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.1:80 gate 1 2\n",
            2,
            "too much",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.1:80 gate l:5 u:2\n",
            2,
            "above the upper",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.1:80 gate \"x\"\n",
            2,
            "both",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.2->10.1.0.1:80 gate\n",
            2,
            "ends before",
        ),
        (
            "virtual=10.0.0.1:80\n\treal6=[fd00::1]:80 gate\n",
            2,
            "virtual takes real",
        ),
        (
            "virtual=10.0.0.1:80\n\treceive=\"(\"\n",
            2,
            "regular expression",
        ),
        (
            "virtual=10.0.0.1:80\n\trequest=index.html\n",
            2,
            "in quotes",
        ),
        (
            "virtual=10.0.0.1:80\n\tchecktype=negotiated\n",
            2,
            "checktype is",
        ),
        ("virtual=10.0.0.1:80\n\tservice=ldap\n", 2, "not built"),
        (
            "virtual=10.0.0.1:80\n\tscheduler=wrt\n",
            2,
            "no scheduler wrt",
        ),
        ("virtual=10.0.0.1:80\n\tprotocol=fwm\n", 2, "tcp or udp"),
        ("virtual=5\n\tprotocol=tcp\n", 2, "is fwm"),
        (
            "virtual=10.0.0.1:80\nvirtual=10.0.0.1:80\n",
            2,
            "duplicate virtual server, of line 1",
        ),
        (
            "virtual=10.0.0.1:80\n\treal=10.1.0.1:80 gate\n\treal=10.1.0.1:80 gate\n",
            3,
            "twice",
        ),
        (
            "virtual=10.0.0.1:0\n\treal=10.1.0.1 gate\n\tchecktype=ping\n",
            1,
            "persistent",
        ),
    ] {
        let found = at(text);
        let hit = found
            .iter()
            .any(|(number, text)| *number == line && text.contains(why));
        assert!(hit, "{text:?}: {found:?}");
    }
    // All of them at once, and those of a block whose head is wrong.
    let many = at("nosuch=1\nvirtual=x\n\treal=10.1.0.1:80\n\tweights=2\n");
    let lines: Vec<usize> = many.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 3, 4], "{many:?}");
}

#[test]
fn what_is_not_acted_on_is_named() {
    let file = good(
        "emailalert=\"admin@x.y.z\"
logfile=\"/var/log/ldirectord.log\"
cleanstop=no
virtual=10.0.0.1:80
    real=10.1.0.1:80 gate
    fallbackcommand=/bin/x
    servicename=Web
supervised
",
    );
    let named: Vec<(usize, String)> = file
        .warnings
        .into_iter()
        .map(|fault| (fault.line, fault.text))
        .collect();
    let lines: Vec<usize> = named.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, [1, 2, 6, 8], "{named:?}");
    assert!(named[0].1.contains("emailalert"));
}
