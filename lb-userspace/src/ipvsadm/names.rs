//! The name services of the system: hosts and the services database.

use std::ffi::{CStr, CString};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Mutex;

use crate::model::Protocol;

/// Looks names up, forwards and backwards.
pub(crate) trait Names {
    /// The first IPv4 address of a host name.
    fn host(&self, name: &str) -> Option<Ipv4Addr>;
    /// The first IPv6 address of a host name; ipvsadm asks for none.
    fn host6(&self, _name: &str) -> Option<Ipv6Addr> {
        None
    }
    /// The host name of an address.
    fn host_of(&self, addr: IpAddr) -> Option<String>;
    /// The port of a service name.
    fn port(&self, name: &str, protocol: Protocol) -> Option<u16>;
    /// The service name of a port.
    fn port_of(&self, port: u16, protocol: Protocol) -> Option<String>;
}

/// The C library's: `/etc/hosts`, DNS, `/etc/services`, whatever `nsswitch.conf` says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SystemNames;

/// `getservbyname` and `getservbyport` answer from one static buffer.
static SERVICES: Mutex<()> = Mutex::new(());

/// The services database's name of a protocol.
fn protocol_name(protocol: Protocol) -> &'static CStr {
    match protocol {
        Protocol::Tcp => c"tcp",
        Protocol::Udp => c"udp",
        Protocol::Sctp => c"sctp",
    }
}

impl Names for SystemNames {
    fn host(&self, name: &str) -> Option<Ipv4Addr> {
        // Asked for both families, the hosts file answers with the first line alone.
        let hints = dns_lookup::AddrInfoHints {
            address: libc::AF_INET,
            socktype: libc::SOCK_STREAM,
            ..dns_lookup::AddrInfoHints::default()
        };
        let mut found = dns_lookup::getaddrinfo(Some(name), None, Some(hints)).ok()?;
        found.find_map(|info| match info.ok()?.sockaddr.ip() {
            IpAddr::V4(v4) => Some(v4),
            IpAddr::V6(_) => None,
        })
    }

    fn host6(&self, name: &str) -> Option<Ipv6Addr> {
        let hints = dns_lookup::AddrInfoHints {
            address: libc::AF_INET6,
            socktype: libc::SOCK_STREAM,
            ..dns_lookup::AddrInfoHints::default()
        };
        let mut found = dns_lookup::getaddrinfo(Some(name), None, Some(hints)).ok()?;
        found.find_map(|info| match info.ok()?.sockaddr.ip() {
            IpAddr::V6(v6) => Some(v6),
            IpAddr::V4(_) => None,
        })
    }

    fn host_of(&self, addr: IpAddr) -> Option<String> {
        dns_lookup::lookup_addr(&addr).ok()
    }

    fn port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        let name = CString::new(name).ok()?;
        let _guard = SERVICES
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: both strings end in NUL; the answer is null or points to a static entry that
        // stays valid until the next call, which the lock holds off.
        let port = unsafe {
            libc::getservbyname(name.as_ptr(), protocol_name(protocol).as_ptr()).as_ref()
        }?
        .s_port;
        u16::try_from(port).ok().map(u16::from_be)
    }

    fn port_of(&self, port: u16, protocol: Protocol) -> Option<String> {
        let _guard = SERVICES
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // SAFETY: the protocol ends in NUL; the answer is null or points to a static entry whose
        // name is a C string, valid until the next call, which the lock holds off.
        let name = unsafe {
            let entry = libc::getservbyport(port.to_be().into(), protocol_name(protocol).as_ptr())
                .as_ref()?;
            CStr::from_ptr(entry.s_name)
        };
        Some(name.to_string_lossy().into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_has_a_name() {
        assert_eq!(SystemNames.host("localhost"), Some(Ipv4Addr::LOCALHOST));
        assert_eq!(SystemNames.host("host.invalid"), None);
    }

    #[test]
    fn a_name_with_a_nul_is_no_service() {
        assert_eq!(SystemNames.port("ht\0tp", Protocol::Tcp), None);
        assert_eq!(SystemNames.port("", Protocol::Tcp), None);
        assert_eq!(SystemNames.port_of(0, Protocol::Tcp), None);
    }
}
