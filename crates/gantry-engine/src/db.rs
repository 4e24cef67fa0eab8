//! The engine's database: one redb file, written by one thread that puts what comes together into one commit.
//!
//! A commit waits for the disk, so who can go on without it does not wait: a state that is lost in a crash is found again
//! in the kernel or in the record of an exit. What was promised to somebody (a container that was made, a name) is waited
//! for. Writes are carried out in the order in which they were asked for.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use gantry_store::Reserve;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;

use crate::error::{Context, Error, Result};

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Records of containers, by id.
    Containers,
    /// States of containers, by id.
    States,
    /// Networks, by id.
    Networks,
    /// What concerns the engine.
    Meta,
}

impl Table {
    const fn definition(self) -> TableDefinition<'static, &'static str, &'static [u8]> {
        TableDefinition::new(match self {
            Self::Containers => "containers",
            Self::States => "states",
            Self::Networks => "networks",
            Self::Meta => "meta",
        })
    }
}

/// A row to write, or without a value to remove.
pub(crate) struct Row {
    table: Table,
    key: String,
    value: Option<Vec<u8>>,
}

impl Row {
    /// Writes a row.
    pub(crate) fn put(table: Table, key: &str, value: &impl serde::Serialize) -> Self {
        // Documents of ours always have a JSON form.
        Self { table, key: key.to_owned(), value: Some(serde_json::to_vec(value).unwrap_or_default()) }
    }

    /// Removes a row.
    pub(crate) fn remove(table: Table, key: &str) -> Self {
        Self { table, key: key.to_owned(), value: None }
    }
}

/// Rows that are written together, and who waits for it.
struct Job {
    rows: Vec<Row>,
    done: Option<oneshot::Sender<Result<()>>>,
}

/// Memory for pages; rows are few and small.
const CACHE: usize = 1 << 20;
/// How long writes that nobody waits for are gathered.
const GATHER: Duration = Duration::from_millis(40);
/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// The database.
pub(crate) struct Db {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What was in the database when it was opened.
pub(crate) struct Rows(Database);

impl Db {
    /// Opens the database, and reads what is in it by `read` before the first write.
    pub(crate) fn open<T>(path: &Path, read: impl FnOnce(&Rows) -> Result<T>) -> Result<(Self, T)> {
        let rows = Rows(open(path)?);
        let found = read(&rows)?;
        let (jobs, queue) = channel();
        let reserve = Reserve::new(path.with_extension("reserve"));
        let kept = reserve.set_aside();
        let file = File { path: path.to_owned(), database: Some(rows.0), reserve, kept };
        let thread = std::thread::Builder::new().name("database".to_owned());
        let thread = thread.spawn(move || serve(file, &queue)).context(|| "start a thread".to_owned())?;
        Ok((Self { jobs: Some(jobs), thread: Some(thread) }, found))
    }

    /// Writes rows together, and waits until they are on the disk.
    pub(crate) async fn write(&self, rows: Vec<Row>) -> Result<()> {
        let (done, wait) = oneshot::channel();
        self.send(Job { rows, done: Some(done) })?;
        wait.await.map_err(|_| Error::Closed)?
    }

    /// Writes rows together, soon.
    pub(crate) fn write_soon(&self, rows: Vec<Row>) {
        // It fails only when the engine ends, and then what is in memory counts no more.
        let _ = self.send(Job { rows, done: None });
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.as_ref().ok_or(Error::Closed)?.send(job).map_err(|_| Error::Closed)
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(thread) = self.thread.take() {
            // What was to be written is written; a panic has said what it had to say.
            let _ = thread.join();
        }
    }
}

impl Rows {
    /// All rows of a table.
    pub(crate) fn all<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let fail = |error: redb::Error| Error::Database { action: "read", source: Box::new(error) };
        let tx = self.0.begin_read().map_err(|error| fail(error.into()))?;
        let table = match tx.open_table(table.definition()) {
            Ok(table) => table,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error.into())),
        };
        let mut found = Vec::new();
        for row in table.iter().map_err(|error| fail(error.into()))? {
            let (key, value) = row.map_err(|error| fail(error.into()))?;
            let key = key.value().to_owned();
            let value = serde_json::from_slice(value.value());
            let damaged = |error: serde_json::Error| Error::Damaged { what: key.clone(), cause: error.to_string() };
            found.push((key.clone(), value.map_err(damaged)?));
        }
        Ok(found)
    }
}

fn open(path: &Path) -> Result<Database> {
    let fail = |error: redb::Error| Error::Database { action: "open", source: Box::new(error) };
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE);
    if !path.exists() {
        // It gets its name when it is whole: a crash in the middle of its making leaves no database.
        let born = path.with_extension("new");
        match std::fs::remove_file(&born) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(|| format!("remove {}", born.display()));
            }
            _ => {}
        }
        drop(builder.create(&born).map_err(|error| fail(error.into()))?);
        std::fs::rename(&born, path).context(|| format!("make {}", path.display()))?;
    }
    builder.open(path).map_err(|error| fail(error.into()))
}

/// The file, which is opened anew after a failed write: redb refuses everything then.
struct File {
    path: PathBuf,
    database: Option<Database>,
    /// Space that is given up for what has to be written on a full disk, and whether it is kept at present.
    reserve: Reserve,
    kept: bool,
}

/// Writes until nobody can ask any more.
fn serve(mut file: File, queue: &Receiver<Job>) {
    // Writes that failed and nobody waited for: tried again, before all others.
    let mut late: VecDeque<Vec<Row>> = VecDeque::new();
    loop {
        let first = if late.is_empty() {
            queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            queue.recv_timeout(RETRY)
        };
        let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
        let jobs = first.map_or_else(|_| Vec::new(), |first| gather(first, queue));
        let rows = late.iter().flatten().chain(jobs.iter().flat_map(|job| &job.rows));
        let result = file.commit(rows);
        let mut waiting = Vec::new();
        for job in jobs {
            match job.done {
                Some(done) => waiting.push(done),
                None if result.is_err() => late.push_back(job.rows),
                None => {}
            }
        }
        if result.is_ok() {
            late.clear();
        }
        let mut result = Some(result);
        for done in waiting {
            // The first gets the error itself, the others its words.
            let words = match &result {
                Some(Err(error)) => Some(error.to_string()),
                _ => None,
            };
            let answer = match words {
                Some(words) => {
                    let what = "write what was asked for at the same time".to_owned();
                    let other = Error::Io { what, source: std::io::Error::other(words) };
                    result.replace(Err(other)).unwrap_or(Ok(()))
                }
                None => Ok(()),
            };
            let _ = done.send(answer);
        }
        if ended {
            return;
        }
    }
}

/// What came until somebody waits, or for a while.
fn gather(first: Job, queue: &Receiver<Job>) -> Vec<Job> {
    let mut urgent = first.done.is_some();
    let mut jobs = vec![first];
    loop {
        let next = if urgent { queue.try_recv().ok() } else { queue.recv_timeout(GATHER).ok() };
        let Some(job) = next else { return jobs };
        urgent |= job.done.is_some();
        jobs.push(job);
    }
}

impl File {
    fn commit<'a>(&mut self, rows: impl Iterator<Item = &'a Row> + Clone) -> Result<()> {
        let mut result = self.try_commit(rows.clone());
        // What has happened already, or makes room, does not wait for room.
        let presses = |row: &Row| row.value.is_none() || row.table == Table::States;
        if result.is_err() && rows.clone().any(presses) && self.reserve.give_up() {
            self.kept = false;
            result = self.try_commit(rows);
        }
        if result.is_ok() && !self.kept {
            self.kept = self.reserve.set_aside();
        }
        result
    }

    /// Writes rows. A file that has failed is opened anew the next time.
    fn try_commit<'a>(&mut self, rows: impl Iterator<Item = &'a Row>) -> Result<()> {
        let database = match self.database.take() {
            Some(database) => database,
            None => open(&self.path)?,
        };
        commit(&database, rows)?;
        self.database = Some(database);
        Ok(())
    }
}

fn commit<'a>(database: &Database, rows: impl Iterator<Item = &'a Row>) -> Result<()> {
    let fail = |error: redb::Error| Error::Database { action: "write", source: Box::new(error) };
    let tx = database.begin_write().map_err(|error| fail(error.into()))?;
    let mut any = false;
    for row in rows {
        any = true;
        let mut table = tx.open_table(row.table.definition()).map_err(|error| fail(error.into()))?;
        match &row.value {
            Some(value) => table.insert(row.key.as_str(), value.as_slice()).map(drop),
            None => table.remove(row.key.as_str()).map(drop),
        }
        .map_err(|error| fail(error.into()))?;
    }
    if !any {
        return tx.abort().map_err(|error| fail(error.into()));
    }
    tx.commit().map_err(|error| fail(error.into()))
}
