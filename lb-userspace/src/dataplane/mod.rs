//! The loaded program and its maps. The only module that knows aya: each of its
//! releases broke its interface, so it stays behind this one.

mod mapping;
mod maps;
mod plane;

pub use mapping::Mapping;
pub use maps::{Maps, Sizes};
pub use plane::{Attached, Mode, Plane, remove};
