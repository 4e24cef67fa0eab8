//! The database of the store: one redb file.
//!
//! # What is durable when
//! A commit that waits for the disk costs milliseconds, so only commits that something depends on wait: names and targets.
//! Rows of blobs and layers are committed without waiting and become durable with the next commit that does; if they are
//! lost in between they are made again from what lies on disk, where every blob and layer was renamed into place only
//! when it was whole (see [`crate::recover`]).
//!
//! # After a failed write
//! redb refuses everything once a write failed, so the database is opened anew, and a full disk is met by giving up a file
//! that was kept for that: then names can still be removed. Rows that had not become durable are made again.

use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use redb::{Database, Durability, ReadTransaction, ReadableDatabase, ReadableTable, WriteTransaction};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::dirs::Dirs;
use crate::error::{Error, Result, io_error};
use crate::rows::{self, Table};

/// Memory for pages; rows are few and small.
const CACHE: usize = 2 << 20;

/// The database, which can be opened anew.
pub(crate) struct Db {
    root: PathBuf,
    path: PathBuf,
    /// Where it is born, so that one whose making was cut off is never taken for a database.
    born: PathBuf,
    inner: RwLock<Option<Database>>,
}

impl Db {
    /// Opens or creates the database of a store.
    pub(crate) fn open(dirs: &Dirs) -> Result<Self> {
        let (path, born) = (dirs.root.join("store.redb"), dirs.tmp.join("store.redb"));
        let db = Self { root: dirs.root.clone(), path, born, inner: RwLock::new(None) };
        db.reopen()?;
        Ok(db)
    }

    /// Closes and opens it. What was not durable is lost.
    pub(crate) fn reopen(&self) -> Result<()> {
        let mut inner = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        drop(inner.take());
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE);
        if !self.path.exists() {
            self.create(&builder)?;
        }
        *inner = Some(builder.open(&self.path).map_err(|error| self.error("open", error.into()))?);
        Ok(())
    }

    /// Makes an empty database and gives it its name when it is whole: redb sets the length of a new file before it
    /// writes what tells that it is one.
    fn create(&self, builder: &redb::Builder) -> Result<()> {
        let fail = |error| io_error(&self.root, "make the database", None, error);
        match std::fs::remove_file(&self.born) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(fail(error)),
            _ => {}
        }
        drop(builder.create(&self.born).map_err(|error| self.error("make", error.into()))?);
        std::fs::File::open(&self.born).and_then(|file| file.sync_all()).map_err(fail)?;
        std::fs::rename(&self.born, &self.path).map_err(fail)?;
        std::fs::File::open(&self.root).and_then(|dir| dir.sync_all()).map_err(fail)
    }

    /// Reads in one consistent view.
    pub(crate) fn read<T>(&self, action: &'static str, body: impl FnOnce(&Reading<'_>) -> Result<T>) -> Result<T> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let database = inner.as_ref().ok_or_else(|| self.error(action, redb::Error::DatabaseClosed))?;
        let tx = database.begin_read().map_err(|error| self.error(action, error.into()))?;
        body(&Reading { db: self, tx, action })
    }

    /// Writes in one transaction: all of it or nothing.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        durable: bool,
        body: impl FnOnce(&Writing<'_>) -> Result<T>,
    ) -> Result<T> {
        let inner = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let database = inner.as_ref().ok_or_else(|| self.error(action, redb::Error::DatabaseClosed))?;
        let mut tx = database.begin_write().map_err(|error| self.error(action, error.into()))?;
        let durability = if durable { Durability::Immediate } else { Durability::None };
        tx.set_durability(durability).map_err(|error| self.error(action, error.into()))?;
        let writing = Writing { db: self, tx, action };
        let value = body(&writing)?;
        writing.tx.commit().map_err(|error| self.error(action, error.into()))?;
        Ok(value)
    }

    fn error(&self, action: &'static str, source: redb::Error) -> Error {
        match source {
            redb::Error::Io(source) if crate::error::no_space(&source) => io_error(&self.root, action, None, source),
            source => Error::Database { action, path: self.path.clone(), source: Box::new(source) },
        }
    }
}

/// A view of the database.
pub(crate) struct Reading<'a> {
    db: &'a Db,
    tx: ReadTransaction,
    action: &'static str,
}

impl Reading<'_> {
    /// A row, if it is there.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        let fail = |error: redb::Error| self.db.error(self.action, error);
        let open = match self.tx.open_table(table) {
            Ok(open) => open,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(fail(error.into())),
        };
        let Some(value) = open.get(key).map_err(|error| fail(error.into()))? else { return Ok(None) };
        rows::decode(redb::TableHandle::name(&table), key, value.value()).map(Some)
    }

    /// All rows of a table whose keys begin so, in the order of keys.
    pub(crate) fn list<T: DeserializeOwned>(&self, table: Table, prefix: &str) -> Result<Vec<(String, T)>> {
        let fail = |error: redb::Error| self.db.error(self.action, error);
        let open = match self.tx.open_table(table) {
            Ok(open) => open,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(fail(error.into())),
        };
        let mut all = Vec::new();
        for row in open.range(prefix..).map_err(|error| fail(error.into()))? {
            let (key, value) = row.map_err(|error| fail(error.into()))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            all.push((
                key.value().to_owned(),
                rows::decode(redb::TableHandle::name(&table), key.value(), value.value())?,
            ));
        }
        Ok(all)
    }
}

/// A transaction that writes.
pub(crate) struct Writing<'a> {
    db: &'a Db,
    tx: WriteTransaction,
    action: &'static str,
}

impl Writing<'_> {
    fn fail(&self, error: impl Into<redb::Error>) -> Error {
        self.db.error(self.action, error.into())
    }

    /// A row, if it is there.
    pub(crate) fn get<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>> {
        let open = self.tx.open_table(table).map_err(|error| self.fail(error))?;
        let Some(value) = open.get(key).map_err(|error| self.fail(error))? else { return Ok(None) };
        rows::decode(redb::TableHandle::name(&table), key, value.value()).map(Some)
    }

    /// Sets a row.
    pub(crate) fn put<T: Serialize>(&self, table: Table, key: &str, row: &T) -> Result<()> {
        let bytes = rows::encode(row)?;
        let mut open = self.tx.open_table(table).map_err(|error| self.fail(error))?;
        open.insert(key, bytes.as_slice()).map_err(|error| self.fail(error))?;
        Ok(())
    }

    /// Removes a row; true if it was there.
    pub(crate) fn remove(&self, table: Table, key: &str) -> Result<bool> {
        let mut open = self.tx.open_table(table).map_err(|error| self.fail(error))?;
        let removed = open.remove(key).map_err(|error| self.fail(error))?;
        Ok(removed.is_some())
    }

    /// All rows of a table.
    pub(crate) fn list<T: DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>> {
        let open = self.tx.open_table(table).map_err(|error| self.fail(error))?;
        let mut all = Vec::new();
        for row in open.iter().map_err(|error| self.fail(error))? {
            let (key, value) = row.map_err(|error| self.fail(error))?;
            all.push((
                key.value().to_owned(),
                rows::decode(redb::TableHandle::name(&table), key.value(), value.value())?,
            ));
        }
        Ok(all)
    }
}
