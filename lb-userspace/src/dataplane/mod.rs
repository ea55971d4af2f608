//! The loaded program and its maps. The only module that knows aya: each of its
//! releases broke its interface, so it stays behind this one.

mod capture;
mod decap;
mod egress;
mod links;
mod mapping;
mod maps;
mod object;
mod plane;

pub use capture::Capture;
pub use decap::{Decap, DecapState, Wanted, decap_state};
pub use mapping::Mapping;
pub use maps::{
    DEFAULT_RULES, FILTER_RULES, Maps, PinnedMap, Sizes, default_connections6, pinned_maps,
    rule_words,
};
pub use object::{BUILD_ID, Loaded, ProgramFacts, Rejected, program_name, program_names, rejected};
pub use plane::{Attached, Mode, Plane, any_attached, remove};

/// The map that keeps the load-time parameters for the next daemon.
const PARAMS_KEPT: &str = "PARAMS_KEPT";
