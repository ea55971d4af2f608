//! `lvx run`: the one writer of the configuration, and what reads it when the
//! daemon is dead.
//!
//! | module | holds |
//! | --- | --- |
//! | [`state`] | services, servers, the trash; requests to changes; the saved text |
//! | [`compile`], [`cursor`], [`publish`], [`next_hops`], [`locals`], [`sched_tables`], [`ifaces`] | from the configuration and the network to the maps |
//! | [`live`], [`purge`], [`end`], [`defence`] | the engine on the maps; ends what the filter drops, a person, or what is half-open when room is short |
//! | [`stats`], [`snapshot`], [`connections`], [`overview`], [`totals`], [`usage`], [`procfs`], [`proc_dir`], [`report`] | from the maps to what is shown |
//! | [`core`], [`interfaces`], [`offloads`], [`writer`], [`server`], [`run`] | the daemon's loop |
//! | [`state_file`], [`keeper`] | what outlives a reboot |
//! | [`client`], [`offline`] | the command line's side, with and without a daemon |
//! | [`files`], [`namespaces`], [`privileges`], [`dead`], [`clock`], [`grace`] | the machine |

pub mod client;
pub mod clock;
pub mod compile;
pub mod connections;
pub mod core;
pub mod cursor;
pub mod dead;
pub mod defence;
pub mod end;
pub mod files;
pub mod grace;
pub mod ifaces;
pub mod interfaces;
pub mod keeper;
pub mod live;
pub mod locals;
pub mod namespaces;
pub mod next_hops;
pub mod offline;
pub mod offloads;
mod overload;
pub mod overview;
pub mod privileges;
pub mod proc_dir;
pub mod procfs;
pub mod publish;
pub mod purge;
pub mod report;
pub mod run;
pub mod sched_tables;
pub mod server;
pub mod snapshot;
pub mod state;
pub mod state_file;
pub mod stats;
mod status;
pub mod tables;
pub mod totals;
pub mod usage;
pub mod writer;

pub use status::{Attachments, FlowTable, Status, Sweep};
