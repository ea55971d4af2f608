//! SCTP states as IPVS keeps them: from the first chunk of each packet alone.
//! Behaviour observed on Linux 6.1 and 6.12.

use super::Seen;

/// State numbers: the kernel's, also on the synchronisation wire.
pub mod state {
    /// No packet yet.
    pub const NONE: u8 = 0;
    /// The client sent its first INIT.
    pub const INIT1: u8 = 1;
    /// It sent another.
    pub const INIT: u8 = 2;
    /// The server answered it.
    pub const C_SENT: u8 = 3;
    /// The client returned the server's cookie.
    pub const C_REPLIED: u8 = 4;
    /// The server opened, or the client answered.
    pub const C_WAIT: u8 = 5;
    /// Both opened.
    pub const COOKIE: u8 = 6;
    /// The server returned the client's cookie.
    pub const C_ECHOED: u8 = 7;
    /// Both sides talk.
    pub const ESTABLISHED: u8 = 8;
    /// The server shuts down.
    pub const S_SENT: u8 = 9;
    /// The client shuts down.
    pub const S_RECEIVED: u8 = 10;
    /// The server agreed.
    pub const S_ACK_SENT: u8 = 11;
    /// Ended before it began.
    pub const REJECTED: u8 = 12;
    /// Over.
    pub const CLOSED: u8 = 13;
}
use state::{
    C_ECHOED as CE, C_REPLIED as CR, C_SENT as CS, C_WAIT as CW, CLOSED as CL, COOKIE as CO,
    ESTABLISHED as ES, INIT as IN, INIT1 as I1, NONE as NO, REJECTED as RJ, S_ACK_SENT as SA,
    S_RECEIVED as SR, S_SENT as SS,
};

/// Number of states.
pub const STATES: usize = 14;

/// Time-outs in seconds by state number.
pub const TIMEOUTS: [u32; STATES] = [2, 4, 61, 61, 61, 61, 61, 61, 900, 61, 61, 61, 4, 61];

const NAMES: [&str; STATES] = [
    "NONE",
    "INIT1",
    "INIT",
    "C-SENT",
    "C-REPLIED",
    "C-WAIT",
    "COOKIE",
    "C-ECHOED",
    "ESTABLISHED",
    "S-SENT",
    "S-RECEIVED",
    "S-ACK-SENT",
    "REJECTED",
    "CLOSED",
];

/// Chunk types.
pub mod chunk {
    /// Opens.
    pub const INIT: u8 = 1;
    /// Answers an INIT.
    pub const INIT_ACK: u8 = 2;
    /// Ends at once.
    pub const ABORT: u8 = 6;
    /// No more data will come.
    pub const SHUTDOWN: u8 = 7;
    /// Answers a SHUTDOWN.
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Reports an error.
    pub const ERROR: u8 = 9;
    /// Returns the cookie of an INIT ACK.
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers a COOKIE ECHO.
    pub const COOKIE_ACK: u8 = 11;
    /// Ends a shutdown.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// What a packet means for the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Event {
    /// It holds no chunk: nothing.
    Nothing = 0,
    /// Data, acknowledgements, heartbeats, and chunks that are not known.
    Data = 1,
    /// INIT.
    Init = 2,
    /// INIT ACK.
    InitAck = 3,
    /// COOKIE ECHO.
    CookieEcho = 4,
    /// COOKIE ACK.
    CookieAck = 5,
    /// SHUTDOWN.
    Shutdown = 6,
    /// SHUTDOWN ACK.
    ShutdownAck = 7,
    /// SHUTDOWN COMPLETE.
    ShutdownComplete = 8,
    /// ERROR.
    Error = 9,
    /// ABORT, also behind a COOKIE ECHO or COOKIE ACK.
    Abort = 10,
}

impl Event {
    /// Of a packet whose first chunk is of this type.
    #[inline(always)]
    pub const fn of_chunk(kind: u8) -> Self {
        match kind {
            chunk::INIT => Self::Init,
            chunk::INIT_ACK => Self::InitAck,
            chunk::ABORT => Self::Abort,
            chunk::SHUTDOWN => Self::Shutdown,
            chunk::SHUTDOWN_ACK => Self::ShutdownAck,
            chunk::ERROR => Self::Error,
            chunk::COOKIE_ECHO => Self::CookieEcho,
            chunk::COOKIE_ACK => Self::CookieAck,
            chunk::SHUTDOWN_COMPLETE => Self::ShutdownComplete,
            _ => Self::Data,
        }
    }
}

/// Whether a packet with the event of this number may start a connection.
#[inline(always)]
pub const fn may_start(event: u8) -> bool {
    event == Event::Init as u8
}

/// One column of the state table, four bits a state, so that a transition is a
/// shift of a constant.
const fn column(next: [u8; STATES]) -> u64 {
    let mut packed = 0;
    let mut state = 0;
    while state < STATES {
        packed |= (next[state] as u64) << (4 * state);
        state += 1;
    }
    packed
}

/// What an event does to a connection, by who is seen: one column each for
/// [`Seen::FromClient`], [`Seen::FromServer`], [`Seen::FromClientOnly`].
pub type Columns = [u64; 3];

/// Every state stays.
const STAY: u64 = column([NO, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);
/// Every state stays but that of a connection that had no packet yet.
const OPEN: u64 = column([ES, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]);

/// By event; in a column the states are in the order of their numbers.
const TABLE: [Columns; 11] = [
    // No chunk.
    [STAY, STAY, STAY],
    // Data.
    [
        OPEN,
        OPEN,
        column([ES, I1, IN, CS, CR, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
    ],
    // INIT.
    [
        column([I1, IN, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, IN, IN]),
        column([CW, CW, CW, CW, CW, CW, CW, CW, ES, CW, CW, CW, CW, CW]),
        column([I1, IN, IN, IN, IN, IN, CO, CE, ES, SS, SR, SA, IN, IN]),
    ],
    // INIT ACK.
    [
        column([CW, CW, CW, CS, CR, CO, CO, CE, ES, SS, SR, SA, RJ, CL]),
        column([CS, CS, CS, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        column([CE, CE, CE, CE, CE, CE, CO, CE, ES, SS, SR, SA, RJ, CL]),
    ],
    // COOKIE ECHO.
    [
        column([CR, IN, IN, CR, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        column([CE, CE, CE, CE, CE, CE, CE, CE, ES, SS, SR, SA, RJ, CL]),
        column([ES, ES, ES, ES, ES, ES, CO, CE, ES, SS, SR, SA, RJ, CL]),
    ],
    // COOKIE ACK.
    [
        column([ES, I1, IN, CS, CR, CW, CO, ES, ES, SS, SR, SA, RJ, CL]),
        column([ES, ES, ES, ES, ES, ES, ES, ES, ES, SS, SR, SA, RJ, CL]),
        column([ES, I1, IN, ES, ES, CW, ES, ES, ES, SS, SR, SA, RJ, CL]),
    ],
    // SHUTDOWN.
    [
        column([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
        column([SS, SS, SS, SS, SS, SS, SS, SS, SS, SS, SR, SA, RJ, CL]),
        column([SR, I1, IN, CS, CR, CW, CO, CE, SR, SS, SR, SA, RJ, CL]),
    ],
    // SHUTDOWN ACK.
    [
        column([CL, IN, IN, CS, CR, CW, CO, CE, ES, CL, SR, CL, RJ, CL]),
        column([SA, SA, SA, SA, SA, CW, CO, CE, ES, SA, SA, SA, RJ, CL]),
        column([CL, IN, IN, CS, CR, CW, CO, CE, CL, CL, SR, CL, RJ, CL]),
    ],
    // SHUTDOWN COMPLETE.
    [
        column([CL, CL, CL, CS, CR, CW, CO, CE, ES, SS, SR, CL, RJ, CL]),
        column([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        column([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, CL, CL, RJ, CL]),
    ],
    // ERROR.
    [
        column([CL, I1, IN, CS, CR, CW, CO, CL, ES, SS, SR, SA, RJ, CL]),
        column([CL, CL, CL, CL, CL, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
        column([CL, I1, IN, CS, CR, CW, CO, CE, ES, SS, SR, SA, RJ, CL]),
    ],
    // ABORT.
    [
        column([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
        column([CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL, CL]),
        column([CL, CL, CL, CL, CL, RJ, CL, CL, CL, CL, CL, CL, CL, CL]),
    ],
];

/// The columns of an event.
#[inline(always)]
pub const fn columns(event: Event) -> Columns {
    // Constants and no index: nothing is read from memory.
    match event {
        Event::Nothing => TABLE[0],
        Event::Data => TABLE[1],
        Event::Init => TABLE[2],
        Event::InitAck => TABLE[3],
        Event::CookieEcho => TABLE[4],
        Event::CookieAck => TABLE[5],
        Event::Shutdown => TABLE[6],
        Event::ShutdownAck => TABLE[7],
        Event::ShutdownComplete => TABLE[8],
        Event::Error => TABLE[9],
        Event::Abort => TABLE[10],
    }
}

/// The state after a packet whose event has these columns.
#[inline(always)]
pub const fn next(state: u8, columns: &Columns, seen: Seen) -> u8 {
    let column = match seen {
        Seen::FromClient => columns[0],
        Seen::FromServer => columns[1],
        Seen::FromClientOnly => columns[2],
    };
    (column >> (4 * (state & 15) as u32)) as u8 & 15
}

/// Whether a connection in `state` is in ActiveConn.
#[inline(always)]
pub const fn is_active(state: u8) -> bool {
    state == ES
}

/// Whether an INIT on a connection in `state` starts a new connection
/// (`conn_reuse_mode` 1, the default): the port is being reused.
#[inline(always)]
pub const fn is_reusable(state: u8) -> bool {
    state == CL
}

/// The state's name in `-L -c`.
pub const fn name(state: u8) -> &'static str {
    if (state as usize) < STATES {
        NAMES[state as usize]
    } else {
        "BUG!"
    }
}

#[cfg(test)]
mod tests;
