//! Packets through the whole engine, over host memory.

mod connections;
mod forwarding;
mod lab;
mod nat;
mod random;
mod reasons;
mod switching;
mod tunnel_errors;
