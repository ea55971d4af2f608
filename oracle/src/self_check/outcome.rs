//! What became of each defect.

use std::time::Duration;

use super::{defects::Defect, scenarios::Found};

/// What became of one defect.
#[derive(Debug)]
pub enum Outcome {
    /// A scenario differs.
    Found(Found),
    /// None of so many scenarios does.
    Missed(usize),
    /// It was not planted, built or played; the text says why.
    Failed(String),
}

/// A line about a defect.
#[must_use]
pub fn line(defect: &Defect, outcome: &Outcome, took: Duration) -> String {
    let name = &defect.name;
    let seconds = took.as_secs_f64();
    match outcome {
        Outcome::Found(found) => format!(
            "{name:23} found by seed {} after {:3} scenarios, {seconds:5.1} s: {}",
            found.seed, found.scenarios, defect.about
        ),
        Outcome::Missed(count) => format!(
            "{name:23} NOT FOUND in {count} scenarios, {seconds:.1} s: {}",
            defect.about
        ),
        Outcome::Failed(why) => format!("{name:23} NOT TRIED: {why}"),
    }
}

/// How many there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    found: usize,
    missed: usize,
    failed: usize,
}

impl Sum {
    /// Counts one more.
    pub fn see(&mut self, outcome: &Outcome) {
        *match outcome {
            Outcome::Found(_) => &mut self.found,
            Outcome::Missed(_) => &mut self.missed,
            Outcome::Failed(_) => &mut self.failed,
        } += 1;
    }

    /// As a line.
    #[must_use]
    pub fn render(self) -> String {
        let Self {
            found,
            missed,
            failed,
        } = self;
        format!("{found} defects found, {missed} not found, {failed} not tried")
    }

    /// 0 when all were found, 1 when one was not, 2 when one could not be tried.
    #[must_use]
    pub fn status(self) -> u8 {
        match self {
            Self { failed: 1.., .. } => 2,
            Self { missed: 1.., .. } => 1,
            Self { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> Outcome {
        Outcome::Found(Found {
            seed: 3,
            scenarios: 65,
            differences: String::new(),
        })
    }

    #[test]
    fn a_line_tells_what_became_of_a_defect() {
        let defect = Defect {
            name: "ttl-kept".to_owned(),
            about: "the TTL stays".to_owned(),
            file: "x".into(),
            before: "a".to_owned(),
            after: "b".to_owned(),
        };
        let line = |outcome| line(&defect, &outcome, Duration::from_millis(12_340));
        assert_eq!(
            line(found()),
            "ttl-kept                found by seed 3 after  65 scenarios,  12.3 s: the TTL stays"
        );
        assert!(line(Outcome::Missed(180)).contains("NOT FOUND in 180 scenarios, 12.3 s: the TTL"));
        assert!(line(Outcome::Failed("no".to_owned())).ends_with("NOT TRIED: no"));
    }

    #[test]
    fn the_worst_decides_the_status() {
        let mut sum = Sum::default();
        sum.see(&found());
        assert_eq!(sum.status(), 0);
        sum.see(&Outcome::Missed(180));
        assert_eq!(sum.status(), 1);
        sum.see(&Outcome::Failed("no".to_owned()));
        assert_eq!(sum.status(), 2);
        sum.see(&found());
        assert_eq!(sum.render(), "2 defects found, 1 not found, 1 not tried");
    }
}
