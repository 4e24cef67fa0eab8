//! What containers wrote: where it goes, and how it is read again.
//!
//! The monitor of a container writes its log and rotates it ([`gantry_model::monitor::LogFile`]); here it is read, from
//! whichever files there are, and followed ([`Reader`]), older files are compressed ([`compress_rotated`]), and what is
//! wanted elsewhere is sent there ([`Shipper`]).

mod changes;
mod compress;
mod files;
mod identity;
mod option;
mod piece;
mod plan;
mod reader;
mod ship;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use gantry_model::logrecord::Stream;
use gantry_model::monitor::LogFile;
use gantry_model::time;

use crate::container::Status;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::table::Container;

use changes::Changes;

pub use compress::compress_rotated;
pub use identity::{Attributes, Identity, Template};
pub use option::Address;
pub use plan::{DEFAULT as DEFAULT_DRIVER, DRIVERS, LogPlan, options, plan};
pub use reader::{Position, Reader};
pub use ship::{Shipper, Signals};

/// A time as RFC 3339 has it.
pub(crate) fn date(nanoseconds: i64) -> String {
    time::Moment::new(nanoseconds).rfc3339(9)
}

/// A piece of what a container wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When, in nanoseconds since 1970.
    pub time: i64,
    /// To which stream.
    pub stream: Stream,
    /// The bytes, with the end of line unless the line goes on.
    pub text: Vec<u8>,
}

impl Entry {
    /// Whether the line goes on in the next entry of the stream.
    pub fn is_partial(&self) -> bool {
        self.text.last() != Some(&b'\n')
    }

    /// The bytes without the end of line.
    pub fn bare(&self) -> &[u8] {
        self.text.strip_suffix(b"\n").unwrap_or(&self.text)
    }
}

/// What of a log is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// From this time on, in nanoseconds since 1970.
    pub since: Option<i64>,
    /// Up to this time.
    pub until: Option<i64>,
    /// Only so many lines from the end.
    pub tail: Option<u64>,
    /// Whether what comes is told too, until the container ends.
    pub follow: bool,
}

/// The log of a container that is being read.
pub struct Logs {
    reader: Option<Reader>,
    container: Arc<Container>,
    query: Query,
    /// The container does not run, and what it wrote last is still to be read.
    last: bool,
    pause: std::time::Duration,
    changes: Option<Changes>,
}

/// How long is waited for word of changes before a log is looked at anyway.
const UNHEARD: std::time::Duration = std::time::Duration::from_secs(1);
/// How often a log that is followed is looked at without word: soon after something came, and then ever less.
const PAUSES: [std::time::Duration; 2] = [std::time::Duration::from_millis(5), std::time::Duration::from_millis(160)];

impl Engine {
    /// What a container wrote.
    ///
    /// # Errors
    /// Its log cannot be read back.
    pub async fn logs(&self, asked: &str, query: Query) -> Result<Logs> {
        let container = self.find(asked)?;
        let plan = self.log_plan(&container)?;
        let file = plan
            .file
            .filter(|_| plan.readable)
            .ok_or_else(|| Error::Unsupported("configured logging driver does not support reading".to_owned()))?;
        // Watched first, so that nothing is written unheard.
        let changes = match (query.follow, Path::new(&file.path).parent()) {
            (true, Some(dir)) => Changes::of(dir),
            _ => None,
        };
        let reader = blocking(move || Reader::open(&file, query)).await?;
        Ok(Logs { reader: Some(reader), container, query, last: false, pause: PAUSES[0], changes })
    }

    /// Where a container's output goes, if anywhere.
    pub(crate) fn log_file(&self, container: &Container) -> Result<Option<LogFile>> {
        Ok(self.log_plan(container)?.file)
    }

    /// What becomes of a container's output.
    pub(crate) fn log_plan(&self, container: &Container) -> Result<LogPlan> {
        let record = container.record();
        let mut plan = plan(&record.host.log, &self.default_log())?;
        let name = if plan.is_json() { format!("{}-json.log", record.id) } else { "log".to_owned() };
        if let Some(file) = &mut plan.file {
            file.path = self.root_dir(&record.id).join(name).display().to_string();
        }
        Ok(plan)
    }
}

impl Logs {
    /// Whether the container has a terminal, so that there is one stream.
    pub fn terminal(&self) -> bool {
        self.container.record().config.terminal
    }

    /// The next entries; none at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<Entry>>> {
        loop {
            let Some(mut reader) = self.reader.take() else { return Ok(None) };
            if let Some(changes) = &mut self.changes {
                changes.seen();
            }
            let (reader, entries) = blocking(move || {
                let entries = reader.read()?;
                Ok((reader, entries))
            })
            .await?;
            let over = reader.is_over();
            if !over {
                self.reader = Some(reader);
            }
            if !entries.is_empty() {
                self.pause = PAUSES[0];
                return Ok(Some(entries));
            }
            if over || !self.query.follow || self.last {
                self.reader = None;
                return Ok(None);
            }
            let mut moment = self.container.watch();
            let gone = moment.borrow_and_update().gone;
            let state = self.container.state();
            let goes_on = state.status.is_running() || state.status == Status::Restarting;
            if !goes_on || gone {
                self.last = true;
                continue;
            }
            tokio::select! {
                () = self.heard() => {}
                _ = moment.changed() => {}
            }
        }
    }

    /// Waits for word of changes, but not for ever.
    async fn heard(&mut self) {
        if let Some(changes) = &mut self.changes {
            let _ = tokio::time::timeout(UNHEARD, changes.changed()).await;
        } else {
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }
}
