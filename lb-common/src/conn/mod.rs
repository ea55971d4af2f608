//! Protocols, their states and what a state means for a server's load.

pub mod sctp;
pub mod tcp;
pub mod udp;

use crate::{
    facts::Facts,
    layout::Settings,
    time::seconds,
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, TCP_SYN},
};

/// A transport protocol that is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
    /// 132.
    Sctp,
}

impl Protocol {
    /// The protocol of a number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            IPPROTO_TCP => Some(Self::Tcp),
            IPPROTO_UDP => Some(Self::Udp),
            IPPROTO_SCTP => Some(Self::Sctp),
            _ => None,
        }
    }

    /// Its number.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
            Self::Sctp => IPPROTO_SCTP,
        }
    }

    /// Whether a packet of this protocol may start a connection: UDP always,
    /// TCP with SYN and without RST (ACK and FIN do not matter), SCTP whose first
    /// chunk is INIT.
    #[inline(always)]
    pub const fn may_start(self, facts: &Facts) -> bool {
        match self {
            Self::Tcp => tcp::may_start(facts.flags()),
            Self::Udp => true,
            Self::Sctp => sctp::may_start(facts.flags()),
        }
    }

    /// The state's name in `-L -c`.
    pub const fn state_name(self, state: u8) -> &'static str {
        match self {
            Self::Tcp => tcp::name(state),
            Self::Udp => udp::NAME,
            Self::Sctp => sctp::name(state),
        }
    }
}

/// How packets move a connection's state. Two ways and not one for each
/// protocol: the verifier follows each of them through the rest of the walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// TCP, by its flags.
    Flags,
    /// Everything else, by [`Facts::columns`]; those of UDP lead to its one state.
    Columns,
}

impl Tracking {
    /// Of a protocol's number.
    #[inline(always)]
    pub const fn of(number: u8) -> Self {
        if number == IPPROTO_TCP {
            Self::Flags
        } else {
            Self::Columns
        }
    }

    /// Whether a packet on a connection in `state` re-uses the port of one that
    /// is over (`conn_reuse_mode` 1, the default).
    #[inline(always)]
    pub const fn starts_anew(self, state: u8, facts: &Facts) -> bool {
        match self {
            Self::Flags => facts.flags() & TCP_SYN != 0 && tcp::is_reusable(state),
            Self::Columns => sctp::may_start(facts.flags()) && sctp::is_reusable(state),
        }
    }

    /// The state after a packet.
    #[inline(always)]
    pub const fn next(self, state: u8, facts: &Facts, seen: Seen) -> u8 {
        match self {
            Self::Flags => tcp::next(state, facts.flags(), seen),
            Self::Columns => sctp::next(state, &facts.columns, seen),
        }
    }

    /// How a connection in `state` counts on its server.
    #[inline(always)]
    pub const fn counted(self, state: u8) -> Counted {
        match self {
            Self::Flags if tcp::is_active(state) => Counted::Active,
            Self::Columns if sctp::is_active(state) => Counted::Active,
            _ => Counted::Inactive,
        }
    }
}

// UDP's one state is none that SCTP gives a meaning to.
const _: () = assert!(!sctp::is_active(udp::STATE) && !sctp::is_reusable(udp::STATE));

/// Whose packet it is, and whether the other side's are seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The client's; the server's pass the director, too.
    FromClient,
    /// The server's.
    FromServer,
    /// The client's; the server answers past the director.
    FromClientOnly,
}

/// Which of a server's counts a connection is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Counted {
    /// Neither (a reverse cell, a template).
    No = 0,
    /// InActConn.
    Inactive = 1,
    /// ActiveConn.
    Active = 2,
}

impl Settings {
    /// The kernel's defaults.
    pub fn kernel_defaults() -> Self {
        let mut tcp_ticks = [0; 12];
        for (ticks, timeout) in tcp_ticks.iter_mut().zip(tcp::TIMEOUTS) {
            *ticks = seconds(timeout);
        }
        let mut sctp_ticks = [0; 16];
        for (ticks, timeout) in sctp_ticks.iter_mut().zip(sctp::TIMEOUTS) {
            *ticks = seconds(timeout);
        }
        let udp = seconds(udp::TIMEOUT);
        Self {
            tcp: tcp_ticks,
            udp,
            other: udp,
            heartbeat: 0,
            reserved: 0,
            sctp: sctp_ticks,
        }
    }
}
