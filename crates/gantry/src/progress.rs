//! What is seen of a pull or push while it runs: lines that change on a terminal, lines that stay elsewhere, JSON for
//! programs.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::{Arc, Mutex, PoisonError};

use gantry_images::{Progress, Reporter, Step};
use gantry_model::digest::Digest;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::render::{table, units};
use crate::terminal;

/// How often a terminal is drawn, per second.
const FRAMES: u8 = 12;
/// The widest bar, in characters.
const BAR: usize = 40;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Not at all.
    Quiet,
    /// A line for each event, as JSON, on standard output.
    Json,
    /// A line for each layer: one that changes on a terminal, else one for each step.
    Lines,
}

impl Mode {
    /// By the flags of a command.
    pub const fn of(quiet: bool, json: bool) -> Self {
        match (quiet, json) {
            (true, _) => Self::Quiet,
            (false, true) => Self::Json,
            (false, false) => Self::Lines,
        }
    }
}

/// Where progress is shown. What it shows when it is dropped stays.
pub struct Display(Arc<Kind>);

enum Kind {
    Quiet,
    Json,
    Plain(Mutex<HashMap<Digest, Step>>),
    Terminal { all: MultiProgress, layers: Mutex<Layers> },
}

/// The lines of a terminal.
#[derive(Default)]
struct Layers {
    lines: HashMap<Digest, (ProgressBar, Step)>,
    /// Whether it was dropped: threads that end late are not listened to any more.
    over: bool,
}

impl Display {
    /// A display on standard error.
    pub fn new(mode: Mode) -> Self {
        Self(Arc::new(match mode {
            Mode::Quiet => Kind::Quiet,
            Mode::Json => Kind::Json,
            Mode::Lines if io::stderr().is_terminal() => Kind::Terminal {
                all: MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(FRAMES)),
                layers: Mutex::default(),
            },
            Mode::Lines => Kind::Plain(Mutex::default()),
        }))
    }

    /// What tells this display.
    pub fn reporter(&self) -> Reporter {
        let kind = Arc::clone(&self.0);
        Arc::new(move |progress| kind.show(&progress))
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Kind::Terminal { all, layers } = &*self.0 {
            let mut layers = layers.lock().unwrap_or_else(PoisonError::into_inner);
            layers.over = true;
            // Lines that were to change yet would be wiped out with their bars.
            all.set_draw_target(ProgressDrawTarget::hidden());
            if layers.lines.values().any(|(bar, _)| !bar.is_finished()) {
                terminal::tell("\n");
            }
        }
    }
}

impl Kind {
    fn show(&self, progress: &Progress) {
        match (self, progress) {
            (Self::Quiet, _) | (Self::Plain(_) | Self::Terminal { .. }, Progress::Resolved { .. }) => {}
            // If nobody reads, the command finds out when it prints its result.
            (Self::Json, progress) => drop(terminal::print(&event(progress))),
            (Self::Terminal { all, .. }, Progress::Note(text)) => drop(all.println(text)),
            (Self::Plain(_), Progress::Note(text)) => terminal::tell(&format!("{text}\n")),
            (Self::Plain(seen), Progress::Layer { digest, step }) => {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                let before = seen.get(digest).copied();
                if before.is_none_or(|before| shows(before, *step) && rank(before) < rank(*step)) {
                    terminal::tell(&format!("{}: {}\n", digest.short(), plain(*step)));
                }
                if before.is_none_or(|before| shows(before, *step)) {
                    seen.insert(digest.clone(), *step);
                }
            }
            (Self::Terminal { all, layers }, Progress::Layer { digest, step }) => {
                layers.lock().unwrap_or_else(PoisonError::into_inner).show(all, digest, *step);
            }
        }
    }
}

impl Layers {
    fn show(&mut self, all: &MultiProgress, digest: &Digest, step: Step) {
        if self.over {
            return;
        }
        let (bar, before) = self.lines.entry(digest.clone()).or_insert_with(|| {
            // The message is the whole line, cut to the terminal's width.
            let style = ProgressStyle::with_template("{wide_msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
            (all.add(ProgressBar::new(1).with_style(style)), step)
        });
        if !shows(*before, step) {
            return;
        }
        *before = step;
        bar.set_message(line(digest, step, terminal::error_width()));
        if matches!(step, Step::Exists | Step::Mounted | Step::Pulled | Step::Pushed) {
            bar.abandon();
        }
    }
}

/// Whether a step is shown after another. A layer is unpacked while it is downloaded, and one thing is told at a time.
const fn shows(before: Step, step: Step) -> bool {
    !matches!((before, step), (Step::Downloading { .. }, Step::Extracting { .. }))
}

/// The place of a step in the order of steps.
const fn rank(step: Step) -> u8 {
    match step {
        Step::Waiting { .. } => 0,
        Step::Downloading { .. } | Step::Pushing { .. } => 1,
        Step::Downloaded => 2,
        Step::Extracting { .. } => 3,
        Step::Exists | Step::Mounted | Step::Pulled | Step::Pushed => 4,
    }
}

/// What a step is called, as Docker does.
fn status(step: Step) -> &'static str {
    match step {
        Step::Waiting { .. } => "Waiting",
        Step::Exists => "Already exists",
        Step::Mounted => "Mounted",
        Step::Downloading { .. } => "Downloading",
        Step::Downloaded => "Download complete",
        Step::Extracting { .. } => "Extracting",
        Step::Pulled => "Pull complete",
        Step::Pushing { .. } => "Pushing",
        Step::Pushed => "Pushed",
    }
}

/// Bytes so far and in all, where a step has some.
fn bytes(step: Step) -> Option<(u64, u64)> {
    match step {
        Step::Downloading { done, total } | Step::Extracting { done, total } | Step::Pushing { done, total } => {
            Some((done, total))
        }
        _ => None,
    }
}

/// A line that stays.
fn plain(step: Step) -> String {
    match bytes(step) {
        Some((_, total)) if total > 0 => format!("{} {}", status(step), units::size(total)),
        _ => status(step).to_owned(),
    }
}

/// A line that changes, of at most so many characters.
fn line(digest: &Digest, step: Step, width: usize) -> String {
    let head = format!("{}: {}", digest.short(), status(step));
    let Some((done, total)) = bytes(step) else { return table::cut(&head, width) };
    if total == 0 {
        return table::cut(&format!("{head}  {}", units::size(done)), width);
    }
    let counts = format!("{}/{}", units::size(done), units::size(total));
    // The bar takes what is left, and is left out where that is little.
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

/// A line of JSON, of the form that Docker's API has.
fn event(progress: &Progress) -> String {
    let value = match progress {
        Progress::Resolved { target } => json!({"status": "Resolved", "digest": target}),
        Progress::Note(text) => json!({"status": text}),
        Progress::Layer { digest, step } => match bytes(*step) {
            Some((done, total)) => {
                json!({"status": status(*step), "id": digest, "progressDetail": {"current": done, "total": total}})
            }
            None => json!({"status": status(*step), "id": digest}),
        },
    };
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest() -> Digest {
        format!("sha256:{}", "ab".repeat(32)).parse().unwrap()
    }

    #[test]
    fn lines() {
        let check = |step: Step, width: usize, expect: &str| {
            let got = line(&digest(), step, width);
            assert_eq!(got, expect);
            assert!(got.chars().count() <= width, "{got}");
        };
        let (done, total) = (12_300_000, 80_000_000);
        check(Step::Exists, 80, "abababababab: Already exists");
        check(Step::Exists, 20, "abababababab: Alrea…");
        check(Step::Waiting { total }, 80, "abababababab: Waiting");
        let bar = "abababababab: Downloading  [====>                           ] 12.3MB/80MB";
        check(Step::Downloading { done, total }, 80, bar);
        check(Step::Downloading { done, total }, 60, "abababababab: Downloading  [=>          ] 12.3MB/80MB");
        check(Step::Downloading { done, total }, 50, "abababababab: Downloading 12.3MB/80MB");
        check(Step::Downloading { done, total }, 30, "abababababab: Downloading 12.…");
        check(Step::Downloading { done, total: 0 }, 80, "abababababab: Downloading  12.3MB");
        check(
            Step::Extracting { done: total + 5, total },
            200,
            "abababababab: Extracting   [========================================] 80MB/80MB",
        );
    }

    #[test]
    fn one_thing_at_a_time() {
        let steps = [
            Step::Waiting { total: 9 },
            Step::Downloading { done: 1, total: 9 },
            Step::Extracting { done: 1, total: 9 },
            Step::Downloading { done: 9, total: 9 },
            Step::Downloaded,
            Step::Extracting { done: 5, total: 9 },
            Step::Pulled,
        ];
        let mut before = steps[0];
        let mut shown = vec![status(before)];
        for step in &steps[1..] {
            if shows(before, *step) {
                if rank(before) < rank(*step) {
                    shown.push(status(*step));
                }
                before = *step;
            }
        }
        assert_eq!(shown, ["Waiting", "Downloading", "Download complete", "Extracting", "Pull complete"]);
    }

    #[test]
    fn plain_lines_and_json() {
        assert_eq!(plain(Step::Downloading { done: 0, total: 80_000_000 }), "Downloading 80MB");
        assert_eq!(plain(Step::Pulled), "Pull complete");
        let step = Step::Pushing { done: 1, total: 2 };
        assert_eq!(
            event(&Progress::Layer { digest: digest(), step }),
            format!(
                "{{\"id\":\"{}\",\"progressDetail\":{{\"current\":1,\"total\":2}},\"status\":\"Pushing\"}}\n",
                digest()
            )
        );
    }
}
