//! Tiny XDP programs that are not ours, to be in the way of lvx and to try the
//! lab itself. Loaded by the plain system call: two instructions need no loader.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::lab::Namespace;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_DETACH: libc::c_int = 34;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// It takes frames in several pieces: without that a veth refuses large MTUs.
const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// What a program does with every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Verdict {
    /// To nobody.
    Drop = 1,
    /// To the stack.
    Pass = 2,
    /// Out of the same interface, as it is.
    Transmit = 3,
}

/// A foreign program on an interface; detached when dropped.
#[derive(Debug)]
pub struct Foreign {
    _program: OwnedFd,
    link: OwnedFd,
}

impl Drop for Foreign {
    /// Closing is not enough: a child that another thread has forked and that
    /// has not yet become its command holds the link open.
    fn drop(&mut self) {
        let mut link = self.link.as_raw_fd();
        if let Err(error) = bpf(BPF_LINK_DETACH, &mut link) {
            eprintln!("the foreign program was not detached: {error}");
        }
    }
}

#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct Link {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

impl Foreign {
    /// The name that the kernel shows for these programs.
    pub const NAME: &str = "lab_foreign";

    /// Loads a program that answers `verdict` and attaches it natively, by a link.
    ///
    /// # Errors
    /// When the interface carries a program already.
    pub fn attach(ns: &Namespace, interface: &str, verdict: Verdict) -> Result<Self> {
        let program = load(verdict)?;
        let link = ns.enter(|| {
            let target = index(interface)?;
            let mut link = Link {
                program: program.as_raw_fd() as u32,
                target,
                attach_type: BPF_XDP,
                ..Link::default()
            };
            new_fd(BPF_LINK_CREATE, &mut link)
                .with_context(|| format!("cannot attach to {interface}"))
        })?;
        Ok(Self {
            _program: program,
            link,
        })
    }
}

/// Gives an interface a program that passes everything, for as long as the
/// interface lives. A veth takes frames that its peer sends by `XDP_TX` or by
/// redirect only when it carries a program itself (with GRO on instead, they
/// vanished on 6.18).
///
/// # Errors
/// When the interface carries a program already.
pub fn pass(ns: &Namespace, interface: &str) -> Result<()> {
    let program = load(Verdict::Pass)?;
    ns.enter(|| set_link_xdp(index(interface)?, program.as_raw_fd()))
        .with_context(|| format!("cannot attach to {interface}"))
}

/// `r0 = verdict; exit`.
fn load(verdict: Verdict) -> Result<OwnedFd> {
    let instructions: [u64; 2] = [0xb7 | (verdict as u64) << 32, 0x95];
    let mut load = Load {
        kind: BPF_PROG_TYPE_XDP,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        flags: BPF_F_XDP_HAS_FRAGS,
        ..Load::default()
    };
    load.name[..Foreign::NAME.len()].copy_from_slice(Foreign::NAME.as_bytes());
    new_fd(BPF_PROG_LOAD, &mut load).context("cannot load an XDP program")
}

/// The index of an interface of the calling thread's namespace.
fn index(interface: &str) -> Result<u32> {
    nix::net::if_::if_nametoindex(interface)
        .with_context(|| format!("there is no interface {interface}"))
}

/// RTM_SETLINK with the one attribute that `ip link set dev … xdp` sends.
#[repr(C)]
struct SetLink {
    header: libc::nlmsghdr,
    family: u16,
    kind: u16,
    index: u32,
    flags: u32,
    change: u32,
    xdp: [u16; 2],
    program: [u16; 2],
    program_fd: i32,
    mode: [u16; 2],
    mode_flags: u32,
}

/// An error message of netlink, up to the number.
#[repr(C)]
struct Acknowledgement {
    header: libc::nlmsghdr,
    error: i32,
}

/// Attaches a program over netlink, which needs nobody to hold a descriptor.
fn set_link_xdp(index: u32, program: i32) -> Result<()> {
    const IFLA_XDP: u16 = 43;
    const IFLA_XDP_FD: u16 = 1;
    const IFLA_XDP_FLAGS: u16 = 3;
    const XDP_FLAGS_UPDATE_IF_NOEXIST: u32 = 1;
    const XDP_FLAGS_DRV_MODE: u32 = 4;
    let size = size_of::<SetLink>() as u32;
    let message = SetLink {
        header: libc::nlmsghdr {
            nlmsg_len: size,
            nlmsg_type: libc::RTM_SETLINK,
            nlmsg_flags: (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16,
            nlmsg_seq: 1,
            nlmsg_pid: 0,
        },
        family: 0,
        kind: 0,
        index,
        flags: 0,
        change: 0,
        xdp: [20, IFLA_XDP | libc::NLA_F_NESTED as u16],
        program: [8, IFLA_XDP_FD],
        program_fd: program,
        mode: [8, IFLA_XDP_FLAGS],
        mode_flags: XDP_FLAGS_UPDATE_IF_NOEXIST | XDP_FLAGS_DRV_MODE,
    };
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    // SAFETY: the message lives through the call; send reads its size bytes.
    let sent = unsafe {
        libc::send(
            socket.as_raw_fd(),
            (&raw const message).cast(),
            size as usize,
            0,
        )
    };
    ensure!(sent == size as isize, std::io::Error::last_os_error());
    let mut answer = [0u64; 64];
    // SAFETY: the buffer lives through the call and its size is given.
    let read = unsafe {
        libc::recv(
            socket.as_raw_fd(),
            answer.as_mut_ptr().cast(),
            size_of_val(&answer),
            0,
        )
    };
    ensure!(
        read >= size_of::<Acknowledgement>() as isize,
        "netlink gave no answer"
    );
    // SAFETY: that many bytes were written, the buffer is aligned to eight, and
    // every value of the bytes is a valid message.
    let answer = unsafe { answer.as_ptr().cast::<Acknowledgement>().read() };
    match answer.error {
        0 => Ok(()),
        error => Err(std::io::Error::from_raw_os_error(-error).into()),
    }
}

/// A command that answers with a new file descriptor.
fn new_fd<T>(command: libc::c_int, attributes: &mut T) -> Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the kernel has just made it for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bpf<T>(command: libc::c_int, attributes: &mut T) -> std::io::Result<i32> {
    // SAFETY: the attributes, and what they point to, live through the call.
    let answer = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            std::ptr::from_mut(attributes),
            size_of::<T>(),
        )
    };
    if answer < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(answer as i32)
}
