//! Uploads under way: files that grow, with what is needed to go on after a cut or a restart.
//!
//! An upload is hashed while it is written. The hash is not kept across a restart; the file is read once more then.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use gantry_model::digest::{Algorithm, Digest};
use ring::digest::Context;
use ring::rand::SecureRandom as _;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What is kept of an upload beside its bytes.
#[derive(Deserialize, Serialize)]
struct Head {
    repository: String,
    algorithm: String,
}

/// An upload.
pub(crate) struct Upload {
    pub id: String,
    pub repository: String,
    path: PathBuf,
    /// When its last byte came, in unix seconds.
    active: AtomicI64,
    /// What has come. Whoever sends holds it.
    pub progress: Arc<tokio::sync::Mutex<Progress>>,
}

/// The bytes of an upload so far.
pub(crate) struct Progress {
    path: PathBuf,
    file: Option<File>,
    pub offset: u64,
    algorithm: Algorithm,
    /// None if what is there has not been hashed since the start of the server.
    hash: Option<Context>,
    /// Whether it was completed or cancelled while somebody waited.
    pub over: bool,
}

/// All uploads.
pub(crate) struct Uploads {
    directory: PathBuf,
    open: Mutex<HashMap<String, Arc<Upload>>>,
    random: ring::rand::SystemRandom,
}

/// A hash that is begun.
pub(crate) fn context(algorithm: Algorithm) -> Context {
    Context::new(match algorithm {
        Algorithm::Sha256 => &ring::digest::SHA256,
        Algorithm::Sha512 => &ring::digest::SHA512,
    })
}

/// The digest of bytes in memory.
pub(crate) fn digest_of(algorithm: Algorithm, bytes: &[u8]) -> Result<Digest> {
    let mut hash = context(algorithm);
    hash.update(bytes);
    finish(algorithm, hash)
}

/// The digest that a hash comes to.
pub(crate) fn finish(algorithm: Algorithm, hash: Context) -> Result<Digest> {
    Digest::from_bytes(algorithm, hash.finish().as_ref()).map_err(|e| Error::content("digest", e.to_string()))
}

impl Uploads {
    /// Finds what an earlier server left.
    pub fn open(root: &Path) -> Result<Self> {
        let directory = root.join("uploads");
        std::fs::create_dir_all(&directory).map_err(|e| Error::io("create", &directory, e))?;
        let mut open = HashMap::new();
        for entry in std::fs::read_dir(&directory).map_err(|e| Error::io("read", &directory, e))?.flatten() {
            let path = entry.path();
            let Some(id) = entry.file_name().to_str().and_then(|n| n.strip_suffix(".json")).map(str::to_owned) else {
                continue;
            };
            match Upload::restore(&directory, &id) {
                Ok(upload) => drop(open.insert(id, Arc::new(upload))),
                Err(error) => {
                    tracing::warn!(%error, "upload left by an earlier server cannot be resumed, removed");
                    let _ = std::fs::remove_file(&path);
                }
            }
        }
        let uploads = Self { directory, open: Mutex::new(open), random: ring::rand::SystemRandom::new() };
        uploads.remove_strays()?;
        Ok(uploads)
    }

    /// Data whose head is gone can be asked for by nobody.
    fn remove_strays(&self) -> Result<()> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in std::fs::read_dir(&self.directory).map_err(|e| Error::io("read", &self.directory, e))?.flatten() {
            let name = entry.file_name();
            let id = name.to_str().map(|n| n.trim_end_matches(".json")).unwrap_or_default();
            if !open.contains_key(id) {
                std::fs::remove_file(entry.path()).map_err(|e| Error::io("remove", &entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Starts an upload.
    pub fn start(&self, repository: &str, algorithm: Algorithm, now: i64) -> Result<Arc<Upload>> {
        let mut raw = [0_u8; 16];
        self.random.fill(&mut raw).map_err(|_| Error::content("uploads", "there is no randomness"))?;
        // A random UUID (RFC 9562, version 4).
        raw[6] = raw[6] & 0x0f | 0x40;
        raw[8] = raw[8] & 0x3f | 0x80;
        let hex = format!("{:032x}", u128::from_be_bytes(raw));
        let id = format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]);
        let path = self.directory.join(&id);
        File::create_new(&path).map_err(|e| Error::io("create", &path, e))?;
        let head = Head { repository: repository.to_owned(), algorithm: algorithm.as_str().to_owned() };
        let text = serde_json::to_vec(&head).map_err(|e| Error::content(&id, e.to_string()))?;
        let beside = path.with_extension("json");
        std::fs::write(&beside, text).map_err(|e| Error::io("write", &beside, e))?;
        let progress = Progress {
            path: path.clone(),
            file: None,
            offset: 0,
            algorithm,
            hash: Some(context(algorithm)),
            over: false,
        };
        let upload = Upload {
            id: id.clone(),
            repository: repository.to_owned(),
            path,
            active: AtomicI64::new(now),
            progress: Arc::new(tokio::sync::Mutex::new(progress)),
        };
        let upload = Arc::new(upload);
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(id, upload.clone());
        Ok(upload)
    }

    /// An upload of a repository.
    pub fn get(&self, repository: &str, id: &str) -> Option<Arc<Upload>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.get(id).filter(|upload| upload.repository == repository).cloned()
    }

    /// Forgets an upload and removes what is left of it.
    pub fn remove(&self, upload: &Upload) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&upload.id);
        for path in [upload.path.with_extension("json"), upload.path.clone()] {
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "upload cannot be removed");
            }
        }
    }

    /// Removes those whose last byte came before a time, and tells how many.
    pub fn expire(&self, before: i64) -> usize {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let old: Vec<_> = open.values().filter(|u| u.active.load(Ordering::Relaxed) < before).cloned().collect();
        drop(open);
        let mut removed = 0;
        for upload in old {
            // One that somebody sends to right now is not old.
            if let Ok(mut progress) = upload.progress.clone().try_lock_owned() {
                progress.over = true;
                self.remove(&upload);
                removed += 1;
            }
        }
        removed
    }
}

impl Upload {
    fn restore(directory: &Path, id: &str) -> Result<Self> {
        let path = directory.join(id);
        let beside = path.with_extension("json");
        let text = std::fs::read(&beside).map_err(|e| Error::io("read", &beside, e))?;
        let head: Head = serde_json::from_slice(&text).map_err(|e| Error::content(id, e.to_string()))?;
        let algorithm = Algorithm::ALL.into_iter().find(|a| a.as_str() == head.algorithm);
        let algorithm = algorithm.ok_or_else(|| Error::content(id, "its algorithm is not known"))?;
        let metadata = std::fs::metadata(&path).map_err(|e| Error::io("look at", &path, e))?;
        let modified = metadata.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        let progress =
            Progress { path: path.clone(), file: None, offset: metadata.len(), algorithm, hash: None, over: false };
        Ok(Self {
            id: id.to_owned(),
            repository: head.repository,
            path,
            active: AtomicI64::new(modified.map_or(0, |t| t.as_secs() as i64)),
            progress: Arc::new(tokio::sync::Mutex::new(progress)),
        })
    }

    /// Notes that something came.
    pub fn touch(&self, now: i64) {
        self.active.store(now, Ordering::Relaxed);
    }

    /// Where its bytes are.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Progress {
    /// Adds bytes. Blocks.
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let file =
                    OpenOptions::new().append(true).open(&self.path).map_err(|e| Error::io("open", &self.path, e))?;
                none.insert(file)
            }
        };
        for piece in pieces {
            if let Err(error) = file.write_all(piece) {
                // Part of the piece may be there: the next one must follow what was hashed.
                let whole = file.set_len(self.offset);
                self.over |= whole.is_err();
                return Err(Error::io("write", &self.path, error));
            }
            self.offset += piece.len() as u64;
            if let Some(hash) = &mut self.hash {
                hash.update(piece);
            }
        }
        Ok(())
    }

    /// Closes the file, so that an upload that waits for its next part holds no descriptor.
    pub fn rest(&mut self) {
        self.file = None;
    }

    /// The digest of all of it. Blocks; reads the file again if it was not hashed so.
    pub fn digest(&mut self, algorithm: Algorithm) -> Result<Digest> {
        self.file = None;
        if algorithm == self.algorithm
            && let Some(hash) = self.hash.clone()
        {
            return finish(algorithm, hash);
        }
        let mut file = File::open(&self.path).map_err(|e| Error::io("open", &self.path, e))?;
        let mut hash = context(algorithm);
        let mut buffer = vec![0; 256 << 10];
        loop {
            let n = file.read(&mut buffer).map_err(|e| Error::io("read", &self.path, e))?;
            if n == 0 {
                break;
            }
            hash.update(&buffer[..n]);
        }
        finish(algorithm, hash)
    }
}
