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
//! | [`wire`], [`checksum`] | headers and checksum arithmetic |
//! | [`parse`] | frame to facts |
//! | [`flow`] | the flow table: placement, protocol, sweep |
//! | [`conn`] | protocols, states, time-outs |
//! | [`sched`] | the schedulers |
//! | [`forward`] | what is written into a packet |
//! | [`engine`] | the walk of a packet through all of these |
//! | [`reason`] | the one outcome every packet is counted under |
#![cfg_attr(not(test), no_std)]

pub mod conn;
pub mod layout;
pub mod reason;
pub mod tables;
pub mod time;
