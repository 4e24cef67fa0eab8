//! The formats of cgroup files.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::Error;
use crate::io;
use crate::stats::{Psi, PsiLine, RdmaEntry, RdmaStats};

/// The text of a file, nothing if it is missing.
pub(crate) fn text(dir: &Path, file: &str) -> Result<Option<String>, Error> {
    io::read_if_there(&dir.join(file))
}

/// The single number of a file; `max` is the greatest.
pub(crate) fn number(dir: &Path, file: &str) -> Result<Option<u64>, Error> {
    let Some(text) = text(dir, file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        // Some files of v1 say -1, or with an overflow more than there can be.
        other if other.starts_with('-') => Ok(Some(0)),
        other => match other.parse() {
            Ok(n) => Ok(Some(n)),
            Err(_) => Err(Error::content(&dir.join(file), format!("{other:?} is no number"))),
        },
    }
}

/// `key number` lines.
pub(crate) fn keys(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (key, value) = line.split_once(' ')?;
            Some((key.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

/// A list such as `0-3,7`.
pub(crate) fn list(text: &str) -> Vec<u16> {
    let mut out = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            out.extend(first..=last);
        }
    }
    out
}

/// A pressure file; nothing where the kernel does not count.
pub(crate) fn psi(dir: &Path, file: &str) -> Result<Option<Psi>, Error> {
    match io::read(&dir.join(file)) {
        Ok(text) => Ok(Some(parse_psi(&text))),
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NODEV | rustix::io::Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(Error::kernel(format!("read {}", dir.join(file).display()), errno)),
    }
}

pub(crate) fn parse_psi(text: &str) -> Psi {
    let mut psi = Psi::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let target: &mut PsiLine = match words.next() {
            Some("some") => &mut psi.some,
            Some("full") => &mut psi.full,
            _ => continue,
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let percent = || value.parse().unwrap_or(0.0);
            match key {
                "avg10" => target.avg10 = percent(),
                "avg60" => target.avg60 = percent(),
                "avg300" => target.avg300 = percent(),
                "total" => target.total = value.parse().unwrap_or(0),
                _ => {}
            }
        }
    }
    psi
}

/// The files of the rdma controller, which both versions share.
pub(crate) fn rdma(dir: &Path) -> Result<RdmaStats, Error> {
    let entries = |file: &str| -> Result<Vec<RdmaEntry>, Error> {
        Ok(text(dir, file)?.map(|text| parse_rdma(&text)).unwrap_or_default())
    };
    Ok(RdmaStats { limit: entries("rdma.max")?, current: entries("rdma.current")? })
}

pub(crate) fn parse_rdma(text: &str) -> Vec<RdmaEntry> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let mut entry = RdmaEntry { device: words.next()?.to_owned(), ..RdmaEntry::default() };
            for (key, value) in words.filter_map(|word| word.split_once('=')) {
                let value = if value == "max" { u32::MAX } else { value.parse().ok()? };
                match key {
                    "hca_handle" => entry.hca_handles = value,
                    "hca_object" => entry.hca_objects = value,
                    _ => {}
                }
            }
            Some(entry)
        })
        .collect()
}

/// Sizes of huge pages that a cgroup has files for, as `2MB`: what stands between a prefix and a suffix of their names.
pub(crate) fn page_sizes(dir: &Path, suffix: &str) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    let mut sizes: Vec<String> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
            (!size.contains('.')).then(|| size.to_owned())
        })
        .collect();
    sizes.sort();
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        assert_eq!(list("0-2,7\n"), [0, 1, 2, 7]);
        assert!(list("\n").is_empty());
        let psi = parse_psi("some avg10=1.50 avg60=0.00 avg300=0.25 total=42\nfull avg10=0.00 total=7\nnew x=1\n");
        assert_eq!((psi.some.avg10, psi.some.avg300, psi.some.total, psi.full.total), (1.5, 0.25, 42, 7));
        let rdma = parse_rdma("mlx4_0 hca_handle=2 hca_object=max\n");
        assert_eq!((rdma[0].device.as_str(), rdma[0].hca_handles, rdma[0].hca_objects), ("mlx4_0", 2, u32::MAX));
        assert_eq!(keys("a 1\nb x\nc 2\n").len(), 2);
    }
}
