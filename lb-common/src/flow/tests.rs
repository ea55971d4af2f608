//! The flow table over host memory, for both families.

mod hash;
mod lifecycle;
mod placement;
mod reverse;
mod spill;
mod support;
mod sweep;
