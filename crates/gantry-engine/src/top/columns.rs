//! The columns of ps(1): what each shows of a process. Pure.

use std::collections::BTreeMap;

use super::clock::{Zone, elapsed, long};
use super::process::{HERTZ, Process};

/// What of the host the columns need.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Seconds since 1970.
    pub(super) now: i64,
    /// When the machine was started.
    pub(super) boot: i64,
    /// Bytes of its memory.
    pub(super) memory: u64,
    /// Bytes of a page.
    pub(super) page: u64,
    pub(super) users: BTreeMap<u32, String>,
    pub(super) groups: BTreeMap<u32, String>,
    pub(super) zone: Zone,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Its head.
    pub(super) title: String,
    key: Key,
}

/// What a column shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Address,
    Args,
    Comm,
    Cpu,
    CpuWhole,
    Elapsed,
    ElapsedSeconds,
    Flags,
    Gid,
    Group,
    LongStart,
    Memory,
    Nice,
    Pgid,
    Pid,
    Ppid,
    Priority,
    PriorityLong,
    PriorityRaw,
    Processor,
    RealGroup,
    RealUid,
    RealUser,
    Resident,
    Session,
    Size,
    Start,
    StartBsd,
    StartShort,
    State,
    States,
    Terminal,
    TerminalGroup,
    Threads,
    Time,
    TimeBsd,
    TimeSeconds,
    Uid,
    User,
    Virtual,
    Wait,
}

/// Names of columns for `-o`, their heads, and what they show.
const NAMES: [(&str, &str, Key); 74] = [
    ("%cpu", "%CPU", Key::Cpu),
    ("%mem", "%MEM", Key::Memory),
    ("args", "COMMAND", Key::Args),
    ("bsdstart", "START", Key::StartBsd),
    ("bsdtime", "TIME", Key::TimeBsd),
    ("c", "C", Key::CpuWhole),
    ("cmd", "CMD", Key::Args),
    ("comm", "COMMAND", Key::Comm),
    ("command", "COMMAND", Key::Args),
    ("cp", "CP", Key::CpuWhole),
    ("cputime", "TIME", Key::Time),
    ("cputimes", "TIME", Key::TimeSeconds),
    ("egid", "EGID", Key::Gid),
    ("egroup", "EGROUP", Key::Group),
    ("etime", "ELAPSED", Key::Elapsed),
    ("etimes", "ELAPSED", Key::ElapsedSeconds),
    ("euid", "EUID", Key::Uid),
    ("euser", "EUSER", Key::User),
    ("f", "F", Key::Flags),
    ("flag", "F", Key::Flags),
    ("flags", "F", Key::Flags),
    ("fname", "COMMAND", Key::Comm),
    ("gid", "GID", Key::Gid),
    ("group", "GROUP", Key::Group),
    ("lstart", "STARTED", Key::LongStart),
    ("ni", "NI", Key::Nice),
    ("nice", "NI", Key::Nice),
    ("nlwp", "NLWP", Key::Threads),
    ("opri", "PRI", Key::PriorityLong),
    ("pcpu", "%CPU", Key::Cpu),
    ("pgid", "PGID", Key::Pgid),
    ("pgrp", "PGRP", Key::Pgid),
    ("pid", "PID", Key::Pid),
    ("pmem", "%MEM", Key::Memory),
    ("ppid", "PPID", Key::Ppid),
    ("pri", "PRI", Key::Priority),
    ("priority", "PRI", Key::PriorityRaw),
    ("psr", "PSR", Key::Processor),
    ("rgroup", "RGROUP", Key::RealGroup),
    ("rss", "RSS", Key::Resident),
    ("rssize", "RSS", Key::Resident),
    ("rsz", "RSZ", Key::Resident),
    ("ruid", "RUID", Key::RealUid),
    ("ruser", "RUSER", Key::RealUser),
    ("s", "S", Key::State),
    ("sess", "SESS", Key::Session),
    ("session", "SESS", Key::Session),
    ("sid", "SID", Key::Session),
    ("start", "STARTED", Key::Start),
    ("start_time", "START", Key::StartShort),
    ("stat", "STAT", Key::States),
    ("state", "S", Key::State),
    ("stime", "STIME", Key::StartShort),
    ("sz", "SZ", Key::Size),
    ("tgid", "TGID", Key::Pid),
    ("thcount", "THCNT", Key::Threads),
    ("time", "TIME", Key::Time),
    ("times", "TIME", Key::TimeSeconds),
    ("tname", "TTY", Key::Terminal),
    ("tpgid", "TPGID", Key::TerminalGroup),
    ("tt", "TT", Key::Terminal),
    ("tty", "TT", Key::Terminal),
    ("ucmd", "CMD", Key::Comm),
    ("ucomm", "COMMAND", Key::Comm),
    ("uid", "UID", Key::Uid),
    ("uname", "USER", Key::User),
    ("user", "USER", Key::User),
    ("vsize", "VSZ", Key::Virtual),
    ("vsz", "VSZ", Key::Virtual),
    ("wchan", "WCHAN", Key::Wait),
    // What only the fixed formats have.
    ("-addr", "ADDR", Key::Address),
    ("-uid", "UID", Key::User),
    ("-tty", "TTY", Key::Terminal),
    ("-pri", "PRI", Key::PriorityRaw),
];

impl Column {
    /// A column by its name, with another head if one is given.
    pub(super) fn new(name: &str, title: Option<&str>) -> Option<Self> {
        let (_, own, key) = NAMES.iter().find(|(known, ..)| *known == name)?;
        Some(Self { title: title.unwrap_or(own).to_owned(), key: *key })
    }

    /// What it shows of a process.
    pub(super) fn cell(&self, process: &Process, facts: &Facts) -> String {
        match self.key {
            Key::Args => process.command(),
            Key::Comm => process.name(),
            Key::Flags => format!("{:o}", process.flags >> 6 & 7),
            Key::State => process.state.clone(),
            Key::States => process.states(),
            Key::Terminal => process.terminal(),
            Key::Address => "-".to_owned(),
            Key::Wait if process.wchan.is_empty() => "-".to_owned(),
            Key::Wait => process.wchan.chars().take(6).collect(),
            Key::Group | Key::RealGroup | Key::User | Key::RealUser => self.owner(process, facts),
            Key::Cpu | Key::CpuWhole | Key::Memory => self.share(process, facts),
            Key::LongStart | Key::Start | Key::StartBsd | Key::StartShort => self.start(process, facts),
            Key::Elapsed => elapsed(age(process, facts)),
            Key::Time => long((process.ticks / HERTZ) as i64),
            Key::TimeBsd => {
                let seconds = process.ticks / HERTZ;
                format!("{}:{:02}", seconds / 60, seconds % 60)
            }
            _ => self.number(process, facts).to_string(),
        }
    }

    fn number(&self, process: &Process, facts: &Facts) -> i64 {
        match self.key {
            Key::ElapsedSeconds => age(process, facts),
            Key::Gid => i64::from(process.gids[1]),
            Key::Nice => process.nice,
            Key::Pgid => i64::from(process.pgid),
            Key::Ppid => i64::from(process.ppid),
            Key::Priority => 39 - process.priority,
            Key::PriorityLong => 60 + process.priority,
            Key::PriorityRaw => process.priority,
            Key::Processor => process.processor as i64,
            Key::RealUid => i64::from(process.uids[0]),
            Key::Resident => process.resident as i64,
            Key::Session => i64::from(process.sid),
            Key::Size => (process.virtual_size / facts.page.max(1)) as i64,
            Key::TerminalGroup => i64::from(process.tpgid),
            Key::Threads => process.threads as i64,
            Key::TimeSeconds => (process.ticks / HERTZ) as i64,
            Key::Uid => i64::from(process.uids[1]),
            Key::Virtual => (process.virtual_size / 1024) as i64,
            _ => i64::from(process.pid),
        }
    }

    /// Names; a number that has none stays one.
    fn owner(&self, process: &Process, facts: &Facts) -> String {
        let (names, id) = match self.key {
            Key::Group => (&facts.groups, process.gids[1]),
            Key::RealGroup => (&facts.groups, process.gids[0]),
            Key::RealUser => (&facts.users, process.uids[0]),
            _ => (&facts.users, process.uids[1]),
        };
        names.get(&id).cloned().unwrap_or_else(|| id.to_string())
    }

    /// Shares, in tenths of a percent or in percent: of processor time since the start, and of memory.
    fn share(&self, process: &Process, facts: &Facts) -> String {
        let (part, whole) = match self.key {
            Key::Memory => (process.resident.saturating_mul(1024), facts.memory),
            _ => (process.ticks, (age(process, facts) as u64).saturating_mul(HERTZ)),
        };
        let thousandths = (u128::from(part) * 1000).checked_div(u128::from(whole)).unwrap_or(0).min(999_999);
        match self.key {
            Key::CpuWhole => (thousandths / 10).min(99).to_string(),
            _ => format!("{}.{}", thousandths / 10, thousandths % 10),
        }
    }

    /// When it started: the older, the less is told.
    fn start(&self, process: &Process, facts: &Facts) -> String {
        let time = facts.boot + (process.start / HERTZ) as i64;
        let (date, today) = (facts.zone.date(time), facts.zone.date(facts.now));
        let month_day = |between: &str| format!("{}{between}{:02}", date.month_name(), date.day);
        let lately = facts.now - time < 86_400;
        match self.key {
            Key::LongStart => {
                let (weekday, day) = (date.weekday_name(), date.day);
                format!("{weekday} {} {day:2} {} {}", date.month_name(), date.seconds(), date.year)
            }
            Key::Start if lately => date.seconds(),
            Key::Start => month_day(" "),
            Key::StartBsd if lately => date.minutes(),
            Key::StartBsd => month_day(""),
            _ if date.days == today.days => date.minutes(),
            _ if date.year == today.year => month_day(""),
            _ => date.year.to_string(),
        }
    }
}

/// Seconds since a process started.
fn age(process: &Process, facts: &Facts) -> i64 {
    (facts.now - facts.boot - (process.start / HERTZ) as i64).max(0)
}
