use std::{
    env, fs,
    ops::Range,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use lvx_oracle::{
    commands::{
        compare::{Compared, HELP, compare},
        sequences, shrink,
        stage::{in_guest, on_lvx},
        transcript::{self, Item},
    },
    times,
    vm::Kernel,
};

/// Commands of one boot of the machine.
const BATCH: usize = 2_000;
/// Differences that are made small.
const SHRUNK: usize = 3;

/// Arguments of `commands`.
#[derive(ClapArgs)]
#[command(override_usage = "cargo xtask commands [OPTIONS] [TRANSCRIPTS]...")]
pub(crate) struct Args {
    /// Transcripts to play instead of random commands
    transcripts: Vec<PathBuf>,
    /// How many random commands
    #[arg(long, default_value_t = 2_000)]
    count: usize,
    /// Where random commands begin
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Keep the real ipvsadm's answers in the transcripts
    #[arg(long, requires = "transcripts")]
    record: bool,
    /// Keep random commands with the real ipvsadm's answers in a new transcript
    #[arg(long, value_name = "FILE", conflicts_with = "transcripts")]
    keep: Option<PathBuf>,
    /// Compare lvx with the answers that the transcripts hold; no machine is booted
    #[arg(long, requires = "transcripts", conflicts_with = "record")]
    recorded: bool,
    /// Which kernel: 6.12, or Debian 12's own 6.1
    #[arg(long, value_enum, default_value_t = Kernel::V6_12, hide_possible_values = true)]
    kernel: Kernel,
    /// Time large tables on both instead; a table in Markdown
    #[arg(long, value_name = "ROUNDS", num_args = 0..=1, default_missing_value = "3", conflicts_with = "transcripts")]
    times: Option<u32>,
    /// Show the commands and play nothing
    #[arg(long)]
    show: bool,
    /// Show differences as they are, not made small
    #[arg(long)]
    no_shrink: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if let Some(rounds) = args.times {
        print!(
            "{}",
            times::in_guest(args.kernel, rounds.max(1), &times::SIZES)?
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut total = Compared::default();
    let start = Instant::now();
    for Part { items, files } in parts(args)? {
        if args.show {
            print!("{}", transcript::write(&items));
            continue;
        }
        let (real, lvx) = if args.recorded {
            (items.clone(), on_lvx(&this_program()?, &items)?)
        } else {
            both(args.kernel, &items)?
        };
        if args.record || args.keep.is_some() {
            for (path, range) in files {
                fs::write(&path, transcript::write(&short(&real[range])))
                    .with_context(|| format!("cannot write {}", path.display()))?;
            }
        }
        let compared = compare(&real, &lvx);
        for (number, difference) in compared.differences.iter().enumerate() {
            let sequence = sequence(&items, difference.at);
            if args.no_shrink || args.recorded || number + total.differences.len() >= SHRUNK {
                println!("{}{}", transcript::write(sequence), difference.show());
                continue;
            }
            let play = |items: &[Item]| both(args.kernel, items);
            let (kept, found) = shrink::shrink(sequence, &play)?;
            let shown = found.as_ref().unwrap_or(difference).show();
            println!("{}{shown}", transcript::write(&kept[..kept.len() - 1]));
        }
        total.commands += compared.commands;
        total.skipped += compared.skipped;
        for (id, count) in compared.rows {
            *total.rows.entry(id).or_default() += count;
        }
        total.differences.extend(compared.differences);
        eprintln!(
            "{} commands in {:.0} s, {} differ",
            total.commands,
            start.elapsed().as_secs_f64(),
            total.differences.len()
        );
    }
    println!(
        "{} command lines compared, {} skipped after one that leaves another table, {} differ",
        total.commands,
        total.skipped,
        total.differences.len()
    );
    for (id, count) in &total.rows {
        println!("{count:>6} {id}");
    }
    Ok(ExitCode::from(u8::from(!total.differences.is_empty())))
}

/// What is played at once, and which part of the answers goes where.
#[derive(Default)]
struct Part {
    items: Vec<Item>,
    files: Vec<(PathBuf, Range<usize>)>,
}

impl Part {
    fn file(&mut self, path: &Path, items: Vec<Item>) {
        let start = self.items.len();
        self.items.extend(items);
        self.files.push((path.to_owned(), start..self.items.len()));
    }
}

fn parts(args: &Args) -> Result<Vec<Part>> {
    if !args.transcripts.is_empty() {
        let mut part = Part::default();
        for path in &args.transcripts {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let items = transcript::read(&text).with_context(|| path.display().to_string())?;
            part.items.push(Item::Clear);
            part.file(path, items);
        }
        return Ok(vec![part]);
    }
    let sequences = sequences(args.seed, args.count);
    if let Some(path) = &args.keep {
        let mut part = Part::default();
        part.file(path, sequences.concat());
        return Ok(vec![part]);
    }
    let mut parts = vec![Part::default()];
    for sequence in sequences {
        if parts.last().is_none_or(|part| part.items.len() > BATCH) {
            parts.push(Part::default());
        }
        if let Some(part) = parts.last_mut() {
            part.items.extend(sequence);
        }
    }
    Ok(parts)
}

/// The commands from the `@ clear` before this one up to it.
fn sequence(items: &[Item], at: usize) -> &[Item] {
    let start = items[..at]
        .iter()
        .rposition(|item| *item == Item::Clear)
        .map_or(0, |clear| clear + 1);
    &items[start..=at]
}

/// Without the text of the help, which is nobody's to compare.
fn short(items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    for item in &mut items {
        if let Item::Step(step) = item
            && let Some(answer) = &mut step.answer
            && let Some(at) = answer.stdout.find(HELP)
        {
            answer.stdout.truncate(at + HELP.len());
        }
    }
    items
}

fn this_program() -> Result<PathBuf> {
    env::current_exe().context("cannot tell where this program is")
}

fn both(kernel: Kernel, items: &[Item]) -> Result<(Vec<Item>, Vec<Item>)> {
    let agent = this_program()?;
    thread::scope(|scope| {
        let lvx = scope.spawn(|| on_lvx(&agent, items));
        let real = in_guest(kernel, items)?;
        let lvx = lvx
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((real, lvx))
    })
}
