//! Any line at all: an answer and an exit status, never a panic.

use proptest::prelude::*;

use crate::ipvsadm::fake::{FakeControl, FakeNames};
use crate::ipvsadm::grammar::{COMMANDS, OPTIONS};
use crate::ipvsadm::run::{Io, Session};

/// A run's exit status and whether standard error has a line.
fn run(words: &[String], control: &mut FakeControl, input: &str) -> (u8, bool) {
    let (mut stdin, mut stdout, mut stderr) = (input.as_bytes(), Vec::new(), Vec::new());
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let status = Session {
        argv0: "ipvsadm",
        control,
        io: &mut io,
        names: &FakeNames,
    }
    .run(words);
    (status, stderr.ends_with(b"\n"))
}

fn token() -> impl Strategy<Value = String> {
    let long = COMMANDS
        .iter()
        .map(|c| format!("--{}", c.long))
        .chain(OPTIONS.iter().map(|o| format!("--{}", o.long)));
    let short = COMMANDS
        .iter()
        .flat_map(|c| c.short.iter().copied())
        .chain(OPTIONS.iter().filter_map(|o| o.short));
    let mut words: Vec<String> = long
        .chain(short.map(|letter| format!("-{letter}")))
        .collect();
    let values = [
        "10.0.0.1:80",
        "10.0.0.2",
        "[2001:db8::1]:80",
        "rr",
        "wrr",
        "wlc",
        "sh-port",
        "1",
        "0",
        "-1",
        "gue",
        "master",
        "ipvsadm",
        "#",
        "--",
        "-",
        "",
    ];
    words.extend(values.map(str::to_owned));
    prop_oneof![4 => prop::sample::select(words), 1 => "-?-?[A-Za-z0-9=,:.é%\\[\\]-]{0,8}"]
}

proptest! {
    #[test]
    fn words_of_the_grammar(words in prop::collection::vec(token(), 0..8)) {
        let (status, complained) = run(&words, &mut FakeControl::default(), "");
        prop_assert!([0, 1, 2, 255].contains(&status));
        prop_assert_eq!(complained, status != 0, "{:?}", words);
    }

    #[test]
    fn any_words(words in prop::collection::vec(any::<String>(), 0..5), first in 0..COMMANDS.len()) {
        let words: Vec<String> = std::iter::once(format!("--{}", COMMANDS[first].long)).chain(words).collect();
        let (status, complained) = run(&words, &mut FakeControl::default(), "");
        prop_assert_eq!(complained, status != 0, "{:?}", words);
    }

    #[test]
    fn any_input(input in any::<String>(), lines in prop::collection::vec(prop::collection::vec(token(), 0..6), 0..6)) {
        let lines: Vec<String> = lines.iter().map(|words| words.join(" ")).collect();
        let (status, _) = run(&["-R".to_owned()], &mut FakeControl::default(), &format!("{}\n{input}", lines.join("\n")));
        prop_assert!([0, 1, 2, 255].contains(&status));
    }

    /// A refused line asks nothing that changes something.
    #[test]
    fn errors_of_grammar_change_nothing(words in prop::collection::vec(token(), 1..8)) {
        let mut control = FakeControl::default();
        if run(&words, &mut control, "").0 == 2 {
            prop_assert!(control.requests.is_empty(), "{:?} {:?}", words, control.requests);
        }
    }
}
