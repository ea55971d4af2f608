//! A virtual machine with Debian's kernel and its IPVS, by emulation: it boots
//! in seconds, needs no hardware support, and its time is virtual.
//!
//! | module | holds |
//! | --- | --- |
//! | [`packages`] | Debian packages, fetched and unpacked into a cache |
//! | [`modules`] | the kernel modules wanted, with those they need |
//! | [`image`] | the files of the guest, and the initial file system made of them |
//! | [`qemu`] | boot, time limit, what came back |

pub mod image;
pub mod modules;
pub mod packages;
pub mod qemu;

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result};

use image::Image;
pub use packages::Kernel;
pub use qemu::{Clock, Outcome};

/// Kernel modules: two for the way of the results, then what scenarios may need.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_console",
    "veth",
    "dummy",
    "ipip",
    "sit",
    "ip6_tunnel",
    "ip_gre",
    "ip6_gre",
    "fou",
    "fou6",
    "bonding",
    "bridge",
    "8021q",
    "ip_vs",
    "ip_vs_rr",
    "ip_vs_wrr",
    "ip_vs_lc",
    "ip_vs_wlc",
    "ip_vs_lblc",
    "ip_vs_lblcr",
    "ip_vs_dh",
    "ip_vs_sh",
    "ip_vs_pe_sip",
    "ip_vs_sed",
    "ip_vs_nq",
    "ip_vs_fo",
    "ip_vs_ovf",
    "ip_vs_mh",
    "ip_vs_twos",
    "xt_MARK",
    "xt_mark",
    "iptable_mangle",
    "iptable_filter",
    "ip6table_mangle",
    "ip6table_filter",
    "xt_tcpudp",
    "xt_sctp",
    "xt_multiport",
    "xt_comment",
];

/// What iptables loads for the words of a rule.
const XTABLES: &[&str] = &[
    "libxt_MARK",
    "libxt_mark",
    "libxt_tcp",
    "libxt_udp",
    "libxt_sctp",
    "libxt_multiport",
    "libxt_comment",
    "libxt_standard",
];

/// What to run in the guest, and with what.
#[derive(Debug)]
pub struct Job<'a> {
    /// The words of the command, the first of which is a path in the guest.
    pub command: Vec<String>,
    /// Files of the guest: path there, and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Programs of this machine, put to `/usr/bin` with the libraries they need.
    pub programs: Vec<&'a Path>,
    /// Kernel modules besides those that every machine has.
    pub modules: &'a [&'a str],
    /// How long the machine may run, in real time.
    pub limit: Duration,
    /// Which clock it has.
    pub clock: Clock,
}

/// Boots the kernel, runs the job in it and gives back what it left in `/out`.
///
/// # Errors
/// When something cannot be fetched, or the guest does not end well in time;
/// the last lines of its console are in the text.
pub fn run(kernel: Kernel, job: &Job<'_>) -> Result<Outcome> {
    let unpacked = kernel.fetch()?;
    let mut image = Image::new();
    let wanted = [MODULES, job.modules].concat();
    modules::add(&mut image, &unpacked, &wanted)?;
    let tools = packages::fetch(&["ipvsadm", "libnl-3-200", "libnl-genl-3-200", "libpopt0"])?;
    for name in ["ipvsadm", "ipvsadm-save", "ipvsadm-restore"] {
        image.program_of(
            &tools,
            &format!("/usr/sbin/{name}"),
            &format!("sbin/{name}"),
        )?;
    }
    let iptables = packages::fetch(&["iptables", "libip4tc2", "libip6tc2", "libxtables12"])?;
    let multi = "/usr/sbin/xtables-legacy-multi";
    image.program_of(&iptables, multi, "usr/sbin/xtables-legacy-multi")?;
    for name in ["iptables-legacy", "ip6tables-legacy"] {
        image.link(multi, &format!("/usr/sbin/{name}"));
    }
    for library in XTABLES {
        let path = format!("usr/lib/x86_64-linux-gnu/xtables/{library}.so");
        image.program_of(&iptables, &format!("/{path}"), &path)?;
    }
    image.program_as(&lvx_tests::lab::tool("ip"), "/usr/sbin/ip")?;
    image.program_as(&lvx_tests::lab::tool("busybox"), "/bin/busybox")?;
    let agent = std::env::current_exe().context("cannot tell where this program is")?;
    image.program_as(&agent, "/usr/bin/lvx-oracle")?;
    image.link("/usr/bin/lvx-oracle", "/init");
    for program in &job.programs {
        image.program(program)?;
    }
    for (path, content) in &job.files {
        image.file(path, 0o755, content.clone());
    }
    image.file("/job", 0o644, job.command.join("\n").into_bytes());
    qemu::run(&unpacked.vmlinuz()?, &image.archive(), job)
}
