//! `lvx capture`: from words to a filter, from frames to lines or a file.

mod filter;
mod line;
mod pcapng;

pub use filter::filter;
pub use line::line;
pub use pcapng::File;
