//! `-R`: one command a line, without quotes.

use super::{
    command::{Command, build},
    grammar::CommandId,
    line::Line,
    names::SystemNames,
    run::{Outcome, Session},
};
use crate::model::Request;

/// Changes that wait to be asked for together.
type Batch = Vec<(CommandId, Request)>;

impl Session<'_, '_> {
    /// Carries out the lines of standard input in their order, each for
    /// itself. An error in a line's grammar ends everything with its status
    /// (what came before stays done); a refusal is printed and the next line
    /// follows. The status is that of the last line carried out.
    ///
    /// The changes among the lines that have arrived become one transaction:
    /// ten thousand of them would otherwise wait for ten thousand grace
    /// periods. Nothing waits for lines that have not arrived, so that a
    /// program or a person may feed them one by one.
    pub(super) fn restore(&mut self) -> Outcome {
        let mut status = 0;
        let mut line = Vec::new();
        let mut batch = Batch::new();
        loop {
            let arrived = match self.io.stdin.fill_buf() {
                Ok(arrived) => arrived.to_vec(),
                Err(error) => {
                    self.complain(&format!("lvx: cannot read standard input: {error}"));
                    return Outcome::Exit(1);
                }
            };
            self.io.stdin.consume(arrived.len());
            let mut outcome = Outcome::Done(status);
            for piece in arrived.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    outcome = self.restore_line(&line, &mut batch, status);
                    line.clear();
                }
                match outcome {
                    Outcome::Done(code) => status = code,
                    Outcome::Exit(_) => return outcome,
                }
            }
            if arrived.is_empty() {
                // The last line may lack its end.
                outcome = self.restore_line(&line, &mut batch, status);
            }
            if let Outcome::Done(status) = outcome {
                outcome = self.flush(&mut batch, status);
            }
            match outcome {
                Outcome::Done(code) if arrived.is_empty() => return Outcome::Done(code),
                Outcome::Done(code) => status = code,
                Outcome::Exit(_) => return outcome,
            }
        }
    }

    /// One line; a change only joins the batch.
    fn restore_line(&mut self, line: &[u8], batch: &mut Batch, status: u8) -> Outcome {
        let words = words(&String::from_utf8_lossy(line));
        if words.is_empty() {
            return Outcome::Done(status);
        }
        match self.parse(&words) {
            Ok(Command::Change(id, request)) if request.is_change() => {
                batch.push((id, request));
                Outcome::Done(status)
            }
            other => match self.flush(batch, status) {
                Outcome::Done(_) => self.act(other, true),
                exit => exit,
            },
        }
    }

    fn flush(&mut self, batch: &mut Batch, status: u8) -> Outcome {
        if batch.is_empty() {
            Outcome::Done(status)
        } else {
            self.changes(std::mem::take(batch))
        }
    }
}

/// The change that one line of a saved table asks for; nothing where the line is
/// empty or a comment.
///
/// # Errors
/// What is wrong with the line.
pub(crate) fn change(line: &str) -> Result<Option<Request>, String> {
    let words = words(line);
    if words.is_empty() {
        return Ok(None);
    }
    match Line::parse("ipvsadm", &words, &SystemNames).and_then(build) {
        Ok(Command::Change(_, request)) if request.is_change() => Ok(Some(request)),
        Ok(_) => Err(format!("{}: not a line of a saved table", words[0])),
        Err(failure) => Err(failure.text.trim_end().to_owned()),
    }
}

/// The words of a line; none of a comment, which the original refuses. The
/// word `ipvsadm` is dropped so that saved shell commands work too.
fn words(line: &str) -> Vec<String> {
    let words = line
        .split([' ', '\t', '\r', '\n'])
        .filter(|word| !word.is_empty() && *word != "ipvsadm");
    let words: Vec<String> = words.map(str::to_owned).collect();
    if words.first().is_some_and(|word| word.starts_with('#')) {
        Vec::new()
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn lines_to_words() {
        assert_eq!(
            words("ipvsadm -A\t-t  10.0.0.1:80\r\n"),
            ["-A", "-t", "10.0.0.1:80"]
        );
        assert_eq!(words("-A \"10.0.0.1\""), ["-A", "\"10.0.0.1\""]);
        assert!(words(" # note").is_empty());
        assert!(words("\r\n").is_empty());
        assert!(words("ipvsadm\n").is_empty());
        assert_eq!(words("-L # x"), ["-L", "#", "x"]);
    }
}
