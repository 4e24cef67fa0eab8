//! Work that tells of itself while it is done: lines of progress, as pulls, pushes and loads give them.

use std::sync::Arc;

use bytes::Bytes;
use gantry_images::{Progress, Reporter, Step};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::error::{Failure, Outcome};
use crate::reply::{Reply, stream};

/// What is told of work that a client waits for.
enum Said {
    Line(Bytes),
    /// It failed, and that is the end of it.
    Failed(Failure),
}

/// Lines of progress on their way to a client.
#[derive(Clone)]
pub(crate) struct Lines(mpsc::UnboundedSender<Said>);

impl Lines {
    pub(crate) fn say(&self, line: &Value) {
        // Nobody may listen.
        let _ = self.0.send(Said::Line(format!("{line}\r\n").into()));
    }

    pub(crate) fn status(&self, text: impl Into<String>) {
        self.say(&json!({"status": text.into()}));
    }

    /// Tells of a failure by a line, whatever was told before.
    pub(crate) fn failed(&self, text: &str) {
        self.say(&failed(text));
    }
}

fn failed(text: &str) -> Value {
    json!({"errorDetail": {"message": text}, "error": text})
}

/// An answer of lines that work tells of itself. Work that fails before it has told anything is answered with its failure:
/// the head goes with the first line.
pub(crate) async fn lines<F: Future<Output = Outcome<()>> + Send + 'static>(
    work: impl FnOnce(Lines) -> F,
) -> Outcome<Reply> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let working = work(Lines(sender.clone()));
    tokio::spawn(async move {
        // Nobody may listen any more, and then there is no use in it.
        let ended = tokio::select! {
            ended = working => ended,
            () = sender.closed() => return tracing::info!("a transfer is given up, since its client is gone"),
        };
        if let Err(failure) = ended {
            let _ = sender.send(Said::Failed(failure));
        }
    });
    let first = match receiver.recv().await {
        Some(Said::Failed(failure)) => return Err(failure),
        other => other,
    };
    let pieces = futures_util::stream::unfold((first, receiver), |(first, mut receiver)| async move {
        let said = match first {
            Some(said) => said,
            None => receiver.recv().await?,
        };
        let line = match said {
            Said::Line(line) => line,
            Said::Failed(failure) => format!("{}\r\n", failed(&failure.message)).into(),
        };
        Some((Ok(line), (None, receiver)))
    });
    Ok(stream("application/json", pieces))
}

/// Which way layers go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Pull,
    Push,
}

/// Progress of layers as lines.
pub(crate) fn reporter(lines: &Lines, way: Way) -> Reporter {
    let lines = lines.clone();
    Arc::new(move |progress| match progress {
        Progress::Resolved { .. } => {}
        Progress::Note(text) => lines.status(text),
        Progress::Layer { digest, step } => {
            let id = digest.to_string();
            let id = id.split_once(':').map_or(id.as_str(), |(_, hex)| hex);
            let id = &id[..12.min(id.len())];
            let detail = |status: &str, done: u64, total: u64| {
                let detail = json!({"current": done, "total": total});
                json!({"status": status, "progressDetail": detail, "id": id})
            };
            let plain = |status: &str| json!({"status": status, "progressDetail": {}, "id": id});
            let line = match step {
                Step::Waiting { .. } => plain(if way == Way::Pull { "Pulling fs layer" } else { "Preparing" }),
                Step::Exists => plain(if way == Way::Pull { "Already exists" } else { "Layer already exists" }),
                Step::Mounted => plain("Mounted from another repository"),
                Step::Downloading { done, total } => detail("Downloading", done, total),
                Step::Downloaded => plain("Download complete"),
                Step::Extracting { done, total } => detail("Extracting", done, total),
                Step::Pulled => plain("Pull complete"),
                Step::Pushing { done, total } => detail("Pushing", done, total),
                Step::Pushed => plain("Pushed"),
            };
            lines.say(&line);
        }
    })
}
