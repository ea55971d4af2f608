//! Two CPUs racing on the same keys through the loaded program, while the sweep
//! frees what ends: no doubled, no lost flow, exact counts at rest.

use std::{
    collections::HashMap,
    sync::{Barrier, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use lb_common::{
    family::{Family as _, V4},
    flow::{HomeWord, StateWord, total_cells},
    layout::{SchedulerKind, Settings},
};
use lb_userspace::dataplane::{Maps, Plane, Sizes};
use lvx_tests::kernel::{
    bpffs::Bpffs,
    scene::{self, OUR_MAC, Reached, Service},
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

const SIZES: Sizes = Sizes {
    connections: 32_768,
    connections6: 4096,
    services: 16,
    dests: 64,
    mh_services: 16,
    rule_words: 1 << 12,
};
const KEYS: u32 = 30_000;
const THREADS: usize = 2;

fn service() -> Vec<Service> {
    vec![Service {
        vip: [192, 0, 2, 1].into(),
        port: 53,
        protocol: 17,
        mark: 0,
        scheduler: SchedulerKind::Wrr,
        sched_flags: 0,
        claimed: true,
        toa: false,
        flags: 0,
        limit: 0,
        servers: vec![
            (Reached::Back, 3).into(),
            (Reached::Across, 2).into(),
            (Reached::Back, 1).into(),
        ],
    }]
}

/// Both tests want both CPUs for themselves: a thread that another one pushes
/// aside in the middle of an insert keeps its home cell's lock meanwhile, which
/// no packet in the driver does.
static BOTH_CPUS: Mutex<()> = Mutex::new(());

/// A UDP packet of client `key`.
fn packet(key: u32) -> [u8; 42] {
    let mut frame = [0; 42];
    frame[..6].copy_from_slice(&OUR_MAC);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..24].copy_from_slice(&[0x45, 0, 0, 28, 0, 0, 0x40, 0, 64, 17]);
    frame[26..28].copy_from_slice(&[10, 1]);
    frame[28..30].copy_from_slice(&((key >> 10) as u16).to_be_bytes());
    frame[30..34].copy_from_slice(&[192, 0, 2, 1]);
    frame[34..36].copy_from_slice(&(1024 + (key & 1023) as u16).to_be_bytes());
    frame[36..42].copy_from_slice(&[0, 53, 0, 8, 0, 0]);
    let words: [u32; 5] = std::array::from_fn(|i| {
        u32::from_ne_bytes(
            frame[14 + 4 * i..18 + 4 * i]
                .try_into()
                .expect("four bytes"),
        )
    });
    let sum = !lb_common::checksum::fold(lb_common::checksum::ipv4_sum(&words));
    frame[24..26].copy_from_slice(&sum.to_ne_bytes());
    frame
}

/// Sends every key `rounds` times from both CPUs at once.
fn race(pins: &std::path::Path, rounds: u32) {
    let barrier = Barrier::new(THREADS);
    thread::scope(|scope| {
        for cpu in 0..THREADS {
            let barrier = &barrier;
            scope.spawn(move || {
                let mut set = CpuSet::new();
                set.set(cpu).expect("a small number");
                sched_setaffinity(Pid::from_raw(0), &set).expect("this test needs two CPUs");
                let mut plane = Plane::load(pins, SIZES).expect("a data plane");
                for _ in 0..rounds {
                    barrier.wait();
                    for key in 0..KEYS {
                        plane
                            .object()
                            .run("lvx", &packet(key), None, None)
                            .expect("a run");
                    }
                }
            });
        }
    });
}

/// Live cells by key.
fn live(maps: &Maps) -> HashMap<[u64; 2], u32> {
    let mut cells = HashMap::new();
    for index in 0..total_cells(maps.params.flow4_cells) {
        let cell = maps.flow4.get(index);
        if StateWord(cell[0]).is_live() {
            *cells.entry([cell[6], cell[7]]).or_insert(0) += 1;
        }
    }
    cells
}

fn load(maps: &Maps) -> u64 {
    (0..3)
        .map(|slot| u64::from(maps.dest_loads.get(slot).inactive()))
        .sum()
}

fn occupied(maps: &Maps) -> u64 {
    (0..maps.blocks4.len())
        .map(|block| maps.blocks4.get(block))
        .sum()
}

fn spilled(maps: &Maps) -> u64 {
    (0..maps.params.flow4_cells)
        .map(|cell| HomeWord(maps.flow4.get(cell)[V4::HOME]).spilled())
        .sum()
}

fn reason(maps: &Maps, name: &str) -> u64 {
    let reasons = maps.reasons().expect("the map is there");
    reasons
        .iter()
        .find(|(reason, _)| reason.name() == name)
        .expect("a reason's name")
        .1
}

#[test]
fn two_cpus_make_no_double_and_lose_nothing() {
    let _both_cpus = BOTH_CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    let first = Plane::load(&pins, SIZES).unwrap();
    let maps = Maps::open(&pins).unwrap();
    scene::write(&maps, &service(), Settings::kernel_defaults());
    drop(first);
    let started = Instant::now();
    race(&pins, 1);
    let cells = live(&maps);
    let doubled = cells.values().filter(|&&count| count > 1).count();
    let contended =
        reason(&maps, "dropped-insert-contended") + reason(&maps, "dropped-cursor-contended");
    let conns: u64 = (0..3)
        .map(|slot| maps.dest_stats(slot).unwrap().conns)
        .sum();
    println!(
        "{} live cells of {KEYS} keys, {doubled} doubled, {contended} contended, {:.1?}",
        cells.len(),
        started.elapsed()
    );
    assert_eq!(doubled, 0);
    assert_eq!(cells.len() as u32, KEYS, "a key is lost");
    assert_eq!(load(&maps), u64::from(KEYS));
    assert_eq!(occupied(&maps), u64::from(KEYS));
    assert_eq!(conns, u64::from(KEYS));
    assert_eq!(reason(&maps, "dropped-window-full"), 0);
}

#[test]
fn the_sweep_may_run_at_the_same_time() {
    let _both_cpus = BOTH_CPUS.lock().unwrap_or_else(PoisonError::into_inner);
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    let first = Plane::load(&pins, SIZES).unwrap();
    let maps = Maps::open(&pins).unwrap();
    let mut settings = Settings::kernel_defaults();
    // Two ticks are less than a round: flows die and are born all the time.
    settings.udp = 2;
    scene::write(&maps, &service(), settings);
    drop(first);
    race(&pins, 40);
    let freed = maps.sweeps().unwrap()[0].freed;
    println!("{freed} cells freed during the race");
    assert!(freed > u64::from(KEYS / 4), "the sweep hardly ran: {freed}");
    let doubled = live(&maps).values().filter(|&&count| count > 1).count();
    assert_eq!(doubled, 0);
    let deadline = Instant::now() + Duration::from_secs(10);
    while !live(&maps).is_empty() {
        assert!(
            Instant::now() < deadline,
            "the sweep leaves {} cells",
            live(&maps).len()
        );
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(load(&maps), 0);
    assert_eq!(occupied(&maps), 0);
    assert_eq!(spilled(&maps), 0);
}
