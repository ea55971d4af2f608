//! Random sequences of commands: some as people write them, some that break
//! each of the rules.

use super::{
    transcript::{Item, Step},
    values::{self as v, Pool},
};
use crate::random::dice::Dice;

/// Commands of a sequence.
const LENGTH: std::ops::Range<usize> = 4..17;

/// An option: its short and long name, what it takes.
struct Opt {
    short: &'static str,
    long: &'static str,
    takes: Takes,
}

#[derive(Clone, Copy)]
enum Takes {
    Nothing,
    One(Pool),
    Perhaps(Pool),
}

/// A command: its names, what it cannot do without, what it may have.
struct Cmd {
    short: &'static str,
    long: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
    often: usize,
}

const fn opt(short: &'static str, long: &'static str, takes: Takes) -> Opt {
    Opt { short, long, takes }
}

const OPTIONS: &[Opt] = &[
    opt("-t", "--tcp-service", Takes::One(v::SERVICE)),
    opt("-u", "--udp-service", Takes::One(v::SERVICE)),
    opt("", "--sctp-service", Takes::One(v::SERVICE)),
    opt("-f", "--fwmark-service", Takes::One(v::MARK)),
    opt("-6", "--ipv6", Takes::Nothing),
    opt("-s", "--scheduler", Takes::One(v::SCHEDULER)),
    opt("-b", "--sched-flags", Takes::One(v::FLAGS)),
    opt("-p", "--persistent", Takes::Perhaps(v::PERSISTENCE)),
    opt("-M", "--netmask", Takes::One(v::MASK)),
    opt("", "--pe", Takes::One(v::ENGINE)),
    opt("-o", "--ops", Takes::Nothing),
    opt("-r", "--real-server", Takes::One(v::SERVER)),
    opt("-g", "--gatewaying", Takes::Nothing),
    opt("-i", "--ipip", Takes::Nothing),
    opt("-m", "--masquerading", Takes::Nothing),
    opt("-w", "--weight", Takes::One(v::WEIGHT)),
    opt("-x", "--u-threshold", Takes::One(v::THRESHOLD)),
    opt("-y", "--l-threshold", Takes::One(v::THRESHOLD)),
    opt("", "--tun-type", Takes::One(v::TUNNEL)),
    opt("", "--tun-port", Takes::One(v::PORT)),
    opt("", "--tun-nocsum", Takes::Nothing),
    opt("", "--tun-csum", Takes::Nothing),
    opt("", "--tun-remcsum", Takes::Nothing),
    opt("-n", "--numeric", Takes::Nothing),
    opt("-c", "--connection", Takes::Nothing),
    opt("", "--stats", Takes::Nothing),
    opt("", "--rate", Takes::Nothing),
    opt("-X", "--exact", Takes::Nothing),
    opt("", "--thresholds", Takes::Nothing),
    opt("", "--persistent-conn", Takes::Nothing),
    opt("", "--tun-info", Takes::Nothing),
    opt("", "--timeout", Takes::Nothing),
    opt("", "--daemon", Takes::Nothing),
    opt("", "--nosort", Takes::Nothing),
    opt("", "--sort", Takes::Nothing),
    opt("", "--mcast-interface", Takes::One(v::INTERFACE)),
    opt("", "--syncid", Takes::One(v::SMALL)),
    opt("", "--sync-maxlen", Takes::One(v::SMALL)),
    opt("", "--mcast-group", Takes::One(v::GROUP)),
    opt("", "--mcast-port", Takes::One(v::PORT)),
    opt("", "--mcast-ttl", Takes::One(v::SMALL)),
];

/// Stands for one of `-t`, `-u`, `--sctp-service`, `-f`, `-f … -6`.
const SERVICE: &str = "service";

const SERVICE_MAY: &[&str] = &["-s", "-s", "-p", "-M", "-b", "-o", "--pe"];
const SERVER_MAY: &[&str] = &[
    "-g",
    "-i",
    "-m",
    "-w",
    "-w",
    "-x",
    "-y",
    "--tun-type",
    "--tun-port",
    "--tun-nocsum",
    "--tun-csum",
    "--tun-remcsum",
];
const LIST_MAY: &[&str] = &[
    "-n",
    "-n",
    "-n",
    "-c",
    "--stats",
    "--rate",
    "-X",
    "--thresholds",
    "--persistent-conn",
    "--tun-info",
    "--timeout",
    "--daemon",
    "--nosort",
    "--sort",
    "--syncid",
    SERVICE,
];
const DAEMON_MAY: &[&str] = &[
    "--mcast-interface",
    "--syncid",
    "--sync-maxlen",
    "--mcast-group",
    "--mcast-port",
    "--mcast-ttl",
];

const fn cmd(
    short: &'static str,
    long: &'static str,
    needs: &'static [&'static str],
    may: &'static [&'static str],
    often: usize,
) -> Cmd {
    Cmd {
        short,
        long,
        needs,
        may,
        often,
    }
}

const COMMANDS: &[Cmd] = &[
    cmd("-A", "--add-service", &[SERVICE], SERVICE_MAY, 28),
    cmd("-E", "--edit-service", &[SERVICE], SERVICE_MAY, 8),
    cmd("-D", "--delete-service", &[SERVICE], &[], 5),
    cmd("-a", "--add-server", &[SERVICE, "-r"], SERVER_MAY, 24),
    cmd("-e", "--edit-server", &[SERVICE, "-r"], SERVER_MAY, 8),
    cmd("-d", "--delete-server", &[SERVICE, "-r"], &[], 5),
    cmd("-L", "--list", &[], LIST_MAY, 9),
    cmd("-l", "--list", &[], LIST_MAY, 2),
    cmd("-S", "--save", &[], &["-n"], 3),
    cmd("-Z", "--zero", &[], &[SERVICE], 2),
    cmd("-C", "--clear", &[], &[], 1),
    cmd("", "--set", &[], &[], 2),
    cmd("", "--start-daemon", &[], DAEMON_MAY, 1),
    cmd("", "--stop-daemon", &[], &["--syncid"], 1),
    cmd("-h", "--help", &[], LIST_MAY, 1),
    cmd("-v", "--version", &[], LIST_MAY, 1),
];

/// Sequences with at least `count` commands in all, each from an empty table.
#[must_use]
pub fn sequences(seed: u64, count: usize) -> Vec<Vec<Item>> {
    let mut made = 0;
    let mut all = Vec::new();
    while made < count {
        let number = all.len() as u64;
        let mut dice = Dice::new(seed.wrapping_mul(0x1_0000_0001) ^ number.wrapping_mul(0x9e37));
        let length = LENGTH.start + dice.below(LENGTH.len());
        made += length;
        all.push(sequence(&mut dice, length));
    }
    all
}

fn sequence(dice: &mut Dice, length: usize) -> Vec<Item> {
    let mut items = vec![Item::Clear];
    for _ in 0..length {
        items.push(Item::Step(step(dice)));
        if dice.percent(25) {
            items.push(Item::command(&["ipvsadm", "-Sn"]));
        }
    }
    let more = dice.pick(&[
        "-L",
        "-S",
        "-L --stats",
        "-L -n --rate",
        "-L -n --thresholds",
        "-L -n --persistent-conn",
        "-L -n --tun-info",
        "-L --timeout",
    ]);
    // Three listings of what it has come to, by one program.
    items.push(Item::Step(Step {
        words: vec!["ipvsadm".into(), "-R".into()],
        input: format!("-S -n\n-L -n\n{more}\n"),
        answer: None,
    }));
    items
}

fn step(dice: &mut Dice) -> Step {
    let mut step = Step::default();
    match dice.below(100) {
        0..6 => {
            let program = if dice.percent(50) {
                "ipvsadm-restore"
            } else {
                "ipvsadm"
            };
            step.words.push(program.into());
            if program == "ipvsadm" {
                step.words.push(dice.pick(&["-R", "--restore"]).into());
                if dice.percent(5) {
                    step.words.push(dice.pick(v::STRAY).into());
                }
            }
            step.input = input(dice);
        }
        6..8 => {
            step.words.push("ipvsadm-save".into());
            let words = ["-n", "-n", "x", "-x", "--", "-", "-nn", ""];
            for _ in 0..dice.below(3) {
                step.words.push(dice.pick(&words).into());
            }
        }
        _ => {
            step.words.push("ipvsadm".into());
            step.words.extend(line(dice));
        }
    }
    step
}

/// Lines for `-R`: they cannot quote, so words with blanks fall apart.
fn input(dice: &mut Dice) -> String {
    let mut text = String::new();
    for _ in 0..1 + dice.below(6) {
        match dice.below(20) {
            0 => text.push('\n'),
            1 => text += "# a note\n",
            2 => text += "-C\n",
            _ => {
                if dice.percent(10) {
                    text += "ipvsadm ";
                }
                // Mostly such as do not end it.
                let words = if dice.percent(85) {
                    plain_line(dice)
                } else {
                    line(dice)
                };
                text += &words.join(dice.pick(&[" ", " ", " ", "  ", "\t"]));
                text += dice.pick(&["\n", "\n", "\n", "\r\n", " # x\n", " \n", "\n", "\n"]);
            }
        }
    }
    if text == "\n" {
        // A transcript cannot tell it from nothing.
        text.push('\n');
    }
    text.replace(['|', '\''], "")
}

/// A command without an error in its grammar, most of the time.
fn plain_line(dice: &mut Dice) -> Vec<String> {
    let command = dice.pick(&["-A", "-A", "-A", "-a", "-a", "-a", "-e", "-d", "-D", "-E"]);
    let service = v::SERVICE.usual[dice.below(v::SERVICE.usual.len() - 1)];
    let mut words = vec![command.into(), dice.pick(&["-t", "-t", "-u"]).into()];
    words.push(service.to_owned());
    if matches!(command, "-a" | "-e" | "-d") {
        words.extend(["-r".to_owned(), dice.pick(v::SERVER.usual).to_owned()]);
        if command != "-d" {
            words.extend(["-w".to_owned(), dice.pick(v::WEIGHT.usual).to_owned()]);
            words.push(dice.pick(&["-g", "-i", "-m"]).to_owned());
        }
    } else if command != "-D" && dice.percent(70) {
        words.extend(["-s".to_owned(), dice.pick(v::SCHEDULER.usual).to_owned()]);
    }
    words
}

/// The words of one command.
fn line(dice: &mut Dice) -> Vec<String> {
    if dice.percent(2) {
        return (0..dice.below(3))
            .map(|_| dice.pick(v::STRAY).to_owned())
            .collect();
    }
    let total = COMMANDS.iter().map(|command| command.often).sum();
    let mut at = dice.below(total);
    let command = COMMANDS
        .iter()
        .find(|command| match at.checked_sub(command.often) {
            Some(less) => {
                at = less;
                false
            }
            None => true,
        })
        .unwrap_or(&COMMANDS[0]);
    let mut groups: Vec<Vec<String>> = Vec::new();
    for need in command.needs {
        if !dice.percent(4) {
            groups.push(option(dice, need));
        }
    }
    let likely = if command.may.len() > 12 { 10 } else { 25 };
    for may in command.may {
        if dice.percent(likely) {
            groups.push(option(dice, may));
        }
    }
    if dice.percent(8) {
        let foreign = &OPTIONS[dice.below(OPTIONS.len())];
        groups.push(option(dice, foreign.long));
    }
    if dice.percent(3) {
        groups.push(vec![dice.pick(v::STRAY).to_owned()]);
    }
    if dice.percent(2) && !groups.is_empty() {
        groups.push(groups[dice.below(groups.len())].clone());
    }
    if dice.percent(30) {
        shuffle(dice, &mut groups);
    }
    let by_long = command.short.is_empty() || dice.percent(15);
    let mut words = vec![if by_long { command.long } else { command.short }.to_owned()];
    match command.long {
        "--set" => {
            let count = if dice.percent(90) { 3 } else { dice.below(5) };
            for _ in 0..count {
                words.push(draw(dice, v::SECONDS));
            }
        }
        "--start-daemon" | "--stop-daemon" => argument(dice, &mut words, v::ROLE, false),
        _ => {}
    }
    for group in groups {
        // Short options run together.
        let bundle = group[0].len() == 2
            && group[0].starts_with('-')
            && words.len() == 1
            && words[0].len() == 2
            && dice.percent(40);
        if bundle {
            words[0].push_str(&group[0][1..]);
            words.extend_from_slice(&group[1..]);
        } else {
            words.extend(group);
        }
    }
    if dice.percent(2) && words.len() > 1 {
        words.swap(0, 1);
    }
    words
}

fn shuffle<T>(dice: &mut Dice, items: &mut [T]) {
    for at in (1..items.len()).rev() {
        items.swap(at, dice.below(at + 1));
    }
}

/// An option with its argument, in one of the ways to write it.
fn option(dice: &mut Dice, name: &str) -> Vec<String> {
    if name == SERVICE {
        return match dice.below(20) {
            0..9 => option(dice, "-t"),
            9..13 => option(dice, "-u"),
            13 => option(dice, "--sctp-service"),
            14..17 => option(dice, "-f"),
            _ => [option(dice, "-f"), option(dice, "-6")].concat(),
        };
    }
    let Some(spec) = OPTIONS
        .iter()
        .find(|option| option.short == name || option.long == name)
    else {
        return Vec::new();
    };
    let long = spec.short.is_empty() || dice.percent(12);
    let mut words = vec![if long { spec.long } else { spec.short }.to_owned()];
    match spec.takes {
        Takes::Nothing => {}
        Takes::One(pool) => argument(dice, &mut words, pool, !long),
        Takes::Perhaps(pool) => {
            if dice.percent(70) {
                argument(dice, &mut words, pool, !long);
            }
        }
    }
    words
}

/// The argument as a word of its own, after `=`, or attached.
fn argument(dice: &mut Dice, words: &mut Vec<String>, pool: Pool, short: bool) {
    let value = draw(dice, pool);
    match dice.below(10) {
        0 => words[0] += &format!("={value}"),
        1 if short => words[0] += &value,
        _ if dice.percent(1) => {}
        _ => words.push(value),
    }
}

fn draw(dice: &mut Dice, pool: Pool) -> String {
    let odd = dice.percent(10);
    dice.pick(if odd { pool.odd } else { pool.usual })
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::transcript;

    #[test]
    fn a_seed_gives_the_same_for_ever_and_a_transcript_keeps_it() {
        let all = sequences(7, 500);
        assert!(all == sequences(7, 500) && all != sequences(8, 500));
        let items = all.concat();
        let read = transcript::read(&transcript::write(&items)).unwrap();
        for (read, item) in read.iter().zip(&items) {
            assert_eq!(read, item);
        }
        assert_eq!(read.len(), items.len());
    }
}
