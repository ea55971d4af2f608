//! The clients that are asked about: a line each, or a range.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{BadLine, lines};

/// As many clients as are asked about at most.
const MOST: u128 = 1 << 20;

/// A client: an address, and a port if it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Client {
    /// Its address.
    pub addr: IpAddr,
    /// Its port, host order.
    pub port: Option<u16>,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.addr, port).fmt(f),
            None => self.addr.fmt(f),
        }
    }
}

/// Reads a list of clients: `ADDRESS`, `ADDRESS:PORT` (`[ADDRESS]:PORT`), or a
/// range `ADDRESS/LENGTH` (`[ADDRESS/LENGTH]:PORT`), behind which a number says how
/// many of its addresses are taken, at equal distances; without one, all are.
///
/// # Errors
/// Names the first line that is none of these.
pub fn read(file: &str, text: &str) -> Result<Vec<Client>, BadLine> {
    let mut clients = Vec::new();
    for (line, words) in lines(text) {
        let bad = |text| BadLine {
            file: file.to_owned(),
            line,
            text,
        };
        range(words).map_err(bad)?.add_to(&mut clients);
        if clients.len() as u128 > MOST {
            return Err(bad(format!("more than {MOST} clients in all")));
        }
    }
    if clients.is_empty() {
        return Err(BadLine {
            file: file.to_owned(),
            line: text.lines().count(),
            text: "no client in it".into(),
        });
    }
    Ok(clients)
}

/// Addresses at equal distances, with one port.
struct Range {
    first: IpAddr,
    step: u128,
    count: u128,
    port: Option<u16>,
}

impl Range {
    fn add_to(&self, clients: &mut Vec<Client>) {
        for number in 0..self.count {
            let offset = number * self.step;
            let addr = match self.first {
                IpAddr::V4(first) => Ipv4Addr::from(u32::from(first) + offset as u32).into(),
                IpAddr::V6(first) => Ipv6Addr::from(u128::from(first) + offset).into(),
            };
            clients.push(Client {
                addr,
                port: self.port,
            });
        }
    }
}

fn range(line: &str) -> Result<Range, String> {
    let mut words = line.split_whitespace();
    let word = words.next().unwrap_or_default();
    let count = words.next();
    if let Some(more) = words.next() {
        return Err(format!(
            "{more} is too much: a client, and a count behind a range"
        ));
    }
    let (range, port) = split_port(word)?;
    let (addr, length) = match range.split_once('/') {
        Some((addr, length)) => (addr, Some(length)),
        None => (range, None),
    };
    let addr: IpAddr = addr
        .parse()
        .map_err(|_| format!("'{word}' is no client: ADDRESS, ADDRESS:PORT or ADDRESS/LENGTH"))?;
    let Some(length) = length else {
        if count.is_some() {
            return Err("a count stands behind a range (ADDRESS/LENGTH COUNT)".into());
        }
        return Ok(Range {
            first: addr,
            step: 1,
            count: 1,
            port,
        });
    };
    let bits: u32 = if addr.is_ipv4() { 32 } else { 128 };
    let length: u32 = length
        .parse()
        .ok()
        .filter(|length| *length <= bits)
        .ok_or_else(|| format!("'{length}' is no length of a prefix of {bits} bits"))?;
    // 2^128 addresses are one too many for the type, and as good as one less.
    let size = 1_u128.checked_shl(bits - length).unwrap_or(u128::MAX);
    let count = match count {
        Some(text) => text
            .parse()
            .ok()
            .filter(|count| (1..=size.min(MOST)).contains(count))
            .ok_or_else(|| format!("'{text}' is no count from 1 to {}", size.min(MOST)))?,
        None if size > MOST => {
            return Err(format!(
                "{word} has more than {MOST} addresses: say behind it how many of them"
            ));
        }
        None => size,
    };
    let keep = u128::MAX.checked_shl(bits - length).unwrap_or(0);
    let first = match addr {
        IpAddr::V4(addr) => Ipv4Addr::from(u32::from(addr) & keep as u32).into(),
        IpAddr::V6(addr) => Ipv6Addr::from(u128::from(addr) & keep).into(),
    };
    Ok(Range {
        first,
        step: size / count,
        count,
        port,
    })
}

/// A word without its port. That of an IPv6 address stands behind a bracket.
fn split_port(word: &str) -> Result<(&str, Option<u16>), String> {
    let number = |text: &str| {
        text.parse()
            .map(Some)
            .map_err(|_| format!("'{text}' is no port"))
    };
    if let Some(rest) = word.strip_prefix('[') {
        let Some((addr, port)) = rest.split_once(']') else {
            return Err(format!("'{word}' lacks a bracket"));
        };
        return match port.strip_prefix(':') {
            Some(port) => Ok((addr, number(port)?)),
            None if port.is_empty() => Ok((addr, None)),
            None => Err(format!("'{port}' is no port")),
        };
    }
    match word.split_once(':') {
        Some((addr, port)) if !port.contains(':') => Ok((addr, number(port)?)),
        _ => Ok((word, None)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<String> {
        let clients = read("list", text).unwrap();
        clients.iter().map(Client::to_string).collect()
    }

    #[test]
    fn addresses_ports_and_ranges() {
        assert_eq!(
            texts("# some\n1.2.3.4\n\n 1.2.3.4:80 \n2001:db8::1\n[2001:db8::1]:443\n[::1]"),
            [
                "1.2.3.4",
                "1.2.3.4:80",
                "2001:db8::1",
                "[2001:db8::1]:443",
                "::1"
            ]
        );
        assert_eq!(
            texts("10.0.0.77/30"),
            ["10.0.0.76", "10.0.0.77", "10.0.0.78", "10.0.0.79"]
        );
        assert_eq!(
            texts("10.0.0.0/8:1000 2"),
            ["10.0.0.0:1000", "10.128.0.0:1000"]
        );
        assert_eq!(
            texts("::/0 2"),
            ["::", "7fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]
        );
        assert_eq!(
            texts("[2001:db8::/127]:9"),
            ["[2001:db8::]:9", "[2001:db8::1]:9"]
        );
        assert_eq!(texts("1.2.3.4/32"), ["1.2.3.4"]);
        assert_eq!(texts("0.0.0.0/0 1000").len(), 1000);
    }

    #[test]
    fn what_is_no_client_is_named_with_its_line() {
        for (text, want) in [
            ("1.2.3.4\nhost\n", "list:2: 'host' is no client"),
            ("1.2.3.4:99999", "list:1: '99999' is no port"),
            (
                "1.2.3.0/33",
                "list:1: '33' is no length of a prefix of 32 bits",
            ),
            ("1.2.3.0/24 257", "list:1: '257' is no count from 1 to 256"),
            ("1.2.3.0/24 0", "is no count"),
            ("1.2.3.4 5", "a count stands behind a range"),
            ("1.2.3.0/24 5 6", "6 is too much"),
            ("2001:db8::/64", "say behind it how many"),
            ("[::1", "lacks a bracket"),
            ("[::1]80", "'80' is no port"),
            ("0.0.0.0/0 1000000\n0.0.0.0/0 100000", "list:2: more than"),
        ] {
            let error = read("list", text).unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
