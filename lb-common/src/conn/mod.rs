//! Protocols, their states and what a state means for a server's load.

pub mod tcp;
pub mod udp;

use crate::{
    facts::Facts,
    layout::{Knobs, Settings},
    time::seconds,
    wire::{IPPROTO_TCP, IPPROTO_UDP, TCP_RST},
};

/// A transport protocol that is balanced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 6.
    Tcp,
    /// 17.
    Udp,
}

impl Protocol {
    /// The protocol of a number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            IPPROTO_TCP => Some(Self::Tcp),
            IPPROTO_UDP => Some(Self::Udp),
            _ => None,
        }
    }

    /// Its number.
    #[inline(always)]
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
        }
    }

    /// Whether a packet of this protocol may start a connection: UDP always,
    /// TCP with SYN and without RST (ACK and FIN do not matter), with `sloppy_tcp`
    /// also without SYN.
    #[inline(always)]
    pub const fn may_start(self, facts: &Facts, knobs: Knobs) -> bool {
        match self {
            Self::Tcp => {
                tcp::may_start(facts.flags())
                    || knobs.has(Knobs::SLOPPY_TCP) && facts.flags() & TCP_RST == 0
            }
            Self::Udp => true,
        }
    }

    /// The state after a packet.
    #[inline(always)]
    pub const fn next(self, state: u8, facts: &Facts, seen: Seen) -> u8 {
        match self {
            Self::Tcp => tcp::next(state, facts.flags(), seen),
            Self::Udp => udp::STATE,
        }
    }

    /// How a connection in `state` counts on its server.
    #[inline(always)]
    pub const fn counted(self, state: u8) -> Counted {
        match self {
            Self::Tcp if tcp::is_active(state) => Counted::Active,
            _ => Counted::Inactive,
        }
    }

    /// The state's name in `-L -c`.
    pub const fn state_name(self, state: u8) -> &'static str {
        match self {
            Self::Tcp => tcp::name(state),
            Self::Udp => udp::NAME,
        }
    }
}

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
        let udp = seconds(udp::TIMEOUT);
        Self {
            tcp: tcp_ticks,
            udp,
            other: udp,
            heartbeat: 0,
            reserved: 0,
            knobs: Knobs::REUSE,
            reserved1: 0,
        }
    }
}
