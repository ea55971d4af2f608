//! Standard input of a restore: what comes together is given at once.

use std::{
    fs::File,
    io::{self, BufRead, Read},
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::FileTypeExt as _,
    },
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a pipe's writer may pause, in milliseconds, before what it has
/// written is given: who writes a rule file into it does not, and who holds it
/// open to write commands now and then must see them done.
const PAUSE: u16 = 1_000;
/// Bytes read by one call.
const PIECE: usize = 1 << 16;

/// A file is given whole. Of a pipe everything up to a pause of a second is; of
/// anything else (a terminal, a socket) what is there.
#[derive(Debug)]
pub(super) struct Gather {
    input: File,
    pause: PollTimeout,
    held: Vec<u8>,
    given: usize,
    ended: bool,
}

impl Gather {
    /// Reads from this descriptor.
    ///
    /// # Errors
    /// When it is closed.
    pub(super) fn new(input: BorrowedFd<'_>) -> io::Result<Self> {
        let input = File::from(input.try_clone_to_owned()?);
        let kind = input.metadata()?.file_type();
        let pause = if kind.is_fifo() {
            PollTimeout::from(PAUSE)
        } else if kind.is_file() {
            PollTimeout::NONE
        } else {
            PollTimeout::ZERO
        };
        Ok(Self {
            input,
            pause,
            held: Vec::new(),
            given: 0,
            ended: false,
        })
    }

    /// Whether more comes before the pause is over.
    fn comes(&self) -> io::Result<bool> {
        let mut wanted = [PollFd::new(self.input.as_fd(), PollFlags::POLLIN)];
        Ok(poll(&mut wanted, self.pause)? > 0)
    }
}

impl Read for Gather {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut held = self.fill_buf()?;
        let count = held.read(buffer)?;
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Gather {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.given == self.held.len() && !self.ended {
            self.held.clear();
            self.given = 0;
            loop {
                let before = self.held.len();
                self.held.resize(before + PIECE, 0);
                let read = self.input.read(&mut self.held[before..]);
                self.held.truncate(before + *read.as_ref().unwrap_or(&0));
                self.ended = match read {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => false,
                    count => count? == 0,
                };
                if self.ended || !self.comes()? {
                    break;
                }
            }
        }
        Ok(&self.held[self.given..])
    }

    fn consume(&mut self, count: usize) {
        self.given = (self.given + count).min(self.held.len());
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, thread, time::Duration};

    use super::*;

    #[test]
    fn a_pipe_is_given_whole_unless_its_writer_pauses() {
        let (reader, mut writer) = io::pipe().unwrap();
        let mut gather = Gather::new(reader.as_fd()).unwrap();
        let writing = thread::spawn(move || {
            for line in ["a\n", "b\n", "c\n"] {
                writer.write_all(line.as_bytes()).unwrap();
                thread::sleep(Duration::from_millis(100));
            }
            thread::sleep(Duration::from_millis(2 * u64::from(PAUSE)));
            writer.write_all(b"d").unwrap();
        });
        for expected in ["a\nb\nc\n", "d", ""] {
            let given = gather.fill_buf().unwrap().to_vec();
            assert_eq!(given, expected.as_bytes());
            gather.consume(given.len());
        }
        writing.join().unwrap();
    }

    #[test]
    fn a_file_is_given_whole() {
        let mut file = tempfile::tempfile().unwrap();
        let text = "x".repeat(PIECE + 7);
        file.write_all(text.as_bytes()).unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let mut gather = Gather::new(file.as_fd()).unwrap();
        assert_eq!(gather.fill_buf().unwrap().len(), text.len());
    }
}
