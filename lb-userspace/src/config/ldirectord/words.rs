//! The values of directives.

use std::net::{IpAddr, Ipv6Addr};

use crate::{
    ipvsadm::Names,
    model::{Method, Protocol},
};

/// The first run of digits, which is not 0.
pub(super) fn positive(value: &str) -> Result<u32, String> {
    match digits(value)? {
        0 => Err("this must be greater than 0".into()),
        number => Ok(number),
    }
}

/// The first run of digits.
pub(super) fn digits(value: &str) -> Result<u32, String> {
    let start = value
        .find(|c: char| c.is_ascii_digit())
        .ok_or("this must be a number")?;
    let rest = &value[start..];
    let end = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    rest[..end]
        .parse()
        .map_err(|_| format!("{} is too large", &rest[..end]))
}

/// Exactly that.
pub(super) fn yes_no(value: &str) -> Result<bool, String> {
    match value {
        "yes" => Ok(true),
        "no" => Ok(false),
        other => Err(format!(
            "yes or no, and nothing behind it, instead of \"{other}\""
        )),
    }
}

/// A text in quotes, single or double.
pub(super) fn quoted(value: &str) -> Result<&str, String> {
    let value = value.trim();
    let inner = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    inner.ok_or_else(|| format!("a text in quotes, instead of {value}"))
}

/// A text, in quotes or not.
pub(super) fn unquoted(value: &str) -> &str {
    quoted(value).unwrap_or_else(|_| value.trim())
}

/// `gate`, `masq`, `ipip`.
pub(super) fn method(word: &str) -> Option<Method> {
    match word {
        "gate" => Some(Method::Route),
        "masq" => Some(Method::Masq),
        "ipip" => Some(Method::Tunnel),
        _ => None,
    }
}

/// An address or a name, of the family.
pub(super) fn host(text: &str, v6: bool, names: &dyn Names) -> Result<IpAddr, String> {
    if v6 {
        let bare = text
            .strip_prefix('[')
            .and_then(|text| text.strip_suffix(']'));
        let bare = bare.unwrap_or(text);
        if let Ok(address) = bare.parse::<Ipv6Addr>() {
            return Ok(address.into());
        }
        return names
            .host6(text)
            .map(IpAddr::V6)
            .ok_or_else(|| format!("{text} is no IPv6 address, nor a name of one"));
    }
    if text.starts_with('[') {
        return Err(format!(
            "{text} is an IPv6 address: virtual6, real6 and fallback6 take those"
        ));
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(format!("{text} is no address"));
    }
    if let Ok(address) = text.parse() {
        return Ok(IpAddr::V4(address));
    }
    names
        .host(text)
        .map(IpAddr::V4)
        .ok_or_else(|| format!("{text} is no IPv4 address, nor a name of one"))
}

/// A number from 0 or a name of the services database.
pub(super) fn port(text: &str, names: &dyn Names) -> Result<u16, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_err(|_| format!("{text} is no port"));
    }
    [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find_map(|protocol| names.port(text, protocol))
        .ok_or_else(|| format!("{text} is no port, nor the name of one"))
}

/// `HOST:PORT` into its parts; a bracket keeps its colons.
pub(super) fn split(text: &str) -> (&str, Option<&str>) {
    let from = text.rfind(']').unwrap_or(0);
    match text[from..].rfind(':') {
        Some(at) => (&text[..from + at], Some(&text[from + at + 1..])),
        None => (text, None),
    }
}

/// `HOST[:PORT] [METHOD]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fallback {
    pub(super) addr: IpAddr,
    pub(super) port: Option<u16>,
    pub(super) method: Method,
}

impl Fallback {
    pub(super) fn read(value: &str, v6: bool, names: &dyn Names) -> Result<Self, String> {
        let mut words = value.split_whitespace();
        let at = words.next().ok_or("fallback needs an address")?;
        let (name, number) = split(at);
        let how = match words.next() {
            None => Method::Route,
            Some(word) => {
                method(word).ok_or_else(|| format!("gate, masq or ipip, instead of {word}"))?
            }
        };
        if let Some(word) = words.next() {
            return Err(format!("{word} is too much"));
        }
        Ok(Self {
            addr: host(name, v6, names)?,
            port: number.map(|text| port(text, names)).transpose()?,
            method: how,
        })
    }
}
