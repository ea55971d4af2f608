//! The same packets through the engine natively and through the loaded program:
//! equal verdict, bytes, counters and tables.

use std::time::Instant;

use lb_common::{
    engine::Verdict,
    flow::{StateWord, total_cells},
    host::{HostPacket, HostTables},
    layout::{DestLoad, Settings},
    reason::Reason,
    tables::Table,
};
use lb_userspace::dataplane::{Maps, Plane, Sizes};
use lvx_tests::kernel::{
    bpffs::Bpffs,
    frames,
    scene::{self, HostSink, INGRESS},
};
use rand::{SeedableRng, rngs::StdRng};

const PACKETS: u32 = 200_000;
const SIZES: Sizes = Sizes {
    connections: 4096,
    connections6: 4096,
    services: 16,
    dests: 64,
};

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
    let mut plane = Plane::load(&bpffs.pins(), SIZES).unwrap();
    let maps = Maps::open(&bpffs.pins()).unwrap();
    let host = HostTables::new(maps.params, SIZES.dests, SIZES.services);
    let services = scene::services();
    scene::write(&maps, &services, Settings::kernel_defaults());
    scene::write(
        &HostSink(&host, maps.params),
        &services,
        Settings::kernel_defaults(),
    );

    let started = Instant::now();
    let mut out = Vec::new();
    for number in 0..PACKETS {
        let frame = frames::random(&mut rng);
        let before = Maps::now();
        let verdict = plane
            .object()
            .run("lvx", &frame, None, Some(&mut out))
            .unwrap();
        // The tick is the one thing both cannot share; only its passing matters.
        host.set_now(before);
        let mut packet = HostPacket::new(&frame, INGRESS);
        let native = host.process(&mut packet);
        assert_eq!(code(native), verdict, "packet {number}: {frame:02x?}");
        assert_eq!(packet.bytes(), out, "packet {number}: {frame:02x?}");
    }
    println!("{PACKETS} packets in {:.1?}", started.elapsed());

    for (reason, count) in maps.reasons().unwrap() {
        println!("{:>10} {}", count, reason.name());
        assert_eq!(host.reason(reason), count, "{}", reason.name());
    }
    let counted: u64 = maps
        .reasons()
        .unwrap()
        .iter()
        .map(|&(_, count)| count)
        .sum();
    assert_eq!(
        counted,
        u64::from(PACKETS),
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
    for slot in 0..SIZES.dests {
        assert_eq!(
            maps.dest_loads.get(slot),
            host.get::<DestLoad>(Table::DestLoad, slot)
        );
        assert_eq!(
            maps.dest_stats(slot).unwrap(),
            host.stats(slot),
            "server {slot}"
        );
    }
    for index in 0..total_cells(maps.params.flow4_cells) {
        let (kernel, native) = (
            maps.flow4.get(index),
            host.get::<[u64; 8]>(Table::Flow4, index),
        );
        assert_eq!(kernel[0], native[0], "state of cell {index}");
        if StateWord(kernel[0]).is_live() {
            assert_eq!(kernel[3], native[3], "server of cell {index}");
            assert_eq!(kernel[6..], native[6..], "key of cell {index}");
        }
    }
}
