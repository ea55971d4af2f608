use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv6Addr},
};

use crate::{
    model::{Check, Condition, DestId, ServiceId, Timing},
    netlink::{Resolution, View},
};

/// Who is to be checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// One for every server of a checked service that is really checked.
    pub targets: Vec<Target>,
}

/// A server to check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its service.
    pub service: ServiceId,
    /// The server.
    pub dest: DestId,
    /// What is asked.
    pub check: Check,
    /// Port that is asked; 0 where the check asks none.
    pub port: u16,
    /// When.
    pub timing: Timing,
    /// What it is taken for.
    pub condition: Condition,
    /// Address that the check comes from; `None`: the kernel's choice is no VIP.
    pub source: Result<Option<IpAddr>, NoSource>,
}

/// This director has no address but VIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NoSource;

/// Where a check of `target` comes from. From a VIP it must not: a server by
/// direct routing has the same address, and would answer itself.
///
/// # Errors
/// Without an address that is none of `vips`.
pub fn source(
    view: &View,
    vips: &BTreeSet<IpAddr>,
    target: IpAddr,
) -> Result<Option<IpAddr>, NoSource> {
    let (ifindex, kernels) = match view.targets.get(&target) {
        Some(Resolution::Via {
            ifindex, source, ..
        }) => (*ifindex, *source),
        // Its own stack, or nowhere.
        _ => return Ok(None),
    };
    if kernels.is_none_or(|kernels| !vips.contains(&kernels)) {
        return Ok(None);
    }
    let fits = |(address, _): &&(IpAddr, u32)| {
        address.is_ipv4() == target.is_ipv4()
            && !address.is_loopback()
            && !vips.contains(address)
            && !matches!(address, IpAddr::V6(address) if is_link_local(*address))
    };
    let best = view
        .addresses
        .iter()
        .filter(fits)
        .max_by_key(|(address, on)| (*on == ifindex, common_bits(*address, target)));
    best.map(|(address, _)| Some(*address)).ok_or(NoSource)
}

fn is_link_local(address: Ipv6Addr) -> bool {
    address.is_unicast_link_local()
}

fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(kernels: &str, addresses: &[(&str, u32)]) -> View {
        let address = |text: &str| -> IpAddr { text.parse().unwrap() };
        let way = Resolution::Via {
            ifindex: 2,
            neighbour: address("10.0.0.9"),
            mac: None,
            failed: false,
            port: None,
            mtu: 1500,
            source: Some(address(kernels)),
        };
        View {
            addresses: addresses
                .iter()
                .map(|(text, on)| (address(text), *on))
                .collect(),
            targets: [(address("10.0.0.9"), way)].into(),
            ..View::default()
        }
    }

    #[test]
    fn checks_come_from_no_vip() {
        let target = "10.0.0.9".parse().unwrap();
        let vip: IpAddr = "10.0.0.1".parse().unwrap();
        let vips = BTreeSet::from([vip]);
        let all = [
            ("10.0.0.1", 2),
            ("10.0.0.2", 2),
            ("10.9.0.2", 2),
            ("10.0.0.8", 3),
            ("127.0.0.1", 1),
            ("fd00::1", 2),
        ];
        let of = |view| source(&view, &vips, target);
        assert_eq!(of(view("10.0.0.2", &all)), Ok(None), "the kernel's choice");
        assert_eq!(
            of(view("10.0.0.1", &all)),
            Ok(Some("10.0.0.2".parse().unwrap())),
            "of the same interface and network"
        );
        assert_eq!(
            of(view("10.0.0.1", &[("10.0.0.1", 2), ("127.0.0.1", 1)])),
            Err(NoSource)
        );
        assert_eq!(source(&View::default(), &vips, target), Ok(None));
    }
}
