//! Bodies of answers. Files are sent in large pieces out of buffers that are used again; what the page cache holds is
//! read at once, and only what must come from the disk is read on another thread.

use std::fs::File;
use std::future::Future as _;
use std::io::IoSliceMut;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream as _;
use futures_util::stream::BoxStream;
use hyper::body::{Frame, SizeHint};
use rustix::io::ReadWriteFlags;

pub(crate) type Response = http::Response<Body>;

/// Bytes read from a file at a time.
const PIECE: usize = 128 << 10;
/// Buffers that are kept for use again.
const KEPT: usize = 32;

/// A body, and where the bytes that left are counted.
pub(crate) struct Body {
    kind: Kind,
    left: u64,
    pub counter: Option<Arc<AtomicU64>>,
}

enum Kind {
    Full(Bytes),
    File { file: Arc<File>, offset: u64, reading: Option<tokio::task::JoinHandle<std::io::Result<Buffer>>> },
    Stream(BoxStream<'static, std::io::Result<Bytes>>),
}

impl Body {
    pub fn empty() -> Self {
        Self::full(Bytes::new())
    }

    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { left: bytes.len() as u64, kind: Kind::Full(bytes), counter: None }
    }

    /// `size` bytes of a file from an offset on.
    pub fn file(file: File, offset: u64, size: u64) -> Self {
        Self { kind: Kind::File { file: Arc::new(file), offset, reading: None }, left: size, counter: None }
    }

    /// A stream of `size` bytes.
    pub fn stream(stream: BoxStream<'static, std::io::Result<Bytes>>, size: u64) -> Self {
        Self { kind: Kind::Stream(stream), left: size, counter: None }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let bytes = match &mut this.kind {
            Kind::Full(bytes) => std::mem::take(bytes),
            Kind::Stream(stream) => match ready!(Pin::new(stream).poll_next(cx)) {
                Some(Ok(bytes)) => bytes,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(Some(Err(std::io::ErrorKind::UnexpectedEof.into()))),
            },
            Kind::File { file, offset, reading } => match ready!(poll_file(file, *offset, this.left, reading, cx)) {
                Ok(bytes) => {
                    *offset += bytes.len() as u64;
                    bytes
                }
                Err(error) => return Poll::Ready(Some(Err(error))),
            },
        };
        this.left = this.left.saturating_sub(bytes.len() as u64);
        if let Some(counter) = &this.counter {
            counter.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

type Reading = Option<tokio::task::JoinHandle<std::io::Result<Buffer>>>;

fn poll_file(
    file: &Arc<File>,
    offset: u64,
    left: u64,
    reading: &mut Reading,
    cx: &mut Context<'_>,
) -> Poll<std::io::Result<Bytes>> {
    if reading.is_none() {
        let mut buffer = Buffer::take(left);
        match buffer.read(file, offset, ReadWriteFlags::NOWAIT) {
            Ok(true) => return Poll::Ready(Ok(buffer.freeze())),
            Ok(false) => return Poll::Ready(Err(std::io::ErrorKind::UnexpectedEof.into())),
            // Not in memory, or a file system that cannot tell.
            Err(_) => {
                let file = file.clone();
                *reading = Some(tokio::task::spawn_blocking(move || {
                    if buffer.read(&file, offset, ReadWriteFlags::empty())? {
                        Ok(buffer)
                    } else {
                        Err(std::io::ErrorKind::UnexpectedEof.into())
                    }
                }));
            }
        }
    }
    let Some(task) = reading else { return Poll::Ready(Err(std::io::ErrorKind::Other.into())) };
    let result = ready!(Pin::new(task).poll(cx));
    *reading = None;
    Poll::Ready(result.map_err(std::io::Error::other).and_then(|r| r).map(Buffer::freeze))
}

/// A buffer that goes back to where it came from.
struct Buffer {
    bytes: Vec<u8>,
    want: usize,
    len: usize,
}

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

impl Buffer {
    fn take(want: u64) -> Self {
        let want = usize::try_from(want).unwrap_or(PIECE).min(PIECE);
        let kept = POOL.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Self { bytes: kept.unwrap_or_else(|| vec![0; PIECE]), want, len: 0 }
    }

    /// Reads; false at the end of the file.
    fn read(&mut self, file: &File, offset: u64, flags: ReadWriteFlags) -> std::io::Result<bool> {
        let mut slices = [IoSliceMut::new(&mut self.bytes[..self.want])];
        self.len = rustix::io::retry_on_intr(|| rustix::io::preadv2(file, &mut slices, offset, flags))?;
        Ok(self.len > 0)
    }

    fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.bytes));
        }
    }
}
