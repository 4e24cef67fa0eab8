//! Archives on their way in and out: files, standard input, standard output.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Of, Outcome};

/// What is read: a file, or standard input.
pub fn input(file: Option<&Path>) -> Outcome<File> {
    if let Some(file) = file {
        let opened = File::open(file).of(format!("open {}", file.display()))?;
        if opened.metadata().is_ok_and(|found| found.is_dir()) {
            return Err(Failure::new(format!("open {}: it is a directory: give the archive", file.display())));
        }
        return Ok(opened);
    }
    let stdin = io::stdin();
    if stdin.is_terminal() {
        return Err(Failure::new("standard input is a terminal, and no archive").hint("give a file, or redirect"));
    }
    copy(&stdin)
}

/// The same open file without the buffer that the library puts before it.
fn copy(stream: &impl AsFd) -> Outcome<File> {
    Ok(File::from(rustix::io::dup(stream).map_err(io::Error::from)?))
}

/// Where an archive is written to.
pub struct Output {
    target: Target,
    closed: Arc<AtomicBool>,
}

enum Target {
    Stdout,
    /// It gets its name when all of it is there.
    File {
        path: PathBuf,
        temporary: Option<PathBuf>,
        file: File,
    },
}

impl Output {
    /// A file, or standard output, which must be no terminal.
    pub fn open(file: Option<&Path>, what: &str) -> Outcome<Self> {
        let closed = Arc::new(AtomicBool::new(false));
        let Some(path) = file else {
            if io::stdout().is_terminal() {
                let text = format!("cowardly refusing to {what} to a terminal. Use the -o flag or redirect");
                return Err(Failure::new(text));
            }
            return Ok(Self { target: Target::Stdout, closed });
        };
        let failed = |error: io::Error| Failure::from(error).of(format!("write {}", path.display()));
        let existing = path.metadata().ok();
        if existing.as_ref().is_some_and(|found| !found.is_file()) {
            // A device or a pipe is written as it is, and a directory refuses.
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            return Ok(Self { target: Target::File { path: path.to_owned(), temporary: None, file }, closed });
        }
        let name = path.file_name().ok_or_else(|| Failure::new(format!("{} names no file", path.display())))?;
        let temporary = path.with_file_name(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).map_err(failed)?;
        Ok(Self { target: Target::File { path: path.to_owned(), temporary: Some(temporary), file }, closed })
    }

    /// What is written into.
    pub fn writer(&self) -> Outcome<impl Write + Send + 'static> {
        let file = match &self.target {
            Target::Stdout => copy(&io::stdout())?,
            Target::File { file, .. } => file.try_clone()?,
        };
        Ok(Writer { file, closed: Arc::clone(&self.closed) })
    }

    /// Gives the file its name, if all went well.
    pub fn finish<T>(mut self, outcome: Outcome<T>) -> Outcome<T> {
        if self.closed.load(Ordering::Relaxed) {
            return Err(Failure::Closed);
        }
        let value = outcome?;
        if let Target::File { path, temporary, file } = &mut self.target
            && let Some(from) = temporary.take()
        {
            let named = file.sync_all().and_then(|()| std::fs::rename(&from, &*path));
            if named.is_err() {
                *temporary = Some(from);
            }
            named.of(format!("write {}", path.display()))?;
        }
        Ok(value)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Target::File { temporary: Some(temporary), .. } = &self.target {
            // It was made here, so it is gone either way.
            let _ = std::fs::remove_file(temporary);
        }
    }
}

struct Writer {
    file: File,
    closed: Arc<AtomicBool>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).inspect_err(|error| {
            if error.kind() == ErrorKind::BrokenPipe {
                self.closed.store(true, Ordering::Relaxed);
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_when_they_are_whole() {
        let dir = std::env::temp_dir().join(format!("gantry-output-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join("x.tar");
        let names = || std::fs::read_dir(&dir).unwrap().count();

        let output = Output::open(Some(&path), "save").unwrap();
        output.writer().unwrap().write_all(b"half").unwrap();
        assert!(output.finish(Err::<(), _>(Failure::new("no"))).is_err());
        assert_eq!(names(), 0);

        let output = Output::open(Some(&path), "save").unwrap();
        output.writer().unwrap().write_all(b"whole").unwrap();
        assert!(!path.exists());
        output.finish(Ok(())).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), names()), (b"whole".to_vec(), 1));

        assert!(Output::open(Some(&dir), "save").is_err());
        assert!(Output::open(Some(&dir.join("none/x")), "save").is_err());
        Output::open(Some(Path::new("/dev/null")), "save").unwrap().finish(Ok(())).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
