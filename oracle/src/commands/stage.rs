//! Where commands are played: the real ipvsadm in the guest, and lvx in a
//! namespace of this machine.

use std::{fs, os::unix::fs::symlink, path::Path, process::Command, time::Duration};

use anyhow::{Result, bail, ensure};
use lvx_tests::{
    director::{Director, binary},
    lab::{Lab, run},
};

use super::{
    agent, forks,
    transcript::{self, Item},
};
use crate::vm::{self, Clock, Job, Kernel};

/// Names under which the binary is called.
const PROGRAMS: [&str; 3] = ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"];

/// The guest's side of [`in_guest`] and the namespace's of [`on_lvx`].
///
/// # Errors
/// As [`agent::play`].
pub fn play(from: &Path, to: &Path, own_etc: bool) -> Result<()> {
    if own_etc {
        agent::hide_etc()?;
    }
    agent::play(from, to)
}

/// What the real ipvsadm answers.
///
/// # Errors
/// When the guest fails.
pub fn in_guest(kernel: Kernel, items: &[Item]) -> Result<Vec<Item>> {
    let mut files: Vec<(String, Vec<u8>)> = agent::NAMES
        .iter()
        .map(|(name, content)| (format!("/etc/{name}"), content.as_bytes().to_vec()))
        .collect();
    files.push(("/commands".to_owned(), transcript::write(items).into()));
    files.push((forks::LIBRARY.to_owned(), forks::library()?));
    let job = Job {
        command: [
            "/bin/busybox",
            "sh",
            "-c",
            "/bin/busybox --install -s /bin; ln -s /usr/bin/bash /bin/bash; ip link set lo up; \
             exec lvx-oracle play-commands /commands /out/answers",
        ]
        .map(str::to_owned)
        .into(),
        files,
        // For the scripts of the package.
        programs: vec![Path::new("/bin/bash")],
        modules: &[],
        limit: Duration::from_secs(1800),
        clock: Clock::Virtual,
    };
    let outcome = vm::run(kernel, &job)?;
    let answers = outcome.files.get("answers");
    match answers {
        Some(text) if outcome.status == 0 => transcript::read(&String::from_utf8_lossy(text)),
        _ => bail!(
            "the guest's player failed; its console:\n{}",
            outcome.console
        ),
    }
}

/// What lvx answers. `agent` is the program that plays, `lvx-oracle`.
///
/// # Errors
/// Without root or a built lvx, or when it does not start.
pub fn on_lvx(agent: &Path, items: &[Item]) -> Result<Vec<Item>> {
    let lab = Lab::new()?;
    let outside = lab.namespace("outside")?;
    let inside = lab.namespace("director")?;
    inside.enable_ipv6()?;
    outside.ip(&format!(
        "link add out type veth peer name eth0 netns {}\nlink set out up",
        inside.name()
    ))?;
    // Every server is behind a gateway that is known: nobody waits for it.
    inside.ip("link set eth0 up\n\
         addr add 10.99.0.1/24 dev eth0\n\
         addr add fd99::1/64 dev eth0 nodad\n\
         neigh replace 10.99.0.254 lladdr 02:00:00:00:00:fe dev eth0 nud permanent\n\
         neigh replace fd99::fe lladdr 02:00:00:00:00:fe dev eth0 nud permanent\n\
         route add default via 10.99.0.254\n\
         route add ::/0 via fd99::fe dev eth0")?;
    let director = Director::start(&inside)?;
    let programs = lab.dir().join("programs");
    fs::create_dir(&programs)?;
    let lvx = fs::canonicalize(binary()?)?;
    for name in PROGRAMS {
        symlink(&lvx, programs.join(name))?;
    }
    let (from, to) = (lab.dir().join("commands"), lab.dir().join("answers"));
    fs::write(&from, transcript::write(items))?;
    let mut command: Command = director.ns().command(agent);
    command
        .args(["play-commands", "--own-etc"])
        .arg(&from)
        .arg(&to)
        .env("PATH", &programs);
    run(&mut command)?;
    let answers = transcript::read(&fs::read_to_string(&to)?)?;
    ensure!(answers.len() == items.len(), "the player lost commands");
    Ok(answers)
}
