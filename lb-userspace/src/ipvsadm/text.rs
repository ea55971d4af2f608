//! How listings and saved tables write addresses, ports and flags.

use std::net::{IpAddr, Ipv6Addr};

use super::command::{FLAG_1, FLAG_2, FLAG_3};
use super::names::Names;
use crate::model::{Family, Protocol, ServiceId, ServiceSpec};

/// The original cuts address and port together here, also in what it saves.
const ENDPOINT: usize = 59;

/// With `-n` no names, else what the name services say.
#[derive(Clone, Copy)]
pub(super) struct Style<'a> {
    /// `None` with `-n`.
    pub(super) names: Option<&'a dyn Names>,
}

impl Style<'_> {
    /// `10.0.0.1:80`, `www:http`, `[2001:db8::1]:80`. Ports of marks (no
    /// protocol) have no names.
    pub(super) fn endpoint(self, addr: IpAddr, port: u16, protocol: Option<Protocol>) -> String {
        let host = self
            .names
            .and_then(|names| names.host_of(addr))
            .unwrap_or_else(|| number(addr));
        let service = self
            .names
            .zip(protocol)
            .and_then(|(names, protocol)| names.port_of(port, protocol));
        let service = service.unwrap_or_else(|| port.to_string());
        match Family::of(addr) {
            Family::V4 => format!("{:.ENDPOINT$}", format!("{host}:{service}")),
            Family::V6 => format!("{:.ENDPOINT$}", format!("[{host}]:{service}")),
        }
    }
}

/// An address as `inet_ntop` writes it, which is not quite the standard
/// library's way: `::1.2.3.4`.
fn number(addr: IpAddr) -> String {
    match addr {
        IpAddr::V6(v6) if matches!(v6.segments(), [0, 0, 0, 0, 0, 0, high, _] if high != 0) => {
            embedded(v6)
        }
        other => other.to_string(),
    }
}

fn embedded(addr: Ipv6Addr) -> String {
    let [.., a, b, c, d] = addr.octets();
    format!("::{a}.{b}.{c}.{d}")
}

/// The protocol of a service; a mark has none.
pub(super) fn protocol(id: ServiceId) -> Option<Protocol> {
    match id {
        ServiceId::Address { protocol, .. } => Some(protocol),
        ServiceId::Mark { .. } => None,
    }
}

/// Family of a service.
fn family(id: ServiceId) -> Family {
    match id {
        ServiceId::Address { addr, .. } => Family::of(addr),
        ServiceId::Mark { family, .. } => family,
    }
}

/// The mask of a service unless it covers single addresses.
pub(super) fn mask(id: ServiceId, spec: &ServiceSpec) -> Option<String> {
    match family(id) {
        Family::V4 => {
            (spec.netmask != u32::MAX).then(|| IpAddr::from(spec.netmask.to_be_bytes()).to_string())
        }
        Family::V6 => (spec.netmask != 128).then(|| spec.netmask.to_string()),
    }
}

/// The names of a scheduler's flags, comma-separated. `sh` and `mh` have none
/// for the third, as in the original.
pub(super) fn sched_flags(spec: &ServiceSpec) -> String {
    let names = match spec.scheduler.as_str() {
        "sh" => ["sh-fallback", "sh-port", ""],
        "mh" => ["mh-fallback", "mh-port", ""],
        _ => ["flag-1", "flag-2", "flag-3"],
    };
    let set = names
        .iter()
        .zip([FLAG_1, FLAG_2, FLAG_3])
        .filter(|(name, bit)| !name.is_empty() && spec.sched_flags & bit != 0);
    set.map(|(name, _)| *name).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::fake::FakeNames;

    #[test]
    fn ports_of_marks_stay_numbers() {
        let named = Style {
            names: Some(&FakeNames),
        };
        let addr = IpAddr::from([10, 0, 0, 9]);
        assert_eq!(
            named.endpoint(addr, 80, Some(Protocol::Tcp)),
            "www.example.com:http"
        );
        assert_eq!(named.endpoint(addr, 80, None), "www.example.com:80");
        assert_eq!(
            Style { names: None }.endpoint(addr, 80, Some(Protocol::Tcp)),
            "10.0.0.9:80"
        );
    }

    #[test]
    fn the_third_flag_of_mh_has_no_name() {
        let spec = ServiceSpec {
            scheduler: "mh".into(),
            sched_flags: FLAG_2 | FLAG_3,
            ops: false,
            persistent: None,
            netmask: u32::MAX,
            pe: None,
            toa: false,
        };
        assert_eq!(sched_flags(&spec), "mh-port");
    }

    #[test]
    fn long_names_are_cut() {
        let named = Style {
            names: Some(&FakeNames),
        };
        let long = named.endpoint([192, 168, 10, 8].into(), 8080, Some(Protocol::Tcp));
        assert_eq!(
            long,
            "a-very-long-name.of-a-service.which-goes.on-and-on-and-on.a"
        );
    }

    #[test]
    fn addresses_as_inet_ntop_writes_them() {
        for (addr, want) in [
            ("::1", "::1"),
            ("::", "::"),
            ("::1.2.3.4", "::1.2.3.4"),
            ("::1:0", "::0.1.0.0"),
            ("2001:0:0:1:0:0:1:0", "2001::1:0:0:1:0"),
            ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"),
            ("::ffff:0:0", "::ffff:0.0.0.0"),
            ("::ffff:1.2.3.4", "::ffff:1.2.3.4"),
            ("2001:db8:0:1:0:0:0:1", "2001:db8:0:1::1"),
        ] {
            assert_eq!(number(addr.parse().unwrap()), want);
        }
    }
}
