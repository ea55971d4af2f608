//! Results as text, the recordings of the kernel's, and what differs.

use std::{collections::BTreeMap, fmt::Write as _};

use anyhow::{Context as _, Result, bail};

use crate::scenario::Scenario;

/// What one director did, step by step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Results {
    /// In the scenario's order.
    pub steps: Vec<StepResult>,
}

/// What one step led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepResult {
    /// The step's line.
    pub text: String,
    /// What left the director, or what was listed.
    pub lines: Vec<String>,
}

impl Results {
    /// As text: a line `> STEP` for each step, then its lines, indented.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            // A string takes every write.
            let _ = writeln!(out, "> {}", step.text);
            for line in &step.lines {
                let _ = writeln!(out, "  {line}");
            }
        }
        out
    }

    /// Reads what [`Results::render`] wrote; lines with `#` in front are passed over.
    ///
    /// # Errors
    /// When it is something else.
    pub fn read(text: &str) -> Result<Self> {
        let mut steps: Vec<StepResult> = Vec::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some(text) = line.strip_prefix("> ") {
                steps.push(StepResult {
                    text: text.to_owned(),
                    lines: Vec::new(),
                });
                continue;
            }
            let step = steps.last_mut().context("lines before the first step")?;
            let Some(line) = line.strip_prefix("  ") else {
                bail!("neither a step nor an indented line: {line:?}");
            };
            step.lines.push(line.to_owned());
        }
        Ok(Self { steps })
    }
}

/// How closely two results are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closeness {
    /// To the byte.
    Exact,
    /// The time that a connection has left may be a few seconds less: the clock
    /// is the machine's, which has other things to do.
    Loose,
}

/// How many seconds less, see [`Closeness::Loose`].
const LOOSE: i64 = 4;

/// Every difference that the scenario does not name, and every one that it
/// names and that is not there, as text; empty when all is well.
#[must_use]
pub fn differences(
    scenario: &Scenario,
    kernel: &Results,
    lvx: &Results,
    closeness: Closeness,
) -> String {
    let mut out = String::new();
    for (index, step) in scenario.steps.iter().enumerate() {
        let lines = |results: &Results| {
            results
                .steps
                .get(index)
                .filter(|result| result.text == step.text)
                .map(|result| result.lines.clone())
                .unwrap_or_else(|| vec!["(no result of this step: record anew)".to_owned()])
        };
        let (kernel, lvx) = (lines(kernel), lines(lvx));
        let same = match closeness {
            Closeness::Exact => kernel == lvx,
            Closeness::Loose => {
                kernel.len() == lvx.len()
                    && kernel
                        .iter()
                        .zip(&lvx)
                        .all(|(kernel, lvx)| close(kernel, lvx))
            }
        };
        // A string takes every write.
        let _ = match (&step.deviates, same) {
            (None, true) | (Some(_), false) => continue,
            (Some(id), true) => writeln!(
                out,
                "{}:{}: {}\n  does not deviate any more: remove `deviates {id}`",
                scenario.name, step.line, step.text
            ),
            (None, false) => {
                let _ = writeln!(out, "{}:{}: {}", scenario.name, step.line, step.text);
                show(&mut out, &kernel, &lvx)
            }
        };
    }
    out
}

/// How often each row of `docs/deviations.md` was used.
pub type Uses = BTreeMap<&'static str, usize>;

/// Takes out of the kernel's results what rows of `docs/deviations.md` say that
/// lvx does not send yet, where it sent nothing; counts each use. For scenarios
/// that nobody wrote by hand.
pub fn allow(kernel: &mut Results, lvx: &Results, uses: &mut Uses) {
    for (kernel, lvx) in kernel.steps.iter_mut().zip(&lvx.steps) {
        let [line] = &kernel.lines[..] else {
            continue;
        };
        let id = match line {
            line if line.contains(" icmp 3/3 ") => "D-icmp-port",
            line if line.contains(" icmp 11/0 ") => "D-icmp-ttl",
            _ => continue,
        };
        if lvx.lines.is_empty() {
            kernel.lines.clear();
            *uses.entry(id).or_default() += 1;
        }
    }
}

/// Lines in common that are shown around a difference.
const AROUND: usize = 2;

/// The kernel's lines with `-` and ours with `+`; of the common lines those around
/// them, and the service above: the last one that is not `->`.
fn show(out: &mut String, kernel: &[String], lvx: &[String]) -> std::fmt::Result {
    let same = kernel.iter().zip(lvx).take_while(|(a, b)| a == b).count();
    let (head, kernel, lvx) = (&kernel[..same], &kernel[same..], &lvx[same..]);
    let common = common(kernel, lvx);
    let mut lines: Vec<_> = head.iter().map(|line| (' ', line)).collect();
    let (mut k, mut l) = (0, 0);
    while k < kernel.len() || l < lvx.len() {
        if k < kernel.len() && l < lvx.len() && kernel[k] == lvx[l] {
            lines.push((' ', &kernel[k]));
            (k, l) = (k + 1, l + 1);
        } else if k < kernel.len() && (l == lvx.len() || common[k + 1][l] >= common[k][l + 1]) {
            lines.push(('-', &kernel[k]));
            k += 1;
        } else {
            lines.push(('+', &lvx[l]));
            l += 1;
        }
    }
    let mut wanted = vec![false; lines.len()];
    for place in (0..lines.len()).filter(|place| lines[*place].0 != ' ') {
        wanted[place.saturating_sub(AROUND)..(place + AROUND + 1).min(lines.len())].fill(true);
        if let Some(above) = lines[..place]
            .iter()
            .rposition(|(_, line)| !line.contains("-> "))
        {
            wanted[above] = true;
        }
    }
    let mut skipped = false;
    for ((mark, line), wanted) in lines.iter().zip(wanted) {
        if wanted {
            writeln!(out, "  {mark} {line}")?;
        } else if !skipped {
            writeln!(out, "    …")?;
        }
        skipped = !wanted;
    }
    Ok(())
}

/// How many lines two lists have in common, in order, from each pair of places on.
fn common(a: &[String], b: &[String]) -> Vec<Vec<usize>> {
    let mut table = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            table[i][j] = if a[i] == b[j] {
                table[i + 1][j + 1] + 1
            } else {
                table[i + 1][j].max(table[i][j + 1])
            };
        }
    }
    table
}

/// Whether two lines differ at most in a connection's time, by little.
fn close(kernel: &str, lvx: &str) -> bool {
    if kernel == lvx {
        return true;
    }
    let split = |line: &str| {
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let (minutes, seconds) = words.get(1)?.split_once(':')?;
        let left = minutes.parse::<i64>().ok()? * 60 + seconds.parse::<i64>().ok()?;
        Some((left, [&words[..1], &words[2..]].concat()))
    };
    match (split(kernel), split(lvx)) {
        (Some((kernel, a)), Some((lvx, b))) => {
            a == b && (kernel - LOOSE..=kernel + 1).contains(&lvx)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(lines: &[&str]) -> Results {
        Results {
            steps: vec![StepResult {
                text: "snapshot -Lnc".to_owned(),
                lines: lines.iter().map(|line| (*line).to_owned()).collect(),
            }],
        }
    }

    fn scenario(more: &str) -> Scenario {
        Scenario::parse("x", "x.scn", &format!("about x\nsnapshot -Lnc\n{more}")).expect("right")
    }

    #[test]
    fn what_is_written_is_read() {
        let results = results(&["a", "", " b"]);
        let text = format!("# kernel x\n{}", results.render());
        assert_eq!(Results::read(&text).expect("it is right"), results);
        assert!(Results::read("  x\n").is_err());
        assert!(Results::read("> x\ny\n").is_err());
    }

    #[test]
    fn a_difference_is_shown_and_a_named_one_is_expected() {
        let (a, b) = (results(&["x", "y", "z"]), results(&["x", "q", "z"]));
        let plain = scenario("");
        assert_eq!(differences(&plain, &a, &a, Closeness::Exact), "");
        assert_eq!(
            differences(&plain, &a, &b, Closeness::Exact),
            "x:2: snapshot -Lnc\n    x\n  - y\n  + q\n    z\n"
        );
        let (long, short) = (
            results(&["a", "b", "c", "d", "e"]),
            results(&["a", "c", "e"]),
        );
        assert_eq!(
            differences(&plain, &long, &short, Closeness::Exact),
            "x:2: snapshot -Lnc\n    a\n  - b\n    c\n  - d\n    e\n"
        );
        let named = scenario("deviates D-y");
        assert_eq!(differences(&named, &a, &b, Closeness::Exact), "");
        assert!(differences(&named, &a, &a, Closeness::Exact).contains("remove `deviates D-y`"));
        assert!(differences(&plain, &Results::default(), &a, Closeness::Exact).contains("record"));
    }

    #[test]
    fn an_error_that_lvx_does_not_send_yet_is_counted() {
        let kernel = results(&["client gateway: 10.9.9.1 > 1.2.3.4 ttl 64 icmp 3/3 quoting it"]);
        let mut uses = BTreeMap::new();
        let mut changed = kernel.clone();
        allow(&mut changed, &kernel, &mut uses);
        assert_eq!((&changed, uses.len()), (&kernel, 0));
        allow(&mut changed, &results(&[]), &mut uses);
        assert_eq!(changed, results(&[]));
        assert_eq!(uses, BTreeMap::from([("D-icmp-port", 1)]));
    }

    #[test]
    fn time_left_may_be_a_little_less_on_a_real_clock() {
        let line = |time: &str| {
            results(&[&format!(
                "TCP {time} FIN_WAIT 1.2.3.4:5 10.9.9.1:80 10.8.0.1:80"
            )])
        };
        let with =
            |time, closeness| differences(&scenario(""), &line("02:00"), &line(time), closeness);
        assert!(!with("01:59", Closeness::Exact).is_empty());
        assert!(with("01:57", Closeness::Loose).is_empty());
        assert!(!with("01:50", Closeness::Loose).is_empty());
        assert!(!with("02:02", Closeness::Loose).is_empty());
    }
}
