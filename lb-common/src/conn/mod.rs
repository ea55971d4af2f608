//! Protocols, their states and what a state means for a server's load.

pub mod sctp;
pub mod tcp;
pub mod udp;

use crate::{
    facts::Facts,
    layout::{Knobs, Settings},
    time::seconds,
    wire::{IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, TCP_RST, TCP_SYN},
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
    /// chunk is INIT; with `sloppy_tcp` and `sloppy_sctp` any that does not end one.
    #[inline(always)]
    pub const fn may_start(self, facts: &Facts, knobs: Knobs) -> bool {
        match self {
            Self::Tcp => {
                tcp::may_start(facts.flags())
                    || knobs.has(Knobs::SLOPPY_TCP) && facts.flags() & TCP_RST == 0
            }
            Self::Udp => true,
            Self::Sctp => {
                sctp::may_start(facts.flags())
                    || knobs.has(Knobs::SLOPPY_SCTP) && sctp::may_start_sloppily(facts.flags())
            }
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

    /// Whether a packet might start a connection in the place of the one it is of.
    #[inline(always)]
    pub const fn opens(self, facts: &Facts) -> bool {
        match self {
            Self::Flags => facts.flags() & TCP_SYN != 0,
            Self::Columns => sctp::may_start(facts.flags()),
        }
    }

    /// Whether a connection in `state` is over, so that its port may be used again
    /// (`conn_reuse_mode` 1, the default).
    #[inline(always)]
    pub const fn is_reusable(self, state: u8) -> bool {
        match self {
            Self::Flags => tcp::is_reusable(state),
            Self::Columns => sctp::is_reusable(state),
        }
    }

    /// Whether a packet that brought a connection to `state` makes its template
    /// assured: TCP or SCTP is established, UDP was answered.
    #[inline(always)]
    pub const fn assures(self, state: u8, seen: Seen) -> bool {
        match self {
            Self::Flags => state == tcp::state::ESTABLISHED,
            Self::Columns => {
                state == sctp::state::ESTABLISHED
                    || state == udp::STATE && matches!(seen, Seen::FromServer)
            }
        }
    }

    /// The state after a packet, under these knobs.
    #[inline(always)]
    pub const fn next(self, state: u8, facts: &Facts, seen: Seen, knobs: Knobs) -> u8 {
        match self {
            Self::Flags => {
                let secured = knobs.has(Knobs::SECURE_TCP);
                tcp::next(state, facts.flags(), seen, secured)
            }
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
            knobs: Knobs::REUSE,
            drop_rate: 0,
        }
    }
}
