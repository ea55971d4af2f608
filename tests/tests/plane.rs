//! The data plane without a daemon: made, taken over, attached, removed.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use lb_userspace::dataplane::{
    BUILD_ID, Maps, Mode, Plane, Sizes, any_attached, program_name, program_names, remove,
};
use lvx_tests::{
    kernel::bpffs::Bpffs,
    lab::{Lab, Namespace},
    xdp::{Foreign, Verdict},
};

const SIZES: Sizes = Sizes {
    connections: 4096,
    connections6: 4096,
    services: 8,
    dests: 16,
    mh_services: 16,
    rule_words: 1 << 12,
};

/// Programs are freed, and the sweep comes round, in less than this.
const SOON: Duration = Duration::from_secs(5);

/// What is in a directory, except what the kernel puts into every bpffs.
fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("the directory is there");
    let names = entries.map(|entry| entry.expect("it can be read").file_name());
    names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !name.ends_with(".debug"))
        .collect()
}

#[track_caller]
fn soon(what: &str, mut happens: impl FnMut() -> bool) {
    let limit = Instant::now() + SOON;
    while !happens() {
        assert!(Instant::now() < limit, "not within {SOON:?}: {what}");
        sleep(Duration::from_millis(10));
    }
}

fn passed(maps: &Maps) -> u64 {
    let reasons = maps.reasons().expect("the map is there");
    reasons.iter().map(|(_, count)| count).sum()
}

/// A namespace with a veth pair `v0` and `v1`.
fn pair(lab: &Lab) -> Namespace {
    let ns = lab.namespace("plane").expect("a namespace");
    ns.ip("link add v0 type veth peer name v1\nlink set v0 up\nlink set v1 up")
        .expect("a pair");
    ns
}

fn index(ns: &Namespace, name: &str) -> u32 {
    ns.enter(|| nix::net::if_::if_nametoindex(name).expect("the interface is there"))
}

#[test]
fn made_opened_and_removed() {
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    assert!(Maps::open(&pins).is_err(), "there is nothing to open yet");
    let plane = Plane::load(&pins, SIZES).unwrap();
    assert_eq!(plane.maps.sizes, SIZES);
    assert_eq!(plane.attached().unwrap(), []);
    drop(plane);
    let maps = Maps::open(&pins).unwrap();
    assert_eq!(maps.sizes, SIZES);
    assert_eq!(maps.settings.get(0).heartbeat, 0);
    remove(&pins).unwrap();
    assert!(entries(pins.parent().unwrap()).is_empty());
    remove(&pins).expect("nothing there is nothing to do");
}

#[test]
fn a_second_load_takes_the_maps_over() {
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    let mut first = Plane::load(&pins, SIZES).unwrap();
    for _ in 0..5 {
        first.object().run("lvx", &[0; 64], None, None).unwrap();
    }
    first.maps.root.set(0, 42);
    let params = first.maps.params;
    let counted = passed(&first.maps);
    assert_eq!(counted, 5);
    let sweep = program(&first, "lvx_sweep");
    drop(first);
    // The timer alone keeps its program.
    sleep(Duration::from_millis(200));
    assert_eq!(program_name(sweep).as_deref(), Some("lvx_sweep"));

    let other = Sizes {
        connections: 8192,
        ..SIZES
    };
    let mut second = Plane::load(&pins, other).unwrap();
    assert_eq!(second.maps.sizes, SIZES, "the maps that were there decide");
    assert_eq!(
        bytemuck::bytes_of(&second.maps.params),
        bytemuck::bytes_of(&params)
    );
    assert_eq!((passed(&second.maps), second.maps.root.get(0)), (5, 42));
    second.object().run("lvx", &[0; 64], None, None).unwrap();
    assert_eq!(passed(&second.maps), 6);

    // The running timer is the second's now, and goes on.
    soon("the first sweep's program is given up", || {
        program_name(sweep).is_none()
    });
    assert!(program_name(program(&second, "lvx_sweep")).is_some());
    let before = second.maps.sweeps().unwrap()[0];
    assert_eq!(before.version, BUILD_ID);
    soon("the sweep runs", || {
        let now = second.maps.sweeps().unwrap()[0];
        now.last_tick > before.last_tick && now.runs > before.runs
    });
}

fn program(plane: &Plane, name: &str) -> u32 {
    let facts = plane.facts().iter().find(|facts| facts.name == name);
    facts.expect("it is one of the programs").id
}

#[test]
fn the_sweep_lives_without_a_process_and_dies_with_its_map() {
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    let sweep = program(&Plane::load(&pins, SIZES).unwrap(), "lvx_sweep");
    let maps = Maps::open(&pins).unwrap();
    let before = maps.sweeps().unwrap()[0];
    soon("the sweep runs", || {
        maps.sweeps().unwrap()[0].runs > before.runs
    });
    drop(maps);
    remove(&pins).unwrap();
    soon("its program is given up", || program_name(sweep).is_none());
}

#[test]
fn a_failed_creation_leaves_nothing() {
    // Nothing can be pinned outside a bpffs.
    let directory = tempfile::tempdir().unwrap();
    let pins = directory.path().join("plane");
    assert!(Plane::load(&pins, SIZES).is_err());
    assert_eq!(entries(directory.path()), [""; 0]);
    // Something else is where it should be: that stays, and stays alone.
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    fs::create_dir_all(pins.join("other")).unwrap();
    assert!(Plane::load(&pins, SIZES).is_err());
    assert_eq!(entries(pins.parent().unwrap()), ["plane"]);
    assert_eq!(entries(&pins), ["other"]);
}

#[test]
fn an_interrupted_removal_or_creation_is_finished() {
    let bpffs = Bpffs::new().unwrap();
    let pins = bpffs.pins();
    let fresh = pins.with_file_name("plane-new");
    drop(Plane::load(&pins, SIZES).unwrap());
    fs::remove_file(pins.join("PARAMS_KEPT")).unwrap();
    fs::create_dir(&fresh).unwrap();
    let plane = Plane::load(&pins, SIZES).unwrap();
    assert_eq!(passed(&plane.maps), 0);
    assert!(!fresh.exists());
}

#[test]
fn a_pinned_link_takes_the_next_program_and_stays() {
    let (bpffs, lab) = (Bpffs::new().unwrap(), Lab::new().unwrap());
    let ns = pair(&lab);
    let (pins, v0) = (bpffs.pins(), index(&ns, "v0"));
    let shown = || ns.ip_show(&["-d", "link", "show", "dev", "v0"]).unwrap();
    let mut programs = Vec::new();
    for _ in 0..3 {
        let mut plane = Plane::load(&pins, SIZES).unwrap();
        let attached = ns
            .enter(|| plane.attach(v0, "v0", Mode::Auto, None))
            .unwrap();
        assert_eq!((attached.mode, attached.fallback), (Mode::Native, None));
        assert_eq!(plane.attached().unwrap(), [(v0, Mode::Native)]);
        programs.push(program(&plane, "lvx"));
        drop(plane);
        let id = format!("prog/xdp id {} ", programs.last().unwrap());
        assert!(shown().contains(&id), "{id}: {}", shown());
    }
    soon("the first two programs are given up", || {
        programs[..2].iter().all(|id| program_name(*id).is_none())
    });
    // The same link carries the pass program, when it is wanted only for that.
    let mut plane = Plane::load(&pins, SIZES).unwrap();
    ns.enter(|| plane.attach_pass(v0, "v0", Mode::Native))
        .unwrap();
    assert_eq!(plane.attached().unwrap(), [(v0, Mode::Native)]);
    let id = format!("prog/xdp id {} ", program(&plane, "lvx_pass"));
    assert!(shown().contains(&id), "{id}: {}", shown());
    drop(plane);
    remove(&pins).unwrap();
    soon("nothing is attached", || !shown().contains("prog/xdp"));
}

#[test]
fn a_deleted_interface_is_no_trouble() {
    let (bpffs, lab) = (Bpffs::new().unwrap(), Lab::new().unwrap());
    let ns = pair(&lab);
    let mut plane = Plane::load(&bpffs.pins(), SIZES).unwrap();
    let again = "link add br77 index 77 type bridge\nlink set br77 up";
    ns.ip(again).unwrap();
    // A bridge has no native mode.
    let attached = ns
        .enter(|| plane.attach(77, "br77", Mode::Auto, None))
        .unwrap();
    assert_eq!(attached.mode, Mode::Generic);
    assert!(attached.fallback.is_some());
    assert!(
        ns.enter(|| plane.attach(77, "br77", Mode::Native, None))
            .is_ok_and(|attached| attached.mode == Mode::Generic),
        "a link keeps its mode"
    );

    assert!(any_attached(&bpffs.pins()).unwrap());
    ns.ip("link del br77").unwrap();
    assert!(!any_attached(&bpffs.pins()).unwrap());
    assert_eq!(plane.attached().unwrap(), [(77, Mode::Generic)]);
    plane.detach(77).expect("only its pin is left");
    assert_eq!(plane.attached().unwrap(), []);
    plane.detach(77).expect("nothing is left");

    // Made again with its index while the dead link is pinned.
    ns.ip(again).unwrap();
    ns.enter(|| plane.attach(77, "br77", Mode::Generic, None))
        .unwrap();
    ns.ip("link del br77").unwrap();
    ns.ip(again).unwrap();
    ns.enter(|| plane.attach(77, "br77", Mode::Generic, None))
        .unwrap();
    assert_eq!(plane.attached().unwrap(), [(77, Mode::Generic)]);
    let shown = ns.ip_show(&["link", "show", "dev", "br77"]).unwrap();
    assert!(shown.contains("xdpgeneric"), "{shown}");
}

#[test]
fn a_foreign_program_is_named() {
    let (bpffs, lab) = (Bpffs::new().unwrap(), Lab::new().unwrap());
    let ns = pair(&lab);
    let v0 = index(&ns, "v0");
    let mut plane = Plane::load(&bpffs.pins(), SIZES).unwrap();
    let foreign = Foreign::attach(&ns, "v0", Verdict::Pass).unwrap();
    plane.know(program_names());
    let shown = ns.ip_show(&["-d", "link", "show", "dev", "v0"]).unwrap();
    let (_, id) = shown.split_once("prog/xdp id ").unwrap();
    let id: u32 = id.split_whitespace().next().unwrap().parse().unwrap();
    for mode in [Mode::Auto, Mode::Native, Mode::Generic] {
        let error = ns
            .enter(|| plane.attach(v0, "v0", mode, Some(id)))
            .unwrap_err();
        let expected = format!(
            "v0 already carries the XDP program \"{}\" (id {id}): ",
            Foreign::NAME
        );
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    assert_eq!(plane.attached().unwrap(), []);
    drop(foreign);
    ns.enter(|| plane.attach(v0, "v0", Mode::Native, None))
        .unwrap();
}
