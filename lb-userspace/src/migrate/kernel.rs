//! Where a kernel sends clients: its tables of `sh`, `dh` and `mh`, filled and
//! looked up as it does it, bucket by bucket. Deliberately plain: it is what lvx's
//! schedulers, which look servers up in other ways, are held against.

use std::net::IpAddr;

use lb_common::{
    layout::{SchedulerKind, ServiceFlags},
    sched::{Server, hash},
};

use crate::address::words;

/// Buckets of `sh` and `dh` (`IP_VS_SH_TAB_BITS`, 8 by default).
const BUCKETS: usize = 256;
/// Slots of `mh` (`IP_VS_MH_TAB_INDEX`, 12 by default).
const SLOTS: usize = 4093;
/// Keys of the hashes of `mh`.
const KEYS: [u64; 2] = [2_654_435_761, 2_654_446_892];
/// Bits of the greatest number of slots that `mh` fills in turn.
const TURN_BITS: u32 = 6;

/// Whom a new connection goes to depends on this alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decider {
    /// The client's address, with or without its port.
    Client {
        /// With it.
        port: bool,
    },
    /// The packet's destination, which is the service's address.
    Destination,
    /// Nothing: always the same server.
    Weights,
    /// What happened before: connections, or whose turn it is.
    State,
}

impl Decider {
    /// Of a scheduler with these flags.
    pub fn of(scheduler: SchedulerKind, flags: u16) -> Self {
        match scheduler {
            SchedulerKind::Sh | SchedulerKind::Mh => Self::Client {
                port: flags & ServiceFlags::SCHED_2 != 0,
            },
            SchedulerKind::Dh => Self::Destination,
            SchedulerKind::Fo | SchedulerKind::None => Self::Weights,
            _ => Self::State,
        }
    }
}

/// A service's scheduler in a kernel.
pub struct Kernel {
    scheduler: SchedulerKind,
    falls_back: bool,
    servers: Vec<Server>,
    /// Position in the list by bucket or slot; an empty one has none.
    table: Vec<Option<usize>>,
}

impl Kernel {
    /// Of a scheduler with these flags and servers, the newest first.
    pub fn new(scheduler: SchedulerKind, flags: u16, servers: Vec<Server>) -> Self {
        let table = match scheduler {
            SchedulerKind::Sh => source_buckets(&servers),
            SchedulerKind::Dh => destination_buckets(&servers),
            SchedulerKind::Mh => slots(&servers),
            _ => Vec::new(),
        };
        Self {
            scheduler,
            falls_back: flags & ServiceFlags::SCHED_1 != 0,
            servers,
            table,
        }
    }

    /// Position in the list of the server for a new connection from `client`, with
    /// `port` where it counts, to `vip`. Not for schedulers that go by state.
    pub fn choose(&self, client: IpAddr, port: u16, vip: IpAddr) -> Option<usize> {
        let value = folded(client).wrapping_add(port.into());
        match self.scheduler {
            SchedulerKind::Sh => self.source(value),
            SchedulerKind::Dh => self.usable(hash::golden(folded(vip)) as usize),
            SchedulerKind::Mh => self.maglev(value),
            SchedulerKind::Fo => {
                let greatest = self.servers.iter().map(|server| server.weight).max()?;
                let mut weights = self.servers.iter().map(|server| server.weight);
                weights.position(|weight| weight == greatest && weight > 0)
            }
            _ => None,
        }
    }

    /// The server of a bucket, if it takes new connections.
    fn usable(&self, bucket: usize) -> Option<usize> {
        let position = (*self.table.get(bucket)?)?;
        (self.servers[position].weight > 0).then_some(position)
    }

    fn source(&self, value: u32) -> Option<usize> {
        let bucket = |offset: usize| (offset + hash::golden(value) as usize) % BUCKETS;
        let first = bucket(0);
        if let Some(position) = self.usable(first) {
            return Some(position);
        }
        if !self.falls_back {
            return None;
        }
        // The hash is added a second time.
        let mut further = (0..BUCKETS).map(|tried| bucket((tried + first) % BUCKETS));
        further.find_map(|bucket| self.usable(bucket))
    }

    fn maglev(&self, value: u32) -> Option<usize> {
        let slot = |offset: usize| maglev_hash(value, offset as u32, 0) as usize % SLOTS;
        let first = slot(0);
        if let Some(position) = self.usable(first) {
            return Some(position);
        }
        if !self.falls_back {
            return None;
        }
        let mut further = (0..SLOTS).map(|tried| slot((tried + first) % SLOTS));
        further.find_map(|slot| self.usable(slot))
    }
}

fn folded(addr: IpAddr) -> u32 {
    let ([a, b, c, d], _) = words(addr);
    (a ^ b ^ c ^ d).swap_bytes()
}

/// One of the two hashes of `mh`, of an address and port added up.
fn maglev_hash(value: u32, offset: u32, which: usize) -> u32 {
    hash::sip(offset.wrapping_add(value), KEYS[which])
}

/// Each server as many buckets in turn as its weight says, and at least one.
fn source_buckets(servers: &[Server]) -> Vec<Option<usize>> {
    let cycle = servers.iter().enumerate();
    let round = cycle.flat_map(|(position, server)| {
        std::iter::repeat_n(position, server.weight.max(1) as usize)
    });
    if servers.is_empty() {
        return vec![None; BUCKETS];
    }
    round.cycle().take(BUCKETS).map(Some).collect()
}

fn destination_buckets(servers: &[Server]) -> Vec<Option<usize>> {
    let position = |bucket: usize| bucket.checked_rem(servers.len());
    (0..BUCKETS).map(position).collect()
}

/// Each server along its permutation, some slots in turn.
fn slots(servers: &[Server]) -> Vec<Option<usize>> {
    let mut table = vec![None; SLOTS];
    let weights = servers.iter().map(|server| server.last_weight);
    let divisor = weights.clone().fold(0, gcd);
    if divisor == 0 {
        return table;
    }
    let greatest = weights.max().unwrap_or(0) / divisor;
    let shift = (u32::BITS - greatest.leading_zeros()).saturating_sub(TURN_BITS);
    let mut permutations: Vec<(usize, usize, usize)> = servers
        .iter()
        .map(|server| {
            let [a, b, c, d] = server.addr;
            let name = (a ^ b ^ c ^ d)
                .swap_bytes()
                .wrapping_add(server.port.into());
            let offset = maglev_hash(name, 0, 0) as usize % SLOTS;
            let skip = maglev_hash(name, 0, 1) as usize % (SLOTS - 1) + 1;
            let turns = match server.last_weight {
                0 => 0,
                weight => ((weight / divisor) >> shift).max(1),
            };
            (offset, skip, turns as usize)
        })
        .collect();
    let mut filled = 0;
    loop {
        for (position, (at, skip, turns)) in permutations.iter_mut().enumerate() {
            for _ in 0..*turns {
                while table[*at].is_some() {
                    *at = (*at + *skip) % SLOTS;
                }
                table[*at] = Some(position);
                filled += 1;
                if filled == SLOTS {
                    return table;
                }
            }
        }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Servers 10.8.0.1, .2, … with these weights, added in this order.
    fn servers(weights: &[u32]) -> Vec<Server> {
        let server = |(number, weight): (u8, &u32)| Server {
            addr: words([10, 8, 0, number].into()).0,
            port: 53,
            weight: *weight,
            last_weight: *weight,
        };
        let mut servers: Vec<Server> = (1..).zip(weights).map(server).collect();
        servers.reverse();
        servers
    }

    /// Who gets a client: A is the server that was added first.
    fn letter(kernel: &Kernel, client: Ipv4Addr, port: u16) -> char {
        let vip = [10, 9, 9, 1].into();
        match kernel.choose(client.into(), port, vip) {
            Some(position) => char::from(b'A' + (kernel.servers.len() - 1 - position) as u8),
            None => '-',
        }
    }

    fn clients(kernel: &Kernel) -> String {
        (1..=40)
            .map(|last| letter(kernel, [1, 2, 3, last].into(), 0))
            .collect()
    }

    /// What the kernel did, as the specification has it (A.5).
    #[test]
    fn clients_go_where_the_kernel_sent_them() {
        use SchedulerKind::{Mh, Sh};
        let fallback = ServiceFlags::SCHED_1;
        for (scheduler, flags, weights, want) in [
            (Sh, 0, [1, 1, 1], "ABCBCBABACACACBCBCAABABACABACBCAABABCCAB"),
            (Sh, 0, [0, 1, 2], "BCBCB-C-CBCBCB-C-C-CBCB-C-C-CBCB-C-C-CBC"),
            (
                Sh,
                0,
                [300, 1, 1],
                "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ),
            (
                Sh,
                fallback,
                [1, 0, 2],
                "CCCCCACACCCCCCACACACCCCACACACCCCACACACCC",
            ),
            (Mh, 0, [1, 1, 1], "CBBBCCAABABAAAACABACACBCAABABCAABAACCBCA"),
            (Mh, 0, [2, 1, 3], "CCBBCCAAAACAAAACABCCACCCAABAACAABAACCACA"),
            (Mh, 0, [0, 1, 2], "CCBBCCCCCCBCCBCCCBCCCCBCCBBBCCBBBBBCCBCB"),
            (
                Mh,
                0,
                [300, 1, 7],
                "AAAAAAAAAABAAAAAAAACAAACAAAAAAAAAAAAAAAA",
            ),
            (Mh, 0, [1, 2, 1], "BBBBCBAABABAAAACABABACBCAABABBBABBBCCBCA"),
        ] {
            let kernel = Kernel::new(scheduler, flags, servers(&weights));
            assert_eq!(clients(&kernel), want, "{scheduler:?} {weights:?}");
        }
    }

    #[test]
    fn a_quiesced_server_keeps_its_slots_of_mh() {
        let quiesced = || {
            let mut servers = servers(&[1, 2, 1]);
            servers[1].weight = 0;
            servers
        };
        let kernel = Kernel::new(SchedulerKind::Mh, ServiceFlags::SCHED_1, quiesced());
        assert_eq!(clients(&kernel), "CCACCAAACACAAAACAAACACACAACACACACCCCCCCA");
        let kernel = Kernel::new(SchedulerKind::Mh, ServiceFlags::SCHED_2, quiesced());
        let ports: String = (30_000..30_040)
            .map(|port| letter(&kernel, [1, 2, 3, 4].into(), port))
            .collect();
        assert_eq!(ports, "--AC-AAA---C--C-A-A--A--C-AC--------AAC-");
    }

    #[test]
    fn destinations_and_weights() {
        let at = |weights: &[u32], last| {
            let kernel = Kernel::new(SchedulerKind::Dh, 0, servers(weights));
            match kernel.choose([1, 2, 3, 4].into(), 0, [10, 9, 9, last].into()) {
                Some(position) => char::from(b'C' - position as u8),
                None => '-',
            }
        };
        let first: String = (20..30).map(|last| at(&[1, 1, 1], last)).collect();
        let second: String = (30..40).map(|last| at(&[1, 0, 2], last)).collect();
        assert_eq!(
            (first.as_str(), second.as_str()),
            ("BCACAABCBA", "CA-ACACAA-")
        );
        let failover = Kernel::new(SchedulerKind::Fo, 0, servers(&[3, 1, 3]));
        assert_eq!(letter(&failover, [1, 2, 3, 4].into(), 0), 'C');
        let nobody = Kernel::new(SchedulerKind::Fo, 0, servers(&[0, 0]));
        assert_eq!(letter(&nobody, [1, 2, 3, 4].into(), 0), '-');
        for scheduler in [SchedulerKind::Sh, SchedulerKind::Dh, SchedulerKind::Mh] {
            let empty = Kernel::new(scheduler, 0, Vec::new());
            assert_eq!(clients(&empty), "-".repeat(40));
        }
    }
}
