//! What is known of a packet after parsing.

use crate::{
    conn::sctp::Columns,
    flow::PREPARED_WORDS,
    layout::{ForwardMethod, Root},
    time::Tick,
};

/// [`Facts::reverse`] of a packet that is no reply.
pub const NO_REVERSE: u64 = u64::MAX;
/// [`Facts::cell`] of a packet that is scheduled alone: no cell has this index.
pub const NO_CELL: u64 = u64::MAX;

/// [`Facts::outcome`]: what became of a cell to be inserted.
pub mod outcome {
    /// It was made: [`Facts::inserted`](super::Facts::inserted).
    pub const NEW: u64 = 0;
    /// There is one under its key.
    pub const EXISTS: u64 = 1;
    /// It could not be made, for [`Facts::reason`](super::Facts::reason).
    pub const REFUSED: u64 = 2;
    /// The packet needs none.
    pub const ALONE: u64 = 3;
}

/// [`Facts::toa`] of a client's segment.
pub mod told {
    /// Nothing was tried.
    pub const NOT: u64 = 0;
    /// The service of a new connection wants it.
    pub const WANTED: u64 = 1;
    /// The option is in the segment.
    pub const YES: u64 = 2;
    /// There was no room for it.
    pub const NO_ROOM: u64 = 3;
}

/// Cold stages get it as their scratch structure. In the kernel it lies in a
/// per-CPU map, because 512 bytes of stack are shared by all calls. 64-bit words
/// only: the compiler would merge smaller fields into misaligned stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C, align(8))]
pub struct Facts {
    /// Source address in network byte order; IPv4 is the low half of the first word.
    pub src: [u64; 2],
    /// Destination address in network byte order.
    pub dst: [u64; 2],
    /// [`Root`] that this packet sees.
    pub root: u64,
    /// Source port in the lowest 16 bits, destination port above it, each in
    /// network byte order; then the IP protocol number from bit 32: the tail of
    /// the flow key.
    pub ports: u64,
    /// When the packet arrived: a [`Tick`].
    pub now: u64,
    /// Where layer 3 starts.
    pub l3: u64,
    /// Where layer 4 starts, behind options or extension headers.
    pub l4: u64,
    /// Layer-3 length, padding not counted.
    pub l3_len: u64,
    /// Interface it came in by.
    pub ingress: u64,
    /// TCP flags; of SCTP the number of its [`Event`](crate::conn::sctp::Event);
    /// 0 for UDP.
    pub flags: u64,
    /// 4 or 6.
    pub family: u64,
    /// Time to live as it came.
    pub ttl: u64,
    /// Server slot, once one was found.
    pub dest: u64,
    /// [`ForwardMethod`] of the connection.
    pub method: u64,
    /// Largest layer-3 length that would have fitted, of a packet that is too big.
    pub mtu: u64,
    /// Index of the connection's cell, once there is one, or [`NO_CELL`].
    pub cell: u64,
    /// Index of the reverse cell that a reply was found by; [`NO_REVERSE`] of
    /// any other packet.
    pub reverse: u64,
    /// How much of a datagram the packet holds:
    /// [`Part`](crate::forward::Part) as a number.
    pub part: u64,
    /// The way by which a client's packet came, in words:
    /// [`Learned::words`](crate::forward::Learned::words).
    pub way: [u64; 3],
    /// Tries at a FULLNAT connection's local port.
    pub tries: u64,
    /// [`ServiceFlags`](crate::layout::ServiceFlags) of the service that a packet
    /// without a connection is for.
    pub service_flags: u64,
    /// Whether the client's template was looked for and is to be made.
    pub wants_template: u64,
    /// Index + 1 of the template that counts the connection to come, or 0.
    pub template: u64,
    /// Key of a cell that is to be inserted: the client's template
    /// ([`TemplateKey`](crate::engine::TemplateKey)), a connection or its reverse
    /// cell. Source, destination, and ports and protocol as in [`Facts::ports`].
    pub new_key: [u64; 5],
    /// Of a template by Call-ID, what its key does not tell: the service's address
    /// and port; of a service by mark, the mark in the first 32 bits.
    pub call: [u64; 3],
    /// What that cell will hold: [`Prepared`](crate::flow::Prepared) in words.
    pub prepared: [u64; PREPARED_WORDS],
    /// Of a packet without a connection, how the home of its key was when it was not found:
    /// [`HomeWord`](crate::flow::HomeWord).
    pub home: u64,
    /// What became of it: one of [`outcome`].
    pub outcome: u64,
    /// The cell that was made: a [`Link`](crate::flow::Link).
    pub inserted: u64,
    /// Time-out of a new template in ticks.
    pub template_timeout: u64,
    /// Identification of the datagram that a fragment is of.
    pub fragment: u64,
    /// Of an ICMP error about a tunnel's packet, what it says:
    /// [`TunnelError`](crate::parse::TunnelError); then type and code (above it) of
    /// the error that the client is to be told.
    pub error: u64,
    /// Whether a FULLNAT server is to be told the client's address, and what became
    /// of that: [`told`](crate::facts::told).
    pub toa: u64,
    /// Of a packet whose connection was given up for a new one, what that still
    /// counts on its server ([`load::unbind`](crate::load::unbind)), and the server's
    /// slot.
    pub owed: [u64; 2],
    /// Firewall mark, of a packet without a connection.
    pub mark: u64,
    /// [`FilterVerdict`](crate::layout::FilterVerdict) of such a packet.
    pub verdict: u64,
    /// Interface to send by.
    pub egress: u64,
    /// Of SCTP and UDP, what the packet does to the state.
    pub columns: Columns,
    /// Of SCTP and UDP, where in the [`Settings`](crate::layout::Settings) the
    /// time-out of state 0 is, in 32 bits.
    pub timeouts: u64,
    /// [`Reason`](crate::reason::Reason) that ended the walk, as a number.
    pub reason: u64,
}

impl Facts {
    /// The configuration this packet sees.
    #[inline(always)]
    pub fn root(&self) -> Root {
        Root(self.root)
    }

    /// When the packet arrived.
    #[inline(always)]
    pub const fn tick(&self) -> Tick {
        self.now as Tick
    }

    /// IP protocol number.
    #[inline(always)]
    pub const fn protocol(&self) -> u8 {
        (self.ports >> 32) as u8
    }

    /// Server slot.
    #[inline(always)]
    pub const fn slot(&self) -> u32 {
        self.dest as u32
    }

    /// [`Facts::method`].
    #[inline(always)]
    pub const fn forward_method(&self) -> ForwardMethod {
        ForwardMethod::from_bits(self.method as u8)
    }

    /// [`Facts::flags`].
    #[inline(always)]
    pub const fn flags(&self) -> u8 {
        self.flags as u8
    }

    /// Destination port in network byte order.
    #[inline(always)]
    pub fn dst_port(&self) -> u16 {
        (self.ports >> 16) as u16
    }

    /// Source port in network byte order.
    #[inline(always)]
    pub fn src_port(&self) -> u16 {
        self.ports as u16
    }
}
