//! Hand-made frames, a packet socket to send and see them, and echo requests.

use std::{
    ffi::CString,
    io,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use etherparse::{Icmpv4Type, PacketBuilder, SlicedPacket, TransportSlice};
use nix::sys::socket::{setsockopt, sockopt};

use crate::lab::Namespace;

/// The TCP flags of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    /// SYN.
    pub syn: bool,
    /// ACK.
    pub ack: bool,
    /// FIN.
    pub fin: bool,
    /// RST.
    pub rst: bool,
}

impl Flags {
    /// A connection's first segment.
    pub const SYN: Self = Self {
        syn: true,
        ack: false,
        fin: false,
        rst: false,
    };
    /// Any segment of an open connection.
    pub const ACK: Self = Self {
        syn: false,
        ack: true,
        fin: false,
        rst: false,
    };
    /// The last one of a direction.
    pub const FIN: Self = Self {
        syn: false,
        ack: true,
        fin: true,
        rst: false,
    };
    /// The end.
    pub const RST: Self = Self {
        syn: false,
        ack: false,
        fin: false,
        rst: true,
    };
}

/// Both ends of the frames of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Source and destination MAC address.
    pub macs: ([u8; 6], [u8; 6]),
    /// Source address and port.
    pub from: SocketAddrV4,
    /// Destination address and port.
    pub to: SocketAddrV4,
}

impl Flow {
    /// A TCP segment without data.
    pub fn tcp(&self, flags: Flags) -> Vec<u8> {
        let mut builder = PacketBuilder::ethernet2(self.macs.0, self.macs.1)
            .ipv4(self.from.ip().octets(), self.to.ip().octets(), 64)
            .tcp(self.from.port(), self.to.port(), 1000, 64_000);
        if flags.syn {
            builder = builder.syn();
        }
        if flags.ack {
            builder = builder.ack(1);
        }
        if flags.fin {
            builder = builder.fin();
        }
        if flags.rst {
            builder = builder.rst();
        }
        let mut frame = Vec::with_capacity(builder.size(0));
        builder
            .write(&mut frame, &[])
            .expect("a vector takes every write");
        frame
    }

    /// A UDP datagram.
    pub fn udp(&self, data: &[u8]) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2(self.macs.0, self.macs.1)
            .ipv4(self.from.ip().octets(), self.to.ip().octets(), 64)
            .udp(self.from.port(), self.to.port());
        let mut frame = Vec::with_capacity(builder.size(data.len()));
        builder
            .write(&mut frame, data)
            .expect("a vector takes every write");
        frame
    }
}

/// A packet socket on an interface: sends frames as they are, and sees all that
/// reach the interface's stack.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
}

/// Bytes of frames, with the kernel's share, that a [`Tap`] may hold unread: a
/// limit, nothing is set aside.
const RECEIVE: usize = 256 << 20;

impl Tap {
    /// Opens it; frames are seen from now on.
    ///
    /// # Errors
    /// Without root, or without the interface.
    pub fn open(ns: &Namespace, interface: &str) -> Result<Self> {
        let name = CString::new(interface)?;
        ns.enter(|| {
            // SAFETY: the name is a C string that lives through the call.
            let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
            ensure!(index != 0, "there is no interface {interface}");
            let protocol = (libc::ETH_P_ALL as u16).to_be();
            // SAFETY: no memory arguments; the result is checked before use.
            let fd = unsafe {
                libc::socket(
                    libc::AF_PACKET,
                    libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                    i32::from(protocol),
                )
            };
            ensure!(
                fd >= 0,
                "cannot open a packet socket: {}",
                io::Error::last_os_error()
            );
            // SAFETY: the descriptor is new and nobody else's.
            let socket = unsafe { OwnedFd::from_raw_fd(fd) };
            // SAFETY: all-zero bytes are a valid sockaddr_ll.
            let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            address.sll_family = libc::AF_PACKET as u16;
            address.sll_protocol = protocol;
            address.sll_ifindex = index as i32;
            // SAFETY: the address lives through the call and its size is given.
            let answer = unsafe {
                libc::bind(
                    fd,
                    (&raw const address).cast(),
                    size_of::<libc::sockaddr_ll>() as libc::socklen_t,
                )
            };
            ensure!(
                answer == 0,
                "cannot bind to {interface}: {}",
                io::Error::last_os_error()
            );
            // Thousands of frames may come before the first is read.
            setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE)
                .context("cannot make the packet socket's buffer large")?;
            Ok(Self { socket })
        })
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// When the interface is down.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: the frame lives through the call and its length is given.
        let sent = unsafe {
            libc::send(
                self.socket.as_raw_fd(),
                frame.as_ptr().cast(),
                frame.len(),
                0,
            )
        };
        ensure!(
            sent == frame.len() as isize,
            "cannot send a frame: {}",
            io::Error::last_os_error()
        );
        Ok(())
    }

    /// The next frame that satisfies `wanted`, `None` when there was none in time.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn next(
        &self,
        limit: Duration,
        mut wanted: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<Vec<u8>>> {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut poll = libc::pollfd {
                fd: self.socket.as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one pollfd, which lives through the call.
            let ready = unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) };
            if ready == 0 {
                return Ok(None);
            }
            let mut buffer = vec![0u8; 65_536];
            // SAFETY: the buffer lives through the call and its length is given.
            let read = unsafe {
                libc::recv(
                    self.socket.as_raw_fd(),
                    buffer.as_mut_ptr().cast(),
                    buffer.len(),
                    0,
                )
            };
            ensure!(
                read >= 0,
                "cannot read a frame: {}",
                io::Error::last_os_error()
            );
            let frame = &buffer[..read as usize];
            if wanted(frame) {
                return Ok(Some(frame.to_vec()));
            }
        }
    }

    /// How many frames that satisfy `wanted` come within `time`.
    ///
    /// # Errors
    /// When the interface is gone.
    pub fn count(&self, time: Duration, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<usize> {
        let end = Instant::now() + time;
        let mut count = 0;
        while self
            .next(end.saturating_duration_since(Instant::now()), &mut wanted)?
            .is_some()
        {
            count += 1;
        }
        Ok(count)
    }
}

/// Whether a frame is IPv4 with this transport destination.
pub fn is_to(frame: &[u8], to: SocketAddrV4) -> bool {
    let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
        return false;
    };
    let port = match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.destination_port(),
        Some(TransportSlice::Udp(udp)) => udp.destination_port(),
        _ => return false,
    };
    let addr = packet
        .net
        .as_ref()
        .and_then(|net| net.ipv4_ref())
        .map(|ip| ip.header().destination_addr());
    addr == Some(*to.ip()) && port == to.port()
}

/// One echo request from a namespace, with its answer awaited.
///
/// # Errors
/// When none comes in time.
pub fn ping(from: &Namespace, to: Ipv4Addr, limit: Duration) -> Result<()> {
    from.enter(|| {
        // SAFETY: no memory arguments; the result is checked before use.
        let fd = unsafe {
            libc::socket(
                libc::AF_INET,
                libc::SOCK_RAW | libc::SOCK_CLOEXEC,
                libc::IPPROTO_ICMP,
            )
        };
        ensure!(
            fd >= 0,
            "cannot open a raw socket: {}",
            io::Error::last_os_error()
        );
        // SAFETY: the descriptor is new and nobody else's.
        let socket = std::net::UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
        let header = etherparse::IcmpEchoHeader {
            id: std::process::id() as u16,
            seq: 1,
        };
        let payload = b"lvx lab";
        let request =
            etherparse::Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(header), payload);
        let mut message = request.to_bytes().to_vec();
        message.extend_from_slice(payload);
        // A raw socket takes the same calls as a UDP socket; the port is ignored.
        socket.send_to(&message, (to, 0))?;
        let end = Instant::now() + limit;
        let mut buffer = [0; 2048];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{to} did not answer the echo request");
            socket.set_read_timeout(Some(left))?;
            let read = socket
                .recv(&mut buffer)
                .with_context(|| format!("{to} did not answer the echo request"))?;
            let Ok(packet) = SlicedPacket::from_ip(&buffer[..read]) else {
                continue;
            };
            if let Some(TransportSlice::Icmpv4(icmp)) = packet.transport
                && icmp.icmp_type() == Icmpv4Type::EchoReply(header)
            {
                return Ok(());
            }
        }
    })
}
