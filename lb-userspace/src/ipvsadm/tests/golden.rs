//! Replays transcripts of the real ipvsadm against the fake daemon.
//!
//! A file holds `$ command`, then standard output as `O|…$`, standard error as
//! `E|…$` (`$` marks the end of a line), then `rc=N`. `<<` after a command
//! is its standard input, with `|` between lines. `@ clear` empties the
//! table. What lvx does not support yet stands in the same form with its own
//! answer; when it is built, the real answer goes there.

use crate::ipvsadm::fake::{FakeControl, FakeNames};
use crate::ipvsadm::run::{Io, Session};

/// Runs one command; its output in the file's form.
fn replay(command: &str, input: &str, control: &mut FakeControl) -> String {
    let mut words = command.split(' ');
    let program = words.next().unwrap_or_default();
    let words: Vec<String> = words
        .map(|word| {
            if word == "''" {
                String::new()
            } else {
                word.to_owned()
            }
        })
        .collect();
    let input = input.replace('|', "\n");
    let (mut stdin, mut stdout, mut stderr) = (input.as_bytes(), Vec::new(), Vec::new());
    let mut io = Io {
        stdin: &mut stdin,
        stdout: &mut stdout,
        stderr: &mut stderr,
    };
    let mut session = Session {
        argv0: "ipvsadm",
        control,
        io: &mut io,
        names: &FakeNames,
    };
    let status = match program {
        "ipvsadm" => session.run(&words),
        "ipvsadm-save" => session.run_save(&words),
        "ipvsadm-restore" => session.run_restore(&words),
        _ => panic!("no program {program:?}"),
    };
    let mark = |letter, bytes: &[u8]| -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.lines()
            .map(|line| format!("{letter}|{line}$\n"))
            .collect()
    };
    format!("{}{}rc={status}\n", mark('O', &stdout), mark('E', &stderr))
}

fn replay_file(text: &str) {
    let mut control = FakeControl::default();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut lines = text.lines().enumerate().peekable();
    while let Some((number, line)) = lines.next() {
        if line == "@ clear" {
            control = FakeControl::default();
        }
        let Some(command) = line.strip_prefix("$ ") else {
            assert!(
                line.is_empty() || line.starts_with(['#', '@']),
                "line {}: {line}",
                number + 1
            );
            continue;
        };
        let mut want = String::new();
        while let Some((_, line)) =
            lines.next_if(|(_, line)| line.starts_with("O|") || line.starts_with("E|"))
        {
            want += &format!("{line}\n");
        }
        let (_, rc) = lines
            .next_if(|(_, line)| line.starts_with("rc="))
            .expect("a command ends with rc=");
        want += &format!("{rc}\n");
        let (command, input) = command.split_once(" << ").unwrap_or((command, ""));
        let got = replay(command, input, &mut control);
        if got != want {
            wrong.push(format!(
                "line {}: {command}\nwant:\n{want}got:\n{got}",
                number + 1
            ));
        }
        count += 1;
    }
    assert!(count > 10, "a transcript of {count} commands");
    assert!(
        wrong.is_empty(),
        "{} of {count} differ\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn services() {
    replay_file(include_str!("../../../tests/golden/services.txt"));
}

#[test]
fn schedulers() {
    replay_file(include_str!("../../../tests/golden/schedulers.txt"));
}

#[test]
fn servers() {
    replay_file(include_str!("../../../tests/golden/servers.txt"));
}

#[test]
fn forwarding() {
    replay_file(include_str!("../../../tests/golden/forwarding.txt"));
}

#[test]
fn restore() {
    replay_file(include_str!("../../../tests/golden/restore.txt"));
}

#[test]
fn grammar() {
    replay_file(include_str!("../../../tests/golden/grammar.txt"));
}

#[test]
fn persistence() {
    replay_file(include_str!("../../../tests/golden/persistence.txt"));
}

#[test]
fn marks() {
    replay_file(include_str!("../../../tests/golden/marks.txt"));
}

#[test]
fn unsupported() {
    replay_file(include_str!("../../../tests/golden/unsupported.txt"));
}
