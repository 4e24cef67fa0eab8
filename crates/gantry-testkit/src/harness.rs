//! Runs tests in parallel, each with a time limit, and counts them; a test that cannot run is listed with its reason.
//!
//! The usual harness has no word for a test that was skipped, and no time limits: a test that cannot run would seem to
//! pass, and one that hangs would hang everything.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kit::Kit;
use crate::leak;
use crate::outcome::{Outcome, Stop};

/// Seconds that a test has unless it says otherwise.
const SECONDS: f64 = 30.0;

/// What a test runs.
type Body = Arc<dyn Fn(&Kit) -> Outcome + Send + Sync>;

/// A test.
#[derive(Clone)]
pub struct Test {
    name: String,
    seconds: f64,
    alone: bool,
    body: Body,
}

impl Test {
    /// A test named `area::name`.
    pub fn new(name: impl Into<String>, body: impl Fn(&Kit) -> Outcome + Send + Sync + 'static) -> Self {
        Self { name: name.into(), seconds: SECONDS, alone: false, body: Arc::new(body) }
    }

    /// Gives the test another time limit, in seconds.
    #[must_use]
    pub fn seconds(mut self, seconds: f64) -> Self {
        self.seconds = seconds;
        self
    }

    /// Runs the test while no other runs, after all others: for one that measures.
    #[must_use]
    pub fn alone(mut self) -> Self {
        self.alone = true;
        self
    }
}

/// What was asked on the command line.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only tests whose name holds one of these.
    filters: Vec<String>,
    /// No tests whose name holds one of these.
    skips: Vec<String>,
    /// Whether filters are whole names.
    exact: bool,
    /// Whether names are printed in place of running.
    list: bool,
    /// How many tests run at a time.
    threads: usize,
    /// Whether passed tests are kept quiet.
    quiet: bool,
}

impl Options {
    /// Reads the words of a command line; options of the usual harness that mean nothing here are passed over.
    pub fn parse(words: &[String]) -> Self {
        let cpus = std::thread::available_parallelism().map_or(2, usize::from);
        let mut options = Self { threads: cpus * 2, ..Self::default() };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--list" => options.list = true,
                "--exact" => options.exact = true,
                "--quiet" | "-q" => options.quiet = true,
                "--skip" => options.skips.extend(words.next().cloned()),
                "--test-threads" => options.set_threads(words.next().map_or("", String::as_str)),
                _ if word.starts_with("--test-threads=") => options.set_threads(&word["--test-threads=".len()..]),
                _ if word.starts_with('-') => {}
                _ => options.filters.push(word.clone()),
            }
        }
        options
    }

    fn set_threads(&mut self, word: &str) {
        self.threads = word.parse().ok().filter(|count| *count > 0).unwrap_or(self.threads);
    }

    fn wants(&self, name: &str) -> bool {
        let hit = |word: &String| if self.exact { name == word } else { name.contains(word.as_str()) };
        (self.filters.is_empty() || self.filters.iter().any(hit)) && !self.skips.iter().any(|word| name.contains(word))
    }
}

/// How a test ended.
struct Finished {
    name: String,
    stop: Option<Stop>,
    elapsed: Duration,
}

/// Runs the tests that were asked for, and prints what became of them. The last line is the count.
pub fn main(tests: Vec<Test>, kit: &Arc<Kit>, options: &Options) -> ExitCode {
    let wanted: Vec<Test> = tests.into_iter().filter(|test| options.wants(&test.name)).collect();
    if options.list {
        for test in &wanted {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let (alone, together): (Vec<Test>, Vec<Test>) = wanted.into_iter().partition(|test| test.alone);
    let finished = Mutex::new(Vec::new());
    run_all(together, options.threads, kit, options, &finished);
    run_all(alone, 1, kit, options, &finished);
    let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
    print!("{}", summary(&finished));
    if finished.iter().any(|one| matches!(one.stop, Some(Stop::Fail(_)))) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Runs tests on `threads` threads until none is left.
fn run_all(tests: Vec<Test>, threads: usize, kit: &Arc<Kit>, options: &Options, finished: &Mutex<Vec<Finished>>) {
    let queue = Mutex::new(VecDeque::from(tests));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(test) = next else { break };
                    let one = run_one(&test, kit);
                    if !(options.quiet && one.stop.is_none()) {
                        println!("{}", line(&one));
                    }
                    finished.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                }
            });
        }
    });
}

/// Runs a test on a thread of its own, which is left to itself when the time is over.
fn run_one(test: &Test, kit: &Arc<Kit>) -> Finished {
    let (sender, receiver) = channel();
    let (body, its_kit) = (Arc::clone(&test.body), Arc::clone(kit));
    let begun = Instant::now();
    let spawned = std::thread::Builder::new().name(test.name.clone()).spawn(move || {
        let ended = catch_unwind(AssertUnwindSafe(|| body(&its_kit)));
        // Before the answer: the last user of the kit removes its directory, and must not be a thread that is cut off.
        drop((body, its_kit));
        // The other side has stopped listening when the time was over.
        let _ = sender.send(judge(ended, &leak::take()));
    });
    let limit = kit.time(test.seconds);
    let stop = match spawned {
        Err(error) => Some(Stop::Fail(format!("no thread for the test: {error}"))),
        Ok(_) => match receiver.recv_timeout(limit) {
            Ok(stop) => stop,
            Err(RecvTimeoutError::Timeout) => Some(Stop::Fail(format!("not done after {limit:?}"))),
            Err(RecvTimeoutError::Disconnected) => Some(Stop::Fail("the test's thread died".into())),
        },
    };
    Finished { name: test.name.clone(), stop, elapsed: begun.elapsed() }
}

/// What a test's end means: leftovers fail a test that passed or was skipped, and are told with one that failed.
fn judge(ended: std::thread::Result<Outcome>, leaks: &[String]) -> Option<Stop> {
    let stop = match ended {
        Ok(Ok(())) => None,
        Ok(Err(stop)) => Some(stop),
        Err(panic) => Some(Stop::Fail(format!("panic: {}", panic_text(panic.as_ref())))),
    };
    if leaks.is_empty() {
        return stop;
    }
    let leaks = leaks.join("\n    ");
    Some(Stop::Fail(match stop {
        Some(Stop::Fail(text)) => format!("{text}\n    {leaks}"),
        _ => leaks,
    }))
}

/// The text of a panic.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a text".into())
}

/// A test's line.
fn line(one: &Finished) -> String {
    let millis = one.elapsed.as_millis();
    match &one.stop {
        None => format!("ok    {} ({millis} ms)", one.name),
        Some(Stop::Fail(text)) => format!("FAIL  {} ({millis} ms): {text}", one.name),
        Some(Stop::Skip(reason)) => format!("skip  {}: {reason}", one.name),
    }
}

/// Failed tests and skipped tests again, and the count as the last line.
fn summary(finished: &[Finished]) -> String {
    let (mut failed, mut skipped, mut text) = (Vec::new(), Vec::new(), String::new());
    for one in finished {
        match &one.stop {
            None => {}
            Some(Stop::Fail(why)) => failed.push((&one.name, why)),
            Some(Stop::Skip(why)) => skipped.push((&one.name, why)),
        }
    }
    for (title, list) in [("skipped", &mut skipped), ("failed", &mut failed)] {
        if !list.is_empty() {
            list.sort();
            // Writing into a string cannot fail.
            let _ = writeln!(text, "\n{title}:");
            for (name, why) in list.iter() {
                let _ = writeln!(text, "  {name}: {}", why.lines().next().unwrap_or_default());
            }
        }
    }
    let passed = finished.len() - failed.len() - skipped.len();
    let _ = writeln!(text, "\n{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn filters() {
        let check = |words: &[&str], name: &str, wanted: bool| {
            assert_eq!(options(words).wants(name), wanted, "{words:?} {name}");
        };
        check(&[], "a::b", true);
        check(&["a::"], "a::b", true);
        check(&["c"], "a::b", false);
        check(&["--exact", "a::b"], "a::b", true);
        check(&["--exact", "a::"], "a::b", false);
        check(&["--skip", "b"], "a::b", false);
        check(&["--nocapture", "a"], "a::b", true);
    }

    #[test]
    fn ends() {
        let check = |ended: Outcome, leaks: &[&str], expect: &str| {
            let leaks: Vec<String> = leaks.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(format!("{:?}", judge(Ok(ended), &leaks)), expect);
        };
        check(Ok(()), &[], "None");
        check(Ok(()), &["mount"], "Some(Fail(\"mount\"))");
        check(Err(Stop::Skip("no".into())), &[], "Some(Skip(\"no\"))");
        check(Err(Stop::Skip("no".into())), &["mount"], "Some(Fail(\"mount\"))");
        check(Err(Stop::Fail("x".into())), &["mount"], "Some(Fail(\"x\\n    mount\"))");
    }
}
