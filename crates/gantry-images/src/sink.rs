//! Where saved images go: an archive, or a directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use gantry_tar::{Entry, Kind, Time, Writer};

use crate::error::{Error, Result};

/// Bytes that are written at a time.
const BUFFER: usize = 256 * 1024;

/// Writes what is in a file, of the size that was announced.
pub(crate) type Fill<'f> = &'f mut dyn FnMut(&mut dyn Write) -> Result<u64>;

/// A place for files with plain relative names.
pub(crate) trait Sink {
    /// Makes a directory.
    fn directory(&mut self, name: &str) -> Result<()>;
    /// Writes a file of exactly `size` bytes.
    fn file(&mut self, name: &str, size: u64, fill: Fill<'_>) -> Result<()>;

    /// Writes a small file.
    fn document(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.file(name, bytes.len() as u64, &mut |out| {
            out.write_all(bytes).map_err(Error::io("write an archive"))?;
            Ok(bytes.len() as u64)
        })
    }
}

/// An archive. The same images give the same bytes.
pub(crate) struct Tar<W: Write> {
    writer: Writer<BufWriter<W>>,
    time: Time,
}

impl<W: Write> Tar<W> {
    /// An archive whose entries all have a time, in seconds since 1970.
    pub(crate) fn new(out: W, seconds: i64) -> Self {
        let time = Time { seconds, nanos: 0 };
        Self { writer: Writer::new(BufWriter::with_capacity(BUFFER, out)), time }
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.writer.finish()?.flush().map_err(Error::io("write an archive"))
    }
}

impl<W: Write> Sink for Tar<W> {
    fn directory(&mut self, name: &str) -> Result<()> {
        let (path, kind) = (format!("{name}/").into_bytes(), Kind::Directory);
        Ok(self.writer.append(&Entry { path, kind, mode: 0o755, mtime: self.time, ..Entry::default() }, &[])?)
    }

    fn file(&mut self, name: &str, size: u64, fill: Fill<'_>) -> Result<()> {
        let path = name.as_bytes().to_vec();
        self.writer.begin(&Entry { path, size, mode: 0o644, mtime: self.time, ..Entry::default() })?;
        fill(&mut self.writer).map(|_| ())
    }
}

/// A directory. Files are made anew; what is there already is refused, except where a digest says that it is the same.
pub(crate) struct Directory(PathBuf);

impl Directory {
    /// A directory that is there or is made.
    pub(crate) fn new(path: &Path) -> Result<Self> {
        let made = DirBuilder::new().mode(0o755).recursive(true).create(path);
        made.map_err(Error::io(format!("make {}", path.display())))?;
        Ok(Self(path.to_owned()))
    }
}

impl Sink for Directory {
    fn directory(&mut self, name: &str) -> Result<()> {
        let path = self.0.join(name);
        let made = DirBuilder::new().mode(0o755).recursive(true).create(&path);
        made.map_err(Error::io(format!("make {}", path.display())))
    }

    fn file(&mut self, name: &str, size: u64, fill: Fill<'_>) -> Result<()> {
        let path = self.0.join(name);
        let fail = || Error::io(format!("write {}", path.display()));
        if name.starts_with("blobs/") && path.metadata().is_ok_and(|there| there.is_file() && there.len() == size) {
            return Ok(());
        }
        let fresh = self.0.join(format!("{name}.part"));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(fail()(error)),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file: File = options.write(true).create_new(true).mode(0o644).open(&fresh).map_err(fail())?;
        let mut out = BufWriter::with_capacity(BUFFER, file);
        let written = fill(&mut out)?;
        if written != size {
            return Err(Error::document(name, format!("{written} bytes were written instead of {size}")));
        }
        let file = out.into_inner().map_err(|error| fail()(error.into_error()))?;
        file.sync_data().map_err(fail())?;
        std::fs::rename(&fresh, &path).map_err(fail())
    }
}
