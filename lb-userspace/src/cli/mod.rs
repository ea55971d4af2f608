//! The verbs of `lvx`.
