//! Health checks: when the next one is made, and what each result means, decided purely. Times are nanoseconds.
//!
//! The engine makes a [`Check`] of what a container says, asks it when to look, runs its command, and hands the outcome
//! back. [`Health`] is all that is remembered.

use gantry_model::image::Healthcheck;

use crate::container::{Health, HealthResult};

/// Not yet known.
pub const STARTING: &str = "starting";
/// It works.
pub const HEALTHY: &str = "healthy";
/// It does not.
pub const UNHEALTHY: &str = "unhealthy";

/// How much a check may write, in bytes; what is more is cut off.
pub const MAX_OUTPUT: usize = 4096;
/// How many results are remembered.
const MAX_LOG: usize = 5;

const SECOND: i64 = 1_000_000_000;
/// The shortest time that can be asked for.
const SHORTEST: i64 = 1_000_000;

/// A health check that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCheck {
    /// A time that is too short.
    #[error("{0} in Healthcheck cannot be less than 1ms")]
    Short(&'static str),
    /// Retries below zero.
    #[error("Retries in Healthcheck cannot be negative")]
    Retries,
    /// Another kind of check.
    #[error("unknown type {0:?} of Healthcheck: NONE, CMD or CMD-SHELL is meant")]
    Kind(String),
    /// No command.
    #[error("Healthcheck has no command after {0:?}")]
    NoCommand(String),
}

/// How a container is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What is executed in the container.
    pub command: Vec<String>,
    /// From the end of one check, or the start of the container, to the next check.
    pub interval: i64,
    /// How long one may take; then it is killed and has failed.
    pub timeout: i64,
    /// After the start, while failures do not count.
    pub start_period: i64,
    /// Instead of the interval, until it first works, within the start period.
    pub start_interval: i64,
    /// Failures in a row that make it unhealthy.
    pub retries: u32,
}

impl Check {
    /// The check of a container; none if it has none, or has it turned off. `shell` executes lines; empty is `/bin/sh -c`.
    ///
    /// # Errors
    /// What is asked for makes no sense.
    pub fn new(asked: &Healthcheck, shell: &[String]) -> Result<Option<Self>, BadCheck> {
        let times = [
            ("Interval", asked.interval),
            ("Timeout", asked.timeout),
            ("StartPeriod", asked.start_period),
            ("StartInterval", asked.start_interval),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| *time != 0 && *time < SHORTEST) {
            return Err(BadCheck::Short(name));
        }
        let retries = u32::try_from(asked.retries.min(i64::from(u32::MAX))).map_err(|_| BadCheck::Retries)?;
        let Some((kind, words)) = asked.test.split_first() else { return Ok(None) };
        let mut command = match kind.as_str() {
            "NONE" => return Ok(None),
            "CMD" => vec![],
            "CMD-SHELL" if shell.is_empty() => vec!["/bin/sh".to_owned(), "-c".to_owned()],
            "CMD-SHELL" => shell.to_vec(),
            _ => return Err(BadCheck::Kind(kind.clone())),
        };
        if words.is_empty() {
            return Err(BadCheck::NoCommand(kind.clone()));
        }
        command.extend_from_slice(words);
        let or = |time: i64, default: i64| if time == 0 { default } else { time };
        Ok(Some(Self {
            command,
            interval: or(asked.interval, 30 * SECOND),
            timeout: or(asked.timeout, 30 * SECOND),
            start_period: asked.start_period,
            start_interval: or(asked.start_interval, 5 * SECOND),
            retries: if retries == 0 { 3 } else { retries },
        }))
    }

    /// What is known of a container that has just been started. `before` is what was known: its log stays.
    pub fn begin(before: Option<&Health>) -> Health {
        let log = before.map(|health| health.log.clone()).unwrap_or_default();
        Health { status: STARTING.to_owned(), failing_streak: 0, log }
    }

    /// When the next check is due. `started` is when the container was, `since` when the last check ended, or whatever else
    /// the time counts from: the start, the end of a pause, a start of the engine.
    pub fn due(&self, health: &Health, started: i64, since: i64) -> i64 {
        let early = since.saturating_sub(started) < self.start_period && health.status == STARTING;
        since.saturating_add(if early { self.start_interval } else { self.interval })
    }

    /// Takes the outcome of a check that ran from `start` to `end`, and tells the new state if it is another.
    pub fn take(
        &self,
        health: &mut Health,
        started: i64,
        (start, end): (i64, i64),
        outcome: Outcome,
    ) -> Option<&'static str> {
        let result = self.result(start, end, outcome);
        let works = result.exit_code == 0;
        let excess = (health.log.len() + 1).saturating_sub(MAX_LOG);
        health.log.drain(..excess);
        health.log.push(result);
        let now = if works {
            health.failing_streak = 0;
            HEALTHY
        } else {
            let counts = health.status != STARTING || start.saturating_sub(started) >= self.start_period;
            if !counts {
                return None;
            }
            health.failing_streak = health.failing_streak.saturating_add(1);
            if health.failing_streak < self.retries {
                return None;
            }
            UNHEALTHY
        };
        let changed = health.status != now;
        now.clone_into(&mut health.status);
        changed.then_some(now)
    }

    fn result(&self, start: i64, end: i64, outcome: Outcome) -> HealthResult {
        let (exit_code, output) = match outcome {
            Outcome::Ended { code, output } => (code, output.text()),
            Outcome::TimedOut { output } => {
                let (timeout, output) = (duration(self.timeout), output.text());
                let colon = if output.is_empty() { "" } else { ": " };
                (-1, format!("Health check exceeded timeout ({timeout}){colon}{output}"))
            }
            Outcome::NotRun(why) => (-1, why),
        };
        HealthResult { start, end, exit_code, output }
    }
}

/// How a check came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Its command ended: 0 is well, everything else is not.
    Ended {
        /// The exit status.
        code: i32,
        /// What it wrote.
        output: Output,
    },
    /// It took too long.
    TimedOut {
        /// What it wrote until then.
        output: Output,
    },
    /// It could not be run.
    NotRun(String),
}

/// The beginning of what a check wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    bytes: Vec<u8>,
    cut: bool,
}

impl Output {
    /// Takes what was written, as far as there is room.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = MAX_OUTPUT - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..room.min(bytes.len())]);
        self.cut |= bytes.len() > room;
    }

    /// What was written, with dots where it was cut.
    pub fn text(&self) -> String {
        let mut text = String::from_utf8_lossy(&self.bytes).into_owned();
        if self.cut {
            text.push_str("...");
        }
        text
    }
}

/// A duration as people are shown it: `1m30s`, `1.5s`, `250ms`.
fn duration(nanoseconds: i64) -> String {
    let decimal = |value: i64, unit: i64| {
        let text = format!("{}.{:09}", value / unit, value % unit * (SECOND / unit));
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    if nanoseconds < SECOND {
        return format!("{}ms", decimal(nanoseconds, 1_000_000));
    }
    let (minutes, rest) = (nanoseconds / (60 * SECOND), nanoseconds % (60 * SECOND));
    let seconds = decimal(rest, SECOND);
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn check_of(asked: &Healthcheck) -> Check {
        Check::new(&Healthcheck { test: words("CMD true"), ..asked.clone() }, &[]).unwrap().unwrap()
    }

    #[test]
    fn what_is_asked() {
        let check = |test: &str, shell: &str, expect: &str| {
            let asked = Healthcheck { test: words(test), ..Healthcheck::default() };
            let found = match Check::new(&asked, &words(shell)) {
                Ok(check) => check.map_or("none".to_owned(), |check| check.command.join(" ")),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{test}");
        };
        check("", "", "none");
        check("NONE", "", "none");
        check("CMD curl -f", "", "curl -f");
        check("CMD-SHELL exit", "", "/bin/sh -c exit");
        check("CMD-SHELL exit", "/bin/bash -ec", "/bin/bash -ec exit");
        check("CMD", "", "Healthcheck has no command after \"CMD\"");
        check("cmd x", "", "unknown type \"cmd\" of Healthcheck: NONE, CMD or CMD-SHELL is meant");
        let wrong =
            |asked: Healthcheck, expect: &str| assert_eq!(Check::new(&asked, &[]).unwrap_err().to_string(), expect);
        let short = "Interval in Healthcheck cannot be less than 1ms";
        wrong(Healthcheck { interval: 999_999, ..Healthcheck::default() }, short);
        let short = "StartPeriod in Healthcheck cannot be less than 1ms";
        wrong(Healthcheck { start_period: -1, ..Healthcheck::default() }, short);
        let negative = "Retries in Healthcheck cannot be negative";
        wrong(Healthcheck { retries: -1, ..Healthcheck::default() }, negative);
        let default = check_of(&Healthcheck::default());
        let times = [default.interval, default.timeout, default.start_period, default.start_interval];
        assert_eq!(times.map(|time| time / SECOND), [30, 30, 0, 5]);
        assert_eq!(default.retries, 3);
    }

    #[test]
    fn when_it_is_due() {
        let check = |status: &str, since: i64, expect: i64| {
            let asked = Healthcheck { interval: 60, start_period: 100, start_interval: 10, ..Healthcheck::default() };
            let seconds = |time: i64| time * SECOND;
            let asked = Healthcheck {
                interval: seconds(asked.interval),
                start_period: seconds(asked.start_period),
                start_interval: seconds(asked.start_interval),
                ..asked
            };
            let health = Health { status: status.to_owned(), ..Health::default() };
            let due = check_of(&asked).due(&health, seconds(1000), seconds(since));
            assert_eq!(due / SECOND, expect, "{status} {since}");
        };
        check(STARTING, 1000, 1010);
        check(STARTING, 1099, 1109);
        check(STARTING, 1100, 1160);
        check(HEALTHY, 1020, 1080);
        check(UNHEALTHY, 1020, 1080);
        check(STARTING, i64::MAX / SECOND, i64::MAX / SECOND);
    }

    /// One letter a check: `+` is well, `-` is not, `t` too long; a number is when they begin, in seconds after the start,
    /// one a second from there. What it shows is the state after each, with the streak where it is not well.
    #[test]
    fn what_results_mean() {
        let run = |retries: i64, period: i64, script: &str| {
            let asked = Healthcheck { retries, start_period: period * SECOND, ..Healthcheck::default() };
            let check = check_of(&asked);
            let mut health = Check::begin(None);
            let mut at = 0;
            let mut told = Vec::new();
            for word in script.split_whitespace() {
                if let Ok(second) = word.parse::<i64>() {
                    at = second * SECOND;
                    continue;
                }
                for letter in word.chars() {
                    let output = Output::default();
                    let outcome = match letter {
                        '+' => Outcome::Ended { code: 0, output },
                        't' => Outcome::TimedOut { output },
                        _ => Outcome::Ended { code: 1, output },
                    };
                    if let Some(change) = check.take(&mut health, 0, (at, at), outcome) {
                        told.push(change);
                    }
                    at += SECOND;
                }
            }
            format!("{} {} [{}]", health.status, health.failing_streak, told.join(" "))
        };
        let check =
            |retries, period, script: &str, expect: &str| assert_eq!(run(retries, period, script), expect, "{script}");
        check(3, 0, "", "starting 0 []");
        check(3, 0, "--", "starting 2 []");
        check(3, 0, "--t", "unhealthy 3 [unhealthy]");
        check(3, 0, "---+", "healthy 0 [unhealthy healthy]");
        check(3, 0, "+--+--", "healthy 2 [healthy]");
        check(3, 0, "++---", "unhealthy 3 [healthy unhealthy]");
        check(1, 10, "-----", "starting 0 []");
        check(1, 10, "---- 9 -", "starting 0 []");
        check(1, 10, "---- 10 -", "unhealthy 1 [unhealthy]");
        // The period is over with the first success.
        check(1, 10, "+-", "unhealthy 1 [healthy unhealthy]");
        check(2, 0, "----", "unhealthy 4 [unhealthy]");
    }

    #[test]
    fn what_is_remembered() {
        let check = check_of(&Healthcheck { timeout: 1_500_000_000, ..Healthcheck::default() });
        let mut health = Check::begin(None);
        for number in 0..7 {
            let mut output = Output::default();
            output.push(format!("{number}").as_bytes());
            check.take(&mut health, 0, (number, number + 1), Outcome::Ended { code: 1, output });
        }
        let outputs: Vec<&str> = health.log.iter().map(|result| result.output.as_str()).collect();
        assert_eq!(outputs, ["2", "3", "4", "5", "6"]);
        assert_eq!((health.log[4].start, health.log[4].end, health.log[4].exit_code), (6, 7, 1));
        let mut output = Output::default();
        output.push(&[b'x'; MAX_OUTPUT - 1]);
        output.push("é".as_bytes());
        output.push(b"more");
        assert_eq!(output.text(), format!("{}\u{fffd}...", "x".repeat(MAX_OUTPUT - 1)));
        let mut said = Output::default();
        said.push(b"slow");
        for (outcome, expect) in [
            (Outcome::TimedOut { output: said }, "Health check exceeded timeout (1.5s): slow"),
            (Outcome::TimedOut { output: Output::default() }, "Health check exceeded timeout (1.5s)"),
            (Outcome::NotRun("no such program".to_owned()), "no such program"),
        ] {
            check.take(&mut health, 0, (8, 9), outcome);
            let last = health.log.last().unwrap();
            assert_eq!((last.output.as_str(), last.exit_code), (expect, -1));
        }
        let again = Check::begin(Some(&health));
        assert_eq!((again.status.as_str(), again.failing_streak, again.log.len()), (STARTING, 0, 5));
    }

    #[test]
    fn durations() {
        let check = |nanoseconds, expect: &str| assert_eq!(duration(nanoseconds), expect);
        check(30 * SECOND, "30s");
        check(250_000_000, "250ms");
        check(1_500_000, "1.5ms");
        check(90 * SECOND, "1m30s");
        check(3600 * SECOND, "1h0m0s");
    }
}
