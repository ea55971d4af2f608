//! What a namespace that was deleted leaves behind is shown and can be removed.

use std::{
    fs,
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use lb_userspace::daemon::Status;
use lvx_tests::{
    director::{Director, answer, binary, lvx},
    lab::{Namespace, OneArm},
};

const SOON: Duration = Duration::from_secs(20);

fn status(ns: &Namespace) -> Option<Status> {
    serde_json::from_str(&lvx(ns, &["status", "--json"]).ok()?.stdout).ok()
}

#[test]
fn a_dead_namespace_is_reported_and_removed() {
    let lab = OneArm::new().unwrap();
    let mut director = Director::start(&lab.director.ns).unwrap();

    // lvx in another namespace, found by name. It is killed, and the namespace
    // goes.
    let gone = lab.lab.namespace("gone").unwrap();
    gone.ip("link add eth0 type veth peer name p0\nlink set eth0 up\nlink set p0 up")
        .unwrap();
    let mut command = std::process::Command::new(binary().unwrap());
    command.args(["run", "--netns", gone.name(), "--interface", "eth0"]);
    command.args(["--connections", "512"]);
    let mut daemon = lab.director.ns.spawn("gone", command).unwrap();
    let limit = Instant::now() + SOON;
    while status(&gone).is_none_or(|status| status.daemon != Some(daemon.pid())) {
        assert!(Instant::now() < limit, "{}", daemon.log());
        sleep(Duration::from_millis(20));
    }
    let cookie = status(&gone).unwrap().netns.to_string();
    daemon.kill();
    let places = ["/run/lvx", "/run/lvx/bpf"].map(|root| Path::new(root).join(&cookie));
    let told = |ns: &Namespace| {
        let warnings = status(ns).unwrap().warnings;
        warnings
            .iter()
            .any(|warning| warning.contains(&cookie) && warning.contains("lvx down --dead"))
    };

    // As long as it has a name it lives.
    assert!(!told(&lab.director.ns));
    lvx(&lab.director.ns, &["down", "--dead"]).unwrap();
    assert!(places.iter().all(|place| place.exists()));
    assert!(status(&gone).unwrap().frozen_for.is_some());

    drop(gone);
    let limit = Instant::now() + SOON;
    while !told(&lab.director.ns) {
        assert!(Instant::now() < limit, "the dead namespace is not told");
        sleep(Duration::from_millis(50));
    }
    // This one has no daemon either, but lives.
    director.kill();
    let text = lvx(&lab.director.ns, &["down", "--dead"]).unwrap().ok();
    assert!(text.contains(&cookie), "{text}");
    for place in places {
        assert!(!place.exists(), "{} is left", place.display());
    }
    assert!(!told(&lab.director.ns));
    let own = fs::read_dir("/run/lvx/bpf").unwrap();
    let cookie = lab.director.ns.door().cookie().unwrap().to_string();
    assert!(own.flatten().any(|entry| *entry.file_name() == *cookie));
    director.restart().unwrap();

    let mut command = lab.director.ns.command(binary().unwrap());
    command.args(["down", "--dead", "--force"]);
    assert_eq!(answer(command).unwrap().code, 2);
}
