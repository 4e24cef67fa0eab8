//! What containers wrote: where it goes, and how it is read again.
//!
//! The monitor of a container writes its log and rotates it ([`gantry_model::monitor::LogFile`]); here it is read, from
//! whichever files there are, and followed.

mod piece;
mod plan;
mod reader;

use std::sync::Arc;

use gantry_model::logrecord::Stream;
use gantry_model::monitor::LogFile;

use crate::container::Status;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::table::Container;

pub use plan::{DEFAULT as DEFAULT_DRIVER, DRIVERS, LogPlan, plan};
pub use reader::Reader;

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
}

/// How often a log that is followed is looked at: soon after something came, and then ever less.
const PAUSES: [std::time::Duration; 2] = [std::time::Duration::from_millis(5), std::time::Duration::from_millis(160)];

impl Engine {
    /// What a container wrote.
    ///
    /// # Errors
    /// Its log cannot be read back.
    pub async fn logs(&self, asked: &str, query: Query) -> Result<Logs> {
        let container = self.find(asked)?;
        let file = self
            .log_file(&container)?
            .ok_or_else(|| Error::Unsupported("configured logging driver does not support reading".to_owned()))?;
        let reader = blocking(move || Reader::open(&file, query)).await?;
        Ok(Logs { reader: Some(reader), container, query, last: false, pause: PAUSES[0] })
    }

    /// Where a container's output goes, if anywhere.
    pub(crate) fn log_file(&self, container: &Container) -> Result<Option<LogFile>> {
        let record = container.record();
        let plan = plan(&record.host.log, &self.0.options.log)?;
        let name = match plan.is_json() {
            true => format!("{}-json.log", record.id),
            false => "log".to_owned(),
        };
        let path = self.root_dir(&record.id).join(name).display().to_string();
        Ok(plan.file.map(|file| LogFile { path, ..file }))
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
            let (reader, entries) = blocking(move || {
                let entries = reader.next()?;
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
            let state = self.container.state();
            let goes_on = state.status.is_running() || state.status == Status::Restarting;
            if !goes_on || self.container.watch().borrow().gone {
                self.last = true;
                continue;
            }
            tokio::time::sleep(self.pause).await;
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
    }
}
