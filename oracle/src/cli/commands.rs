use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    thread,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::Args as ClapArgs;
use lvx_oracle::{
    commands::{
        compare::{Compared, compare},
        sequences, shrink,
        stage::{in_guest, on_lvx},
        transcript::{self, Item},
    },
    vm::Kernel,
};

/// Commands of one boot of the machine.
const BATCH: usize = 2_000;
/// Differences that are made small.
const SHRUNK: usize = 3;

/// Arguments of `commands`.
#[derive(ClapArgs)]
#[command(override_usage = "cargo xtask oracle-commands [OPTIONS] [TRANSCRIPTS]...")]
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
    /// Which kernel: 6.12, or Debian 12's own 6.1
    #[arg(long, value_enum, default_value_t = Kernel::V6_12, hide_possible_values = true)]
    kernel: Kernel,
    /// Show the commands and play nothing
    #[arg(long)]
    show: bool,
    /// Show differences as they are, not made small
    #[arg(long)]
    no_shrink: bool,
}

pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let mut total = Compared::default();
    let start = Instant::now();
    for (path, items) in parts(args)? {
        if args.show {
            print!("{}", transcript::write(&items));
            continue;
        }
        let (real, lvx) = both(args.kernel, &items)?;
        if let Some(path) = path {
            fs::write(&path, transcript::write(&real))
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        let compared = compare(&real, &lvx);
        for (number, difference) in compared.differences.iter().enumerate() {
            let sequence = sequence(&items, difference.at);
            if args.no_shrink || number + total.differences.len() >= SHRUNK {
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

/// What is played at once, and where the real answers go.
fn parts(args: &Args) -> Result<Vec<(Option<PathBuf>, Vec<Item>)>> {
    if args.transcripts.is_empty() {
        let to = args.keep.clone();
        let mut parts = Vec::new();
        let mut made = 0;
        let mut part = Vec::new();
        for sequence in sequences(args.seed, args.count) {
            made += sequence.len();
            part.extend(sequence);
            if made >= BATCH && to.is_none() {
                made = 0;
                parts.push((None, std::mem::take(&mut part)));
            }
        }
        if !part.is_empty() {
            parts.push((to, part));
        }
        return Ok(parts);
    }
    let mut parts = Vec::new();
    for path in &args.transcripts {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let items = transcript::read(&text).with_context(|| path.display().to_string())?;
        parts.push((args.record.then(|| path.clone()), items));
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

fn both(kernel: Kernel, items: &[Item]) -> Result<(Vec<Item>, Vec<Item>)> {
    let agent: &Path = &env::current_exe().context("cannot tell where this program is")?;
    thread::scope(|scope| {
        let lvx = scope.spawn(|| on_lvx(agent, items));
        let real = in_guest(kernel, items)?;
        let lvx = lvx
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((real, lvx))
    })
}
