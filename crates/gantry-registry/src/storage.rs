//! Where content lies: objects with names, in a directory or in S3, through `object_store`.
//!
//! Three things are done past it for a directory: writes are synced and renamed, so that a crash leaves the old object or the
//! new; a verified upload is moved, not copied; and blobs are opened as files.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::buffered::BufWriter;
use object_store::path::Path as Key;
use object_store::{BackoffConfig, ObjectStore, PutPayload, RetryConfig};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use tokio::io::AsyncWriteExt as _;

use crate::config;
use crate::error::{Error, Result};

/// Objects by name.
pub(crate) struct Storage {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    local: Option<Arc<Local>>,
}

/// What is done past `object_store` in a directory.
struct Local {
    root: PathBuf,
    fd: OwnedFd,
    counter: AtomicU64,
}

/// An object's name, size, and when it was written (unix seconds).
pub(crate) struct Entry {
    pub key: String,
    pub modified: i64,
}

/// An object that is about to be read.
pub(crate) enum Opened {
    /// A file, from its start.
    File(File),
    /// A stream of the range asked for.
    Stream(futures_util::stream::BoxStream<'static, std::io::Result<Bytes>>),
}

/// The directory of writes that are under way, beside the objects.
const TEMPORARY: &str = "tmp";

impl Storage {
    /// Opens the storage that is configured. The root exists.
    pub fn open(config: &config::Storage) -> Result<Self> {
        match &config.s3 {
            Some(s3) => Self::remote(s3),
            None => Self::directory(&config.root),
        }
    }

    fn directory(root: &Path) -> Result<Self> {
        let io = |action, path: &Path, e: std::io::Error| Error::io(action, path, e);
        let temporary = root.join(TEMPORARY);
        std::fs::create_dir_all(&temporary).map_err(|e| io("create", &temporary, e))?;
        for left in std::fs::read_dir(&temporary).map_err(|e| io("read", &temporary, e))?.flatten() {
            std::fs::remove_file(left.path()).map_err(|e| io("remove", &left.path(), e))?;
        }
        let fd = rustix::fs::open(root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io("open", root, e))?;
        let store = object_store::local::LocalFileSystem::new_with_prefix(root)
            .map_err(|e| Error::storage("open", &root.display().to_string(), e))?;
        let local = Local { root: root.into(), fd, counter: AtomicU64::new(0) };
        Ok(Self { store: Arc::new(store), prefix: String::new(), local: Some(Arc::new(local)) })
    }

    fn remote(s3: &config::S3) -> Result<Self> {
        // A client waits at the other end, and tries again itself: 7 seconds of waiting at most.
        let backoff = BackoffConfig { max_backoff: Duration::from_secs(2), ..BackoffConfig::default() };
        let retry = RetryConfig { backoff, max_retries: 6, retry_timeout: Duration::from_secs(30) };
        let builder = object_store::aws::AmazonS3Builder::from_env().with_retry(retry);
        let mut builder = builder.with_bucket_name(&s3.bucket).with_allow_http(s3.allow_http);
        if let Some(region) = &s3.region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &s3.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(id) = &s3.access_key_id {
            builder = builder.with_access_key_id(id);
        }
        if let Some(file) = &s3.secret_access_key_file {
            let secret = std::fs::read_to_string(file).map_err(|e| Error::io("read", file, e))?;
            builder = builder.with_secret_access_key(secret.trim());
        }
        let store = builder.build().map_err(|e| Error::storage("open bucket", &s3.bucket, e))?;
        let prefix = s3.prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        Ok(Self { store: Arc::new(store), prefix, local: None })
    }

    /// Finds out whether the bucket is there and may be read, so that a registry without one does not start. A directory was
    /// opened already.
    pub async fn reach(&self) -> Result<()> {
        if self.local.is_some() {
            return Ok(());
        }
        // A bucket that is missing is an error even of a list that would be empty.
        let mut list = self.store.list(Some(&self.key("reach")));
        list.try_next().await.map(drop).map_err(|error| Error::storage("reach", "the bucket", error))
    }

    fn key(&self, key: &str) -> Key {
        Key::from(format!("{}{key}", self.prefix))
    }

    /// Reads a whole object of at most `limit` bytes.
    pub async fn get(&self, key: &str, limit: u64) -> Result<Option<Bytes>> {
        let found = match self.store.get(&self.key(key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(Error::storage("read", key, error)),
        };
        if found.meta.size > limit {
            return Err(Error::content(key, format!("it has {} bytes, more than {limit}", found.meta.size)));
        }
        found.bytes().await.map(Some).map_err(|e| Error::storage("read", key, e))
    }

    /// Writes an object. When this returns it is durable, and others see the old one or the new.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<()> {
        let Some(local) = self.local.clone() else {
            let put = self.store.put(&self.key(key), PutPayload::from_bytes(bytes)).await;
            return put.map(drop).map_err(|e| Error::storage("write", key, e));
        };
        let key = key.to_owned();
        blocking(move || {
            let temporary = local.temporary();
            let written = File::create_new(&temporary).and_then(|mut file| {
                file.write_all(&bytes)?;
                file.sync_all()
            });
            let result =
                written.map_err(|e| Error::io("write", &temporary, e)).and_then(|()| local.publish(&temporary, &key));
            if result.is_err() {
                // What failed is reported; what is left of it is removed at the next start at the latest.
                let _ = std::fs::remove_file(&temporary);
            }
            result
        })
        .await
    }

    /// Makes an object of a file, which is complete and verified. In a directory the file is moved.
    pub async fn adopt(&self, file: &Path, key: &str) -> Result<()> {
        if let Some(local) = self.local.clone() {
            let (file, key) = (file.to_owned(), key.to_owned());
            return blocking(move || {
                File::open(&file).and_then(|f| f.sync_all()).map_err(|e| Error::io("sync", &file, e))?;
                local.publish(&file, &key)
            })
            .await;
        }
        let mut source = tokio::fs::File::open(file).await.map_err(|e| Error::io("open", file, e))?;
        let mut target = BufWriter::with_capacity(self.store.clone(), self.key(key), 8 << 20).with_max_concurrency(2);
        let copied = async {
            tokio::io::copy(&mut source, &mut target).await?;
            target.shutdown().await
        };
        if let Err(error) = copied.await {
            // The parts that arrived are the store's to forget, if it cannot be told.
            let _ = target.abort().await;
            let source = object_store::Error::Generic { store: "s3", source: Box::new(error) };
            return Err(Error::storage("write", key, source));
        }
        tokio::fs::remove_file(file).await.map_err(|e| Error::io("remove", file, e))
    }

    /// Whether there is an object.
    pub async fn exists(&self, key: &str) -> Result<bool> {
        match self.store.head(&self.key(key)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(Error::storage("look for", key, error)),
        }
    }

    /// Opens an object to send `range` of it.
    pub async fn open_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Option<Opened>> {
        if let Some(local) = &self.local {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            return match rustix::fs::openat2(&local.fd, key, flags, Mode::empty(), resolve) {
                Ok(fd) => Ok(Some(Opened::File(fd.into()))),
                Err(rustix::io::Errno::NOENT) => Ok(None),
                Err(errno) => Err(Error::io("open", &local.root.join(key), errno)),
            };
        }
        if range.is_empty() {
            return Ok(Some(Opened::Stream(futures_util::stream::empty().boxed())));
        }
        let options = object_store::GetOptions { range: Some(range.into()), ..Default::default() };
        match self.store.get_opts(&self.key(key), options).await {
            Ok(found) => Ok(Some(Opened::Stream(found.into_stream().map_err(std::io::Error::other).boxed()))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(Error::storage("read", key, error)),
        }
    }

    /// Removes an object. That it is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<()> {
        match self.store.delete(&self.key(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Error::storage("remove", key, error)),
        }
    }

    /// The objects whose names begin with a prefix, which ends with a slash.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let key = self.key(prefix);
        let strip = self.prefix.len();
        let entry = |meta: object_store::ObjectMeta| Entry {
            key: meta.location.as_ref().get(strip..).unwrap_or_default().to_owned(),
            modified: meta.last_modified.timestamp(),
        };
        let found: Vec<Entry> = self.store.list(Some(&key)).map_ok(entry).try_collect().await.or_else(|e| match e {
            object_store::Error::NotFound { .. } => Ok(vec![]),
            error => Err(Error::storage("list", prefix, error)),
        })?;
        Ok(found)
    }

    /// The names directly below a prefix that others are below.
    pub async fn directories(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = match self.store.list_with_delimiter(Some(&self.key(prefix))).await {
            Ok(listed) => listed,
            Err(object_store::Error::NotFound { .. }) => return Ok(vec![]),
            Err(error) => return Err(Error::storage("list", prefix, error)),
        };
        Ok(listed.common_prefixes.iter().filter_map(|p| p.filename().map(str::to_owned)).collect())
    }
}

impl Local {
    fn temporary(&self) -> PathBuf {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        self.root.join(TEMPORARY).join(format!("{}-{number}", std::process::id()))
    }

    /// Gives a synced file its name, durably.
    fn publish(&self, from: &Path, key: &str) -> Result<()> {
        let target = self.root.join(key);
        let parent = target.parent().ok_or_else(|| Error::content(key, "it has no directory"))?;
        let mut made = false;
        if !parent.is_dir() {
            std::fs::create_dir_all(parent).map_err(|e| Error::io("create", parent, e))?;
            made = true;
        }
        std::fs::rename(from, &target).map_err(|e| Error::io("rename to", &target, e))?;
        let sync = |directory: &Path| {
            File::open(directory).and_then(|d| d.sync_all()).map_err(|e| Error::io("sync", directory, e))
        };
        sync(parent)?;
        // A new directory is durable once its own name is; up to three levels may be new.
        let above = parent.ancestors().skip(1).take_while(|a| made && a.starts_with(&self.root));
        above.take(3).try_for_each(sync)
    }
}

/// Runs what blocks on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopped))
}
