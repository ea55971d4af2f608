//! Runs commands one after the other and writes down what they answer.

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::{
    forks::Forks,
    transcript::{self, Answer, Item, Step},
};

/// The names that commands are played with: what is in the folder of that name
/// in this checkout.
pub const NAMES: [(&str, &str); 3] = [
    ("hosts", include_str!("../../../tests/commands/etc/hosts")),
    (
        "services",
        include_str!("../../../tests/commands/etc/services"),
    ),
    (
        "nsswitch.conf",
        include_str!("../../../tests/commands/etc/nsswitch.conf"),
    ),
];

/// An empty table, time-outs as they are at first, no synchronisation. The last come last,
/// because lvx ends there.
const CLEAR: &str = "ipvsadm -R << -C|--set 900 120 300|--stop-daemon master|--stop-daemon backup";

/// Plays the transcript `from` and writes the same with answers `to`. The
/// programs are those of `PATH`.
///
/// # Errors
/// When a file cannot be read or written, or a program not be run.
pub fn play(from: &Path, to: &Path) -> Result<()> {
    let text =
        fs::read_to_string(from).with_context(|| format!("cannot read {}", from.display()))?;
    let mut items = transcript::read(&text)?;
    let clear = Step::parse(CLEAR)?;
    let mut forks = Forks::start()?;
    let mut ask = |step: &Step| match &mut forks {
        Some(forks) if step.words.first().is_some_and(|name| name == "ipvsadm") => forks.ask(step),
        _ => run(step),
    };
    for item in &mut items {
        match item {
            Item::Note(_) => {}
            Item::Clear => drop(ask(&clear)?),
            Item::Step(step) => step.answer = Some(ask(step)?),
        }
    }
    fs::write(to, transcript::write(&items))
        .with_context(|| format!("cannot write {}", to.display()))
}

/// Hides this machine's `/etc` from this process and those it starts: there
/// are only the names of [`NAMES`].
///
/// # Errors
/// Without root.
pub fn hide_etc() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("cannot have a mount namespace of its own")?;
    let nothing = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing)?;
    mount(
        Some("tmpfs"),
        "/etc",
        Some("tmpfs"),
        MsFlags::empty(),
        nothing,
    )
    .context("cannot hide /etc")?;
    for (name, content) in NAMES {
        fs::write(Path::new("/etc").join(name), content)?;
    }
    Ok(())
}

fn run(step: &Step) -> Result<Answer> {
    let (program, words) = step.words.split_first().context("no program")?;
    let mut command = Command::new(program);
    command.args(words).env("PATH", env::var("PATH")?);
    let output = if step.input.is_empty() {
        command.stdin(Stdio::null()).output()
    } else {
        fed(&mut command, &step.input)
    };
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Answer {
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
        code: output.status.code().unwrap_or(-1),
    })
}

fn fed(command: &mut Command, input: &str) -> std::io::Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything is part of the play.
        let _ = stdin.write_all(input.as_bytes());
    }
    child.wait_with_output()
}
