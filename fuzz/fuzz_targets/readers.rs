//! Every reader of text (`lb_userspace::garbage`): the first byte chooses one, the
//! rest is what it reads.

#![no_main]

use lb_userspace::garbage::READERS;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Some((reader, text)) = bytes.split_first() {
        let (_, read) = READERS[usize::from(*reader) % READERS.len()];
        read(text);
    }
});
