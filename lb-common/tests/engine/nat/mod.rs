//! NAT through the whole engine, both directions and both families; and SCTP,
//! by NAT and direct routing.

pub(crate) mod bed;
mod fullnat;
mod life;
mod local;
mod random;
mod sctp;
mod toa;
mod trouble;
mod way;
mod wire;
