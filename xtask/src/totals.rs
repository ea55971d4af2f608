//! Sums what the test programs report.

/// Counts over all `test result:` lines seen.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl Totals {
    /// Takes one line of output; anything but a result line is ignored.
    pub(crate) fn see(&mut self, line: &str) {
        let Some(result) = line.trim_start().strip_prefix("test result: ") else {
            return;
        };
        // "ok. 5 passed; 0 failed; 1 ignored; 0 measured; …; finished in 0.02s"
        for part in result.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(count), Some(what)) = (words.next(), words.next()) else {
                continue;
            };
            let Ok(count) = count.parse::<u64>() else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                _ => {}
            }
        }
    }

    /// Adds another layer's counts.
    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }

    /// True when no test has reported.
    pub(crate) fn is_empty(self) -> bool {
        self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::Totals;

    #[test]
    fn result_lines_are_summed_and_others_ignored() {
        let mut totals = Totals::default();
        for line in [
            "running 3 tests",
            "test a::b ... ok",
            "test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; \
             finished in 0.00s",
            "test result: FAILED. 40 passed; 3 failed; 0 ignored; 0 measured; 7 filtered out; \
             finished in 12.31s",
            "it passed; 9 failed; or so",
        ] {
            totals.see(line);
        }
        assert_eq!(
            totals,
            Totals {
                passed: 42,
                failed: 3
            }
        );
    }

    #[test]
    fn a_program_without_tests_adds_nothing() {
        let mut totals = Totals::default();
        totals.see("test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; finished in 0s");
        assert!(totals.is_empty());
    }
}
