//! A process, as the kernel tells of it (proc_pid_stat(5), proc_pid_status(5)). Read purely.

/// Ticks of a second: `USER_HZ` is 100 on every architecture that containers run on.
pub(super) const HERTZ: u64 = 100;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: i32,
    pub(super) ppid: i32,
    pub(super) pgid: i32,
    pub(super) sid: i32,
    /// Number of the terminal's device.
    pub(super) tty: i64,
    /// Foreground group of the terminal.
    pub(super) tpgid: i32,
    /// One letter.
    pub(super) state: String,
    /// The name of the program.
    pub(super) comm: String,
    /// The command line; empty if it has none.
    pub(super) args: String,
    /// Real and effective ids.
    pub(super) uids: [u32; 2],
    pub(super) gids: [u32; 2],
    pub(super) flags: u64,
    /// Processor time, in ticks.
    pub(super) ticks: u64,
    /// When it started, in ticks since the start of the machine.
    pub(super) start: u64,
    pub(super) priority: i64,
    pub(super) nice: i64,
    pub(super) threads: u64,
    /// Bytes.
    pub(super) virtual_size: u64,
    /// KiB. The status counts exactly, the other file does not.
    pub(super) resident: u64,
    /// The processor that it was last on.
    pub(super) processor: u64,
    /// Whether pages of it are locked.
    pub(super) locked: bool,
    /// The kernel's function that it waits in; empty if none.
    pub(super) wchan: String,
}

impl Process {
    pub(super) fn parse(stat: &str, status: &str, cmdline: &str, wchan: &str) -> Option<Self> {
        // A name may have parentheses and spaces in it.
        let (pid, rest) = stat.split_once(" (")?;
        let (comm, rest) = rest.rsplit_once(") ")?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<i64>().ok();
        let count = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let ids = |key: &str| {
            let mut ids = line(key)?.split_ascii_whitespace().map(str::parse::<u32>);
            Some([ids.next()?.ok()?, ids.next()?.ok()?])
        };
        let kib = |text: &str| text.split_ascii_whitespace().next()?.parse::<u64>().ok();
        Some(Self {
            pid: pid.trim().parse().ok()?,
            state: (*fields.first()?).to_owned(),
            ppid: number(1)? as i32,
            pgid: number(2)? as i32,
            sid: number(3)? as i32,
            tty: number(4)?,
            tpgid: number(5)? as i32,
            flags: count(6)?,
            ticks: count(11)?.saturating_add(count(12)?),
            priority: number(15)?,
            nice: number(16)?,
            threads: count(17)?,
            start: count(19)?,
            virtual_size: count(20)?,
            resident: line("VmRSS:").and_then(kib).unwrap_or(0),
            processor: count(36).unwrap_or(0),
            comm: printable(comm),
            args: printable(cmdline.trim_end_matches('\0')),
            uids: ids("Uid:")?,
            gids: ids("Gid:")?,
            locked: line("VmLck:").and_then(kib).is_some_and(|locked| locked > 0),
            wchan: if wchan == "0" { String::new() } else { printable(wchan) },
        })
    }

    /// Its command line, or its name where it has none.
    pub(super) fn command(&self) -> String {
        let dead = if self.state == "Z" { " <defunct>" } else { "" };
        if self.args.is_empty() { format!("[{}]{dead}", self.comm) } else { format!("{}{dead}", self.args) }
    }

    /// The name of its program.
    pub(super) fn name(&self) -> String {
        let dead = if self.state == "Z" { " <defunct>" } else { "" };
        format!("{}{dead}", self.comm)
    }

    /// Its state with what else people want to know: priority, locked pages, leader of a session, threads, foreground.
    pub(super) fn states(&self) -> String {
        let flags = [
            (self.nice < 0, '<'),
            (self.nice > 0, 'N'),
            (self.locked, 'L'),
            (self.sid == self.pid, 's'),
            (self.threads > 1, 'l'),
            (self.tpgid == self.pgid && self.tpgid > 0, '+'),
        ];
        let flags = flags.iter().filter(|(is_so, _)| *is_so).map(|(_, flag)| *flag);
        self.state.chars().chain(flags).collect()
    }

    /// Its terminal (Documentation/admin-guide/devices.txt).
    pub(super) fn terminal(&self) -> String {
        let device = self.tty as u32;
        let (major, minor) = (device >> 8 & 0xfff, (device & 0xff) | (device >> 12 & 0xf_ff00));
        match (major, minor) {
            (0, _) => "?".to_owned(),
            (4, 0..64) => format!("tty{minor}"),
            (4, _) => format!("ttyS{}", minor - 64),
            (5, 1) => "console".to_owned(),
            (136..=143, _) => format!("pts/{}", (major - 136) * 256 + minor),
            _ => format!("{major},{minor}"),
        }
    }
}

/// What a process says of itself, without what would move a terminal's cursor.
fn printable(text: &str) -> String {
    let clean = |c: char| match c {
        '\0' | '\n' | '\t' => ' ',
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "42 (a) b (c) S 1 40 40 34817 40 4194560 1 2 3 4 150 50 0 0 20 0 3 0 1000 8192000 300 18446744073709551615 \
        1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
    const STATUS: &str = "Name:\ta\nUid:\t1000\t0\t0\t0\nGid:\t5\t6\t6\t6\nVmLck:\t       4 kB\nVmRSS:\t     300 kB\n";

    #[test]
    fn what_the_kernel_tells() {
        let found = Process::parse(STAT, STATUS, "/bin/a\0b c\0\x1b[1m\0", "do_wait").unwrap();
        assert_eq!((found.pid, found.ppid, found.pgid, found.sid, found.tpgid), (42, 1, 40, 40, 40));
        assert_eq!((found.comm.as_str(), found.args.as_str()), ("a) b (c", "/bin/a b c ?[1m"));
        assert_eq!((found.uids, found.gids, found.ticks, found.start), ([1000, 0], [5, 6], 200, 1000));
        assert_eq!((found.priority, found.nice, found.threads, found.processor), (20, 0, 3, 1));
        assert_eq!((found.virtual_size, found.resident, found.wchan.as_str()), (8_192_000, 300, "do_wait"));
        assert_eq!((found.terminal().as_str(), found.states().as_str()), ("pts/1", "SLl+"));
        for broken in ["", "42", "42 (a) S", "x (a) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22"] {
            assert_eq!(Process::parse(broken, STATUS, "", ""), None, "{broken}");
        }
        assert_eq!(Process::parse(STAT, "Uid:\tx\n", "", ""), None);
    }

    #[test]
    fn what_it_is_called() {
        let check = |state: &str, args: &str, expect: [&str; 2]| {
            let found =
                Process { state: state.to_owned(), args: args.to_owned(), comm: "sh".to_owned(), ..Process::default() };
            assert_eq!([found.command(), found.name()], expect);
        };
        check("S", "/bin/sh -c x", ["/bin/sh -c x", "sh"]);
        check("S", "", ["[sh]", "sh"]);
        check("Z", "", ["[sh] <defunct>", "sh <defunct>"]);
        let check = |tty: i64, expect: &str| assert_eq!(Process { tty, ..Process::default() }.terminal(), expect);
        check(0, "?");
        check(0x401, "tty1");
        check(0x440, "ttyS0");
        check(0x501, "console");
        check(0x8805, "pts/5");
        check(0x8900, "pts/256");
        check(0x0010_8800, "pts/256");
        check(0x701, "7,1");
    }
}
