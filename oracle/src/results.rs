//! Results as text, the recordings of the kernel's, and what differs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use anyhow::{Context as _, Result, bail};

use crate::scenario::{Action, Scenario};

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
    /// In a recording, for a step that deviates: what lvx did instead.
    pub instead: Option<Vec<String>>,
}

/// Introduces [`StepResult::instead`]; no step begins so.
const INSTEAD: &str = "> lvx instead";

impl Results {
    /// Keeps what lvx did in the steps that deviate, for a recording.
    pub fn keep_instead(&mut self, scenario: &Scenario, lvx: &Self) {
        for ((step, kernel), lvx) in scenario.steps.iter().zip(&mut self.steps).zip(&lvx.steps) {
            kernel.instead = step.deviates.is_some().then(|| lvx.lines.clone());
        }
    }

    /// Takes over from a recording what lvx did where it deviated.
    pub fn recall_instead(&mut self, recorded: &Self) {
        for (step, recorded) in self.steps.iter_mut().zip(&recorded.steps) {
            if step.text == recorded.text {
                step.instead.clone_from(&recorded.instead);
            }
        }
    }

    /// As text: a line `> STEP` for each step, then its lines, indented; where
    /// lvx deviates, `> lvx instead` and what it does instead.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        for step in &self.steps {
            // A string takes every write.
            let _ = writeln!(out, "> {}", step.text);
            for line in &step.lines {
                let _ = writeln!(out, "  {line}");
            }
            if let Some(instead) = &step.instead {
                let _ = writeln!(out, "{INSTEAD}");
                for line in instead {
                    let _ = writeln!(out, "  {line}");
                }
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
            if line == INSTEAD {
                let step = steps
                    .last_mut()
                    .context("`> lvx instead` before the first step")?;
                step.instead = Some(Vec::new());
                continue;
            }
            if let Some(text) = line.strip_prefix("> ") {
                steps.push(StepResult {
                    text: text.to_owned(),
                    ..StepResult::default()
                });
                continue;
            }
            let step = steps.last_mut().context("lines before the first step")?;
            let Some(line) = line.strip_prefix("  ") else {
                bail!("neither a step nor an indented line: {line:?}");
            };
            let lines = step.instead.as_mut().unwrap_or(&mut step.lines);
            lines.push(line.to_owned());
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
        let result = |results: &Results| {
            let found = results.steps.get(index);
            found.filter(|result| result.text == step.text).cloned()
        };
        let missing = || StepResult {
            lines: vec!["(no result of this step: record anew)".to_owned()],
            ..StepResult::default()
        };
        let recorded = result(kernel).unwrap_or_else(missing);
        let (kernel, lvx) = (recorded.lines, result(lvx).unwrap_or_else(missing).lines);
        let rates = step.text.contains(" --rate");
        let equal = |wanted: &[String]| match closeness {
            _ if rates => {
                wanted.len() == lvx.len()
                    && wanted
                        .iter()
                        .zip(&lvx)
                        .all(|(wanted, lvx)| near(wanted, lvx))
            }
            Closeness::Exact => wanted == lvx,
            Closeness::Loose => {
                wanted.len() == lvx.len()
                    && wanted
                        .iter()
                        .zip(&lvx)
                        .all(|(wanted, lvx)| close(wanted, lvx))
            }
        };
        let same = equal(&kernel);
        // A deviation is one thing that lvx does instead, not anything.
        if let (Some(id), Some(instead), false) = (&step.deviates, &recorded.instead, same)
            && !equal(instead)
        {
            // A string takes every write.
            let _ = writeln!(
                out,
                "{}:{}: {}\n  deviates otherwise than recorded for {id}; - as recorded of lvx, + now:",
                scenario.name, step.line, step.text
            );
            let _ = show(&mut out, instead, &lvx);
            continue;
        }
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

/// Takes out of the kernel's results what a row of `docs/deviations.md` allows,
/// one field under one condition; counts each use. For scenarios that nobody
/// wrote by hand.
pub fn allow(scenario: &Scenario, kernel: &mut Results, lvx: &Results, uses: &mut Uses) {
    // Unreachables about ports that were used before, by VIP.
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    let mut served = BTreeSet::new();
    for ((step, kernel), lvx) in scenario.steps.iter().zip(&mut kernel.steps).zip(&lvx.steps) {
        if step.text.contains(" --stats --exact") {
            let used = counted(&told, &mut kernel.lines, &lvx.lines);
            if used > 0 {
                *uses.entry("D-icmp-counted").or_default() += used;
            }
        }
        let (Action::Packet(packet), [line]) = (&step.action, &lvx.lines[..]) else {
            continue;
        };
        let flow = (packet.from, packet.to);
        if !line.contains(" icmp 3/3 ") && !line.contains(" icmp6 1/4 ") {
            served.insert(flow);
        } else if served.contains(&flow) {
            *told.entry(packet.to.ip().to_string()).or_default() += 1;
        }
    }
}

/// Takes the counters of D-icmp-counted out of a listing of the kernel's; how
/// often. The fields: `OutPkts` and `OutBytes`, more than lvx has. The condition:
/// at least as many unreachables about a SYN on a port used before went out from
/// that VIP.
fn counted(told: &BTreeMap<String, u64>, kernel: &mut [String], lvx: &[String]) -> usize {
    /// Of an unreachable that quotes a SYN: IPv4, IPv6; and one that quotes an
    /// INIT of random scenarios.
    const BYTES: [u64; 2] = [68, 108];
    const OF_SCTP: [u64; 2] = [80, 120];
    let fields = |line: &str| -> Option<[u64; 5]> {
        let words: Vec<_> = line.split_whitespace().collect();
        let numbers: Vec<_> = words
            .get(2..)?
            .iter()
            .flat_map(|word| word.parse())
            .collect();
        numbers.try_into().ok()
    };
    let (mut most, mut bytes, mut uses) = (0, [0; 2], 0);
    for (kernel, lvx) in kernel.iter_mut().zip(lvx) {
        let mut words = lvx.split_whitespace();
        if let (Some(protocol @ ("TCP" | "UDP" | "SCTP")), Some(end)) = (words.next(), words.next())
        {
            let (vip, _) = end.rsplit_once(':').unwrap_or((end, ""));
            let vip = vip.trim_matches(['[', ']']);
            most = told.get(vip).copied().unwrap_or_default();
            let of = if protocol == "SCTP" { OF_SCTP } else { BYTES };
            bytes = [of[usize::from(vip.contains(':'))]; 2];
        }
        let mut words = lvx.split_whitespace();
        if let (Some("FWM"), Some(mark)) = (words.next(), words.next()) {
            // In random files the mark is the last number of the address.
            let ipv6 = words.next() == Some("IPv6");
            let vip = told.iter().find(|(vip, _)| {
                vip.contains(':') == ipv6 && vip.rsplit(['.', ':']).next() == Some(mark)
            });
            most = vip.map(|(_, times)| *times).unwrap_or_default();
            bytes = [BYTES, OF_SCTP].map(|of| of[usize::from(ipv6)]);
        }
        if let (Some(theirs), Some(ours)) = (fields(kernel), fields(lvx))
            && let Some(more) = theirs[2].checked_sub(ours[2])
            && (1..=most).contains(&more)
            && bytes
                .iter()
                .any(|bytes| theirs[4] == ours[4] + more * bytes)
            && [theirs[0], theirs[1], theirs[3]] == [ours[0], ours[1], ours[3]]
            && kernel
                .split_whitespace()
                .take(2)
                .eq(lvx.split_whitespace().take(2))
        {
            kernel.clone_from(lvx);
            uses += 1;
        }
    }
    uses
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

/// Whether two lines of rates differ at most by one pass of the estimator, which
/// comes every two seconds in both, but not in the same moment: a pass takes a
/// quarter of what is new, and leaves three of what was.
fn near(kernel: &str, lvx: &str) -> bool {
    if kernel == lvx {
        return true;
    }
    let split = |line: &str| -> Option<(String, Vec<u64>)> {
        // Columns: an end in 33 characters, then five numbers of eight after a blank.
        let (head, numbers) = line.split_at_checked(33)?;
        let numbers = numbers.trim_end_matches('$').split_whitespace();
        Some((
            head.to_owned(),
            numbers.map(str::parse).collect::<Result<_, _>>().ok()?,
        ))
    };
    match (split(kernel), split(lvx)) {
        (Some((head, theirs)), Some((same, ours))) => {
            head == same
                && kernel.len() == lvx.len()
                && theirs.len() == ours.len()
                && theirs.iter().zip(&ours).all(|(a, b)| {
                    let (less, more) = (a.min(b), a.max(b));
                    // Each is rounded down.
                    (less + 1) * 4 >= more * 3
                })
        }
        _ => false,
    }
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
                instead: None,
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
    fn rates_may_differ_by_one_pass_of_the_estimator() {
        let line = |rates: [u64; 5], end: &str| {
            let [a, b, c, d, e] = rates;
            format!("TCP  10.9.9.1:80                  {a:8} {b:8} {c:8} {d:8} {e:8}{end}")
        };
        let kernel = line([0, 100, 400, 0, 9], "$");
        for (ours, fits) in [
            ([0, 100, 400, 0, 9], true),
            ([1, 75, 300, 0, 12], true),
            ([0, 130, 500, 0, 7], true),
            ([2, 100, 400, 0, 9], false),
            ([0, 60, 400, 0, 9], false),
            ([0, 100, 600, 0, 9], false),
        ] {
            assert_eq!(near(&kernel, &line(ours, "$")), fits, "{ours:?}");
        }
        assert!(!near(&kernel, &line([0, 100, 400, 0, 9], " $")), "a blank");
        let other = line([0, 100, 400, 0, 9], "$").replace(".1:80", ".2:80");
        assert!(!near(&kernel, &other));
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
    fn lvx_does_what_is_recorded_where_it_deviates() {
        let named = scenario("deviates D-y");
        let (mut kernel, lvx) = (results(&["x", "y"]), results(&["x", "q"]));
        kernel.keep_instead(&named, &lvx);
        let kernel = Results::read(&kernel.render()).expect("it is right");
        assert_eq!(kernel.steps[0].instead, Some(lvx.steps[0].lines.clone()));
        assert_eq!(differences(&named, &kernel, &lvx, Closeness::Exact), "");
        let otherwise = differences(&named, &kernel, &results(&["x"]), Closeness::Exact);
        assert!(
            otherwise.contains("otherwise than recorded for D-y"),
            "{otherwise}"
        );
        let gone = differences(&named, &kernel, &kernel, Closeness::Exact);
        assert!(gone.contains("does not deviate any more"), "{gone}");
    }

    #[test]
    fn an_unreachable_may_be_counted_where_one_was_sent() {
        let told = BTreeMap::from([("10.9.9.2".to_owned(), 1)]);
        let line = |out: &str| {
            let service = format!("TCP  10.9.9.2:80  8 25 {out}");
            vec![service, "  -> 10.8.0.1:80  1 2 0 80 0".to_owned()]
        };
        let ours = line("0 1071 0");
        for (theirs, used) in [
            ("1 1071 68", 1),
            ("2 1071 136", 0),
            ("1 1071 56", 0),
            ("1 1070 68", 0),
            ("0 1071 0", 0),
        ] {
            let mut kernel = line(theirs);
            assert_eq!(counted(&told, &mut kernel, &ours), used, "{theirs}");
        }
        assert_eq!(counted(&BTreeMap::new(), &mut line("1 1071 68"), &ours), 0);
        // More than what lvx counts, and in IPv6.
        let told6 = BTreeMap::from([("2001:db8::1".to_owned(), 1)]);
        let line6 = |out: &str| vec![format!("TCP  [2001:db8::1]:80  8 25 {out}")];
        let ours = line6("3 1071 200");
        assert_eq!(counted(&told6, &mut line6("4 1071 308"), &ours), 1);
        assert_eq!(counted(&told6, &mut line6("4 1071 268"), &ours), 0);
        // A service by mark, whose number is the end of its address.
        let marked = |mark: &str, out: &str| vec![format!("FWM  {mark} 8 25 {out}")];
        for (mark, theirs, used) in [
            ("2", "1 1071 68", 1),
            ("2", "1 1071 69", 0),
            ("3", "1 1071 68", 0),
            ("2 IPv6", "1 1071 108", 0),
        ] {
            let ours = marked(mark, "0 1071 0");
            let mut kernel = marked(mark, theirs);
            assert_eq!(counted(&told, &mut kernel, &ours), used, "{mark}: {theirs}");
        }
    }

    #[test]
    fn only_a_port_that_was_used_before_lets_an_unreachable_count() {
        let icmp = "client gateway: 10.9.9.2 > 1.2.3.4 ttl 64 tos 192 len 68 icmp 3/3 quoting 40 bytes of it";
        let played = |second: u16, counted: &str, icmp: &[&str]| {
            let text = format!(
                "about x\ntcp 1.2.3.4:5 > 10.9.9.2:80 S\ntcp 1.2.3.4:{second} > 10.9.9.2:80 S\n\
                 snapshot -Ln --stats --exact\n"
            );
            let scenario = Scenario::parse("x", "x", &text).expect("it is right");
            let listed = format!("TCP  10.9.9.2:80  1 1 {counted}");
            let lines = [&["server A: x"][..], icmp, &[listed.as_str()]];
            let steps = lines.map(|lines| results(lines).steps.remove(0)).to_vec();
            (scenario, Results { steps })
        };
        for (port, used) in [(5, 1), (6, 0)] {
            let (scenario, mut kernel) = played(port, "1 40 68", &[icmp]);
            let (_, lvx) = played(port, "0 40 0", &[icmp]);
            let mut uses = Uses::new();
            allow(&scenario, &mut kernel, &lvx, &mut uses);
            assert_eq!(uses.get("D-icmp-counted").copied().unwrap_or(0), used);
            assert_eq!(kernel == lvx, used == 1);
        }
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
