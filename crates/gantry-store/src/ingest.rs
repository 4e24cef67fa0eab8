//! Content on its way in.
//!
//! It is hashed while it is written to a name of its own, and gets its final name when all of it is there and right. Who
//! asks for a blob that somebody else is writing waits for that one, so a blob is downloaded once however many images have
//! it. The beginning of one whose digest is known is kept when its download is cut off, also by a crash: the next try
//! hashes what is there and goes on behind it. Nothing of it is trusted for that: the digest is compared at the end.
//!
//! # What is synced
//! The bytes of a blob before its final name, so that a name never leads to less than the whole. The name itself is
//! synced, with all others since, before the first row that refers to it becomes durable.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use gantry_model::digest::{Algorithm, Digest};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use crate::error::{Error, Result, io_error};
use crate::hash::{CHUNK, Hasher};
use crate::lease::Lease;
use crate::rows::{BLOBS, BlobRow};
use crate::store::{Claimed, Store};
use crate::usage::Tally;

/// Space is set aside only for blobs of this size or more.
const RESERVE_FROM: u64 = 1 << 20;

/// So many bytes are given to the disk at a time while a blob comes in, so that the sync at its end is short.
const STRIDE: u64 = 8 << 20;

/// What is going to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Content whose digest is known.
    Known {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes, if that is known too.
        size: Option<u64>,
    },
    /// Content that is named by its sha256 once it is there.
    Unknown,
}

/// The answer to a wish to write a blob.
#[derive(Debug)]
pub enum Claim {
    /// It is here already, with this size, and held by the lease.
    Present(u64),
    /// The caller writes it.
    Mine(Ingest),
}

/// A blob that is being written.
///
/// Dropped without [`commit`](Self::commit), the beginning of one with a known digest is kept for a while, so that it can
/// be resumed; of another it is removed.
#[derive(Debug)]
pub struct Ingest {
    store: Store,
    lease: u64,
    expect: Option<(Digest, Option<u64>)>,
    file: File,
    path: PathBuf,
    hasher: HasherBox,
    offset: u64,
    finished: bool,
}

struct HasherBox(Box<Hasher>);

impl std::fmt::Debug for HasherBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hasher")
    }
}

impl Store {
    /// Begins to write a blob, unless it is here. While another thread writes the same one, this waits for its end.
    pub fn ingest(&self, lease: &Lease, expect: Expect) -> Result<Claim> {
        let Expect::Known { digest, size } = expect else {
            return self.ingest_unknown(lease).map(Claim::Mine);
        };
        let inner = self.inner();
        let claim = Claimed::Blob(digest.clone());
        let mut state = inner.unclaimed(inner.state(), &claim);
        state.claims.insert(claim.clone(), lease.id);
        lease.add_blob(state, &digest);
        let begun = match self.blob_size(&digest) {
            Ok(Some(size)) => Ok(Claim::Present(size)),
            Ok(None) => self.begin(lease, &digest, size).map(Claim::Mine),
            Err(error) => Err(error),
        };
        if !matches!(begun, Ok(Claim::Mine(_))) {
            inner.release([claim]);
        }
        begun
    }

    fn ingest_unknown(&self, lease: &Lease) -> Result<Ingest> {
        let dirs = &self.inner().dirs;
        let path = dirs.tmp.join(format!("blob-{}", dirs.number()));
        let file = open(&path).map_err(|error| dirs.error("begin to write a blob", error))?;
        let hasher = HasherBox(Box::new(Hasher::new(Algorithm::Sha256)));
        let store = self.clone();
        Ok(Ingest { store, lease: lease.id, expect: None, file, path, hasher, offset: 0, finished: false })
    }

    fn begin(&self, lease: &Lease, digest: &Digest, size: Option<u64>) -> Result<Ingest> {
        let dirs = &self.inner().dirs;
        let fail = |error| dirs.error(format!("begin to write blob {digest}"), error);
        let path = dirs.partial(digest);
        let mut file = open(&path).map_err(fail)?;
        let there = file.metadata().map_err(fail)?.len();
        let mut hasher = Hasher::new(digest.algorithm());
        let mut offset = 0;
        if there > 0 && size.is_some_and(|size| there > size) {
            file.set_len(0).map_err(fail)?;
        } else if there > 0 {
            offset = hasher.read(&mut (&mut file).take(there)).map_err(fail)?;
        }
        file.seek(SeekFrom::Start(offset)).map_err(fail)?;
        if let Some(needed) =
            size.filter(|size| *size >= RESERVE_FROM).map(|size| size - offset).filter(|left| *left > 0)
        {
            match fallocate(&file, FallocateFlags::KEEP_SIZE, offset, needed) {
                // Not every file system can; then a full disk is met later.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => {}
                Err(errno) => {
                    let action = format!("make room for blob {digest}");
                    // What an attempt at setting aside took is given back.
                    file.set_len(offset).map_err(fail)?;
                    return Err(io_error(&dirs.root, action, Some(needed), errno));
                }
            }
        }
        let (store, hasher, expect) = (self.clone(), HasherBox(Box::new(hasher)), Some((digest.clone(), size)));
        Ok(Ingest { store, lease: lease.id, expect, file, path, hasher, offset, finished: false })
    }
}

fn open(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

impl Ingest {
    /// How many bytes are there: right after the start, those of an earlier try.
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Begins anew: for a server that cannot send the rest alone.
    pub fn restart(&mut self) -> Result<()> {
        let algorithm = self.expect.as_ref().map_or(Algorithm::Sha256, |(digest, _)| digest.algorithm());
        self.hasher = HasherBox(Box::new(Hasher::new(algorithm)));
        self.offset = 0;
        let emptied = self.file.set_len(0).and_then(|()| self.file.seek(SeekFrom::Start(0)));
        emptied.map(|_| ()).map_err(|error| self.error("begin anew", error))
    }

    /// Adds bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let after = self.offset + bytes.len() as u64;
        if let Some((digest, Some(expected))) = &self.expect
            && after > *expected
        {
            return Err(Error::Size { digest: digest.clone(), expected: *expected, found: after });
        }
        if let Err(error) = self.file.write_all(bytes) {
            let error = self.error("write", error);
            // Some of the bytes may be there: go back to what is counted, so that an attempt to go on is right.
            let back = self.file.set_len(self.offset).and_then(|()| self.file.seek(SeekFrom::Start(self.offset)));
            back.map_err(|error| self.error("go back", error))?;
            return Err(error);
        }
        self.hasher.0.update(bytes);
        let strides = (self.offset / STRIDE, after / STRIDE);
        self.offset = after;
        if strides.0 < strides.1 {
            let (from, length) = (strides.0 * STRIDE, (strides.1 - strides.0) * STRIDE);
            // What cannot be begun now is done at the end.
            if let Err(error) = gantry_sys::misc::start_writing(self.file.as_fd(), from, length) {
                tracing::trace!(%error, "writing is not begun early");
            }
        }
        Ok(())
    }

    /// Ends it: compares size and digest, syncs, and gives the blob its name. Returns the digest and the size.
    ///
    /// What is not as announced is removed, since going on from it would never end well.
    pub fn commit(self) -> Result<(Digest, u64)> {
        self.finish(true)
    }

    pub(crate) fn finish(mut self, sync: bool) -> Result<(Digest, u64)> {
        let size = self.offset;
        let found = self.hasher.0.clone().finish()?;
        if let Some((digest, expected)) = self.expect.clone() {
            let short = expected.is_some_and(|expected| size < expected);
            if short {
                return Err(Error::Size { digest, expected: expected.unwrap_or(size), found: size });
            }
            if digest != found {
                self.throw_away();
                return Err(Error::Mismatch { expected: digest, found });
            }
        } else if !self.claim(&found)? {
            self.throw_away();
            return Ok((found, size));
        }
        self.publish(&found, size, sync)?;
        self.finished = true;
        Ok((found, size))
    }

    /// Claims the digest that unknown content turned out to have; false if it is here already.
    fn claim(&mut self, digest: &Digest) -> Result<bool> {
        let inner = self.store.inner();
        let claim = Claimed::Blob(digest.clone());
        let mut state = inner.unclaimed(inner.state(), &claim);
        state.claims.insert(claim.clone(), self.lease);
        if let Some(lease) = state.leases.get_mut(&self.lease) {
            lease.hold_blob(digest);
        }
        drop(state);
        match self.store.blob_size(digest) {
            Ok(None) => {
                // From now on it is removed and given back as one whose digest was known.
                self.expect = Some((digest.clone(), None));
                Ok(true)
            }
            other => {
                inner.release([claim]);
                other.map(|_| false)
            }
        }
    }

    fn publish(&mut self, digest: &Digest, size: u64, sync: bool) -> Result<()> {
        let inner = self.store.inner();
        let fail = |action: &str, error| self.error(action, error);
        // Space that was set aside beyond the end is given back.
        self.file.set_len(size).map_err(|error| fail("finish", error))?;
        if sync {
            self.file.sync_data().map_err(|error| fail("sync", error))?;
        } else {
            let file = self.file.try_clone().map_err(|error| fail("finish", error))?;
            inner.state().unsynced.push(file);
        }
        std::fs::rename(&self.path, inner.dirs.blob(digest)).map_err(|error| fail("give its name to", error))?;
        inner.state().dirty.insert(digest.algorithm());
        let row = BlobRow { size, created: inner.now() };
        if let Err(error) = inner.write("add a blob", false, |tx| tx.put(BLOBS, &digest.to_string(), &row)) {
            // Without a row it is not here; its bytes are kept for the next try.
            let back = std::fs::rename(inner.dirs.blob(digest), &self.path);
            back.map_err(|error| fail("take its name from", error))?;
            return Err(error);
        }
        inner.count(size, 0);
        self.store.0.keeper.grown();
        Ok(())
    }

    fn throw_away(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the file of a blob is gone already");
        }
    }

    fn error(&self, action: &str, source: io::Error) -> Error {
        let root = &self.store.inner().dirs.root;
        let needed = self.expect.as_ref().and_then(|(_, size)| *size).map(|size| size.saturating_sub(self.offset));
        match &self.expect {
            Some((digest, _)) => io_error(root, format!("{action} blob {digest}"), needed, source),
            None => io_error(root, format!("{action} a blob"), needed, source),
        }
    }
}

impl Write for Ingest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(CHUNK);
        match self.append(&bytes[..count]) {
            Ok(()) => Ok(count),
            Err(error) => {
                let kind = match &error {
                    Error::Full { .. } => io::ErrorKind::StorageFull,
                    Error::Size { .. } => io::ErrorKind::InvalidData,
                    _ => io::ErrorKind::Other,
                };
                Err(io::Error::new(kind, error))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        let Some((digest, _)) = self.expect.take() else {
            if !self.finished {
                self.throw_away();
            }
            return;
        };
        if !self.finished {
            // The space that was set aside is for whoever goes on.
            let kept = self.file.set_len(self.offset);
            let in_tmp = self.path.starts_with(&self.store.inner().dirs.tmp);
            if kept.is_err() || self.offset == 0 || in_tmp {
                self.throw_away();
            }
        }
        self.store.inner().release([Claimed::Blob(digest)]);
    }
}

impl Store {
    /// Removes the beginnings of blobs whose download was cut off, however young they are, and returns how many there were
    /// and their bytes. With `dry_run` it only looks. What somebody downloads now stays.
    pub fn forget_partials(&self, dry_run: bool) -> Result<Tally> {
        partials(self.inner(), |_| true, dry_run)
    }

    /// Removes beginnings of blobs that nobody went on with for the time that is configured.
    pub(crate) fn expire_partials(inner: &crate::store::Inner, now: i64) -> Result<Tally> {
        let ttl = i128::try_from(inner.options.partial_ttl.as_nanos()).unwrap_or(i128::MAX);
        let old = |stat: &std::fs::Metadata| {
            let changed = i128::from(stat.mtime()) * 1_000_000_000 + i128::from(stat.mtime_nsec());
            i128::from(now) - changed >= ttl
        };
        partials(inner, old, false)
    }
}

/// Goes through the beginnings of blobs that nobody adds to now, and removes those that are picked.
fn partials(inner: &crate::store::Inner, picks: impl Fn(&std::fs::Metadata) -> bool, dry_run: bool) -> Result<Tally> {
    let mut found = Tally::default();
    for name in inner.dirs.names(&inner.dirs.ingest)? {
        let path = inner.dirs.ingest.join(&name);
        let Ok(stat) = path.symlink_metadata() else { continue };
        let digest = name.replacen('-', ":", 1).parse::<Digest>();
        // What has no digest for a name is nobody's.
        if digest.is_ok() && !picks(&stat) {
            continue;
        }
        let state = inner.state();
        if digest.is_ok_and(|digest| state.claims.contains_key(&Claimed::Blob(digest))) {
            continue;
        }
        if !dry_run {
            inner.dirs.discard(&path)?;
        }
        found.count += 1;
        found.bytes += stat.len();
        drop(state);
    }
    Ok(found)
}
