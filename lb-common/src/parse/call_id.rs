//! The Call-ID of a SIP message, found as the kernel finds it: one look at each
//! byte. What the kernel takes for a header, and for a Call-ID, was observed
//! (`tests/oracle/sip-call-ids.scn`); some of it is not what RFC 3261 says.
//!
//! A header begins behind an end of line, of whose name case does not matter, in
//! its long form or as `i`, whitespace and lines that go on are skipped before and
//! behind its colon. A Call-ID is a word, or two with an `@` between them, and
//! followed by an end of line. An empty line ends nothing.

use crate::packet::Search;

/// The longest Call-ID.
pub const LONGEST: u64 = 255;

/// Sums of what identifies a call: polynomials modulo a prime, at secret points.
/// Two calls have the same sums by a chance of one in 2^60 at most, whoever chose
/// them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    sums: [u64; 3],
    points: [u64; 3],
}

/// 2^31 − 1.
const PRIME: u64 = 0x7fff_ffff;

impl Sums {
    /// Nothing, at these points.
    #[inline(always)]
    pub fn new(points: [u64; 3]) -> Self {
        Self {
            sums: [1; 3],
            // Neither 0 nor 1, at which sums tell little.
            points: points.map(|point| (point & PRIME >> 1) | 1 << 29),
        }
    }

    /// With one more symbol, below 2^31.
    #[inline(always)]
    pub fn add(&mut self, symbol: u64) {
        let mut lane = 0;
        while lane < 3 {
            let sum = self.sums[lane]
                .wrapping_mul(self.points[lane])
                .wrapping_add(symbol)
                .wrapping_add(1);
            let sum = (sum & PRIME).wrapping_add(sum >> 31);
            self.sums[lane] = (sum & PRIME).wrapping_add(sum >> 31);
            lane += 1;
        }
    }

    /// 32 bits, and 54 bits.
    #[inline(always)]
    pub const fn words(self) -> [u64; 2] {
        let [a, b, c] = self.sums;
        [a & 0xffff_ffff, b & 0x7fff_ffff | (c & 0x7f_ffff) << 31]
    }
}

/// Where the search is: what the next byte is looked at for.
mod place {
    /// An end of line: CR, LF or both.
    pub(super) const LINE: u64 = 0;
    /// Behind a CR: the LF, or what follows the end of line.
    pub(super) const END: u64 = 1;
    /// What follows an end of line.
    pub(super) const HEAD: u64 = 2;
    /// The next letter of the long name.
    pub(super) const NAME: u64 = 3;
    /// What follows the short name.
    pub(super) const SHORT: u64 = 4;
    /// Whitespace or the colon.
    pub(super) const COLON: u64 = 5;
    /// As `COLON`, behind a CR.
    pub(super) const COLON_END: u64 = 6;
    /// As `COLON`, behind an end of line: it must go on with whitespace.
    pub(super) const COLON_ON: u64 = 7;
    /// Whitespace or the first character of the Call-ID.
    pub(super) const VALUE: u64 = 8;
    /// As `VALUE`, behind a CR.
    pub(super) const VALUE_END: u64 = 9;
    /// As `VALUE`, behind an end of line.
    pub(super) const VALUE_ON: u64 = 10;
    /// A character of the first word.
    pub(super) const FIRST: u64 = 11;
    /// A character of the second word.
    pub(super) const SECOND: u64 = 12;
    /// Nothing: the search is over, without a Call-ID.
    pub(super) const NOWHERE: u64 = 13;
    /// Nothing: the Call-ID was found.
    pub(super) const FOUND: u64 = 14;
}

/// The search for a Call-ID.
#[derive(Clone, Copy, Debug)]
pub struct CallId {
    place: u64,
    /// Letters of the name so far.
    letters: u64,
    /// Bytes of the Call-ID so far, and of its second word.
    length: u64,
    second: u64,
    /// Bytes before it.
    start: u64,
    /// The sums before its first byte.
    begun: [u64; 3],
    sums: Sums,
}

impl CallId {
    /// A search that goes on with these sums.
    #[inline(always)]
    pub const fn new(sums: Sums) -> Self {
        Self {
            place: place::LINE,
            letters: 0,
            length: 0,
            second: 0,
            start: 0,
            begun: sums.sums,
            sums,
        }
    }

    /// The sums, of a Call-ID that was found.
    #[inline(always)]
    pub const fn found(&self) -> Option<Sums> {
        if self.place == place::FOUND {
            Some(self.sums)
        } else {
            None
        }
    }

    /// Bytes before the Call-ID.
    #[inline(always)]
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Where a byte leads in which a line may end.
    #[inline(always)]
    const fn in_line(byte: u8) -> u64 {
        match byte {
            b'\r' => place::END,
            b'\n' => place::HEAD,
            _ => place::LINE,
        }
    }

    /// The first byte of a line. Where no header begins it is not looked at again:
    /// of two ends of line with one character each the second counts for nothing.
    #[inline(always)]
    const fn at_line(&mut self, byte: u8) -> u64 {
        match byte | 0x20 {
            b'c' => {
                self.letters = 1;
                place::NAME
            }
            b'i' => place::SHORT,
            _ => place::LINE,
        }
    }

    /// Whitespace or a colon.
    #[inline(always)]
    const fn at_colon(byte: u8) -> u64 {
        match byte {
            b':' => place::VALUE,
            b'\r' => place::COLON_END,
            b'\n' => place::COLON_ON,
            _ if is_blank(byte) => place::COLON,
            _ => place::NOWHERE,
        }
    }

    /// Whitespace or the beginning of the Call-ID.
    #[inline(always)]
    fn at_value(&mut self, byte: u8, index: u64) -> u64 {
        if is_blank(byte) {
            return place::VALUE;
        }
        if byte == b'\r' {
            return place::VALUE_END;
        }
        if byte == b'\n' {
            return place::VALUE_ON;
        }
        if !is_of_word(byte) {
            return place::LINE;
        }
        self.start = index;
        self.sums.sums = self.begun;
        self.length = 0;
        self.second = 0;
        self.take(byte);
        place::FIRST
    }

    #[inline(always)]
    fn take(&mut self, byte: u8) {
        self.length = self.length.wrapping_add(1);
        self.sums.add(byte.into());
    }

    /// What follows the Call-ID.
    #[inline(always)]
    const fn behind(&self, byte: u8) -> u64 {
        if is_end(byte) && self.length <= LONGEST {
            place::FOUND
        } else {
            place::NOWHERE
        }
    }
}

impl Search for CallId {
    #[inline(always)]
    fn step(&mut self, byte: u8, index: u64) -> bool {
        self.place = match self.place {
            place::LINE => Self::in_line(byte),
            place::END if byte == b'\n' => place::HEAD,
            place::END | place::HEAD => self.at_line(byte),
            place::NAME => {
                if byte | 0x20 != letter(self.letters) {
                    Self::in_line(byte)
                } else {
                    self.letters = self.letters.wrapping_add(1);
                    if self.letters == NAME_LENGTH {
                        place::COLON
                    } else {
                        place::NAME
                    }
                }
            }
            place::SHORT => {
                if is_letter(byte) {
                    place::LINE
                } else {
                    Self::at_colon(byte)
                }
            }
            place::COLON_END if byte == b'\n' => place::COLON_ON,
            place::COLON_END | place::COLON_ON => {
                if is_blank(byte) {
                    place::COLON
                } else {
                    place::NOWHERE
                }
            }
            place::COLON => Self::at_colon(byte),
            place::VALUE_END if byte == b'\n' => place::VALUE_ON,
            place::VALUE_END | place::VALUE_ON => {
                if is_blank(byte) {
                    place::VALUE
                } else {
                    place::NOWHERE
                }
            }
            place::VALUE => self.at_value(byte, index),
            place::FIRST => {
                if is_of_word(byte) {
                    self.take(byte);
                    place::FIRST
                } else if byte == b'@' {
                    self.take(byte);
                    place::SECOND
                } else {
                    self.behind(byte)
                }
            }
            place::SECOND => {
                if is_of_word(byte) {
                    self.take(byte);
                    self.second = 1;
                    place::SECOND
                } else if self.second == 0 {
                    // No Call-ID; another header may have one.
                    Self::in_line(byte)
                } else {
                    self.behind(byte)
                }
            }
            over => over,
        };
        self.place < place::NOWHERE
    }
}

/// Letters of `Call-ID`.
const NAME_LENGTH: u64 = 7;

/// A letter of the long name, as one with bit 5 set looks.
#[inline(always)]
const fn letter(index: u64) -> u8 {
    // One constant: indexing would be a look-up in memory.
    const NAME: u64 = u64::from_le_bytes(*b"call-id\0");
    (NAME >> ((index & 7) * 8)) as u8
}

#[inline(always)]
const fn is_end(byte: u8) -> bool {
    byte == b'\r' || byte == b'\n'
}

#[inline(always)]
const fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// A letter, to the kernel one of Latin-1.
#[inline(always)]
const fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0xc0 && byte != 0xd7 && byte != 0xf7
}

/// Letters, digits and ``- . ! % * _ + ` ' ~ ( ) < > : \ " / [ ] ? { }``.
#[inline(always)]
const fn is_of_word(byte: u8) -> bool {
    const SET: [u64; 2] = ascii(b"-.!%*_+`'~()<>:\\\"/[]?{}");
    if byte >= 0x80 {
        return is_letter(byte);
    }
    let half = if byte < 64 { SET[0] } else { SET[1] };
    half >> (byte & 63) & 1 != 0
}

/// A bit for each letter, digit and character of `more`.
const fn ascii(more: &[u8]) -> [u64; 2] {
    let mut set = [0; 2];
    let mut byte = 0;
    while byte < 128 {
        if (byte as u8).is_ascii_alphanumeric() {
            set[byte / 64] |= 1 << (byte % 64);
        }
        byte += 1;
    }
    let mut at = 0;
    while at < more.len() {
        set[more[at] as usize / 64] |= 1 << (more[at] % 64);
        at += 1;
    }
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINTS: [u64; 3] = [0x1234_5678, 0x3456_789a, 0x0765_4321];

    /// The Call-ID that is found.
    fn found(text: &[u8]) -> Option<(Vec<u8>, [u64; 2])> {
        let mut search = CallId::new(Sums::new(POINTS));
        for (index, byte) in text.iter().enumerate() {
            if !search.step(*byte, index as u64) {
                break;
            }
        }
        let words = search.found()?.words();
        let start = search.start() as usize;
        Some((text[start..start + search.length as usize].to_vec(), words))
    }

    /// Of a message with these headers.
    fn of(headers: &str) -> Option<String> {
        let (id, _) = found(format!("INVITE sip:x SIP/2.0\r\n{headers}").as_bytes())?;
        Some(String::from_utf8(id).unwrap())
    }

    #[test]
    fn the_kernels_findings() {
        for (headers, want) in [
            ("Call-ID: a@b\r\n", Some("a@b")),
            ("cALL-iD:a@b\r", Some("a@b")),
            ("i: a@b\n", Some("a@b")),
            ("I \t: \t a\r\n", Some("a")),
            ("Call-ID:\r\n a@b\r\n", Some("a@b")),
            ("Call-ID\r\n : a\r\n", Some("a")),
            ("Call-ID:\n a\r\n", Some("a")),
            ("Via: x\r\nCall-ID: a\r\n", Some("a")),
            ("\r\n\r\nCall-ID: a\r\n", Some("a")),
            ("Call-ID: a\r\nCall-ID: b\r\n", Some("a")),
            ("Cal\r\nCall-ID: a\r\n", Some("a")),
            ("ix: a\r\ni: b\r\n", Some("b")),
            ("To: a\r\n\ti: b\r\ni: c\r\n", Some("c")),
            ("Call-ID: $\r\ni: b\r\n", Some("b")),
            ("Call-ID: a@\r\ni: b\r\n", Some("b")),
            ("Call-ID: a", None),
            ("Call-ID: a b\r\ni: c\r\n", None),
            ("Call-ID: a@b@c\r\n", None),
            ("Call-ID: @a\r\n", None),
            ("Call-ID a\r\ni: b\r\n", None),
            ("Call-ID:\r\na\r\n", None),
            ("X-Call-ID: a\r\n", None),
            ("a\n\n\ni: b\r\n", Some("b")),
            ("a\n\ni: b\r\n", None),
            ("Call-ID:\n\n a\r\n", None),
            ("Call-ID\n\n : a\r\n", None),
            ("Via: x\r\r", None),
            ("Via: x\r\rCall-ID: a\r\n", None),
            ("Via: x\n\rCall-ID: a\r\n", None),
            (" Call-ID: a\r\n", None),
            ("Call-IDs: a\r\ni: b\r\n", None),
            ("", None),
        ] {
            assert_eq!(of(headers).as_deref(), want, "{headers:?}");
        }
        assert_eq!(
            found(b"Call-ID: a\r\n"),
            None,
            "the first line has no header"
        );
        let long = |count| of(&format!("i:{}\r\n", "a".repeat(count)));
        assert_eq!(long(255).unwrap().len(), 255);
        assert_eq!(long(256), None);
        assert_eq!(found(b"x\ni:\xff\n").unwrap().0, [0xff]);
        assert_eq!(found(b"x\ni:\x80\n"), None);
    }

    #[test]
    fn sums_tell_calls_apart() {
        let words = |id: &str| found(format!("x\ni:{id}\n").as_bytes()).unwrap().1;
        let mut seen = std::collections::HashSet::new();
        for id in 0..10_000 {
            let [first, second] = words(&id.to_string());
            assert!(first < 1 << 32 && second < 1 << 54);
            assert!(seen.insert(first) && seen.insert(second | 1 << 60));
        }
        assert_eq!(words("a@b"), words("a@b"));
        assert_ne!(words("a"), words("aa"));
        // What came before a header that was none does not count.
        let after = found(b"x\ni:zz@\ni:a@b\n").unwrap().1;
        assert_eq!(after, words("a@b"));
    }
}
