//! The `lvx` binary.
fn main() {}
