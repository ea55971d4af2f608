//! lvx's packet engine.
//!
//! One body of code decides about packets; the XDP program, the host tests,
//! the fuzzers, Miri and loom all run it. It sees a packet through
//! [`packet::Packet`] and the tables through [`tables::Tables`], both of which
//! hand out values, never references into packet or map memory (the first
//! version that did had undefined behaviour under Miri).
//!
//! | module | holds |
//! | --- | --- |
//! | [`packet`], [`tables`] | the two traits |
//! | [`layout`] | the records in the maps, shared with the daemon |
//! | [`wire`], [`checksum`], [`crc`] | numbers of the wire, checksum arithmetic |
//! | [`parse`] | from frame to [`facts`] |
//! | [`family`] | what differs between IPv4 and IPv6 |
//! | [`flow`] | the flow table: placement, protocol, sweep |
//! | [`load`] | servers' counts and thresholds |
//! | [`conn`] | protocols, states, time-outs |
//! | [`sched`] | the schedulers |
//! | [`forward`] | what is written into a packet |
//! | [`capture`] | which packets `lvx capture` takes |
//! | [`decap`] | the other end of a tunnel, on a real server |
//! | [`engine`] | the walk of a packet through all of these |
//! | [`reason`] | the one outcome every packet is counted under |
//! | [`host`] | the traits over plain memory, for tests and fuzzers |
#![cfg_attr(not(any(test, feature = "compile")), no_std)]

pub mod capture;
pub mod checksum;
pub mod conn;
pub mod crc;
pub mod decap;
pub mod engine;
pub mod facts;
pub mod family;
pub mod flow;
pub mod forward;
#[cfg(any(test, feature = "host"))]
pub mod host;
pub mod layout;
pub mod load;
pub mod packet;
pub mod parse;
pub mod reason;
pub mod sched;
pub mod tables;
pub mod time;
pub mod wire;
