//! NAT through the whole engine, both directions and both families.

mod bed;
mod fullnat;
mod life;
mod local;
mod random;
mod trouble;
mod way;
mod wire;
