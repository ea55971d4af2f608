//! `-L -c`: tracked connections, in the order they come.

use std::fmt::Write as _;

use super::text::Style;
use crate::model::{Connection, Protocol};

/// Renders the table; `persistent` (`--persistent-conn`) adds the titles of
/// the persistence engine's columns.
pub(super) fn render(connections: &[Connection], persistent: bool, style: Style<'_>) -> String {
    let mut out = String::from("IPVS connection entries\n");
    out.push_str("pro expire state       source             virtual            destination");
    out.push_str(if persistent {
        "        pe name          pe_data\n"
    } else {
        "\n"
    });
    for connection in connections {
        let protocol = Protocol::from_number(connection.protocol);
        let name = match (protocol, connection.protocol) {
            (Some(protocol), _) => protocol.name(),
            (None, 0) => "IP",
            (None, _) => "?",
        };
        let expires = format!(
            "{:02}:{:02}",
            connection.expires / 60,
            connection.expires % 60
        );
        let [client, service, dest] = [connection.client, connection.service, connection.dest]
            .map(|(addr, port)| style.endpoint(addr, port, protocol));
        let dest = match &connection.pe {
            Some((engine, data)) if persistent => format!("{dest:<16} {engine:<18} {data}"),
            _ => dest,
        };
        let _ = writeln!(
            out,
            "{name:<3} {expires:<6} {:<11} {client:<18} {service:<18} {dest}",
            connection.state
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(protocol: u8, expires: u32, state: &str, ends: [(&str, u16); 3]) -> Connection {
        let [client, service, dest] = ends.map(|(addr, port)| (addr.parse().unwrap(), port));
        Connection {
            protocol,
            expires,
            state: state.to_owned(),
            client,
            service,
            dest,
            pe: None,
        }
    }

    #[test]
    fn columns() {
        let connections = [
            connection(
                6,
                897,
                "ESTABLISHED",
                [
                    ("10.0.0.100", 44926),
                    ("10.0.0.1", 80),
                    ("192.168.1.1", 8080),
                ],
            ),
            connection(
                17,
                296,
                "UDP",
                [("10.0.0.100", 50812), ("10.0.0.1", 53), ("192.168.1.1", 53)],
            ),
            connection(
                6,
                58,
                "SYN_RECV",
                [
                    ("2001:db8::100", 60968),
                    ("2001:db8::1", 80),
                    ("fd00:1::1", 8080),
                ],
            ),
            connection(
                0,
                97,
                "NONE",
                [("10.0.0.100", 0), ("0.0.0.7", 0), ("192.168.1.1", 0)],
            ),
            connection(
                132,
                8015,
                "ESTABLISHED",
                [("10.0.0.100", 1), ("10.0.0.1", 9), ("192.168.1.1", 9)],
            ),
        ];
        let want = "\
IPVS connection entries
pro expire state       source             virtual            destination
TCP 14:57  ESTABLISHED 10.0.0.100:44926   10.0.0.1:80        192.168.1.1:8080
UDP 04:56  UDP         10.0.0.100:50812   10.0.0.1:53        192.168.1.1:53
TCP 00:58  SYN_RECV    [2001:db8::100]:60968 [2001:db8::1]:80   [fd00:1::1]:8080
IP  01:37  NONE        10.0.0.100:0       0.0.0.7:0          192.168.1.1:0
SCTP 133:35 ESTABLISHED 10.0.0.100:1       10.0.0.1:9         192.168.1.1:9
";
        assert_eq!(render(&connections, false, Style { names: None }), want);
    }

    #[test]
    fn persistence_engines_have_titles() {
        let want = "\
IPVS connection entries
pro expire state       source             virtual            destination        pe name          pe_data
UDP 00:57  NONE        10.0.0.100:0       10.0.0.1:5060      192.168.1.1:5060 sip                8436@09
";
        let ends = [("10.0.0.100", 0), ("10.0.0.1", 5060), ("192.168.1.1", 5060)];
        let call = Connection {
            pe: Some(("sip".to_owned(), "8436@09".to_owned())),
            ..connection(17, 57, "NONE", ends)
        };
        let shown = |persistent| {
            render(
                std::slice::from_ref(&call),
                persistent,
                Style { names: None },
            )
        };
        assert_eq!(shown(true), want);
        assert!(shown(false).ends_with("192.168.1.1:5060\n"));
    }
}
