//! System call filters, compiled once for each profile.
//!
//! A profile is most of a usual configuration, and the same for most containers of a host. What it compiles to is kept
//! under the state root by the hash of its text; the text itself is not even parsed when that is found.

use std::fmt::Write as _;

use gantry_model::oci::seccomp::RawSeccomp;
use gantry_seccomp::{Arch, Filter, compile};
use rustix::fs::{CWD, Mode, OFlags, openat, renameat};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// The most of a cached filter that is read, in bytes: 4096 instructions and two texts.
const MAX_CACHED: u64 = 256 << 10;
/// How many filters are kept; then the cache starts anew.
const MAX_ENTRIES: usize = 256;

/// The architecture that this program runs on.
#[cfg(target_arch = "x86_64")]
const NATIVE: Arch = Arch::X86_64;
#[cfg(target_arch = "aarch64")]
const NATIVE: Arch = Arch::Aarch64;

/// The filter of a profile, from the cache where it is there. A cache that cannot be used costs time only.
pub(crate) fn filter_of(profile: &RawSeccomp, state_root: &str) -> Result<Filter> {
    let directory = format!("{state_root}/.seccomp");
    let path = format!("{directory}/{}", key(profile.text()));
    if let Some(filter) = cached(&path) {
        return Ok(filter);
    }
    let parsed = profile.parse().map_err(|cause| Error::Parse { path: "linux.seccomp".to_owned(), cause })?;
    let filter = compile(&parsed, NATIVE)?;
    let _ = keep(&directory, &path, &filter);
    Ok(filter)
}

fn key(profile: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(Filter::cache_salt(NATIVE));
    hash.update([0]);
    hash.update(profile);
    hash.finalize().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn cached(path: &str) -> Option<Filter> {
    use std::io::Read;
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::with_capacity(16 << 10);
    std::fs::File::from(file).take(MAX_CACHED).read_to_end(&mut bytes).ok()?;
    Filter::from_bytes(&bytes).ok()
}

/// Writes a filter to the cache, whole or not at all.
fn keep(directory: &str, path: &str, filter: &Filter) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    if std::fs::read_dir(directory)?.count() >= MAX_ENTRIES {
        for entry in std::fs::read_dir(directory)? {
            let _ = std::fs::remove_file(entry?.path());
        }
    }
    let new = format!("{path}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(CWD, &new, flags, Mode::from_raw_mode(0o600))?;
    let written = std::fs::File::from(file).write_all(&filter.to_bytes());
    let renamed = written.and_then(|()| Ok(renameat(CWD, &new, CWD, path)?));
    if renamed.is_err() {
        let _ = std::fs::remove_file(&new);
    }
    renamed
}
