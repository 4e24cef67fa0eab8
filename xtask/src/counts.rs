//! Counting tests: what the runners print, added up, so that one table can say what ran and what did not.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed, failed and were skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u32,
    pub failed: u32,
    pub skipped: u32,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Adds up the closing lines in the output of test programs: Rust's own (`test result: ...`), and the plain line
/// `N passed, N failed[, N skipped]` that our own runners print.
pub fn parse(output: &str) -> Counts {
    let mut sum = Counts::default();
    for line in output.lines() {
        if let Some(counts) = closing_line(line.trim()) {
            sum += counts;
        }
    }
    sum
}

/// The reasons that skipped tests gave: lines that begin with `SKIP`, `SKIPPED` or `skip `, in the order met, each once.
pub fn skip_reasons(output: &str) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for line in output.lines() {
        let line = line.trim();
        let reason = ["SKIPPED", "SKIP", "skip "].iter().find_map(|word| line.strip_prefix(word));
        let Some(reason) = reason.filter(|rest| rest.starts_with([' ', ':'])) else { continue };
        let reason = reason.trim_start_matches([' ', ':']).to_owned();
        if !reason.is_empty() && !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

/// What failed: from lines that begin with `FAIL`, and Rust's own `---- NAME stdout ----`, a few lines each.
#[derive(Debug, Default)]
pub struct Failures {
    lines: Vec<String>,
    /// How many further lines belong to the last one.
    follow: usize,
}

impl Failures {
    /// How much is kept. The log has the rest.
    const MAX: usize = 200;

    /// Looks at the next line of the output.
    pub fn take(&mut self, line: &str) {
        let line = line.trim_end();
        let begins = line.starts_with("FAIL") || (line.starts_with("---- ") && line.ends_with(" stdout ----"));
        if begins {
            self.follow = 6;
        } else if ["ok ", "skip ", "test ", "---"].iter().any(|word| line.starts_with(word)) {
            self.follow = 0;
        }
        if self.follow > 0 && !line.is_empty() && self.lines.len() < Self::MAX {
            self.follow -= 1;
            self.lines.push(if begins { line.to_owned() } else { format!("    {line}") });
        }
    }

    /// The lines that tell of failures.
    pub fn lines(self) -> Vec<String> {
        self.lines
    }
}

fn closing_line(line: &str) -> Option<Counts> {
    let (list, separator) = match line.strip_prefix("test result: ") {
        Some(rest) => (rest.split_once(". ")?.1, ';'),
        None => (line, ','),
    };
    let mut counts = Counts::default();
    let mut seen = 0;
    for part in list.split(separator).map(str::trim).filter(|part| !part.is_empty()) {
        let (number, what) = part.split_once(' ')?;
        let number = || number.parse::<u32>().ok();
        match what {
            "passed" => counts.passed = number()?,
            "failed" => counts.failed = number()?,
            "skipped" | "ignored" => counts.skipped = number()?,
            _ if separator == ';' => continue,
            _ => return None,
        }
        seen += 1;
    }
    (seen >= 2).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(output: &str, passed: u32, failed: u32, skipped: u32) {
        assert_eq!(parse(output), Counts { passed, failed, skipped }, "{output}");
    }

    #[test]
    fn closing_lines_are_added_up() {
        check("", 0, 0, 0);
        check(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.02s",
            12,
            0,
            1,
        );
        check("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out", 3, 2, 0);
        check("  7 passed, 1 failed, 2 skipped\n", 7, 1, 2);
        check("7 passed, 1 failed\n1 passed, 0 failed, 4 skipped", 8, 1, 4);
        check("we saw 7 passed, 1 failed", 0, 0, 0);
        check("test a ... ok\n7 passed", 0, 0, 0);
    }

    #[test]
    fn reasons_are_collected_once_each() {
        let output = "SKIPPED intel_rdt: no resctrl\nSKIP x: y\nSKIPPED intel_rdt: no resctrl\nSKIPPING stones\nskip  a::b: no c\n";
        assert_eq!(skip_reasons(output), ["intel_rdt: no resctrl", "x: y", "a::b: no c"]);
    }

    #[test]
    fn failures_are_kept_with_what_follows() {
        let output = "ok    a (3 ms)\nFAIL  b::c (95 ms): output is missing\nok    d\nnoise\n---- e::f stdout ----\n\n\
                      thread 'e::f' panicked at x.rs:3:\nleft != right\n\nfailures:\n    e::f\ntest result: FAILED. 0 passed; \
                      1 failed; 0 ignored\nnoise\n";
        let mut failures = Failures::default();
        output.lines().for_each(|line| failures.take(line));
        let expected = [
            "FAIL  b::c (95 ms): output is missing",
            "---- e::f stdout ----",
            "    thread 'e::f' panicked at x.rs:3:",
            "    left != right",
            "    failures:",
            "        e::f",
        ];
        assert_eq!(failures.lines(), expected);
    }
}
