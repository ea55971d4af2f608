//! The fields of a packet: `tcp 10.0.0.9:1234 > VIP:80 S len 10`.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};

use super::{Flags, Packet, Transport};

/// Addresses by name.
pub(super) type Names = BTreeMap<String, Ipv4Addr>;

/// What is wrong: the words end an error `FILE:LINE: …`.
type Wrong<T> = Result<T, String>;

/// Reads the words after `tcp` or `udp`.
pub(super) fn packet(tcp: bool, words: &[&str], names: &Names) -> Wrong<Packet> {
    let [from, ">", to, rest @ ..] = words else {
        return Err("expected FROM:PORT > TO:PORT".to_owned());
    };
    let (from, to) = (endpoint(from, names)?, endpoint(to, names)?);
    let mut rest = rest.iter().copied();
    let transport = if tcp {
        let word = rest
            .next()
            .ok_or("expected the flags of the segment, such as S or FA, or - for none")?;
        Transport::Tcp(flags(word)?)
    } else {
        Transport::Udp
    };
    let mut packet = Packet {
        from,
        to,
        transport,
        data: 0,
        ttl: 64,
        tos: 0,
        df: false,
        by: None,
    };
    while let Some(word) = rest.next() {
        if word == "df" {
            packet.df = true;
            continue;
        }
        let value = rest.next().unwrap_or_default();
        match word {
            "len" => packet.data = number(word, value, 1400)?,
            "ttl" => packet.ttl = number(word, value, 255)? as u8,
            "tos" => packet.tos = number(word, value, 255)? as u8,
            "by" if names.contains_key(value) => packet.by = Some(value.to_owned()),
            "by" => {
                return Err(format!(
                    "expected the name of a server after by, not {value:?}"
                ));
            }
            _ => {
                return Err(format!(
                    "expected len N, ttl N, tos N, df or by SERVER, not {word:?}"
                ));
            }
        }
    }
    Ok(packet)
}

fn number(name: &str, value: &str, most: u16) -> Wrong<u16> {
    value
        .parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("expected a number from 0 to {most} after {name}, not {value:?}"))
}

fn endpoint(word: &str, names: &Names) -> Wrong<SocketAddrV4> {
    replace(word, names)
        .parse()
        .map_err(|_| format!("expected ADDRESS:PORT or NAME:PORT, not {word:?}"))
}

fn flags(word: &str) -> Wrong<Flags> {
    let mut flags = Flags::default();
    if word == "-" {
        return Ok(flags);
    }
    for letter in word.chars() {
        let flag = match letter {
            'S' => &mut flags.syn,
            'F' => &mut flags.fin,
            'R' => &mut flags.rst,
            'A' => &mut flags.ack,
            'P' => &mut flags.psh,
            _ => {
                return Err(format!(
                    "expected flags out of S F R A P, or - for none, not {word:?}"
                ));
            }
        };
        *flag = true;
    }
    Ok(flags)
}

/// `NAME` or `NAME:PORT` with the address for the name; other words stay.
pub(super) fn replace(word: &str, names: &Names) -> String {
    let (name, port) = word.split_once(':').unwrap_or((word, ""));
    match names.get(name) {
        Some(address) if port.is_empty() => address.to_string(),
        Some(address) => format!("{address}:{port}"),
        None => word.to_owned(),
    }
}

/// `90s`, `1.5s`, `15m`, `2h`; multiples of half a second.
pub(super) fn duration(word: &str) -> Wrong<Duration> {
    let wrong = || format!("expected a time such as 90s, 1.5s, 15m or 2h, not {word:?}");
    let unit = match word.chars().last() {
        Some('s') => 1.0,
        Some('m') => 60.0,
        Some('h') => 3600.0,
        _ => return Err(wrong()),
    };
    let count: f64 = word[..word.len() - 1].parse().map_err(|_| wrong())?;
    let halves = count * unit * 2.0;
    if !(1.0..=2.0 * 7.0 * 86_400.0).contains(&halves) || halves.fract() != 0.0 {
        return Err(format!(
            "expected a multiple of half a second up to a week, not {word:?}"
        ));
    }
    Ok(Duration::from_millis(halves as u64 * 500))
}
