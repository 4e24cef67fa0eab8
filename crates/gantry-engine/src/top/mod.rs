//! The processes of a container, in the columns of ps(1).
//!
//! They are read here, not by the host's `ps`: a host need not have it, options of strangers reach no program, and only the
//! container's processes are looked at. The options that people use are known; others are refused.

mod clock;
mod columns;
mod options;
mod process;

use std::collections::BTreeMap;

pub use options::BadOption;

use clock::Zone;
use columns::Facts;
use process::Process;

/// Bytes of a file of the kernel that are read.
const MAX: u64 = 1 << 20;

/// Processes, as a table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// Heads of the columns.
    pub titles: Vec<String>,
    /// A row a process, by its id.
    pub processes: Vec<Vec<String>>,
}

/// Looks at processes. `options` are those of ps(1), empty for `-ef`; ids, names of users and times are the host's. Processes
/// that ended meanwhile are left out. `now` is seconds since 1970.
///
/// # Errors
/// An option is not known.
pub fn top(pids: &[i32], options: &str, now: i64) -> Result<Top, BadOption> {
    let columns = options::parse(options)?;
    let mut processes: Vec<Process> = pids.iter().filter_map(|pid| read_process(*pid)).collect();
    processes.sort_unstable_by_key(|process| process.pid);
    processes.dedup_by_key(|process| process.pid);
    let facts = facts(now);
    let row = |process: &Process| columns.iter().map(|column| column.cell(process, &facts)).collect();
    Ok(Top {
        titles: columns.iter().map(|column| column.title.clone()).collect(),
        processes: processes.iter().map(row).collect(),
    })
}

fn read_process(pid: i32) -> Option<Process> {
    let read = |name: &str| read(&format!("/proc/{pid}/{name}"));
    let wchan = read("wchan").unwrap_or_default();
    Process::parse(&read("stat")?, &read("status")?, &read("cmdline")?, &wchan)
}

fn read(path: &str) -> Option<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok()?.take(MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// What of the host the columns need.
fn facts(now: i64) -> Facts {
    let value = |path: &str, key: &str| {
        let text = read(path)?;
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    let uptime = read("/proc/uptime").and_then(|text| text.split(['.', ' ']).next()?.parse().ok());
    Facts {
        now,
        // The start of the machine by the clock as it is now; that of the kernel jumps with the clock as well.
        boot: now - uptime.unwrap_or(0),
        memory: value("/proc/meminfo", "MemTotal:").unwrap_or(0).saturating_mul(1024),
        page: page_size(&std::fs::read("/proc/self/auxv").unwrap_or_default()),
        users: names(&read("/etc/passwd").unwrap_or_default()),
        groups: names(&read("/etc/group").unwrap_or_default()),
        zone: std::fs::read("/etc/localtime").ok().and_then(|bytes| Zone::parse(&bytes)).unwrap_or_default(),
    }
}

/// Bytes of a page, from what the kernel told this process (getauxval(3)); 4096 if it told nothing.
fn page_size(auxv: &[u8]) -> u64 {
    const AT_PAGESZ: u64 = 6;
    let number = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_ne_bytes);
    let pairs = auxv.chunks_exact(16).map(|pair| (number(&pair[..8]), number(&pair[8..])));
    pairs.into_iter().find(|(key, _)| *key == AT_PAGESZ).map_or(4096, |(_, size)| size)
}

/// Names by id, from a file of lines `NAME:PASSWORD:ID:...`; the first name of an id counts.
fn names(text: &str) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(Ok(id))) = (fields.next(), fields.nth(1).map(str::parse)) {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests;
