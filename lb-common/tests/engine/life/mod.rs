//! The whole life of connections: persistence, thresholds, settings.

mod knobs;
mod limits;
mod persistence;
mod random;
mod sip;
