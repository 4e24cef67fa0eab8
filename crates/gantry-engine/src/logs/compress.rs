//! Older files of logs are compressed at leisure, beside the monitors, which do not know of it.
//!
//! A file that was rotated away keeps its number. Compressed, it comes into being under a name that nobody reads, is on
//! disk as a whole when it gets its own, and then the plain file goes. Killed in between, both are there, the plain one is
//! read, and it is done again. The monitor removes the oldest file under both names, the plain one first; so if the plain
//! one is gone when the compressed one got its name, nobody else is going to remove that.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::sync::Mutex;

use gantry_model::monitor::LogFile;

use super::files;
use crate::error::{Context, Result};

const LEVEL: i32 = 3;
/// After so many bytes it is asked whether it is still of use.
const STEP: usize = 256 << 10;

/// One file at a time, of all logs: it has time, and others need the processors.
static TURN: Mutex<()> = Mutex::new(());

/// Compresses what was rotated away of a log; returns how many files that were. It may take seconds.
///
/// # Errors
/// A file cannot be read or written. It is left as it was.
pub fn compress_rotated(file: &LogFile) -> Result<usize> {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let what = || format!("compress log {}", file.path);
    // One that was left when the engine was killed goes too.
    let draft = format!("{}.draft", file.path);
    let mut count = 0;
    // The newest first: the oldest are the first to go.
    for number in files::numbers(file).context(what)?.into_iter().rev() {
        let done = compress(file, number, &draft);
        if !matches!(done, Ok(true)) {
            let _ = std::fs::remove_file(&draft);
        }
        count += usize::from(done.context(what)?);
    }
    let _ = std::fs::remove_file(&draft);
    Ok(count)
}

/// Compresses one, unless it is or is gone.
fn compress(file: &LogFile, number: u64, draft: &str) -> io::Result<bool> {
    let (plain, packed) = (files::rotated(file, number), files::packed(file, number));
    let mut source = match File::open(&plain) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    let target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(draft)?;
    let mut encoder = zstd::Encoder::new(target, LEVEL)?;
    encoder.include_checksum(true)?;
    let mut bytes = vec![0; STEP];
    loop {
        if source.metadata()?.nlink() == 0 {
            return Ok(false);
        }
        match source.read(&mut bytes) {
            Ok(0) => break,
            Ok(got) => encoder.write_all(&bytes[..got])?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    encoder.finish()?.sync_data()?;
    std::fs::rename(draft, &packed)?;
    if std::fs::remove_file(&plain).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        let _ = std::fs::remove_file(&packed);
        return Ok(false);
    }
    Ok(true)
}
