//! Servers by every method in both families, as commands, listings and saved
//! text; without packets.

use lvx_tests::{
    director::{Director, Start},
    lab::OneArm,
};

const CONFIGURATION: &str = "-A -t 192.168.0.200:80 -s wrr
-a -t 192.168.0.200:80 -r 192.168.0.10:8080 -m -w 2
-a -t 192.168.0.200:80 -r 192.168.0.20:80 -i -w 1 --tun-type ipip
-a -t 192.168.0.200:80 -r 192.168.0.30:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum
-a -t 192.168.0.200:80 -r 192.168.0.40:80 -i -w 1 --tun-type gre --tun-csum
-a -t 192.168.0.200:80 -r [fd00::60]:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-A -t [fd00::200]:80 -s rr
-a -t [fd00::200]:80 -r 192.168.0.20:80 -i -w 1 --tun-type ipip
-a -t [fd00::200]:80 -r [fd00::10]:8080 -m -w 3
-a -t [fd00::200]:80 -r [fd00::20]:80 -g -w 1
-A -u [fd00::200]:53 -s rr
";

/// A lab whose director has an IPv6 VIP too.
fn lab() -> OneArm {
    let lab = OneArm::new().expect("a lab");
    for which in ["all", "default", "eth0"] {
        lab.director
            .ns
            .sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")
            .expect("IPv6 can be switched on");
    }
    for addr in ["fd00::50/64", "fd00::200/128"] {
        lab.director
            .ns
            .ip(&format!("addr add {addr} dev eth0 nodad"))
            .expect("the address can be added");
    }
    lab
}

/// Configures from the saved form, one command a line.
fn configure(director: &Director<'_>) {
    director.configure(CONFIGURATION);
}

#[test]
fn every_method_in_both_families_is_listed_saved_and_survives_a_restart() {
    let lab = lab();
    let mut director = Director::start(&lab.director.ns).unwrap();
    configure(&director);
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), CONFIGURATION);
    let list = director.ipvsadm(&["-Ln", "--tun-info"]).ok();
    assert_eq!(
        list.split_once('\n').unwrap().1,
        "Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward TunnelInfo    Weight ActiveConn InActConn
TCP  192.168.0.200:80 wrr
  -> 192.168.0.10:8080            Masq    n/a           2      0          0         \n\
\x20 -> 192.168.0.20:80              Tunnel  ipip          1      0          0         \n\
\x20 -> 192.168.0.30:80              Tunnel  gue:6080:r+c  1      0          0         \n\
\x20 -> 192.168.0.40:80              Tunnel  gre:+c        1      0          0         \n\
\x20 -> [fd00::60]:80                Tunnel  gue:6080:-c   1      0          0         \n\
TCP  [fd00::200]:80 rr
  -> 192.168.0.20:80              Tunnel  ipip          1      0          0         \n\
\x20 -> [fd00::10]:8080              Masq    n/a           3      0          0         \n\
\x20 -> [fd00::20]:80                Route   n/a           1      0          0         \n\
UDP  [fd00::200]:53 rr
"
    );
    // A second start reads it back; without a daemon it is there as well.
    assert!(director.stop());
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), CONFIGURATION);
    director.restart().unwrap();
    assert_eq!(director.ipvsadm(&["-S", "-n"]).ok(), CONFIGURATION);

    // NAT has the port it is given, everything else the service's; an edit replaces all.
    director.configure(
        "-a -t 192.168.0.200:80 -r 192.168.0.50:8080 -i
         -e -t 192.168.0.200:80 -r 192.168.0.10:8080 -m -w 7
         -e -t 192.168.0.200:80 -r 192.168.0.30:80 -i --tun-type gue --tun-port 7000
         -e -t 192.168.0.200:80 -r 192.168.0.40:80 -g
         -d -t 192.168.0.200:80 -r 192.168.0.20:80
         -d -t 192.168.0.200:80 -r [fd00::60]:80",
    );
    let one = director
        .ipvsadm(&["-Ln", "-t", "192.168.0.200:80", "--tun-info"])
        .ok();
    let servers: Vec<&str> = one.lines().skip(3).map(str::trim_end).collect();
    assert_eq!(
        servers,
        [
            "  -> 192.168.0.10:8080            Masq    n/a           7      0          0",
            "  -> 192.168.0.30:80              Tunnel  gue:7000:-c   1      0          0",
            "  -> 192.168.0.40:80              Route   n/a           1      0          0",
            "  -> 192.168.0.50:80              Tunnel  ipip          1      0          0",
        ]
    );
    let connections = director.ipvsadm(&["-Lnc"]).ok();
    assert_eq!(connections.lines().count(), 2, "{connections}");
}

#[test]
fn status_names_the_service_addresses_that_are_not_the_directors() {
    let lab = lab();
    let mut director = Director::start(&lab.director.ns).unwrap();
    configure(&director);
    director.configure(
        "-A -t 192.168.0.201:80 -s rr
         -A -u 192.168.0.201:53 -s rr
         -A -t [fd00::201]:80 -s rr",
    );
    let named = |director: &Director<'_>| {
        let warnings = director.status().unwrap().warnings;
        let line = warnings.into_iter().find_map(|line| {
            let rest = line
                .strip_prefix("no address of this director, so packets to it go to the stack: ")?;
            Some(rest.split_once(" (").unwrap().0.to_owned())
        });
        line.unwrap_or_default()
    };
    assert_eq!(named(&director), "192.168.0.201, fd00::201");
    lab.director
        .ns
        .ip("addr add 192.168.0.201/32 dev eth0")
        .unwrap();
    lab.director
        .ns
        .ip("addr del fd00::200/128 dev eth0")
        .unwrap();
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while named(&director) != "fd00::200, fd00::201" {
        assert!(std::time::Instant::now() < limit, "{}", named(&director));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // What packets see does not change when the daemon dies.
    director.kill();
    assert_eq!(named(&director), "fd00::200, fd00::201");
}

#[test]
fn each_family_has_a_flow_table_of_its_own_size() {
    let lab = lab();
    let start = Start::default().connections(Some(40_000));
    {
        let director = Director::start_with(&lab.director.ns, start.clone()).unwrap();
        let status = director.status().unwrap();
        let [four, six] = [status.flow4, status.flow6];
        // Twice as many cells as promised, a power of two, and an eighth more.
        assert_eq!((four.connections, four.cells), (65_536, 131_072 * 9 / 8));
        assert_eq!((six.connections, six.cells), (16_384, 32_768 * 9 / 8));
        assert_eq!((four.bytes, six.bytes), (four.cells * 64, six.cells * 128));
    }
    let director = Director::start_with(&lab.director.ns, start.connections6(8_192)).unwrap();
    assert_eq!(director.status().unwrap().flow6.connections, 8_192);
    let text = director.lvx(&["status"]).ok();
    assert!(
        text.contains(
            "flows IPv6    0 of 18432 cells used (0.0 %), 8192 connections promised, 2.2 MiB"
        ),
        "{text}"
    );
}
