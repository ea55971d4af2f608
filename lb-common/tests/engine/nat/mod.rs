//! NAT through the whole engine, both directions and both families.

pub(crate) mod bed;
mod fullnat;
mod life;
mod random;
mod toa;
mod trouble;
mod way;
mod wire;
