//! The schedulers: one small file each, and one line each in the table below.
//!
//! | file | holds |
//! | --- | --- |
//! | [`list`] | what a scheduler sees of a service's servers |
//! | [`cursor`] | the memory of those that go round: rr, wrr |
//! | [`least`] | the walk of those that compare servers: lc, wlc, sed, nq, fo, ovf |
//! | [`hash`] | the kernel's hash functions: dh, sh, mh |
//! | [`destination`] | the memory by destination: lblc, lblcr |
//! | the others | a scheduler each |

pub mod cursor;
pub mod destination;
pub mod hash;
pub mod least;
pub mod list;

pub mod dh;
pub mod fo;
pub mod lblc;
pub mod lblcr;
pub mod lc;
pub mod mh;
pub mod nq;
pub mod ovf;
pub mod rr;
pub mod sed;
pub mod sh;
pub mod twos;
pub mod wlc;
pub mod wrr;

pub use cursor::{CURSOR_TRIES, Cursor};
pub use list::List;

use crate::{
    facts::Facts,
    layout::{ForwardMethod, ServiceView},
    tables::Tables,
};

/// Longest list: positions are 16 bits of the cursor and of tables, and one of
/// them is nobody's.
pub const MAX_LIST: u32 = 0xffff;

/// What a scheduler says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Picked {
    /// The server in this slot, reached by this method.
    Dest {
        /// Server slot.
        slot: u32,
        /// Method of the connection.
        method: ForwardMethod,
    },
    /// No server can take a connection.
    None,
    /// The cursor was not to be had.
    Contended,
    /// The configuration was switched meanwhile: read the root again.
    Stale,
}

/// A position that no list has: there is no server.
pub const NOBODY: u64 = u64::MAX;
/// Instead of a position: [`Picked::Contended`].
const CONTENDED: u64 = u64::MAX - 1;
/// Instead of a position: [`Picked::Stale`].
const STALE: u64 = u64::MAX - 2;

/// What a server is chosen for and from.
#[derive(Clone, Copy)]
pub struct Pick<'a, T: Tables> {
    /// The tables.
    pub tables: T,
    /// The packet that starts a connection.
    pub facts: &'a Facts,
    /// Its service.
    pub service: ServiceView<T::Cell>,
    /// The service's servers.
    pub list: List,
}

/// A server as a scheduler's compile step sees it.
#[cfg(any(test, feature = "compile"))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// RIP in network byte order; IPv4 uses the first word.
    pub addr: [u32; 4],
    /// Its port, host order.
    pub port: u16,
    /// Its weight.
    pub weight: u32,
    /// Its latest weight that was not 0, or that with which it was added.
    pub last_weight: u32,
}

/// What user space prepares for a scheduler when a list changes.
#[cfg(any(test, feature = "compile"))]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compiled {
    /// For [`ServiceView::sched_word`].
    pub word: u64,
    /// A figure for each server of the list, or nothing
    /// ([`ListEntry::with_hint`](crate::layout::ListEntry::with_hint)).
    pub hints: Vec<u16>,
    /// A table of list positions, or nothing.
    pub table: Vec<u16>,
}

/// A scheduler.
pub trait Scheduler {
    /// Whether its compile step has anything to do.
    const COMPILES: bool = false;
    /// Whether its compile step makes a table, which takes room.
    const HAS_TABLE: bool = false;

    /// Position in the list of the server for a new connection; [`NOBODY`] when
    /// there is none.
    fn choose<T: Tables>(pick: Pick<'_, T>) -> u64;

    /// What it wants prepared of a list.
    #[cfg(any(test, feature = "compile"))]
    fn compile(_: &[Server]) -> Compiled {
        Compiled::default()
    }
}

/// Makes the enumeration of the schedulers and what is chosen by it.
macro_rules! schedulers {
    ($($kind:ident = $number:literal, $file:ident::$scheduler:ident, $name:literal, $what:literal;)*) => {
        /// The schedulers. The numbers are stored in maps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum SchedulerKind {
            /// No scheduler: every new connection takes the "leave" path.
            None = 0,
            $(#[doc = $what] $kind = $number,)*
        }

        impl SchedulerKind {
            /// Every scheduler.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// What `ipvsadm -s` calls it; nothing for none.
            pub const fn name(self) -> &'static str {
                match self {
                    Self::None => "",
                    $(Self::$kind => $name,)*
                }
            }

            /// Whether its compile step has anything to do.
            pub const fn compiles(self) -> bool {
                match self {
                    Self::None => false,
                    $(Self::$kind => $file::$scheduler::COMPILES,)*
                }
            }

            /// Whether its compile step makes a table, which takes room.
            pub const fn has_table(self) -> bool {
                match self {
                    Self::None => false,
                    $(Self::$kind => $file::$scheduler::HAS_TABLE,)*
                }
            }

            /// Its compile step.
            #[cfg(any(test, feature = "compile"))]
            pub fn compile(self, servers: &[Server]) -> Compiled {
                match self {
                    Self::None => Compiled::default(),
                    $(Self::$kind => $file::$scheduler::compile(servers),)*
                }
            }
        }

        /// Has the scheduler with a number choose.
        #[inline(always)]
        fn choose<T: Tables>(scheduler: u8, pick: Pick<'_, T>) -> u64 {
            $(if scheduler == $number {
                return $file::$scheduler::choose(pick);
            })*
            NOBODY
        }
    };
}

schedulers! {
    Rr = 1, rr::Rr, "rr", "Round robin.";
    Wrr = 2, wrr::Wrr, "wrr", "Weighted round robin.";
    Lc = 3, lc::Lc, "lc", "Least connections.";
    Wlc = 4, wlc::Wlc, "wlc", "Weighted least connections.";
    Sed = 5, sed::Sed, "sed", "Shortest expected delay.";
    Nq = 6, nq::Nq, "nq", "Never queue.";
    Fo = 7, fo::Fo, "fo", "Weighted failover.";
    Ovf = 8, ovf::Ovf, "ovf", "Weighted overflow.";
    Dh = 9, dh::Dh, "dh", "Destination hashing.";
    Sh = 10, sh::Sh, "sh", "Source hashing.";
    Mh = 11, mh::Mh, "mh", "Maglev hashing.";
    Lblc = 12, lblc::Lblc, "lblc", "Locality-based least connections.";
    Lblcr = 13, lblcr::Lblcr, "lblcr", "Locality-based least connections with replication.";
    Twos = 14, twos::Twos, "twos", "The better of two at random.";
}

impl SchedulerKind {
    /// The scheduler called `name` by `ipvsadm -s`.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut all = Self::ALL.iter().copied();
        all.find(|kind| kind.name() == name)
    }
}

/// Chooses a server for a new connection: one try, which fails when another CPU
/// moved the cursor meanwhile.
#[inline(always)]
pub fn try_pick<T: Tables>(
    tables: T,
    facts: &Facts,
    side: u32,
    service: ServiceView<T::Cell>,
) -> Picked {
    let list = List::of(tables, side, service);
    let pick = Pick {
        tables,
        facts,
        service,
        list,
    };
    let position = choose(service.scheduler(), pick);
    if position == CONTENDED {
        return Picked::Contended;
    }
    if position == STALE {
        return Picked::Stale;
    }
    if position == NOBODY {
        return Picked::None;
    }
    match list.entry(tables, position) {
        Some(entry) => Picked::Dest {
            slot: entry.slot(),
            method: entry.method(),
        },
        None => Picked::None,
    }
}

#[cfg(test)]
mod tests;
