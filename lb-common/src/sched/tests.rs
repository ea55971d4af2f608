//! Picks against vectors recorded from a real kernel, and against a plain
//! model with pointers instead of positions.

mod harness;
mod model;
mod random;
mod threads;
mod vectors;
