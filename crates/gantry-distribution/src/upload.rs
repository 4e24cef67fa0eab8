//! Pushing blobs: in one piece where that goes well, and on from where it was cut where not.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use gantry_model::{Digest, Reference};
use http::Method;
use http::header::CONTENT_LENGTH;
use tokio::sync::mpsc;

use crate::client::{Client, push_scope};
use crate::error::{Error, Result};
use crate::exchange::{Ask, worth_retrying};
use crate::header::received;
use crate::session::{COMMIT_PATIENCE, Session, start_ask};
use crate::source::{Open, Progress, Replay, Stream, body};

/// The size of chunks for registries that refuse a blob in one piece, in bytes.
const CHUNK: u64 = 16 << 20;

/// The digest and size of a stream, known at its end.
pub type Done = BoxFuture<'static, io::Result<(Digest, u64)>>;

/// A blob to push.
pub enum Upload {
    /// One that is there: what was cut off is sent again from where the registry has it.
    Known {
        /// Its digest.
        digest: Digest,
        /// Its size in bytes.
        size: u64,
        /// Opens it at an offset.
        open: Open,
    },
    /// One that is made while it is sent. After a cut it goes on if the registry has all but the last few megabytes;
    /// else the push is [`Error::Interrupted`].
    Stream {
        /// Its bytes. The channel is closed at the end, also if making it failed.
        chunks: mpsc::Receiver<Bytes>,
        /// What it came to. An error gives the upload up.
        done: Done,
    },
}

/// A blob that the registry has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether the registry had it before, and nothing was sent.
    pub existed: bool,
}

struct Known<'a> {
    reference: &'a Reference,
    digest: &'a Digest,
    size: u64,
    open: &'a Open,
}

impl Client {
    /// Pushes a blob. One whose digest is known is asked for first, and not sent if the registry has it.
    pub async fn push_blob(&self, reference: &Reference, upload: Upload) -> Result<Pushed> {
        match upload {
            Upload::Known { digest, size, open } => {
                if self.has_blob(reference, &digest).await? {
                    return Ok(Pushed { digest, size, existed: true });
                }
                self.push_known(&Known { reference, digest: &digest, size, open: &open }).await?;
                Ok(Pushed { digest, size, existed: false })
            }
            Upload::Stream { chunks, done } => self.push_stream(reference, chunks, done).await,
        }
    }

    /// Asks the registry to take a blob over from another of its repositories; false if it does not.
    pub async fn mount_blob(&self, reference: &Reference, digest: &Digest, from_repository: &str) -> Result<bool> {
        gantry_model::reference::check_repository(from_repository)
            .map_err(|error| Error::Invalid(error.to_string()))?;
        let endpoint = self.core.config.origin(reference.registry())?;
        let scope = push_scope(reference);
        let mut ask = start_ask(reference, &scope).query("mount", digest.to_string()).query("from", from_repository);
        ask.scopes.insert(format!("repository:{from_repository}:pull"));
        let response = match self.core.send(&endpoint, &ask).await {
            Ok(response) => response,
            // One who may not read there can still push the blob.
            Err(Error::Denied { .. } | Error::Status { status: 403..=405, .. }) => return Ok(false),
            Err(error) => return Err(error),
        };
        if response.status().as_u16() == 201 {
            return Ok(true);
        }
        // It began an upload instead.
        if let Ok(session) = Session::from_response(&self.core, endpoint, scope, &response) {
            session.cancel().await;
        }
        Ok(false)
    }

    async fn push_known(&self, blob: &Known<'_>) -> Result<()> {
        let mut session = Session::start(&self.core, blob.reference).await?;
        let (mut offset, mut chunked, mut failed) = (0, false, 0);
        loop {
            let result = if offset == 0 && !chunked && blob.size > 0 {
                self.put_whole(&session, blob).await
            } else {
                self.put_rest(&mut session, blob, &mut offset, chunked).await
            };
            let error = match result {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.status() {
                // In one piece it is too large for something on the way.
                Some(413) if !chunked => {
                    chunked = true;
                    session = Session::start(&self.core, blob.reference).await?;
                    offset = 0;
                    continue;
                }
                Some(401 | 404 | 416) => {}
                _ if worth_retrying(&error) => {}
                _ => {
                    session.cancel().await;
                    return Err(error);
                }
            }
            failed += 1;
            if failed >= self.core.config.retry.attempts {
                return Err(error);
            }
            tracing::debug!(%error, failed, digest = %blob.digest, "upload cut off");
            self.core.config.retry.wait(failed).await;
            let before = offset;
            match session.status().await {
                Ok(has) if has <= blob.size => offset = has,
                _ if self.has_blob(blob.reference, blob.digest).await.unwrap_or(false) => return Ok(()),
                _ => {
                    session = Session::start(&self.core, blob.reference).await?;
                    offset = 0;
                }
            }
            if offset > before {
                failed = 1;
            }
        }
    }

    /// The blob in one request.
    async fn put_whole(&self, session: &Session<'_>, blob: &Known<'_>) -> Result<()> {
        let source = (blob.open)(0).await.map_err(Error::Source)?;
        let response = self.send_body(session, &session.put(blob.digest), source, Some(blob.size)).await?;
        session.check(blob.digest, response.headers())
    }

    /// What is missing, in one or many requests, and the end.
    async fn put_rest(
        &self,
        session: &mut Session<'_>,
        blob: &Known<'_>,
        offset: &mut u64,
        chunked: bool,
    ) -> Result<()> {
        while *offset < blob.size {
            let left = blob.size - *offset;
            let length = if chunked { left.min(CHUNK.max(session.min_chunk)) } else { left };
            let source = (blob.open)(*offset).await.map_err(Error::Source)?;
            let ask = session.patch(Some((*offset, *offset + length - 1)));
            let response = self.send_body(session, &ask, source, Some(length)).await?;
            session.follow(&response)?;
            let sent = *offset + length;
            *offset = match received(response.headers()) {
                // It may have kept a part only.
                Some(has) if has > *offset && has < sent => has,
                _ => sent,
            };
        }
        session.finish(blob.digest).await
    }

    async fn push_stream(&self, reference: &Reference, chunks: mpsc::Receiver<Bytes>, done: Done) -> Result<Pushed> {
        let mut session = Session::start(&self.core, reference).await?;
        let replay = Arc::new(tokio::sync::Mutex::new(Replay::new(chunks)));
        if let Err(error) = self.patch_stream(&mut session, &replay).await {
            session.cancel().await;
            return Err(error);
        }
        let (digest, size) = match done.await {
            Ok(known) => known,
            Err(error) => {
                session.cancel().await;
                return Err(Error::Source(error));
            }
        };
        let sent = replay.lock().await.end();
        if sent != size {
            session.cancel().await;
            return Err(Error::Source(io::Error::other(format!("{sent} bytes came, and the end says {size}"))));
        }
        let mut failed = 0;
        while let Err(error) = session.finish(&digest).await {
            failed += 1;
            // The end may have been lost after it was heard.
            if self.has_blob(reference, &digest).await.unwrap_or(false) {
                break;
            }
            let again = worth_retrying(&error) || error.status() == Some(401);
            if failed >= self.core.config.retry.attempts || !again {
                session.cancel().await;
                return Err(error);
            }
            self.core.config.retry.wait(failed).await;
        }
        Ok(Pushed { digest, size, existed: false })
    }

    /// Sends a stream in one request, or in several if it is cut.
    async fn patch_stream(&self, session: &mut Session<'_>, replay: &Arc<tokio::sync::Mutex<Replay>>) -> Result<()> {
        let (mut offset, mut failed) = (0, 0);
        loop {
            let source = Replay::stream(replay.clone(), offset);
            let error = match self.send_body(session, &session.patch(None), source, None).await {
                Ok(response) => {
                    session.follow(&response)?;
                    let end = replay.lock().await.end();
                    match received(response.headers()) {
                        Some(has) if has > offset && has < end => interrupted(session, "the registry kept a part only"),
                        _ => return Ok(()),
                    }
                }
                Err(error) => error,
            };
            failed += 1;
            let again = matches!(error, Error::Interrupted { .. })
                || worth_retrying(&error)
                || matches!(error.status(), Some(401 | 416));
            if !again || failed >= self.core.config.retry.attempts {
                return Err(error);
            }
            tracing::debug!(%error, failed, "upload of a stream cut off");
            self.core.config.retry.wait(failed).await;
            let has = session.status().await.map_err(|_| interrupted(session, &error.to_string()))?;
            if !replay.lock().await.reaches(has) {
                return Err(interrupted(session, &error.to_string()));
            }
            if has > offset {
                failed = 1;
            }
            offset = has;
        }
    }

    /// Sends a body, and gives up when nothing of it is taken for a while.
    async fn send_body(
        &self,
        session: &Session<'_>,
        ask: &Ask,
        source: Stream,
        length: Option<u64>,
    ) -> Result<reqwest::Response> {
        let progress = Arc::new(Progress::default());
        let mut ask = ask.clone();
        if let Some(length) = length {
            ask.headers.insert(CONTENT_LENGTH, length.into());
        }
        let stall = Duration::from_secs(self.core.config.stall_timeout);
        let patience = if ask.method == Method::PUT { COMMIT_PATIENCE } else { self.core.config.answer_timeout };
        let sending = self.core.send_stream(&session.endpoint, &ask, body(source, length, progress.clone()));
        let result = tokio::select! {
            result = sending => result,
            () = progress.stalled(stall, Duration::from_secs(patience)) => Err(Error::Unreachable {
                host: session.endpoint.name.clone(),
                why: format!("{}: nothing was taken for {} s", ask.what(), stall.as_secs()),
            }),
        };
        match progress.failure() {
            Some(failure) => Err(Error::Source(failure)),
            None => result,
        }
    }
}

fn interrupted(session: &Session<'_>, why: &str) -> Error {
    Error::Interrupted { host: session.endpoint.name.clone(), what: "a stream".to_owned(), why: why.to_owned() }
}
