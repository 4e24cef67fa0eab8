//! One process owns a store.
//!
//! The lock is the kernel's (`flock`) on an open file: it goes with its holder, however that ends. What the file says about
//! the holder is for people only.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Error, Result, io_error};
use crate::options::Options;

/// Between two tries.
const STEP: Duration = Duration::from_millis(20);

/// Takes the lock of the store at `root`.
pub(crate) fn take(root: &Path, options: &Options) -> Result<File> {
    let path = root.join("lock");
    let fail = |action: &str, source| io_error(root, format!("{action} {}", path.display()), None, source);
    let mut open = OpenOptions::new();
    let open = open.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = open.open(&path).map_err(|error| fail("open", error))?;
    let start = Instant::now();
    let mut told = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK | Errno::INTR) => {}
            Err(errno) => return Err(fail("lock", errno.into())),
        }
        let holder = holder(&mut file);
        if start.elapsed() >= options.lock_wait {
            return Err(Error::Locked { root: root.to_owned(), holder, waited: options.lock_wait });
        }
        if let Some(on_wait) = options.on_wait.as_ref().filter(|_| !told) {
            on_wait(&holder);
        }
        told = true;
        std::thread::sleep(STEP);
    }
    // A full disk must not keep a store from opening: whoever waits is then told less.
    let name = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let text = format!("{} {}\n", std::process::id(), name.trim());
    let written =
        file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(text.as_bytes()));
    if let Err(error) = written {
        tracing::debug!(%error, "the holder of the store is not named in its lock file");
    }
    Ok(file)
}

/// Who holds the lock, as its file says.
fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.seek(SeekFrom::Start(0)).and_then(|_| file.take(200).read_to_string(&mut text));
    match text.trim().split_once(' ') {
        Some((pid, name)) if read.is_ok() => format!("process {pid} ({name})"),
        _ => "another process".to_owned(),
    }
}
