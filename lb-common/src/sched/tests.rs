//! Picks against vectors recorded from a real kernel, and against a plain
//! model with pointers instead of positions.

mod counts;
mod harness;
mod hashes;
mod locality;
mod model;
mod random;
mod threads;
mod twos;
mod vectors;
