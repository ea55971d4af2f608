//! TCP states as IPVS keeps them: from flags alone, without sequence numbers.
//! Behaviour observed on Linux 6.1 (walks and creation rules) and 6.12.

use super::Seen;
use crate::wire::{TCP_ACK, TCP_FIN, TCP_RST, TCP_SYN};

/// State numbers: the kernel's, also on the synchronisation wire.
pub mod state {
    /// No packet yet.
    pub const NONE: u8 = 0;
    /// Both sides talk.
    pub const ESTABLISHED: u8 = 1;
    /// The server opened.
    pub const SYN_SENT: u8 = 2;
    /// The client opened.
    pub const SYN_RECV: u8 = 3;
    /// The client closed (input-only), or the server.
    pub const FIN_WAIT: u8 = 4;
    /// Both closed.
    pub const TIME_WAIT: u8 = 5;
    /// Reset.
    pub const CLOSE: u8 = 6;
    /// The client closed, the server is still sending.
    pub const CLOSE_WAIT: u8 = 7;
    /// Unused by the tables.
    pub const LAST_ACK: u8 = 8;
    /// Expected data connection.
    pub const LISTEN: u8 = 9;
    /// Under `secure_tcp`.
    pub const SYNACK: u8 = 10;
}
use state::{
    CLOSE, CLOSE_WAIT, ESTABLISHED, FIN_WAIT, LAST_ACK, LISTEN, NONE, SYN_RECV, SYN_SENT, SYNACK,
    TIME_WAIT,
};

/// Number of states.
pub const STATES: usize = 11;

/// Time-outs in seconds by state number.
pub const TIMEOUTS: [u32; STATES] = [2, 900, 120, 60, 120, 120, 10, 60, 30, 120, 120];

const NAMES: [&str; STATES] = [
    "NONE",
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "SYNACK",
];

/// One column of a state table, four bits a state, so that a transition is a
/// shift of a constant and no memory is read.
const fn column(next: [u8; STATES]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < STATES {
        packed |= (next[state] as u64) << (4 * state);
        state += 1;
    }
    packed
}

// Order of the states in a column: NONE, ESTABLISHED, SYN_SENT, SYN_RECV,
// FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK, LISTEN, SYNACK.

/// The columns for packets of one direction.
struct Columns {
    syn: u64,
    fin: u64,
    ack: u64,
    rst: u64,
}

/// The client's packets, where the server's are seen too.
const FROM_CLIENT: Columns = Columns {
    syn: column([
        SYN_RECV,
        ESTABLISHED,
        ESTABLISHED,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
    ]),
    fin: column([
        CLOSE, CLOSE_WAIT, SYN_SENT, TIME_WAIT, TIME_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK,
        LISTEN, TIME_WAIT,
    ]),
    ack: column([
        ESTABLISHED,
        ESTABLISHED,
        SYN_SENT,
        ESTABLISHED,
        FIN_WAIT,
        TIME_WAIT,
        CLOSE,
        CLOSE_WAIT,
        CLOSE,
        LISTEN,
        ESTABLISHED,
    ]),
    rst: column([
        CLOSE, CLOSE, CLOSE, SYN_RECV, CLOSE, CLOSE, CLOSE, CLOSE, LAST_ACK, LISTEN, SYN_RECV,
    ]),
};
/// The server's packets.
const FROM_SERVER: Columns = Columns {
    syn: column([
        SYN_SENT,
        ESTABLISHED,
        SYN_SENT,
        SYN_RECV,
        SYN_SENT,
        SYN_SENT,
        SYN_SENT,
        SYN_SENT,
        SYN_SENT,
        LISTEN,
        SYN_RECV,
    ]),
    fin: column([
        TIME_WAIT, FIN_WAIT, SYN_SENT, TIME_WAIT, FIN_WAIT, TIME_WAIT, CLOSE, TIME_WAIT, LAST_ACK,
        LISTEN, TIME_WAIT,
    ]),
    ack: column([
        ESTABLISHED,
        ESTABLISHED,
        SYN_SENT,
        ESTABLISHED,
        FIN_WAIT,
        TIME_WAIT,
        CLOSE,
        CLOSE_WAIT,
        LAST_ACK,
        ESTABLISHED,
        ESTABLISHED,
    ]),
    rst: column([
        CLOSE, CLOSE, SYN_SENT, CLOSE, CLOSE, TIME_WAIT, CLOSE, CLOSE, CLOSE, CLOSE, CLOSE,
    ]),
};
/// The client's packets, where the server's are not seen (DR, TUN, local).
const INPUT_ONLY: Columns = Columns {
    syn: column([
        SYN_RECV,
        ESTABLISHED,
        ESTABLISHED,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
        SYN_RECV,
    ]),
    fin: column([
        CLOSE, FIN_WAIT, SYN_SENT, TIME_WAIT, FIN_WAIT, TIME_WAIT, CLOSE, CLOSE_WAIT, LAST_ACK,
        LISTEN, TIME_WAIT,
    ]),
    ack: column([
        ESTABLISHED,
        ESTABLISHED,
        SYN_SENT,
        ESTABLISHED,
        FIN_WAIT,
        TIME_WAIT,
        CLOSE,
        CLOSE_WAIT,
        CLOSE,
        LISTEN,
        ESTABLISHED,
    ]),
    rst: column([
        CLOSE, CLOSE, CLOSE, SYN_RECV, CLOSE, CLOSE, CLOSE, CLOSE, LAST_ACK, LISTEN, CLOSE,
    ]),
};

/// A column with other states after some.
const fn changed(mut column: u64, changes: &[(u8, u8)]) -> u64 {
    let mut change = 0;
    while change < changes.len() {
        let (state, next) = changes[change];
        column &= !(15 << (4 * state));
        column |= (next as u64) << (4 * state);
        change += 1;
    }
    column
}

/// [`FROM_CLIENT`] under `secure_tcp`: the client alone establishes nothing.
const SECURED_FROM_CLIENT: Columns = Columns {
    syn: changed(FROM_CLIENT.syn, &[(SYNACK, SYNACK)]),
    fin: changed(FROM_CLIENT.fin, &[(SYNACK, SYNACK)]),
    ack: changed(FROM_CLIENT.ack, &[(SYN_RECV, SYN_RECV), (SYNACK, SYNACK)]),
    rst: changed(FROM_CLIENT.rst, &[(SYNACK, CLOSE)]),
};
/// [`FROM_SERVER`] under `secure_tcp`.
const SECURED_FROM_SERVER: Columns = Columns {
    syn: changed(FROM_SERVER.syn, &[(SYN_RECV, SYNACK), (SYNACK, SYNACK)]),
    ..FROM_SERVER
};
/// [`INPUT_ONLY`] under `secure_tcp`.
const SECURED_INPUT_ONLY: Columns = Columns {
    syn: changed(
        INPUT_ONLY.syn,
        &[
            (NONE, SYNACK),
            (FIN_WAIT, SYNACK),
            (TIME_WAIT, SYNACK),
            (CLOSE, SYNACK),
            (CLOSE_WAIT, SYNACK),
            (LAST_ACK, SYNACK),
            (LISTEN, SYNACK),
            (SYNACK, SYNACK),
        ],
    ),
    ..INPUT_ONLY
};

/// The state after a packet with `flags`; `secured` under `secure_tcp`. RST counts
/// before SYN, FIN and ACK; a segment with none of them closes. Sequence numbers
/// are not looked at, as in the kernel.
#[inline(always)]
pub const fn next(state: u8, flags: u8, seen: Seen, secured: bool) -> u8 {
    let columns = match (seen, secured) {
        (Seen::FromClient, false) => FROM_CLIENT,
        (Seen::FromServer, false) => FROM_SERVER,
        (Seen::FromClientOnly, false) => INPUT_ONLY,
        (Seen::FromClient, true) => SECURED_FROM_CLIENT,
        (Seen::FromServer, true) => SECURED_FROM_SERVER,
        (Seen::FromClientOnly, true) => SECURED_INPUT_ONLY,
    };
    let column = if flags & TCP_RST != 0 {
        columns.rst
    } else if flags & TCP_SYN != 0 {
        columns.syn
    } else if flags & TCP_FIN != 0 {
        columns.fin
    } else if flags & TCP_ACK != 0 {
        columns.ack
    } else {
        return CLOSE;
    };
    (column >> (4 * (state & 15) as u32)) as u8 & 15
}

/// Whether a packet with `flags` may start a connection.
#[inline(always)]
pub const fn may_start(flags: u8) -> bool {
    flags & (TCP_SYN | TCP_RST) == TCP_SYN
}

/// Whether a connection in `state` is in ActiveConn.
#[inline(always)]
pub const fn is_active(state: u8) -> bool {
    const ACTIVE: u32 = 1 << ESTABLISHED | 1 << SYN_SENT | 1 << SYN_RECV | 1 << SYNACK;
    ACTIVE >> (state & 31) & 1 != 0
}

/// Whether a SYN on a connection in `state` starts a new connection
/// (`conn_reuse_mode` 1, the default): the port is being reused.
#[inline(always)]
pub const fn is_reusable(state: u8) -> bool {
    matches!(state, TIME_WAIT | CLOSE)
}

/// The state's name in `-L -c`.
pub const fn name(state: u8) -> &'static str {
    if (state as usize) < STATES {
        NAMES[state as usize]
    } else {
        "BUG!"
    }
}

const _: () = assert!(NONE == 0 && TIMEOUTS[ESTABLISHED as usize] == 900);

#[cfg(test)]
mod tests {
    use super::*;

    const S: u8 = TCP_SYN;
    const A: u8 = TCP_ACK;
    const F: u8 = TCP_FIN;
    const R: u8 = TCP_RST;

    fn walk(flags: &[u8]) -> u8 {
        flags.iter().fold(NONE, |state, &flags| {
            next(state, flags, Seen::FromClientOnly, false)
        })
    }

    /// As [`walk`], of a connection whose both sides are seen; server's segments
    /// are in the second place.
    fn talk(segments: &[(Seen, u8)]) -> u8 {
        segments.iter().fold(NONE, |state, &(seen, flags)| {
            next(state, flags, seen, false)
        })
    }

    #[test]
    fn walks_seen_on_a_real_kernel() {
        assert_eq!(walk(&[S]), SYN_RECV);
        assert_eq!(walk(&[S, A]), ESTABLISHED);
        assert_eq!(walk(&[S, A, F | A]), FIN_WAIT);
        assert_eq!(walk(&[S, A, F | A, A, A]), FIN_WAIT);
        assert_eq!(walk(&[S, A, R]), CLOSE);
        assert_eq!(
            walk(&[S, R]),
            SYN_RECV,
            "a reset of a half-open connection changes nothing"
        );
        assert_eq!(walk(&[S, F]), TIME_WAIT);
        assert_eq!(
            walk(&[S, A, S]),
            ESTABLISHED,
            "a SYN on an established connection"
        );
        assert_eq!(walk(&[S, A, F, S]), SYN_RECV);
        assert_eq!(walk(&[S, A, 0]), CLOSE, "a segment without flags");
        assert_eq!(walk(&[S | A]), SYN_RECV);
        assert_eq!(walk(&[S | F]), SYN_RECV);
    }

    #[test]
    fn walks_seen_on_a_real_kernel_with_nat() {
        use Seen::{FromClient as C, FromServer as D};
        let open = [(C, S), (D, S | A), (C, A)];
        let after = |more: &[(Seen, u8)]| talk(&[&open[..], more].concat());
        assert_eq!(talk(&open[..2]), SYN_RECV);
        assert_eq!(talk(&open), ESTABLISHED);
        assert_eq!(after(&[(C, F | A)]), CLOSE_WAIT);
        assert_eq!(after(&[(C, F | A), (D, A)]), CLOSE_WAIT);
        assert_eq!(after(&[(C, F | A), (D, A), (D, F | A)]), TIME_WAIT);
        assert_eq!(after(&[(D, F | A)]), FIN_WAIT);
        assert_eq!(after(&[(D, F | A), (C, F | A)]), TIME_WAIT);
        assert_eq!(talk(&[(C, S), (D, R)]), CLOSE);
        assert_eq!(after(&[(C, R)]), CLOSE);
    }

    #[test]
    fn under_secure_tcp_the_server_establishes() {
        use Seen::{FromClient as C, FromServer as D};
        let talk = |segments: &[(Seen, u8)]| {
            let segments = segments.iter();
            segments.fold(NONE, |state, &(seen, flags)| next(state, flags, seen, true))
        };
        assert_eq!(talk(&[(C, S)]), SYN_RECV);
        assert_eq!(talk(&[(C, S), (C, A)]), SYN_RECV, "nobody has answered");
        let answered = [(C, S), (D, S | A)];
        let after = |more: &[(Seen, u8)]| talk(&[&answered[..], more].concat());
        assert_eq!(after(&[]), SYNACK);
        assert_eq!(after(&[(C, A)]), SYNACK);
        assert_eq!(after(&[(C, A), (D, A)]), ESTABLISHED);
        assert_eq!(after(&[(C, F | A)]), SYNACK);
        assert_eq!(after(&[(C, R)]), CLOSE);
        let only = |flags: &[u8]| {
            let seen = Seen::FromClientOnly;
            let flags = flags.iter();
            flags.fold(NONE, |state, &flags| next(state, flags, seen, true))
        };
        assert_eq!(only(&[S]), SYNACK);
        assert_eq!(only(&[S, A]), ESTABLISHED);
        assert_eq!(only(&[S, A, F | A, S]), SYNACK);
    }

    #[test]
    fn which_flags_start() {
        for flags in [S, S | A, S | F, S | F | A] {
            assert!(may_start(flags), "{flags:#x}");
        }
        for flags in [S | R, F, R, A, 0] {
            assert!(!may_start(flags), "{flags:#x}");
        }
    }

    #[test]
    fn active_states() {
        let active: Vec<u8> = (0..16).filter(|&state| is_active(state)).collect();
        assert_eq!(active, [ESTABLISHED, SYN_SENT, SYN_RECV, SYNACK]);
    }

    #[test]
    fn every_next_state_exists() {
        for state in 0..STATES as u8 {
            for flags in 0..=255 {
                for seen in [Seen::FromClient, Seen::FromServer, Seen::FromClientOnly] {
                    for secured in [false, true] {
                        assert!((next(state, flags, seen, secured) as usize) < STATES);
                    }
                }
            }
        }
    }
}
