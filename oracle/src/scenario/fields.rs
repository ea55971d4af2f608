//! The fields of a packet: `tcp 10.0.0.9:1234 > VIP:80 S len 10`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Extension, Flags, Icmp, Packet, Transport, Wrap, chunks};

/// Addresses by name.
pub(super) type Names = BTreeMap<String, IpAddr>;

/// What is wrong: the words end an error `FILE:LINE: …`.
type Wrong<T> = Result<T, String>;

/// What a packet may begin with.
const PROTOCOLS: [&str; 7] = ["tcp", "udp", "sctp", "icmp", "ipip", "gue", "gre"];

/// So much of a packet an error quotes, unless it says otherwise.
const QUOTE: u16 = 500;

/// Reads a packet from its protocol on.
pub(super) fn packet(words: &[&str], names: &Names) -> Wrong<Packet> {
    let [protocol, from, ">", to, ref rest @ ..] = *words else {
        return Err("expected FROM:PORT > TO:PORT".to_owned());
    };
    let ported = matches!(protocol, "tcp" | "udp" | "sctp" | "gue");
    let end = |word| {
        if ported {
            endpoint(word, names)
        } else {
            host(word, names)
        }
    };
    let (from, to) = (end(from)?, end(to)?);
    if from.is_ipv4() != to.is_ipv4() {
        return Err("expected two addresses of one family".to_owned());
    }
    // A tunnel's own fields stand before the packet within.
    let tunnel = matches!(protocol, "ipip" | "gue" | "gre");
    let within = |word: &&str| tunnel && PROTOCOLS.contains(word);
    let (rest, inner) = rest.split_at(rest.iter().position(within).unwrap_or(rest.len()));
    let mut rest = rest.iter().copied();
    let transport = match protocol {
        "tcp" => {
            let word = rest
                .next()
                .ok_or("expected the flags of the segment, such as S or FA, or - for none")?;
            Transport::Tcp(flags(word)?)
        }
        "udp" => Transport::Udp,
        "sctp" => Transport::Sctp(chunks::types(rest.next().unwrap_or_default())?),
        "icmp" => Transport::Icmp(message(rest.next().unwrap_or_default())?),
        "ipip" => Transport::Tunnel(Wrap::Ipip, carried(inner, names)?),
        "gue" => Transport::Tunnel(Wrap::Gue, carried(inner, names)?),
        "gre" => Transport::Tunnel(Wrap::Gre, carried(inner, names)?),
        _ => {
            return Err(format!(
                "expected {}, not {protocol:?}",
                PROTOCOLS.join(", ")
            ));
        }
    };
    let mut packet = Packet {
        from,
        to,
        transport,
        data: 0,
        text: None,
        ttl: 64,
        tos: 0,
        df: false,
        no_checksum: false,
        id: None,
        piece: None,
        extensions: Vec::new(),
        by: None,
    };
    options(&mut packet, rest, names)?;
    if packet.piece.is_some() && packet.id.is_none() {
        return Err("expected id N, by which the pieces belong together".to_owned());
    }
    Ok(packet)
}

/// The packet in a tunnel.
fn carried(words: &[&str], names: &Names) -> Wrong<Box<Packet>> {
    if words.is_empty() {
        return Err("expected the packet within behind a tunnel's ends and fields".to_owned());
    }
    Ok(Box::new(packet(words, names)?))
}

fn options<'a>(
    packet: &mut Packet,
    mut rest: impl Iterator<Item = &'a str>,
    names: &Names,
) -> Wrong<()> {
    let mut quote = QUOTE;
    while let Some(word) = rest.next() {
        match word {
            "df" => packet.df = true,
            "nosum" => packet.no_checksum = true,
            "hop" => packet.extensions.push(Extension::HopByHop),
            "options" => packet.extensions.push(Extension::Destination),
            "text" => packet.text = Some(text(rest.next().unwrap_or_default())?),
            "about" => {
                let Transport::Icmp(message) = &mut packet.transport else {
                    return Err("expected about in an icmp packet only".to_owned());
                };
                let words: Vec<_> = rest.by_ref().collect();
                message.about = Some((Box::new(self::packet(&words, names)?), quote));
            }
            _ => {
                let value = rest.next().unwrap_or_default();
                match word {
                    "len" => packet.data = number(word, value, 8000)?,
                    "ttl" => packet.ttl = number(word, value, 255)? as u8,
                    "tos" => packet.tos = number(word, value, 255)? as u8,
                    "id" => packet.id = Some(number(word, value, u16::MAX)?),
                    "quote" => quote = number(word, value, 1400)?,
                    "frag" => packet.piece = Some(piece(value)?),
                    "mtu" => {
                        let Transport::Icmp(message) = &mut packet.transport else {
                            return Err("expected mtu in an icmp packet only".to_owned());
                        };
                        message.mtu = number(word, value, u16::MAX)?.into();
                    }
                    "by" if names.contains_key(value) => packet.by = Some(value.to_owned()),
                    "by" => {
                        return Err(format!(
                            "expected the name of a server after by, not {value:?}"
                        ));
                    }
                    _ => {
                        return Err(format!(
                            "expected len N, text TEXT, ttl N, tos N, id N, df, nosum, frag K/N, hop, options, \
                             by SERVER, or of an icmp packet mtu N, quote N, about PACKET, not {word:?}"
                        ));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Bytes as one word: `_` is a blank, `\r`, `\n` and `\t` what they are in Rust, and
/// `\xNN` any byte.
fn text(word: &str) -> Wrong<Vec<u8>> {
    let wrong = || format!("expected text such as Call-ID:_x\\r\\n, not {word:?}");
    let mut bytes = Vec::new();
    let mut rest = word.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'_' => b' ',
            b'\\' => match rest.next().ok_or_else(wrong)? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'x' => {
                    let digits = [rest.next(), rest.next()].map(|digit| digit.unwrap_or(b'?'));
                    let digits = str::from_utf8(&digits).map_err(|_| wrong())?;
                    u8::from_str_radix(digits, 16).map_err(|_| wrong())?
                }
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    Ok(bytes)
}

/// `3/4`.
fn message(word: &str) -> Wrong<Icmp> {
    let wrong = || format!("expected TYPE/CODE, not {word:?}");
    let (kind, code) = word.split_once('/').ok_or_else(wrong)?;
    Ok(Icmp {
        kind: kind.parse().map_err(|_| wrong())?,
        code: code.parse().map_err(|_| wrong())?,
        mtu: 0,
        about: None,
    })
}

/// `1/2`.
fn piece(word: &str) -> Wrong<(u8, u8)> {
    word.split_once('/')
        .and_then(|(piece, of)| Some((piece.parse().ok()?, of.parse().ok()?)))
        .filter(|(piece, of)| (1..=*of).contains(piece))
        .ok_or_else(|| format!("expected frag K/N, such as 1/2, not {word:?}"))
}

pub(super) fn number(name: &str, value: &str, most: u16) -> Wrong<u16> {
    value
        .parse()
        .ok()
        .filter(|number| *number <= most)
        .ok_or_else(|| format!("expected a number from 0 to {most} after {name}, not {value:?}"))
}

fn endpoint(word: &str, names: &Names) -> Wrong<SocketAddr> {
    replace(word, names)
        .parse()
        .map_err(|_| format!("expected ADDRESS:PORT or NAME:PORT, not {word:?}"))
}

fn host(word: &str, names: &Names) -> Wrong<SocketAddr> {
    let address = replace(word, names)
        .parse()
        .map_err(|_| format!("expected ADDRESS or NAME, not {word:?}"))?;
    Ok(SocketAddr::new(address, 0))
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
        Some(IpAddr::V6(address)) => format!("[{address}]:{port}"),
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
