//! Routers' errors about tunnel packets: believed, remembered, told to the client.

use std::net::{IpAddr, SocketAddr};

use lb_common::{
    engine::Verdict,
    family::Family,
    host::HostPacket,
    layout::{
        DestEntry, DestFlags, DestWord, ForwardMethod, ListEntry, NextHop, PathMtu, Root,
        TunnelChecksum, TunnelKind,
    },
    reason::Reason,
    tables::{Cell, Table, Tables},
    wire::{IPPROTO_ICMP, IPPROTO_ICMPV6, TCP_ACK as A, TCP_SYN as S},
};

use crate::nat::bed::{Bed, DIRECT, GATEWAY, IN, MAC, OUT, Segment, WEB, both_families};

const GUE_PORT: u16 = 6080;

fn outer_end(family: u8, host: u8) -> SocketAddr {
    let ip: IpAddr = if family == 4 {
        [10, 8, 0, host].into()
    } else {
        format!("2001:db8:8::{host}").parse().expect("an address")
    };
    SocketAddr::new(ip, 0)
}

fn words(at: SocketAddr) -> [u32; 4] {
    match at.ip() {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()), 0, 0, 0],
        IpAddr::V6(ip) => bytemuck::cast(ip.octets()),
    }
}

const SERVER: u8 = 1;
const ROUTER: u8 = 99;
const DIRECTOR: u8 = 250;

/// A director whose only server is behind a tunnel over family `outer`, with a
/// connection from port 1000.
struct Lab<F> {
    bed: Bed<F>,
    outer: u8,
    /// The tunnel packet that it has sent.
    sent: Vec<u8>,
}

impl<F: Family> Lab<F> {
    fn new(outer: u8, kind: TunnelKind, checksum: TunnelChecksum) -> Self {
        let bed = Bed::<F>::with(&[DIRECT]);
        let dest: DestEntry = bed.tables.get(Table::Dest, DIRECT);
        let entry = DestEntry {
            addr: words(outer_end(outer, SERVER)),
            family: outer,
            tunnel_kind: kind as u8,
            tunnel_checksum: checksum as u8,
            tunnel_port: GUE_PORT.to_be(),
            ..dest
        };
        bed.tables.set(Table::Dest, DIRECT, entry);
        let hop: NextHop = bed.tables.get(Table::NextHop, DIRECT);
        let mut header = hop.header;
        header[12..14].copy_from_slice(if outer == 4 { &[8, 0] } else { &[0x86, 0xdd] });
        let source = words(outer_end(outer, DIRECTOR));
        let hop = NextHop {
            header,
            source,
            ..hop
        };
        bed.tables.set(Table::NextHop, DIRECT, hop);
        for list in [0, 8, 16] {
            let entry: ListEntry = bed.tables.get(Table::List, list);
            let method = ForwardMethod::Tunnel as u32;
            bed.tables
                .set(Table::List, list, ListEntry { method, ..entry });
        }
        let root = (&bed.tables).root().with_tunnels(outer == 4, outer == 6);
        bed.tables.set_root(root);
        let (verdict, _, sent) = bed.run(&Bed::<F>::request(1000, WEB, S));
        assert_eq!(verdict, Verdict::Redirect(OUT));
        let sent = sent[14..].to_vec();
        Self { bed, outer, sent }
    }

    /// Bytes that the tunnel puts around.
    fn around(&self) -> u32 {
        let whole = Bed::<F>::request(1000, WEB, S).build().len() - 14;
        (self.sent.len() - whole) as u32
    }

    /// An error about the tunnel packet.
    fn error(&self, kind: u8, code: u8, rest: u32) -> Segment {
        self.error_about(&self.sent, kind, code, rest)
    }

    fn error_about(&self, packet: &[u8], kind: u8, code: u8, rest: u32) -> Segment {
        let payload = [&[kind, code, 0, 0], &rest.to_be_bytes()[..], packet].concat();
        let protocol = if self.outer == 4 {
            IPPROTO_ICMP
        } else {
            IPPROTO_ICMPV6
        };
        let mut error = Segment {
            source: outer_end(self.outer, ROUTER),
            destination: outer_end(self.outer, DIRECTOR),
            protocol,
            payload,
            stations: [MAC, [2, 0, 0, 0, 9, 9]],
            ..Bed::<F>::request(1000, WEB, 0)
        };
        error.seal();
        error
    }

    fn too_big(&self, mtu: u32) -> Segment {
        let [kind, code] = if self.outer == 4 { [3, 4] } else { [2, 0] };
        self.error(kind, code, mtu)
    }

    fn path(&self) -> Option<u32> {
        let dest: DestEntry = self.bed.tables.get(Table::Dest, DIRECT);
        PathMtu(dest.path_mtu).at(self.bed.now())
    }

    /// The error is the stack's, as it came.
    fn is_passed(&self, error: &Segment) {
        let before = self.path();
        let (verdict, reason, after) = self.bed.run(error);
        assert_eq!(verdict, Verdict::Pass, "{reason:?}");
        assert_eq!(after, error.build());
        assert_eq!(self.path(), before);
    }

    /// What the client is told: type, code, second word, the packet quoted.
    fn told(&self, error: &Segment) -> (u8, u8, u32, Vec<u8>) {
        let (verdict, reason, after) = self.bed.run(error);
        assert_eq!(reason, Reason::DroppedTunnelError);
        assert_eq!(verdict, Verdict::Redirect(IN), "where the client is");
        self.read(&after)
    }

    /// Reads an ICMP error from the service to the client.
    fn read(&self, frame: &[u8]) -> (u8, u8, u32, Vec<u8>) {
        assert_eq!((&frame[..6], &frame[6..12]), (&GATEWAY[..], &MAC[..]));
        let ip = &frame[14..];
        let (header, protocol, ends) = if F::VERSION == 4 {
            (20, ip[9], &ip[12..20])
        } else {
            (40, ip[6], &ip[8..40])
        };
        assert_eq!(protocol, F::ICMP);
        let octets = |at: SocketAddr| match at.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let wanted = [octets(Bed::<F>::vip(0)), octets(Bed::<F>::client(0))].concat();
        assert_eq!(ends, wanted);
        let icmp = &ip[header..];
        let rest = u32::from_be_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
        (icmp[0], icmp[1], rest, icmp[8..].to_vec())
    }

    /// The packet within the tunnel packet.
    fn inner(&self) -> &[u8] {
        &self.sent[self.around() as usize..]
    }

    /// A client's segment whose packet has `length` bytes.
    fn segment(&self, length: usize) -> Segment {
        let headers = if F::VERSION == 4 { 40 } else { 60 };
        Segment {
            payload: vec![5; length - headers],
            ..Bed::<F>::request(1000, WEB, A)
        }
    }
}

/// Every tunnel over both families.
fn every<F: Family>(check: impl Fn(Lab<F>)) {
    use TunnelChecksum::{Full, None, Remote};
    for outer in [4, 6] {
        for (kind, checksum) in [
            (TunnelKind::Ipip, None),
            (TunnelKind::Gue, None),
            (TunnelKind::Gue, Full),
            (TunnelKind::Gue, Remote),
            (TunnelKind::Gre, None),
            (TunnelKind::Gre, Full),
        ] {
            check(Lab::new(outer, kind, checksum));
        }
    }
}

/// IPv6 in IPv4 may be fragmented on the way.
fn is_fragmented<F: Family>(lab: &Lab<F>) -> bool {
    F::VERSION == 6 && lab.outer == 4
}

fn the_client_learns_the_path_mtu<F: Family>() {
    every(|lab: Lab<F>| {
        if is_fragmented(&lab) {
            return;
        }
        let around = lab.around();
        let big: (u8, u8) = if F::VERSION == 4 { (3, 4) } else { (2, 0) };
        let before = lab.bed.tables.stats(DIRECT);
        let (kind, code, mtu, quoted) = lab.told(&lab.too_big(1400));
        assert_eq!((kind, code), big);
        assert_eq!(mtu, 1400 - around);
        assert_eq!(quoted, lab.inner());
        // The kernel counts the message, and what it is about once more.
        let after = lab.bed.tables.stats(DIRECT);
        let quoted = quoted.len() as u64;
        let headers = if F::VERSION == 4 { 28 } else { 48 };
        assert_eq!(after.out_packets, before.out_packets + 2);
        assert_eq!(after.out_bytes, before.out_bytes + headers + 2 * quoted);
        assert_eq!(lab.path(), Some(1400));

        // What does not fit is answered here from now on, what fits goes.
        let fits = (1400 - around) as usize;
        let (verdict, reason, _) = lab.bed.run(&lab.segment(fits));
        assert_eq!(
            (verdict, reason),
            (Verdict::Redirect(OUT), Reason::ForwardedRedirect)
        );
        let (verdict, reason, answer) = lab.bed.run(&lab.segment(fits + 1));
        assert_eq!(
            (verdict, reason),
            (Verdict::Transmit, Reason::DroppedTooBig)
        );
        let (kind, code, mtu, _) = lab.read(&answer);
        assert_eq!((kind, code, mtu), (big.0, big.1, 1400 - around));

        // It never rises, and is never less than what everybody has.
        assert_eq!(lab.told(&lab.too_big(1450)).2, 1400 - around);
        assert_eq!(lab.path(), Some(1400));
        let least = if lab.outer == 4 { 552 } else { 1280 };
        assert_eq!(lab.told(&lab.too_big(70)).2, least - around);
        assert_eq!(lab.path(), Some(least));
        assert_eq!(lab.told(&lab.too_big(0)).2, least - around);

        // Forgotten after ten minutes.
        lab.bed.later(PathMtu::LIFE + 1);
        assert_eq!(lab.path(), None);
    });
}

fn the_first_links_mtu_is_no_news<F: Family>() {
    every(|lab: Lab<F>| {
        if !is_fragmented(&lab) {
            assert_eq!(lab.told(&lab.too_big(9000)).2, 1500 - lab.around());
            assert_eq!(lab.path(), None);
        }
    });
}

fn other_errors_reach_the_client<F: Family>() {
    every(|lab: Lab<F>| {
        let same = F::VERSION == lab.outer;
        let four: &[(u8, u8, u8, u8)] = &[(11, 0, 3, 0), (3, 1, 1, 3), (3, 3, 1, 4), (3, 13, 1, 3)];
        let six: &[(u8, u8, u8, u8)] = &[(3, 0, 11, 0), (1, 0, 3, 1), (1, 3, 3, 1), (1, 4, 3, 3)];
        let cases = if lab.outer == 4 { four } else { six };
        for &(kind, code, other, other_code) in cases {
            let told = lab.told(&lab.error(kind, code, 0));
            let wanted = if same {
                (kind, code)
            } else {
                (other, other_code)
            };
            assert_eq!((told.0, told.1, told.2), (wanted.0, wanted.1, 0));
            assert_eq!(told.3, lab.inner());
        }
        if lab.outer == 4 {
            // Source quench, of which IPv6 has none.
            let quench = lab.error(4, 0, 0);
            if same {
                assert_eq!(lab.told(&quench).0, 4);
            } else {
                let (verdict, reason, _) = lab.bed.run(&quench);
                let wanted = (Verdict::Drop, Reason::DroppedTunnelError);
                assert_eq!((verdict, reason), wanted);
            }
        }
        assert_eq!(lab.path(), None);
        // Queries, redirects and the rest are the stack's.
        let others: &[u8] = if lab.outer == 4 {
            &[0, 5, 8, 12]
        } else {
            &[4, 5, 100, 128, 137]
        };
        for &kind in others {
            lab.is_passed(&lab.error(kind, 0, 0));
        }
    });
}

fn what_is_not_of_ours_is_the_stacks<F: Family>() {
    every(|lab: Lab<F>| {
        let forged = |at: usize, change: u8| {
            let mut packet = lab.sent.clone();
            packet[at] ^= change;
            let [kind, code] = if lab.outer == 4 { [3, 4] } else { [2, 0] };
            lab.error_about(&packet, kind, code, 1300)
        };
        let ip = if lab.outer == 4 { 20 } else { 40 };
        // The outer source, the server's address, the version, the protocol.
        let (source, dest) = if lab.outer == 4 { (15, 19) } else { (23, 39) };
        let protocol = if lab.outer == 4 { 9 } else { 6 };
        for at in [source, dest, 0, protocol] {
            lab.is_passed(&forged(at, 0x20));
        }
        let within = lab.around() as usize;
        // The client's address and port, and the service's.
        let header = if F::VERSION == 4 { 20 } else { 40 };
        for at in [header - 5, header - 1, header, header + 3] {
            lab.is_passed(&forged(within + at, 1));
        }
        if within > ip {
            // GUE's port and flags; GRE's flags and what it carries.
            let places: &[usize] = if lab.sent[protocol] == 17 {
                &[3, 8, 9, 10]
            } else {
                &[0, 1, 3]
            };
            for &at in places {
                lab.is_passed(&forged(ip + at, 0x10));
            }
        }
        // Too little of it.
        for length in [0, 8, ip, ip + 8, within + header + 7] {
            let mut error = lab.too_big(1300);
            error.payload.truncate(8 + length);
            error.seal();
            lab.is_passed(&error);
        }
        // A wrong checksum, a piece, a director without tunnels.
        let mut error = lab.too_big(1300);
        error.payload[2] ^= 1;
        let mut packet = HostPacket::new(&error.build(), OUT);
        assert_eq!(lab.bed.tables.process(&mut packet), Verdict::Pass);
        let root = (&lab.bed.tables).root();
        lab.bed.tables.set_root(root.with_tunnels(false, false));
        lab.is_passed(&lab.too_big(1300));
        lab.bed.tables.set_root(root);
        // A server that is removed, not ours or out of reach, one whose kind was edited, a connection that is over.
        let dest: DestEntry = lab.bed.tables.get(Table::Dest, DIRECT);
        let kind = if dest.tunnel_kind == 0 { 1 } else { 0 };
        let without = |flag: u32| DestEntry {
            word: DestWord::new(dest.word as u32, Bed::<F>::flags() & !flag).0,
            ..dest
        };
        for other in [
            without(DestFlags::AVAILABLE),
            without(DestFlags::CLAIMED),
            without(DestFlags::RESOLVED),
            DestEntry {
                tunnel_kind: kind,
                ..dest
            },
        ] {
            lab.bed.tables.set(Table::Dest, DIRECT, other);
            lab.is_passed(&lab.too_big(1300));
        }
        lab.bed.tables.set(Table::Dest, DIRECT, dest);
        lab.bed.later(lb_common::time::seconds(70));
        lab.is_passed(&lab.too_big(1300));
    });
}

/// An error about a packet that routers may fragment tells nothing.
fn a_packet_that_may_be_fragmented<F: Family>() {
    every(|lab: Lab<F>| {
        let told = |error: &Segment| {
            let (verdict, reason, _) = lab.bed.run(error);
            assert_eq!(reason, Reason::DroppedTunnelError);
            verdict
        };
        if is_fragmented(&lab) {
            assert_eq!(told(&lab.too_big(1300)), Verdict::Drop);
            assert_eq!(lab.path(), None);
        } else if F::VERSION == 4 {
            let mut packet = lab.sent.clone();
            packet[lab.around() as usize + 6] &= !0x40;
            let [kind, code] = if lab.outer == 4 { [3, 4] } else { [2, 0] };
            let error = lab.error_about(&packet, kind, code, 1300);
            assert_eq!(told(&error), Verdict::Drop);
            // IPv6 is never fragmented on the way: that is the path's.
            assert_eq!(lab.path(), (lab.outer == 6).then_some(1300));
        }
    });
}

/// The message goes the way that the connection's first packet came by, tags and
/// station kept; without it the path MTU is remembered all the same.
fn the_way_to_the_client<F: Family>() {
    let lab = Lab::<F>::new(F::VERSION, TunnelKind::Ipip, TunnelChecksum::None);
    let tagged = Segment {
        tags: vec![(0x8100, 100)],
        ..Bed::<F>::request(1001, WEB, S)
    };
    let (_, _, sent) = lab.bed.run(&tagged);
    let [kind, code] = if F::VERSION == 4 { [3, 4] } else { [2, 0] };
    let error = lab.error_about(&sent[14..], kind, code, 1400);
    let (verdict, _, after) = lab.bed.run(&error);
    assert_eq!(verdict, Verdict::Redirect(IN));
    let wanted = [
        &GATEWAY[..],
        &MAC,
        &[0x81, 0, 0, 100],
        &F::ETHERTYPE.to_ne_bytes(),
    ]
    .concat();
    assert_eq!(after[..18], wanted);
    // One that does not know its way.
    let cell = lab.bed.conn(1000, WEB).expect("tracked").cell;
    cell.0.store(F::LOCAL[0], 0);
    let (verdict, reason, _) = lab.bed.run(&lab.too_big(1380));
    assert_eq!(
        (verdict, reason),
        (Verdict::Drop, Reason::DroppedTunnelError)
    );
    assert_eq!(lab.path(), Some(1380));
}

/// 4 in 6 where no service is of IPv6, and the other way round.
fn services_of_one_family<F: Family>() {
    let other = if F::VERSION == 4 { 6 } else { 4 };
    let lab = Lab::<F>::new(other, TunnelKind::Gre, TunnelChecksum::None);
    let [kind, code] = if other == 4 { [11, 0] } else { [3, 0] };
    let told = lab.told(&lab.error(kind, code, 0));
    assert_eq!((told.0, told.1), if other == 4 { (3, 0) } else { (11, 0) });
    let root = Root::new(9, 0, other != 4, other == 4);
    lab.bed.tables.set_root(root);
    lab.is_passed(&lab.error(kind, code, 0));
}

fn they_are_limited<F: Family>() {
    let lab = Lab::<F>::new(F::VERSION, TunnelKind::Ipip, TunnelChecksum::None);
    let error = lab.too_big(1400);
    let sent = (0..200)
        .filter(|_| lab.bed.run(&error).0 != Verdict::Drop)
        .count();
    assert!((49..=51).contains(&sent), "{sent} at once");
}

both_families!(
    the_client_learns_the_path_mtu,
    the_first_links_mtu_is_no_news,
    other_errors_reach_the_client,
    what_is_not_of_ours_is_the_stacks,
    a_packet_that_may_be_fragmented,
    the_way_to_the_client,
    services_of_one_family,
    they_are_limited,
);
