//! Takes out of what an engine said what differs by nature: ids, digests, times, addresses of hardware, process ids.

use regex_lite::Regex;

/// Expressions and what stands for what they find, in the order in which they are applied.
const RULES: &[(&str, &str)] = &[
    (r"\r", ""),
    (r"[0-9a-f]{64}", "ID64"),
    (r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}(\.[0-9]+)?( ?\+0000 UTC|Z|[+-][0-9:]{4,6})?", "TIME"),
    (r"\b[0-9]{10}\.[0-9]{9}\b", "TIME"),
    (r"\b(About a |Less than a |About an )?([0-9]+ )?(second|minute|hour)s?( ago)\b", "SOME-TIME ago"),
    (r"\bUp (About a |Less than a )?([0-9]+ )?(second|minute)s?", "Up SOME-TIME"),
    (r"\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b", "MAC"),
    (r"\b[0-9a-f]{12}\b", "ID12"),
    (r#"("Pid": |"pid": )[1-9][0-9]*"#, "${1}PID"),
    (r"(0\.0\.0\.0|\[::\]):(3[2-9]|4[0-9]|5[0-9]|6[0-5])[0-9]{3}\b", "$1:PORT"),
    (r#"("HostPort": )"(3[2-9]|4[0-9]|5[0-9]|6[0-5])[0-9]{3}""#, "$1\"PORT\""),
    (r"[ \t]+$", ""),
    (r"   +", "  "),
];

/// The rules, ready to be applied.
pub struct Normal(Vec<(Regex, &'static str)>);

impl Normal {
    pub fn new() -> Self {
        Self(RULES.iter().filter_map(|(rule, by)| Some((Regex::new(rule).ok()?, *by))).collect())
    }

    /// The lines of a text, without what differs by nature.
    pub fn lines(&self, text: &str) -> Vec<String> {
        let line = |line: &str| {
            self.0.iter().fold(line.to_owned(), |line, (rule, by)| rule.replace_all(&line, *by).into_owned())
        };
        text.lines().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_by_nature_is_taken_out() {
        let normal = Normal::new();
        assert_eq!(normal.0.len(), RULES.len(), "all are expressions");
        let check = |text: &str, expect: &str| assert_eq!(normal.lines(text), [expect], "{text}");
        check("2026-01-02T03:04:05.678901234Z x\r", "TIME x");
        check("a  2 seconds ago", "a  SOME-TIME ago");
        check("Less than a second ago", "SOME-TIME ago");
        check("Up 3 seconds (healthy)", "Up SOME-TIME (healthy)");
        check("02:42:ac:11:00:02", "MAC");
        check("0123456789ab     box", "ID12  box");
        check("0.0.0.0:32768->80/tcp", "0.0.0.0:PORT->80/tcp");
        check("127.0.0.1:8081->80/tcp", "127.0.0.1:8081->80/tcp");
        check("\"Pid\": 0,", "\"Pid\": 0,");
    }
}
