//! What the daemon tells while it pulls or pushes: a line for each layer that changes on a terminal, lines that stay
//! elsewhere.

use std::collections::HashMap;
use std::io::{self, IsTerminal};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::{Failure, Outcome};
use crate::render::{table, units};
use crate::template::Value;
use crate::terminal;

/// How often a terminal is drawn, per second.
const FRAMES: u8 = 12;
/// The widest bar, in characters.
const BAR: usize = 40;

/// Where it is shown.
pub struct Stream {
    quiet: bool,
    /// Whether lines that stay are what the command is for, and go to standard output.
    result: bool,
    bars: Option<Bars>,
}

impl Stream {
    /// A place to show it on standard error, where standard output is for something else; or one that shows nothing.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, result: false, bars: bars(!quiet && io::stderr().is_terminal()) }
    }

    /// A place to show it where it is the result of the command.
    pub fn for_result(quiet: bool) -> Self {
        Self { quiet, result: true, bars: bars(!quiet && io::stdout().is_terminal()) }
    }

    /// Shows what was told; an error that was told ends it.
    pub fn show(&mut self, told: &Value) -> Outcome {
        if let Some(error) = error(told) {
            return Err(Failure::new(error));
        }
        if self.quiet {
            return Ok(());
        }
        let id = told.text("id");
        match &mut self.bars {
            Some((all, bars)) if !id.is_empty() => {
                let bar = bars.entry(id.to_owned()).or_insert_with(|| {
                    let style =
                        ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
                    all.add(ProgressBar::new(1).with_style(style))
                });
                bar.set_message(changing(told, terminal::error_width()));
            }
            _ => {
                if let Some(line) = lasting(told) {
                    self.settle();
                    return self.line(&line);
                }
            }
        }
        Ok(())
    }
}

impl Stream {
    /// Leaves what has changed so far as it is, so that a line can come below it.
    fn settle(&mut self) {
        if let Some((all, bars)) = self.bars.as_mut().filter(|(_, bars)| !bars.is_empty()) {
            for (_, bar) in bars.drain() {
                bar.abandon();
            }
            *all = drawn();
        }
    }

    fn line(&self, line: &str) -> Outcome {
        if self.result {
            return terminal::print(&format!("{line}\n"));
        }
        terminal::tell(&format!("{line}\n"));
        Ok(())
    }
}

type Bars = (MultiProgress, HashMap<String, ProgressBar>);

fn bars(terminal: bool) -> Option<Bars> {
    terminal.then(|| (drawn(), HashMap::new()))
}

fn drawn() -> MultiProgress {
    MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(FRAMES))
}

impl Drop for Stream {
    fn drop(&mut self) {
        for bar in self.bars.iter().flat_map(|(_, bars)| bars.values()) {
            bar.abandon();
        }
    }
}

fn error(told: &Value) -> Option<String> {
    let text = told.at(&["errorDetail"]).text("message");
    let text = if text.is_empty() { told.text("error") } else { text };
    (!text.is_empty()).then(|| text.to_owned())
}

/// Bytes so far and in all.
fn bytes(told: &Value) -> Option<(u64, u64)> {
    let detail = told.get("progressDetail")?;
    let number = |name: &str| u64::try_from(detail.int(name)).unwrap_or(0);
    let (done, total) = (number("current"), number("total"));
    (done > 0 || total > 0).then_some((done, total))
}

/// A line that stays; none for what will be told again.
fn lasting(told: &Value) -> Option<String> {
    if bytes(told).is_some() {
        return None;
    }
    let stream = told.text("stream");
    if !stream.is_empty() {
        return Some(table::printable(stream.trim_end_matches('\n')));
    }
    let (id, status) = (told.text("id"), told.text("status"));
    if status.is_empty() {
        return None;
    }
    let from = told.text("from");
    let from = if from.is_empty() { String::new() } else { format!("(from {from}) ") };
    Some(table::printable(&if id.is_empty() { format!("{from}{status}") } else { format!("{id}: {from}{status}") }))
}

/// A line that changes, of at most so many characters.
fn changing(told: &Value, width: usize) -> String {
    let head = table::printable(&format!("{}: {}", told.text("id"), told.text("status")));
    let Some((done, total)) = bytes(told) else { return table::cut(&head, width) };
    if total == 0 {
        return table::cut(&format!("{head}  {}", units::size(done)), width);
    }
    let counts = format!("{}/{}", units::size(done), units::size(total));
    let head = format!("{head:<26}");
    let room = width.saturating_sub(head.chars().count() + 22).min(BAR);
    if room < 8 {
        return table::cut(&format!("{} {counts}", head.trim_end()), width);
    }
    let filled = (u128::from(done.min(total)) * room as u128 / u128::from(total)) as usize;
    let tip = if filled < room { ">" } else { "" };
    let bar = format!("{}{tip}", "=".repeat(filled));
    table::cut(&format!("{head} [{bar:<room$}] {counts}"), width)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |text: &str, stays: Option<&str>, changes: &str| {
            let told = serde_json::from_str(text).unwrap();
            assert_eq!(lasting(&told).as_deref(), stays, "{text}");
            assert_eq!(changing(&told, 80), changes, "{text}");
        };
        check(
            r#"{"status":"Pulling fs layer","progressDetail":{},"id":"abc"}"#,
            Some("abc: Pulling fs layer"),
            "abc: Pulling fs layer",
        );
        check(
            r#"{"status":"Downloading","progressDetail":{"current":1000000,"total":2000000},"id":"abc"}"#,
            None,
            "abc: Downloading           [================>               ] 1MB/2MB",
        );
        check(
            r#"{"status":"Pulling from library/x","id":"latest"}"#,
            Some("latest: Pulling from library/x"),
            "latest: Pulling from library/x",
        );
        check(r#"{"status":"Status: \u001b[31mx"}"#, Some("Status: ?[31mx"), ": Status: ?[31mx");
        check(r#"{"stream":"Loaded image: x\n"}"#, Some("Loaded image: x"), ": ");
        let failed = serde_json::from_str(r#"{"errorDetail":{"message":"no"},"error":"no"}"#).unwrap();
        assert_eq!(Stream::new(true).show(&failed).unwrap_err().text(), "no");
    }
}
