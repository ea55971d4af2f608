//! The order of listings: mark, family, protocol, address, port.
//!
//! ipvsadm 1.31 compares by subtracting 32-bit words and looking at the sign,
//! so values more than 2^31 apart come out the wrong way round (172.16.0.1
//! before 10.0.0.1, mark 4294967295 before everything). Scripts compare
//! listings byte for byte, so this is kept. Such a comparison is no total
//! order, which the standard library's sort may answer with a panic; hence a
//! merge sort of our own, halving as glibc's `qsort` does so that equal and
//! circular cases fall the same way.

use std::net::IpAddr;

use crate::model::{DestId, DestSnapshot, Family, ServiceId, ServiceSnapshot};

/// The services in listing order.
pub(super) fn services(items: &[ServiceSnapshot]) -> Vec<&ServiceSnapshot> {
    merge_sort(items.iter().collect(), &|a, b| compare_services(a.id, b.id))
}

/// The servers of a service in listing order.
pub(super) fn dests(items: &[DestSnapshot]) -> Vec<&DestSnapshot> {
    merge_sort(items.iter().collect(), &|a, b| {
        compare_dests(a.dest.id, b.dest.id)
    })
}

fn merge_sort<'a, T>(items: Vec<&'a T>, compare: &impl Fn(&T, &T) -> i32) -> Vec<&'a T> {
    if items.len() < 2 {
        return items;
    }
    let (left, right) = items.split_at(items.len() / 2);
    let mut left = merge_sort(left.to_vec(), compare).into_iter().peekable();
    let mut right = merge_sort(right.to_vec(), compare).into_iter().peekable();
    let mut merged = Vec::with_capacity(items.len());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        merged.extend(if compare(a, b) <= 0 {
            left.next()
        } else {
            right.next()
        });
    }
    merged.extend(left.chain(right));
    merged
}

/// The sign of a 32-bit subtraction, overflow included.
fn subtract(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// The first comparison that tells the two apart.
fn first_difference(steps: impl IntoIterator<Item = i32>) -> i32 {
    steps.into_iter().find(|step| *step != 0).unwrap_or(0)
}

fn words(addr: IpAddr) -> [u32; 4] {
    match addr {
        IpAddr::V4(v4) => [v4.into(), 0, 0, 0],
        IpAddr::V6(v6) => {
            let bits = u128::from(v6);
            // Truncation picks the word.
            [96, 64, 32, 0].map(|shift| (bits >> shift) as u32)
        }
    }
}

/// The first address decides how many words count, so that a mixed list of
/// servers (tunnels) interleaves as the original's does.
fn compare_addresses(a: IpAddr, b: IpAddr) -> i32 {
    let count = if a.is_ipv6() { 4 } else { 1 };
    let (a, b) = (words(a), words(b));
    first_difference(
        a.into_iter()
            .zip(b)
            .take(count)
            .map(|(a, b)| subtract(a, b)),
    )
}

fn compare_services(a: ServiceId, b: ServiceId) -> i32 {
    let key = |id: ServiceId| match id {
        ServiceId::Address {
            protocol,
            addr,
            port,
        } => (0, Family::of(addr), protocol.number(), addr, port),
        ServiceId::Mark { mark, family } => (mark, family, 0, IpAddr::from([0, 0, 0, 0]), 0),
    };
    let (a, b) = (key(a), key(b));
    first_difference([
        subtract(a.0, b.0),
        subtract(a.1 as u32, b.1 as u32),
        subtract(a.2.into(), b.2.into()),
        compare_addresses(a.3, b.3),
        subtract(a.4.into(), b.4.into()),
    ])
}

fn compare_dests(a: DestId, b: DestId) -> i32 {
    first_difference([
        compare_addresses(a.addr, b.addr),
        subtract(a.port.into(), b.port.into()),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipvsadm::fake;

    /// A service by the short form of the recorded lists: an address or a mark.
    fn service(text: &str) -> ServiceSnapshot {
        let mark = |text: &str, family| {
            let mut service = fake::service("10.0.0.1", 80);
            service.id = ServiceId::Mark {
                mark: text.parse().unwrap(),
                family,
            };
            service
        };
        match text.split_once(' ') {
            Some(("mark4", value)) => mark(value, Family::V4),
            Some(("mark6", value)) => mark(value, Family::V6),
            _ => fake::service(text, 80),
        }
    }

    /// Recorded from ipvsadm 1.31: `--nosort`, then sorted, of one table.
    #[test]
    fn services_fall_as_recorded() {
        let unsorted = [
            "127.0.0.5",
            "::1",
            "fe00::1",
            "200.1.1.1",
            "128.0.0.1",
            "10.0.0.1",
            "1.1.1.1",
            "192.168.0.1",
            "172.16.0.1",
            "8.8.8.8",
            "2001:db8:8000::1",
            "9001:db8::1",
            "2001:db8::1",
            "mark4 3000000000",
            "mark6 2147483648",
            "mark4 5",
            "mark4 4294967295",
        ];
        let sorted = [
            "127.0.0.5",
            "172.16.0.1",
            "192.168.0.1",
            "200.1.1.1",
            "1.1.1.1",
            "8.8.8.8",
            "10.0.0.1",
            "128.0.0.1",
            "fe00::1",
            "::1",
            "2001:db8:8000::1",
            "9001:db8::1",
            "mark6 2147483648",
            "mark4 3000000000",
            "mark4 4294967295",
            "2001:db8::1",
            "mark4 5",
        ];
        let items = unsorted.map(service);
        let got: Vec<ServiceId> = services(&items).iter().map(|service| service.id).collect();
        assert_eq!(got, sorted.map(|text| service(text).id));
    }

    /// The same of the servers of one service, with families mixed.
    #[test]
    fn servers_fall_as_recorded() {
        let unsorted = [
            "2001:db8:8000::1",
            "9001:db8::1",
            "fd00::1",
            "2001:db8::1",
            "200.1.1.1",
            "128.0.0.1",
            "127.0.0.5",
            "10.0.0.1",
            "8.8.8.8",
            "1.1.1.1",
            "192.168.0.1",
            "172.16.0.1",
        ];
        let sorted = [
            "172.16.0.1",
            "192.168.0.1",
            "1.1.1.1",
            "8.8.8.8",
            "10.0.0.1",
            "2001:db8:8000::1",
            "2001:db8::1",
            "127.0.0.5",
            "128.0.0.1",
            "9001:db8::1",
            "200.1.1.1",
            "fd00::1",
        ];
        let items = unsorted.map(|addr| fake::dest(addr, 80));
        let got: Vec<String> = dests(&items)
            .iter()
            .map(|server| server.dest.id.addr.to_string())
            .collect();
        assert_eq!(got, sorted);
    }

    #[test]
    fn ports_then_families() {
        let items = [
            fake::service("2001:db8::1", 80),
            fake::service("10.0.0.1", 443),
            fake::service("10.0.0.1", 80),
        ];
        let got: Vec<_> = services(&items).iter().map(|s| s.id).collect();
        assert_eq!(got, [items[2].id, items[1].id, items[0].id]);
    }
}
