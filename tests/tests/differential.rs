//! The same packets through the engine natively and through the loaded program:
//! equal verdict, bytes, counters and tables.

use std::time::Instant;

use lb_common::{
    conn::Protocol,
    engine::Verdict,
    facts::Facts,
    family::{Family, V4, V6},
    flow::{self, BLOCK, StateWord, total_cells, word},
    forward::Part,
    host::{HostPacket, HostTables, frame::checksum},
    layout::{DestEntry, DestLoad, ForwardMethod, SchedulerKind, ServiceFlags},
    parse::{self, Header as _, Ipv4},
    reason::Reason,
    tables::Table,
    time::Tick,
    wire::IPPROTO_SCTP,
};
use lb_userspace::dataplane::{Mapping, Sizes};
use lvx_tests::kernel::{
    bpffs::Bpffs,
    everything,
    frames::Traffic,
    rules,
    scene::{self, HostSink, How, INGRESS, Reached, Service, TUNNELS4},
    unswept::Unswept,
};
use rand::{Rng as _, SeedableRng, rngs::StdRng};

const PACKETS: u32 = 200_000;
/// While a server that gets few packets of a kind has got none.
const MOST: u32 = 2_000_000;
const SIZES: Sizes = Sizes {
    connections: 4096,
    connections6: 4096,
    services: 128,
    dests: 512,
    mh_services: 16,
    rule_words: 1 << 12,
};

/// The test run of a packet that leaves refuses those cut off in the IP header.
const LEAST: usize = 60;
/// `TC_ACT_UNSPEC` and `TC_ACT_SHOT`.
const UNSPEC: i32 = -1;
const SHOT: i32 = 2;

fn code(verdict: Verdict) -> u32 {
    match verdict {
        Verdict::Drop => 1,
        Verdict::Pass => 2,
        Verdict::Transmit => 3,
        Verdict::Redirect(_) => 4,
    }
}

#[test]
fn native_engine_and_loaded_program_agree() {
    let seed = std::env::var("LVX_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(rand::random);
    println!("seed {seed}: repeat with LVX_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);

    let bpffs = Bpffs::new().unwrap();
    let mut kernel = Unswept::load(&bpffs.pins(), SIZES).unwrap();
    let params = kernel.maps.params;
    let host = HostTables::new(params, SIZES.dests, SIZES.services);
    let services = everything::services();
    let settings = scene::long_timeouts();
    scene::write(&kernel.maps, &services, settings);
    scene::write(&HostSink(&host, params), &services, settings);
    let rules = rules::everything();
    rules::write(&kernel.maps, &services, &rules);
    rules::write(&HostSink(&host, params), &services, &rules);

    let traffic = Traffic::of(&services);
    let started = Instant::now();
    let mut out = Vec::new();
    let (mut random_ids, mut sent, mut translated, mut cut) = (0, 0, 0, 0);
    let mut tunnelled: Option<Vec<u8>> = None;
    let mut number = 0;
    // What a server seldom gets may be missing still.
    while number < PACKETS || number < MOST && unmet(&host, &services).is_some() {
        number += 1;
        let frame = match &tunnelled {
            Some(sent) if rng.random_ratio(1, 12) => Traffic::error_about_tunnel(&mut rng, sent),
            _ => traffic.frame(&mut rng),
        };
        // As if this director's stack sent it.
        if rng.random_ratio(1, 6) && frame.len() > LEAST {
            let (verdict, now) = kernel.run_egress(&frame, &mut out).unwrap();
            host.set_now(now);
            let mut packet = HostPacket::new(&frame, 0);
            let ends = is_cut_reply(&host, &packet, now);
            let dropped = host.reason(Reason::DroppedFragment);
            let native = host.leave(&mut packet);
            let dropped = host.reason(Reason::DroppedFragment) - dropped;
            let wanted = if ends {
                (Verdict::Drop, SHOT, 1)
            } else {
                (Verdict::Pass, UNSPEC, 0)
            };
            assert_eq!(
                (native, verdict, dropped),
                wanted,
                "packet {number}: {frame:02x?}"
            );
            cut += u32::from(ends);
            assert_eq!(packet.bytes(), out, "packet {number}: {frame:02x?}");
            sent += 1;
            translated += u32::from(out != frame);
            continue;
        }
        let (verdict, now) = kernel.run(&frame, &mut out).unwrap();
        host.set_now(now);
        let mut packet = HostPacket::new(&frame, INGRESS);
        let native = host.process(&mut packet);
        assert_eq!(code(native), verdict, "packet {number}: {frame:02x?}");
        let mut bytes = packet.bytes().to_vec();
        if matches!(native, Verdict::Transmit | Verdict::Redirect(_)) {
            if let Some(sent) = tunnel_packet(&bytes) {
                tunnelled = Some(sent);
            }
            let masked = [&mut bytes, &mut out].map(|after| mask_random_id(&frame, after));
            assert_eq!(masked[0], masked[1], "packet {number}: {frame:02x?}");
            random_ids += u32::from(masked[0]);
        }
        assert_eq!(bytes, out, "packet {number}: {frame:02x?}");
        if let Verdict::Redirect(ifindex) = native
            && let Some(egress) = kernel.egress().unwrap()
        {
            assert_eq!(u64::from(ifindex), egress, "packet {number}");
        }
    }
    println!("{number} packets in {:.1?}", started.elapsed());
    assert!(random_ids > 100, "{random_ids} identifications were random");

    println!("{sent} packets of the stack, {translated} translated, {cut} dropped");
    assert!(
        translated > 100,
        "{translated} packets of the stack were translated"
    );
    // What the stack sends is counted where it ends.
    compare_reasons(&kernel, &host, number - sent + cut);
    for slot in 0..rules::slots(&rules) {
        let counted = host.rule(slot);
        let loaded = kernel.maps.rule_stats(slot).expect("a look-up");
        assert_eq!(loaded, counted, "filter rule {slot}");
        assert!(counted[0] > 0, "no packet meets filter rule {slot}");
    }
    compare_servers(&kernel, &host, &services);
    let cells = total_cells(params.flow4_cells);
    let reverse = compare_flows::<V4, 8>(cells, &kernel.maps.flow4, &host);
    assert!(reverse > 50, "{reverse} reverse cells of IPv4");
    let cells = total_cells(params.flow6_cells);
    let reverse = compare_flows::<V6, 16>(cells, &kernel.maps.flow6, &host);
    assert!(reverse > 50, "{reverse} reverse cells of IPv6");
    for (blocks, table) in [
        (&kernel.maps.blocks4, Table::Blocks4),
        (&kernel.maps.blocks6, Table::Blocks6),
    ] {
        for block in 0..cells / BLOCK {
            let native = host.get::<u64>(table, block);
            assert_eq!(blocks.get(block), native, "{table:?}, block {block}");
        }
    }
}

/// Whether a packet of the stack is a reply that NAT cannot translate: the first
/// fragment of an SCTP packet, whose port would have to change. Its checksum
/// covers what is in the others.
fn is_cut_reply(host: &HostTables, packet: &HostPacket, now: Tick) -> bool {
    let mut facts = Facts::default();
    let Some(ethernet) = parse::ethernet(packet).filter(|it| it.ethertype == V4::ETHERTYPE) else {
        return false;
    };
    let next = Ipv4::read(packet, ethernet.l3).and_then(|ip| ip.check(packet, &mut facts));
    if next != Ok(IPPROTO_SCTP)
        || facts.part != Part::First as u64
        || parse::transport(packet, Protocol::Sctp, &mut facts).is_err()
    {
        return false;
    }
    let Some(reverse) = flow::find::<V4, _>(host, &V4::key(&facts)) else {
        return false;
    };
    if !reverse.state.is_reverse() {
        return false;
    }
    let Some(conn) = flow::linked::<V4, _>(host, reverse.cell.link::<V4>()) else {
        return false;
    };
    let service_port = (V4::ports(&conn.cell.key::<V4>()) >> 16) as u16;
    !conn.times.is_dead(now)
        && ForwardMethod::from_bits(conn.method()) == ForwardMethod::Masq
        && facts.src_port() != service_port
}

/// Where layer 3 starts.
fn layer_3(frame: &[u8]) -> usize {
    let tags = frame[12..]
        .chunks(4)
        .take_while(|tag| matches!(tag[..2], [0x81, 0] | [0x88, 0xa8]));
    14 + 4 * tags.count()
}

/// The packet, if it is one in a tunnel; so much as routers quote.
fn tunnel_packet(frame: &[u8]) -> Option<Vec<u8>> {
    let packet = &frame[layer_3(frame)..];
    let is_tunnel = match packet[0] >> 4 {
        4 => matches!(packet[9], 4 | 41 | 47) || packet[16..19] == TUNNELS4,
        _ => matches!(packet[6], 4 | 41 | 47) || packet[26..28] == [0, 2],
    };
    is_tunnel.then(|| packet[..packet.len().min(500)].to_vec())
}

/// Makes a random identification in an IPv4 header 0, and the checksum over it:
/// the one thing that both cannot share. It is that of a tunnel without "don't
/// fragment", or of an ICMP message that answers the frame `before`. Tells
/// whether it is such a packet.
fn mask_random_id(before: &[u8], frame: &mut [u8]) -> bool {
    let (l3, from) = (layer_3(frame), layer_3(before));
    if frame[l3 - 2..l3] != [8, 0] {
        return false;
    }
    let header = &mut frame[l3..l3 + 20];
    let is_tunnel = header[16..19] == TUNNELS4 && header[6] & 0x40 == 0;
    // To an error about a tunnel packet, too, which is to our own address there.
    let is_about_tunnel =
        || before[from - 2..from] != [8, 0] || before[from + 16..][..3] == TUNNELS4;
    let is_answer = header[9] == 1 && (is_about_tunnel() || before[from + 9] != 1);
    if !is_tunnel && !is_answer {
        return false;
    }
    assert!(is_answer || header[4..6] != [0, 0], "never 0");
    assert_eq!(checksum(header), [0, 0], "the checksum covers it");
    header[4..6].fill(0);
    header[10..12].fill(0);
    true
}

fn compare_reasons(kernel: &Unswept, host: &HostTables, received: u32) {
    let counts = kernel.maps.reasons().expect("a look-up");
    for &(reason, count) in &counts {
        println!("{:>10} {}", count, reason.name());
        assert_eq!(host.reason(reason), count, "{}", reason.name());
    }
    let counted: u64 = counts.iter().map(|&(_, count)| count).sum();
    assert_eq!(
        counted,
        u64::from(received),
        "every packet ends in exactly one reason"
    );
    let unseen: Vec<&str> = Reason::ALL
        .iter()
        .filter(|&&reason| host.reason(reason) == 0)
        .map(|reason| reason.name())
        .collect();
    let rare = [
        "dropped-window-full",
        "dropped-insert-contended",
        "dropped-cursor-contended",
    ];
    assert!(
        unseen
            .iter()
            .all(|name| rare.contains(name) || *name == "dropped-internal"),
        "the frames no longer reach {unseen:?}"
    );
}

/// Loads and counters, and that packets reached every server that takes any,
/// and came from every one whose replies are counted.
fn compare_servers(kernel: &Unswept, host: &HostTables, services: &[Service]) {
    let mut paths = 0;
    for slot in 0..SIZES.dests {
        let native = host.get::<DestEntry>(Table::Dest, slot);
        assert_eq!(kernel.maps.dests.get(slot), native, "server {slot}");
        paths += u32::from(native.path_mtu != 0);
        assert_eq!(
            kernel.maps.dest_loads.get(slot),
            host.get::<DestLoad>(Table::DestLoad, slot),
            "server {slot}"
        );
        assert_eq!(
            kernel.maps.dest_stats(slot).expect("a look-up"),
            host.stats(slot),
            "server {slot}"
        );
    }
    assert!(paths >= 5, "{paths} servers have a path MTU");
    assert_eq!(unmet(host, services), None);
}

/// A server that packets should have reached and have not, or whose replies
/// should be counted and are not, or the other way round.
fn unmet(host: &HostTables, services: &[Service]) -> Option<String> {
    let servers = services.iter().flat_map(|service| {
        let claimed = service.claimed;
        // The others may leave a server out.
        let all = matches!(service.scheduler, SchedulerKind::Rr | SchedulerKind::Wrr);
        // One of those has no connection that an error of ours could be about.
        let one_packet = service.flags & ServiceFlags::ONE_PACKET != 0;
        let servers = service.servers.iter();
        servers.map(move |server| (claimed, all, one_packet, server))
    });
    let unmet = (0..)
        .zip(servers)
        .find(|&(slot, (claimed, all, one_packet, server))| {
            let stats = host.stats(slot);
            let taken = claimed && server.weight > 0;
            if !all {
                return !taken && stats.in_packets > 0;
            }
            let gone = server.reached == Reached::Gone;
            let alone = matches!(server.how, How::Fullnat { pool: false, .. });
            // Of one that is gone, only our own errors to clients are counted; one
            // without a local address has no connection.
            let answered = taken && !one_packet;
            let counted = gone || alone || (stats.out_packets > 0) == answered;
            let replies = matches!(
                server.how,
                How::Nat { .. } | How::Fullnat { pool: true, .. }
            );
            (stats.in_packets > 0) != taken
                || !counted
                || replies && !gone && stats.out_packets <= 10
        });
    unmet.map(|(slot, (.., server))| format!("{slot}: {server:?}, {:?}", host.stats(slot)))
}

/// Equal cells; answers how many are reverse cells.
fn compare_flows<F: Family, const WORDS: usize>(
    cells: u32,
    kernel: &Mapping<[u64; WORDS]>,
    host: &HostTables,
) -> u32
where
    [u64; WORDS]: bytemuck::Pod,
{
    let mut reverse = 0;
    for index in 0..cells {
        let (kernel, native) = (kernel.get(index), host.get::<[u64; WORDS]>(F::FLOW, index));
        let state = StateWord(kernel[word::STATE]);
        assert_eq!(
            [kernel[word::STATE], kernel[F::HOME]],
            [native[word::STATE], native[F::HOME]],
            "state, lock and spill of cell {index} of {:?}",
            F::FLOW
        );
        if state.is_live() {
            // Ticks, time-outs, servers, links, ways, keys.
            assert_eq!(kernel, native, "cell {index} of {:?}", F::FLOW);
        }
        reverse += u32::from(state.is_live() && state.is_reverse());
    }
    reverse
}
