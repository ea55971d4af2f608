//! The first process of the guest: mounts, modules, the job, and its results.

use std::{
    ffi::CString,
    fs::{self, File},
    io::Write as _,
    os::fd::AsRawFd as _,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::reboot::{RebootMode, reboot},
};

use crate::vm::qemu::{END_MARK, FILE_MARK};

/// Runs as the guest's `/init`; powers off at the end.
pub fn init() {
    if let Err(error) = work() {
        println!("lvx-oracle: {error:#}");
    }
    // Nothing is left to be told of a failure.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

fn work() -> Result<()> {
    for (kind, path) in [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("devtmpfs", "/dev"),
        ("bpf", "/sys/fs/bpf"),
    ] {
        mount(Some(kind), path, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("cannot mount {path}"))?;
    }
    load_modules()?;
    let mut port = port()?;
    let job = fs::read_to_string("/job").context("the image has no /job")?;
    let mut words = job.lines();
    let status = Command::new(words.next().unwrap_or_default())
        .args(words)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .stdout(File::create("/out/stdout")?)
        .status()
        .with_context(|| format!("cannot run {job}"))?;
    send(&mut port, Path::new("/out"))?;
    writeln!(port, "{END_MARK} {}", status.code().unwrap_or(-1))?;
    port.flush()?;
    Ok(())
}

/// In the order of their names. One that does not load is told about on the
/// console; what needs it will say more.
fn load_modules() -> Result<()> {
    let mut paths: Vec<_> = fs::read_dir("/modules")?
        .flatten()
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    for path in paths {
        let file = File::open(&path)?;
        let options = CString::default();
        // SAFETY: the descriptor is open and the string lives through the call.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_finit_module,
                file.as_raw_fd(),
                options.as_ptr(),
                0,
            )
        };
        if answer != 0 {
            let error = std::io::Error::last_os_error();
            println!("lvx-oracle: {} does not load: {error}", path.display());
        }
    }
    Ok(())
}

/// The port for results, the only one there is.
fn port() -> Result<File> {
    let limit = Instant::now() + Duration::from_secs(5);
    loop {
        for entry in fs::read_dir("/dev")?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("vport") {
                return File::options()
                    .write(true)
                    .open(entry.path())
                    .context("cannot open the port for results");
            }
        }
        if Instant::now() > limit {
            bail!("there is no port for results: no /dev/vport*");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Sends every file below a directory, by its path below `/out`.
fn send(port: &mut File, directory: &Path) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() {
            send(port, &path)?;
            continue;
        }
        let content = fs::read(&path)?;
        let name = path.strip_prefix("/out").unwrap_or(&path).display();
        writeln!(port, "{FILE_MARK} {name} {}", content.len())?;
        port.write_all(&content)?;
    }
    Ok(())
}
