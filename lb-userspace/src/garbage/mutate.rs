//! Good texts made bad.

use proptest::prelude::*;

/// What a text is spoilt with.
const BITS: [&str; 30] = [
    "",
    "\0",
    "-1",
    "0",
    "65536",
    "4294967295",
    "4294967296",
    "18446744073709551616",
    "340282366920938463463374607431768211456",
    "1e999",
    "::",
    "::ffff:1.2.3.4",
    "255.255.255.255",
    "0.0.0.0/0",
    "10.0.0.1/33",
    "fe80::1%eth0",
    "[",
    "]",
    "{",
    "}",
    "\"",
    "'",
    "\\",
    "\n",
    " ! ",
    ",",
    "=",
    "null",
    "é\u{202e}",
    "\u{feff}",
];

/// A change of a text.
#[derive(Clone, Debug)]
pub(super) enum Edit {
    /// From here on, so much less.
    Cut(prop::sample::Index, usize),
    /// Something put in.
    Put(prop::sample::Index, &'static str),
    /// A byte.
    Byte(prop::sample::Index, u8),
    /// A part of it once more, elsewhere.
    Again(prop::sample::Index, prop::sample::Index, usize),
    /// A word (letters and figures) gives way to something.
    Word(prop::sample::Index, &'static str),
    /// The end is missing.
    Torn(prop::sample::Index),
}

pub(super) fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<prop::sample::Index>;
    let bit = || prop::sample::select(&BITS[..]);
    let edit = prop_oneof![
        2 => (at(), 1..40_usize).prop_map(|(at, length)| Edit::Cut(at, length)),
        3 => (at(), bit()).prop_map(|(at, bit)| Edit::Put(at, bit)),
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        2 => (at(), at(), 1..80_usize).prop_map(|(from, to, length)| Edit::Again(from, to, length)),
        6 => (at(), bit()).prop_map(|(at, bit)| Edit::Word(at, bit)),
        1 => at().prop_map(Edit::Torn),
    ];
    prop::collection::vec(edit, 0..6)
}

pub(super) fn spoil(text: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = text.to_vec();
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let length = bytes.len();
        match edit {
            Edit::Cut(at, count) => {
                let at = at.index(length);
                bytes.drain(at..length.min(at + count));
            }
            Edit::Put(at, bit) => {
                let at = at.index(length);
                bytes.splice(at..at, bit.bytes());
            }
            Edit::Byte(at, byte) => bytes[at.index(length)] = *byte,
            Edit::Again(from, to, count) => {
                let (from, to) = (from.index(length), to.index(length));
                let part = bytes[from..length.min(from + count)].to_vec();
                bytes.splice(to..to, part);
            }
            Edit::Word(at, bit) => {
                let is_word = |byte: &u8| byte.is_ascii_alphanumeric();
                let at = at.index(length);
                let skipped = bytes[at..].iter().position(is_word);
                let start = at + skipped.unwrap_or(0);
                let rest = &bytes[start..];
                let word = rest.iter().position(|byte| !is_word(byte));
                let end = start + word.unwrap_or(rest.len());
                bytes.splice(start..end, bit.bytes());
            }
            Edit::Torn(at) => bytes.truncate(at.index(length)),
        }
    }
    bytes
}
