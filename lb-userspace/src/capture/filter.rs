//! The words of a filter, in the order and with the names that tcpdump has.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use lb_common::{
    capture::Filter,
    reason::{Class, Reason},
    wire::{IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP},
};

/// What a filter's words ask for. `and` may stand between conditions.
///
/// # Errors
/// The word that is wrong, and what may stand there.
pub fn filter(words: &[String]) -> Result<Filter> {
    let mut filter = Filter::EVERY;
    let mut words = words.iter().flat_map(|word| word.split_whitespace());
    while let Some(word) = words.next() {
        let mut operand = |what: &str| {
            words
                .next()
                .with_context(|| format!("'{word}' wants {what} behind it"))
        };
        match word {
            "and" | "&&" => {}
            "host" => {
                let text = operand("an address")?;
                let addr = text
                    .parse()
                    .with_context(|| format!("'{text}' is no address"))?;
                set_address(&mut filter, addr, None)?;
            }
            "net" => {
                let text = operand("ADDRESS/LENGTH")?;
                let (addr, length) = text
                    .split_once('/')
                    .and_then(|(addr, length)| Some((addr.parse().ok()?, length.parse().ok()?)))
                    .with_context(|| format!("'{text}' is not ADDRESS/LENGTH"))?;
                set_address(&mut filter, addr, Some(length))?;
            }
            "port" => {
                let text = operand("a number")?;
                let port: u16 = text
                    .parse()
                    .ok()
                    .filter(|port| *port != 0)
                    .with_context(|| format!("'{text}' is no port"))?;
                set(&mut filter.port, port.to_be().into(), word)?;
            }
            "ip" => set(&mut filter.family, 4, word)?,
            "ip6" => set(&mut filter.family, 6, word)?,
            "tcp" => set(&mut filter.protocol, IPPROTO_TCP.into(), word)?,
            "udp" => set(&mut filter.protocol, IPPROTO_UDP.into(), word)?,
            "sctp" => set(&mut filter.protocol, IPPROTO_SCTP.into(), word)?,
            "icmp" => {
                set(&mut filter.family, 4, word)?;
                set(&mut filter.protocol, IPPROTO_ICMP.into(), word)?;
            }
            "icmp6" => {
                set(&mut filter.family, 6, word)?;
                set(&mut filter.protocol, IPPROTO_ICMPV6.into(), word)?;
            }
            "forwarded" => filter.classes |= Filter::bit(Class::Forwarded),
            "passed" => filter.classes |= Filter::bit(Class::Passed),
            "dropped" => filter.classes |= Filter::bit(Class::Dropped),
            "reason" => {
                let text = operand("a reason, as 'lvx status' names them")?;
                let reason = Reason::ALL.iter().find(|reason| reason.name() == text);
                let reason = *reason.with_context(|| {
                    format!("there is no reason '{text}': 'lvx status' names them")
                })?;
                set(&mut filter.reason, reason as u32 + 1, word)?;
            }
            "or" | "not" | "||" | "!" | "src" | "dst" => {
                bail!("'{word}' is not known here: save with -w, and filter what was saved")
            }
            other => bail!(
                "'{other}' is no condition: host, net, port, ip, ip6, tcp, udp, sctp, icmp, icmp6, \
                 forwarded, passed, dropped, reason"
            ),
        }
    }
    Ok(filter)
}

/// Sets a condition that may stand once.
fn set(field: &mut u32, value: u32, word: &str) -> Result<()> {
    ensure!(
        *field == 0 || *field == value,
        "'{word}' contradicts what stands before it"
    );
    *field = value;
    Ok(())
}

fn set_address(filter: &mut Filter, addr: IpAddr, length: Option<u8>) -> Result<()> {
    ensure!(
        filter.mask == [0; 2],
        "only one host or net can be asked for"
    );
    let (family, bits) = match addr {
        IpAddr::V4(_) => (4, 32),
        IpAddr::V6(_) => (6, 128),
    };
    set(&mut filter.family, family, "host")?;
    let length = length.unwrap_or(bits);
    ensure!(length <= bits, "/{length} is longer than the address");
    if length == 0 {
        return Ok(());
    }
    let mask = (u128::MAX << (128 - u32::from(length))).to_be_bytes();
    filter.mask = words(&mask);
    let mut bytes = [0; 16];
    match addr {
        IpAddr::V4(addr) => bytes[..4].copy_from_slice(&addr.octets()),
        IpAddr::V6(addr) => bytes = addr.octets(),
    }
    let addr = words(&bytes);
    filter.addr = [addr[0] & filter.mask[0], addr[1] & filter.mask[1]];
    Ok(())
}

/// Bytes of the wire as the engine loads them.
fn words(bytes: &[u8; 16]) -> [u64; 2] {
    bytemuck::pod_read_unaligned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Filter> {
        filter(&[text.to_owned()])
    }

    #[test]
    fn conditions_add_up() {
        let it = of("tcp and port 80 and host 192.0.2.1 dropped passed").unwrap();
        assert_eq!((it.family, it.protocol), (4, 6));
        assert_eq!(it.port, u32::from(80_u16.to_be()));
        assert_eq!(it.addr[0], u64::from(u32::from_ne_bytes([192, 0, 2, 1])));
        assert_eq!(it.mask, [0xffff_ffff, 0]);
        assert_eq!(it.classes, 6);
        let it = of("net 10.1.2.3/8").unwrap();
        assert_eq!((it.addr, it.mask), ([10, 0], [0xff, 0]));
        let it = of("net 2001:db8::/33").unwrap();
        assert_eq!(
            it.mask,
            [u64::from_ne_bytes([255, 255, 255, 255, 128, 0, 0, 0]), 0]
        );
        assert_eq!(of("net 0.0.0.0/0").unwrap().mask, [0; 2]);
        let reason = of("reason dropped-ttl").unwrap().reason;
        assert_eq!(reason, Reason::DroppedTtl as u32 + 1);
        assert_eq!(filter(&[]).unwrap(), Filter::EVERY);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("host", "wants an address"),
            ("host nobody", "'nobody' is no address"),
            ("net 10.0.0.0", "is not ADDRESS/LENGTH"),
            ("net 10.0.0.0/33", "/33 is longer"),
            ("port 70000", "is no port"),
            ("tcp udp", "'udp' contradicts"),
            ("ip6 host 10.0.0.1", "contradicts"),
            ("host 10.0.0.1 host 10.0.0.2", "only one"),
            ("reason because", "no reason 'because'"),
            ("tcp or udp", "save with -w"),
            ("tcpp", "is no condition"),
        ] {
            let error = format!("{:#}", of(text).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
