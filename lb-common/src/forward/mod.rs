//! What is written into a packet on its way to a server.

mod route;

pub use route::route;
