//! A large table: restored, listed and restored again, and how long that takes.
//!
//! ```text
//! LVX_SERVICES=10000 LVX_BIN=target/release/lvx cargo test -p lvx-tests --test large_table -- --nocapture
//! ```

use std::{
    fs::{self, File},
    process::Stdio,
    time::{Duration, Instant},
};

use lvx_tests::{
    director::{Answer, Director, Start},
    lab::OneArm,
    listing::saved_table,
};

/// Servers of a service.
const SERVERS: u32 = 10;

fn resident(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.unwrap_or_default().replace('\t', " ")
}

#[test]
fn a_large_table_is_one_step_and_comes_out_as_it_went_in() {
    let services = std::env::var("LVX_SERVICES").map_or(1_000, |count| {
        count.parse().expect("LVX_SERVICES is a number")
    });
    let lab = OneArm::new().unwrap();
    let start = Start::default().room(2 * services, 3 * SERVERS * services);
    let director = Director::start_with(&lab.director.ns, start).unwrap();
    let text = saved_table(services, SERVERS);
    let path = lab.lab.dir().join("rules");
    fs::write(&path, &text).unwrap();
    let restore = || {
        let mut command = director.command(&["ipvsadm", "-R"]);
        command.stdin(Stdio::from(File::open(&path).unwrap()));
        Answer::from(command.output().unwrap()).ok();
    };
    let timed = |what: &str, work: &dyn Fn()| {
        let start = Instant::now();
        work();
        println!(
            "{services} services of {SERVERS} servers, {what}: {:.2?}",
            start.elapsed()
        );
        start.elapsed()
    };
    let epoch = director.status().unwrap().epoch;
    timed("restored", &restore);
    assert_eq!(director.status().unwrap().epoch, epoch + 1);
    timed("listed", &|| {
        let lines = director.ipvsadm(&["-Ln"]).ok().lines().count();
        assert_eq!(lines, 3 + ((1 + SERVERS) * services) as usize);
    });
    let saved = director.ipvsadm(&["-Sn"]).ok();
    assert!(saved == text, "it comes out otherwise");
    timed("cleared", &|| drop(director.ipvsadm(&["-C"]).ok()));
    // Every server comes back from the trash: that must not look through all of it for each.
    let again = timed("restored again", &restore);
    assert!(again < Duration::from_secs(60), "{again:?}");
    assert!(director.ipvsadm(&["-Sn"]).ok() == text);
    println!("the daemon: {}", resident(director.pid().unwrap()));
}
