//! `-R`: one command a line, without quotes.

use super::{
    command::{Command, build},
    failure::Failure,
    line::Line,
    names::SystemNames,
    run::{Outcome, Session},
};
use crate::model::{Request, Response};

/// A line with its number: what it asks for, or an error after which others follow.
type Asked = (usize, Result<Command, Failure>);

/// What ends a restore before its input does.
#[derive(Debug)]
enum End {
    /// An error in a line.
    Error(usize, Failure),
    /// `-h`, `-v`.
    Told(usize, Command),
}

impl Session<'_, '_> {
    /// Carries out the lines of standard input in their order, each for
    /// itself. An error in a line's grammar ends everything with its status
    /// (what came before stays done); a refusal, or an option that popt does not
    /// understand, is told and the next line follows. The status is that of the last line.
    ///
    /// The lines that the reader of standard input gives at once become one
    /// transaction: packets meet the table before it or the table after it. Queries
    /// among them see what the lines before them have done. With `strict` all lines
    /// are one, and one that is refused undoes it. `first` is the first line's number.
    pub(super) fn restore(&mut self, strict: bool, first: usize) -> Outcome {
        let mut status = 0;
        let mut number = first;
        let mut line = Vec::new();
        let mut asked = Vec::new();
        loop {
            let arrived = match self.io.stdin.fill_buf() {
                Ok(arrived) => arrived.to_vec(),
                Err(error) => {
                    self.complain(&format!("lvx: cannot read standard input: {error}"));
                    return Outcome::Exit(1);
                }
            };
            self.io.stdin.consume(arrived.len());
            let last = arrived.is_empty();
            let mut end = None;
            for piece in arrived.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(piece);
                if piece.ends_with(b"\n") {
                    end = self.read_line(&line, number, strict, &mut asked);
                    line.clear();
                    number += 1;
                }
                if end.is_some() {
                    break;
                }
            }
            if last {
                // The last line may lack its end.
                end = self.read_line(&line, number, strict, &mut asked);
            }
            if strict {
                match end {
                    Some(end) => return self.undo(end),
                    None if last => return self.all_or_nothing(&asked),
                    None => continue,
                }
            }
            match self.carry_out_all(&std::mem::take(&mut asked), status) {
                Outcome::Done(code) => status = code,
                exit => return exit,
            }
            match end {
                Some(End::Error(_, failure)) => return self.fail(&failure),
                Some(End::Told(_, command)) => return self.tell(&command),
                None if last => return Outcome::Done(status),
                None => {}
            }
        }
    }

    /// What a line asks joins the others.
    fn read_line(
        &self,
        line: &[u8],
        number: usize,
        strict: bool,
        asked: &mut Vec<Asked>,
    ) -> Option<End> {
        let words = words(&String::from_utf8_lossy(line));
        if words.is_empty() {
            return None;
        }
        match self.parse(&words) {
            Ok(Command::Restore { .. }) => Some(End::Error(number, Failure::try_help(self.argv0))),
            Ok(command @ (Command::Help | Command::Version)) => Some(End::Told(number, command)),
            Err(failure) if failure.ends || strict => Some(End::Error(number, failure)),
            other => {
                asked.push((number, other));
                None
            }
        }
    }

    /// Each line is done or refused for itself. The status is that of the last.
    fn carry_out_all(&mut self, asked: &[Asked], status: u8) -> Outcome {
        let requests = requests(asked);
        // Without a daemon only queries are answered, and each by itself.
        let alone = requests.len() < 2 || !requests.iter().any(Request::is_change);
        let answers = if alone {
            let mut answers = Vec::new();
            for request in requests {
                answers.push(self.control.request(request));
            }
            answers
        } else {
            match self.control.request(Request::Batch(requests)) {
                Ok(Response::Batch(answers)) => answers.into_iter().map(Ok).collect(),
                Ok(_) => return self.unexpected(),
                Err(error) => return self.unreachable(&error),
            }
        };
        let mut answers = answers.into_iter();
        let mut outcome = Outcome::Done(status);
        for (_, line) in asked {
            outcome = match line {
                Ok(command) => match answers.next() {
                    Some(Ok(response)) => self.answered(command, response),
                    Some(Err(error)) => self.unreachable(&error),
                    None => self.unexpected(),
                },
                Err(failure) => {
                    self.fail(failure);
                    Outcome::Done(failure.status)
                }
            };
            if matches!(outcome, Outcome::Exit(_)) {
                break;
            }
        }
        outcome
    }

    /// All lines, or none.
    fn all_or_nothing(&mut self, asked: &[Asked]) -> Outcome {
        let requests = requests(asked);
        let answers = match self.control.request(Request::Strict(requests)) {
            Ok(Response::Batch(answers)) if answers.len() <= asked.len() => answers,
            Ok(_) => return self.unexpected(),
            Err(error) => return self.unreachable(&error),
        };
        if let Some(Response::Refused(_)) = answers.last()
            && let Some((number, _)) = asked.get(answers.len() - 1)
        {
            self.nothing_changed(*number);
        }
        let mut outcome = Outcome::Done(0);
        let refused = |answer: &Response| matches!(answer, Response::Refused(_));
        let failed = answers.last().is_some_and(refused);
        let commands = asked.iter().filter_map(|(_, line)| line.as_ref().ok());
        for (command, answer) in commands.zip(answers) {
            // What queries would have shown is not so.
            if !failed || refused(&answer) {
                outcome = self.answered(command, answer);
            }
        }
        outcome
    }

    fn undo(&mut self, end: End) -> Outcome {
        match end {
            End::Error(number, failure) => {
                self.nothing_changed(number);
                self.fail(&failure)
            }
            End::Told(number, _) => {
                self.nothing_changed(number);
                self.fail(&Failure::usage(
                    "lvx: help and version end a restore, which --strict does not allow",
                ))
            }
        }
    }

    fn nothing_changed(&mut self, number: usize) {
        self.complain(&format!(
            "lvx: nothing was changed, because of line {number}:"
        ));
    }
}

fn requests(asked: &[Asked]) -> Vec<Request> {
    asked
        .iter()
        .filter_map(|(_, line)| line.as_ref().ok()?.request())
        .collect()
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
