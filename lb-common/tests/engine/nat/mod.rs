//! NAT through the whole engine, both directions and both families.

pub(crate) mod bed;
mod fullnat;
mod life;
mod local;
mod random;
mod toa;
mod trouble;
mod way;
mod wire;
