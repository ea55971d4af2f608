//! Boot, a time limit, and what came back over the second serial port.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use lvx_tests::lab::tool;

use super::Job;

/// Before each file on the serial port: `MARK PATH LENGTH`, then the content.
pub const FILE_MARK: &str = "lvx-oracle:file";
/// Last on the serial port: `MARK STATUS`.
pub const END_MARK: &str = "lvx-oracle:end";

/// The guest's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// An instruction is a nanosecond, idle time is skipped, one processor.
    Virtual,
    /// The host's; two processors.
    Real,
}

/// What a job left.
#[derive(Debug)]
pub struct Outcome {
    /// Files of the guest's `/out`, by name.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Exit status of the command.
    pub status: i32,
    /// All that the console showed.
    pub console: String,
    /// From the start of the emulator to its end.
    pub took: Duration,
}

/// Kills the emulator when something goes wrong before its end.
struct Machine(Child);

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn run(vmlinuz: &Path, archive: &[u8], job: &Job<'_>) -> Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let at = |name: &str| dir.path().join(name);
    fs::write(at("initramfs"), archive)?;
    let mut command = Command::new(tool("qemu-system-x86_64"));
    command
        .args(["-accel", "tcg", "-cpu", "max", "-m", "1G"])
        .args(match job.clock {
            Clock::Virtual => &["-smp", "1", "-icount", "shift=0,sleep=off"][..],
            Clock::Real => &["-smp", "2"],
        })
        .args(["-display", "none", "-monitor", "none", "-nic", "none"])
        .arg("-no-reboot")
        .arg("-kernel")
        .arg(vmlinuz)
        .arg("-initrd")
        .arg(at("initramfs"))
        .args([
            "-append",
            "console=ttyS0 quiet panic=-1 mitigations=off nokaslr",
        ])
        .arg("-serial")
        .arg(format!("file:{}", at("console").display()))
        // Results do not go by a serial port: that takes its time for each byte, by the guest's clock.
        .args(["-device", "virtio-serial", "-chardev"])
        .arg(format!("file,id=results,path={}", at("results").display()))
        .args(["-device", "virtserialport,chardev=results,name=results"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(at("errors"))?);
    // SAFETY: between fork and exec only the system call prctl is made.
    unsafe {
        command.pre_exec(|| {
            // Whoever ends this program ends its machines; `Drop` does not run then.
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL).map_err(Into::into)
        });
    }
    let start = Instant::now();
    let child = command
        .spawn()
        .context("cannot run qemu-system-x86_64; install the package qemu-system-x86")?;
    let mut machine = Machine(child);
    let mut told = 0;
    let ended = loop {
        told = tell(&at("console"), told, start);
        if machine.0.try_wait()?.is_some() {
            break true;
        }
        if start.elapsed() > job.limit {
            break false;
        }
        thread::sleep(Duration::from_millis(10));
    };
    drop(machine);
    let took = start.elapsed();
    let read = |name: &str| fs::read(at(name)).unwrap_or_default();
    let console = String::from_utf8_lossy(&read("console")).replace('\r', "");
    let last = || {
        let errors = read("errors");
        let said = [console.as_bytes(), &errors].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        let lines: Vec<_> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    };
    if !ended {
        bail!(
            "the guest did not end within {:?} and was stopped; its console's last lines:\n{}",
            job.limit,
            last()
        );
    }
    let Some((files, status)) = unpack(&read("results")) else {
        bail!(
            "the guest ended before its job did; its console's last lines:\n{}",
            last()
        );
    };
    Ok(Outcome {
        files,
        status,
        console,
        took,
    })
}

/// Shows what has come on the console since `told` bytes, with the real time of
/// it, where `LVX_LOG` asks for that.
fn tell(console: &Path, told: usize, start: Instant) -> usize {
    if std::env::var_os("LVX_LOG").is_none() {
        return told;
    }
    let bytes = fs::read(console).unwrap_or_default();
    let new = &bytes[told.min(bytes.len())..];
    let Some(end) = new.iter().rposition(|byte| *byte == b'\n') else {
        return told;
    };
    for line in String::from_utf8_lossy(&new[..end]).lines() {
        eprintln!(
            "[{:6.2}] {}",
            start.elapsed().as_secs_f64(),
            line.trim_end()
        );
    }
    told + end + 1
}

/// What the guest's first process wrote; `None` when the end is missing.
fn unpack(mut bytes: &[u8]) -> Option<(BTreeMap<String, Vec<u8>>, i32)> {
    let mut files = BTreeMap::new();
    loop {
        let end = bytes.iter().position(|byte| *byte == b'\n')?;
        let line = str::from_utf8(&bytes[..end]).ok()?;
        bytes = &bytes[end + 1..];
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            [FILE_MARK, name, length] => {
                let (content, rest) = bytes.split_at_checked(length.parse().ok()?)?;
                files.insert(name.to_owned(), content.to_vec());
                bytes = rest;
            }
            [END_MARK, status] => return Some((files, status.parse().ok()?)),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_transfer_is_no_result() {
        let whole = format!("{FILE_MARK} a/b 3\nx\ny{FILE_MARK} c 0\n{END_MARK} 7\n");
        let (files, status) = unpack(whole.as_bytes()).expect("it is whole");
        assert_eq!(status, 7);
        assert_eq!(files["a/b"], b"x\ny");
        assert_eq!(files["c"], b"");
        for length in 0..whole.len() {
            assert!(unpack(&whole.as_bytes()[..length]).is_none(), "{length}");
        }
    }
}
