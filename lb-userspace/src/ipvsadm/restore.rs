//! `-R`: one command a line, without quotes.

use super::run::{Outcome, Session};

impl Session<'_, '_> {
    /// Carries out the lines of standard input in their order, each for
    /// itself. An error in a line's grammar ends everything with its status
    /// (what came before stays done); a refusal is printed and the next line
    /// follows. The status is that of the last line carried out.
    pub(super) fn restore(&mut self) -> Outcome {
        let mut status = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            match self.io.stdin.read_until(b'\n', &mut line) {
                Ok(0) => return Outcome::Done(status),
                Ok(_) => {}
                Err(error) => {
                    self.complain(&format!("lvx: cannot read standard input: {error}"));
                    return Outcome::Exit(1);
                }
            }
            let words = words(&String::from_utf8_lossy(&line));
            if words.is_empty() {
                continue;
            }
            match self.line(&words, true) {
                Outcome::Done(code) => status = code,
                Outcome::Exit(code) => return Outcome::Exit(code),
            }
        }
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
