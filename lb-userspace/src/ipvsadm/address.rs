//! Addresses, ports and numbers as the command line writes them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use super::names::Names;
use crate::model::Protocol;

/// A decimal number of the C library's `strtol`: leading blanks and a sign are
/// fine, a leading zero is still decimal, anything after the digits is not.
pub(super) fn number(text: &str, range: RangeInclusive<i64>) -> Option<i64> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|value| range.contains(value))
}

/// An IPv4 address in any form of `inet_aton`: one to four parts, each
/// decimal, octal (`0…`) or hexadecimal (`0x…`); the last fills what is left.
/// What follows a blank is ignored, as there.
fn inet_aton(text: &str) -> Option<Ipv4Addr> {
    let text = text.split([' ', '\t', '\n', '\x0b', '\x0c', '\r']).next()?;
    let parts: Vec<u64> = text.split('.').map(inet_aton_part).collect::<Option<_>>()?;
    let (last, first) = parts.split_last()?;
    if first.len() > 3 || first.iter().any(|part| *part > 0xff) {
        return None;
    }
    let room = 32 - 8 * first.len();
    if *last >= 1 << room {
        return None;
    }
    let high = first.iter().fold(0, |sum, part| sum << 8 | part);
    u32::try_from(high << room | last).ok().map(Ipv4Addr::from)
}

fn inet_aton_part(part: &str) -> Option<u64> {
    let hex = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
    let (digits, radix) = match (hex, part.len()) {
        (Some(digits), _) => (digits, 16),
        (None, 2..) if part.starts_with('0') => (&part[1..], 8),
        (None, _) => (part, 10),
    };
    // from_str_radix alone would take a sign.
    let plain = digits.bytes().all(|byte| byte.is_ascii_alphanumeric());
    u64::from_str_radix(digits, radix).ok().filter(|_| plain)
}

/// An IPv4 address or the first one of a host name.
pub(super) fn ipv4(text: &str, names: &dyn Names) -> Option<Ipv4Addr> {
    inet_aton(text).or_else(|| {
        if text.is_empty() {
            None
        } else {
            names.host(text)
        }
    })
}

/// An address, with a port unless there is none.
///
/// `10.0.0.1:80`, `name:http`, `[2001:db8::1]:80`, or without a port
/// `10.0.0.1`, `2001:db8::1`. A bracket always wants a port (but `[10.0.0.1]:80` is
/// read as `10.0.0.1`), a host name is looked up as IPv4 only, and digits alone are
/// never an address. Service
/// names need the protocol to be known.
pub(super) fn endpoint(
    text: &str,
    protocol: Option<Protocol>,
    names: &dyn Names,
) -> Option<(IpAddr, Option<u16>)> {
    let port = |text: &str| {
        let by_number = number(text, 0..=0xffff).and_then(|value| u16::try_from(value).ok());
        by_number.or_else(|| names.port(text, protocol?))
    };
    let host_port = |text: &str| match text.rsplit_once(':') {
        Some((host, after)) => Some((ipv4(host, names)?.into(), Some(port(after)?))),
        None => Some((ipv4(text, names)?.into(), None)),
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (inner, after) = rest.split_once(']')?;
        let after = after.strip_prefix(':')?;
        return match inner.parse::<Ipv6Addr>() {
            Ok(address) => Some((address.into(), Some(port(after)?))),
            // What is in the bracket counts, and not what follows it.
            Err(_) => host_port(inner),
        };
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return Some((address.into(), None));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    host_port(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::fake::FakeNames;

    fn tcp(text: &str) -> Option<(IpAddr, Option<u16>)> {
        endpoint(text, Some(Protocol::Tcp), &FakeNames)
    }

    #[test]
    fn what_is_an_address() {
        let v4 = |text: &str, port| Some((text.parse().unwrap(), port));
        for (text, want) in [
            ("10.0.0.1:80", v4("10.0.0.1", Some(80))),
            ("10.0.0.1:http", v4("10.0.0.1", Some(80))),
            ("www:80", v4("10.0.0.9", Some(80))),
            ("www", v4("10.0.0.9", None)),
            ("10.0.0.1", v4("10.0.0.1", None)),
            ("10.1:80", v4("10.0.0.1", Some(80))),
            ("0xa000001:81", v4("10.0.0.1", Some(81))),
            ("010.0.0.1:80", v4("8.0.0.1", Some(80))),
            ("256:80", v4("0.0.1.0", Some(80))),
            ("1.80", v4("1.0.0.80", None)),
            ("10.0.0.1 x:80", v4("10.0.0.1", Some(80))),
            ("10.0.0.1: 6", v4("10.0.0.1", Some(6))),
            ("10.0.0.1:+7", v4("10.0.0.1", Some(7))),
            ("10.0.0.1:08", v4("10.0.0.1", Some(8))),
            ("10.0.0.1:-0", v4("10.0.0.1", Some(0))),
            ("[2001:db8::1]:80", v4("2001:db8::1", Some(80))),
            ("2001:db8::1", v4("2001:db8::1", None)),
            ("2001:db8::1:90", v4("2001:db8::1:90", None)),
            ("[10.0.0.1]:80", v4("10.0.0.1", None)),
            ("[10.0.0.1]:", v4("10.0.0.1", None)),
            ("[10.0.0.1:81]:80", v4("10.0.0.1", Some(81))),
            ("[www]:nosuch", v4("10.0.0.9", None)),
            ("[80]:80", v4("0.0.0.80", None)),
            ("[::]:80", v4("::", Some(80))),
            ("[::ffff:1.2.3.4]:80", v4("::ffff:1.2.3.4", Some(80))),
        ] {
            assert_eq!(tcp(text), want, "{text}");
        }
    }

    #[test]
    fn what_is_not() {
        for text in [
            "",
            "80",
            ":80",
            "10.0.0.1:",
            "10.0.0.1:0x9",
            "10.0.0.256:80",
            "host.invalid:80",
            "10.0.0.1:99999",
            "10.0.0.1:nosuch",
            "[2001:db8::1]",
            "[fe80::1%eth0]:80",
            "[10.0.0.1]",
            "[10.0.0.1]x:80",
            "[10.0.0.1:80]",
            "[]:80",
            "[::1",
            "[::1]80",
            "[::1]x:80",
            "[::1]:",
            "::1]:80",
            ":::80",
            "10.0.0.1:80:90",
            "10.0.0.1::90",
            "+80",
            "080.0.0.1:80",
            "1.2.3.4.5:80",
            "10.0.0.1x:80",
            "1..2:80",
            "0x:80",
            ".1:80",
            "4294967296:80",
        ] {
            assert_eq!(tcp(text), None, "{text}");
        }
    }

    #[test]
    fn service_names_follow_the_protocol() {
        assert_eq!(
            endpoint("10.0.0.1:tftp", Some(Protocol::Tcp), &FakeNames),
            None
        );
        assert!(endpoint("10.0.0.1:tftp", Some(Protocol::Udp), &FakeNames).is_some());
        assert_eq!(endpoint("10.0.0.1:http", None, &FakeNames), None);
    }

    #[test]
    fn numbers_as_strtol_reads_them() {
        for (text, want) in [("10", 10), ("010", 10), ("+5", 5), (" \t5", 5), ("-0", 0)] {
            assert_eq!(number(text, 0..=100), Some(want), "{text:?}");
        }
        for text in [
            "",
            " ",
            "-",
            "+",
            "5 ",
            "0x10",
            "1e1",
            "101",
            "-1",
            "99999999999999999999",
            "+-5",
            "- 5",
        ] {
            assert_eq!(number(text, 0..=100), None, "{text:?}");
        }
    }
}
