use std::{
    fs::{self, File},
    io::Write as _,
    num::NonZero,
    os::{
        fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sched::{CloneFlags, setns};

use super::{Background, Lab, run, tool};

/// A named network namespace; deleted when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    door: Door,
    lab: Lab,
}

/// A namespace to enter, without owning it; for threads that outlive a borrow.
#[derive(Clone, Debug)]
pub struct Door(Arc<File>);

impl Door {
    /// The namespace of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn named(name: &str) -> Result<Self> {
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Self(Arc::new(file)))
    }

    /// Moves the calling thread into the namespace for the rest of its life.
    ///
    /// # Errors
    /// Without root.
    pub fn enter_thread(&self) -> Result<()> {
        setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET)
            .context("cannot enter the network namespace")
    }

    /// Runs `work` in a thread of its own inside the namespace. Sockets made
    /// there stay in the namespace wherever they are used.
    ///
    /// # Panics
    /// When `work` panics, or without root.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                self.enter_thread()
                    .expect("the namespace was made by this process");
                work()
            });
            worker
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command that will run inside the namespace. Only the network namespace
    /// is switched: unlike with `ip netns exec`, `/sys` stays the host's.
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        let door = self.clone();
        let mut command = Command::new(program.as_ref());
        // SAFETY: between fork and exec only the system call setns is made.
        unsafe {
            command.pre_exec(move || {
                setns(door.0.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Into::into)
            });
        }
        command
    }

    /// The kernel's cookie of the namespace, which names the pins of lvx.
    ///
    /// # Errors
    /// Kernels before 5.14 do not tell.
    pub fn cookie(&self) -> Result<u64> {
        const SO_NETNS_COOKIE: libc::c_int = 71;
        self.enter(|| {
            // SAFETY: socket has no memory arguments; the result is checked before use.
            let fd =
                unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
            if fd < 0 {
                bail!("cannot make a socket: {}", std::io::Error::last_os_error());
            }
            // SAFETY: fd was just returned by the kernel and belongs to nobody else.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            let mut cookie = 0u64;
            let mut size = size_of::<u64>() as libc::socklen_t;
            // SAFETY: the value and its size are valid for the call.
            let answer = unsafe {
                libc::getsockopt(
                    socket.as_raw_fd(),
                    libc::SOL_SOCKET,
                    SO_NETNS_COOKIE,
                    (&raw mut cookie).cast(),
                    &raw mut size,
                )
            };
            if answer != 0 {
                bail!(
                    "cannot read the namespace's cookie: {}",
                    std::io::Error::last_os_error()
                );
            }
            Ok(cookie)
        })
    }
}

/// The first 32 processors at most, as a mask in hexadecimal digits.
fn every_processor() -> String {
    let count = thread::available_parallelism().map_or(1, NonZero::get);
    format!("{:x}", (1_u64 << count.min(32)) - 1)
}

impl Namespace {
    pub(super) fn create(lab: &Lab, role: &str) -> Result<Self> {
        let name = format!("{}-{role}", lab.name());
        lab.write_down("namespaces", &name)?;
        run(Command::new(tool("ip")).args(["netns", "add", &name]))?;
        let door = Door::named(&name).inspect_err(|_| drop(delete(&name)))?;
        let namespace = Self {
            name,
            door,
            lab: lab.clone(),
        };
        // No router solicitations and neighbour discovery among the counted packets.
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1")?;
        }
        for which in ["all", "default"] {
            namespace.sysctl(&format!("net/ipv4/conf/{which}/rp_filter"), "0")?;
        }
        // One processor a flow, as a network card steers packets. Without it a veth
        // leaves them where the last hop ran, and when two segments of a connection
        // arrive at once on two processors, Linux resets one connection in a
        // hundred thousand. Before 6.3 there is no such setting.
        let _ = namespace.sysctl("net/core/rps_default_mask", &every_processor());
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Lets the namespace have IPv6 addresses, on interfaces that are there and
    /// on later ones.
    ///
    /// # Errors
    /// When the kernel has no IPv6.
    pub fn enable_ipv6(&self) -> Result<()> {
        let settings = Path::new("/proc/sys/net/ipv6/conf");
        let interfaces = self.enter(|| -> Result<Vec<_>> {
            let entries = fs::read_dir(settings).context("this kernel has no IPv6")?;
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect()
        })?;
        for which in interfaces {
            // Link-local addresses are good at once: without one nobody asks for
            // a neighbour's station.
            self.sysctl(&format!("net/ipv6/conf/{which}/accept_dad"), "0")?;
            self.sysctl(&format!("net/ipv6/conf/{which}/disable_ipv6"), "0")?;
        }
        Ok(())
    }

    /// Waits until this many interfaces have an IPv6 address of their link. The
    /// kernel notices up to a second late that a link is up, and asks for no
    /// neighbour's station before.
    ///
    /// # Errors
    /// When they have none within five seconds.
    pub fn wait_for_ipv6(&self, interfaces: usize) -> Result<()> {
        let limit = Instant::now() + Duration::from_secs(5);
        let words = ["-6", "-o", "addr", "show", "scope", "link", "-tentative"];
        loop {
            let shown = self.ip_show(&words)?;
            if shown.lines().count() >= interfaces {
                return Ok(());
            }
            if Instant::now() > limit {
                bail!("{}: too few link-local addresses: {shown}", self.name);
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The lab it belongs to.
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// A way in for threads.
    pub fn door(&self) -> Door {
        self.door.clone()
    }

    /// See [`Door::enter`].
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        self.door().enter(work)
    }

    /// See [`Door::command`].
    pub fn command(&self, program: impl AsRef<Path>) -> Command {
        self.door().command(program)
    }

    /// Starts `command` (made by [`Namespace::command`] or not) with its output
    /// in the lab's file `TITLE.log`; it is ended when the result is dropped.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, title: &str, command: Command) -> Result<Background> {
        Background::start(&self.lab, title, command)
    }

    /// Runs lines of iproute2 (`link set eth0 up`, …) here, in one process.
    ///
    /// # Errors
    /// When one of them fails; those before it stay done.
    pub fn ip(&self, lines: &str) -> Result<()> {
        let mut child = Command::new(tool("ip"))
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `ip`; install the package iproute2")?;
        let mut input = child.stdin.take().expect("standard input was asked for");
        input.write_all(lines.as_bytes())?;
        drop(input);
        let output = child.wait_with_output()?;
        if !output.status.success() {
            bail!(
                "ip in {} failed: {}\nof: {lines}",
                self.name,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(())
    }

    /// What an `ip` command prints, for example `ip_show(&["-d", "link", "show"])`.
    ///
    /// # Errors
    /// When the command fails.
    pub fn ip_show(&self, words: &[&str]) -> Result<String> {
        let output = run(Command::new(tool("ip"))
            .args(["-n", &self.name])
            .args(words))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Packets that have come in by an interface since it was made.
    ///
    /// # Errors
    /// When there is no such interface.
    pub fn received(&self, interface: &str) -> Result<u64> {
        let words = ["-j", "-s", "link", "show", "dev", interface];
        let links: serde_json::Value = serde_json::from_str(&self.ip_show(&words)?)?;
        let packets = links[0]["stats64"]["rx"]["packets"].as_u64();
        packets.with_context(|| format!("`ip` shows no statistics of {interface}"))
    }

    /// Writes one file below `/proc/sys`, as it is seen here.
    ///
    /// # Errors
    /// When the kernel has no such setting or refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(key);
        self.enter(|| fs::write(&path, value))
            .with_context(|| format!("cannot write {} in {}", path.display(), self.name))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if self.lab.is_kept() {
            return;
        }
        crate::director::forget(&self.door());
        if let Err(error) = delete(&self.name) {
            eprintln!("lab: {error:#}");
        }
    }
}

/// Deletes a namespace by name.
pub(super) fn delete(name: &str) -> Result<()> {
    run(Command::new(tool("ip")).args(["netns", "del", name])).map(drop)
}
