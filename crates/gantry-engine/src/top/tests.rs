//! What processes look like.

use super::*;

const STAT: &str = "42 (sh) S 1 42 42 34816 42 4194560 0 0 0 0 6000 1500 0 0 20 0 1 0 10000 8192000 1000 0 \
    1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
const STATUS: &str = "Uid:\t1000\t33\t33\t33\nGid:\t5\t6\t6\t6\nVmRSS:\t    4000 kB\n";

/// Two minutes of a process that used 75 s of processor time, at a time of 2026-11-26 12:00:00.
fn row(options: &str, age: i64) -> String {
    let process = Process::parse(STAT, STATUS, "/bin/sh\0-c\0x\0", "do_wait_long").unwrap();
    let now = 1_795_694_400;
    let facts = Facts {
        now,
        boot: now - age - 100,
        memory: 40_960_000,
        page: 4096,
        users: names("root:x:0:0::/:\nwww-data:x:33:33::/:\nagain:x:33:1::/:\nbroken\n"),
        groups: names("root:x:0:\nsix:x:6:\n"),
        zone: Zone::default(),
    };
    let columns = options::parse(options).unwrap();
    columns.iter().map(|column| column.cell(&process, &facts)).collect::<Vec<_>>().join("|")
}

#[test]
fn cells() {
    let check = |options: &str, age: i64, expect: &str| assert_eq!(row(options, age), expect, "{options}");
    check("", 120, "www-data|42|1|62|11:58|pts/0|00:01:15|/bin/sh -c x");
    check("aux", 120, "www-data|42|62.5|10.0|8000|4000|pts/0|Ss+|11:58|1:15|/bin/sh -c x");
    check("-el", 120, "4|S|33|42|1|62|80|0|-|2000|do_wai|pts/0|00:01:15|sh");
    check("axl", 120, "4|33|42|1|20|0|8000|4000|do_wai|Ss+|pts/0|1:15|/bin/sh -c x");
    check("axj", 120, "1|42|42|42|pts/0|42|Ss+|33|1:15|/bin/sh -c x");
    check("-o ruser,group,rgroup,gid,euid,ruid", 120, "1000|six|5|6|33|1000");
    check("-o etime,etimes,times,nlwp,psr,pri,priority,comm", 120, "02:00|120|75|1|1|19|20|sh");
    check("-o stime,start,bsdstart,lstart", 120, "11:58|11:58:00|11:58|Thu Nov 26 11:58:00 2026");
    // Of yesterday, but less than a day ago.
    check("-o stime,start,bsdstart", 43_260, "Nov25|23:59:00|23:59");
    check("-o stime,start,bsdstart", 10 * 86_400, "Nov16|Nov 16|Nov16");
    check("-o stime,start,bsdstart,etime", 365 * 86_400, "2025|Nov 26|Nov26|365-00:00:00");
    // One that has just started, or by a clock that was set back.
    check("-o %cpu,c,etime", 0, "0.0|0|00:00");
    check("-o %cpu,etimes", -50, "0.0|0");
}

#[test]
fn pages() {
    let pair = |key: u64, value: u64| [key.to_ne_bytes(), value.to_ne_bytes()].concat();
    let check = |bytes: &[u8], expect| assert_eq!(page_size(bytes), expect);
    check(&[pair(3, 1), pair(6, 16_384), pair(0, 0)].concat(), 16_384);
    check(&pair(0, 0), 4096);
    check(&[6], 4096);
}

#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

/// What both say of a process, by options; none where the host has no `ps`.
type Compared = Option<(String, Vec<Vec<String>>, Vec<Vec<String>>)>;

/// Asks both about a process of its own.
fn asked_beside_the_host() -> Vec<Compared> {
    use std::process::{Command, Stdio};
    let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
    let pid = child.id() as i32;
    let compare = |options: &str| {
        let output = Command::new("ps").args(options.split(' ')).arg("-q").arg(pid.to_string()).output().ok()?;
        let text = String::from_utf8(output.stdout).unwrap();
        let theirs: Vec<Vec<String>> =
            text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect();
        let ours = top(&[pid], options, now()).unwrap();
        let split = |row: &Vec<String>| row.iter().flat_map(|cell| cell.split(' ')).map(str::to_owned).collect();
        let mut rows: Vec<Vec<String>> = vec![ours.titles.clone()];
        rows.extend(ours.processes.iter().map(split));
        Some((options.to_owned(), rows, theirs))
    };
    let sets = [
        "-o pid,ppid,uid,user,gid,group,comm,args,stat,s,tty,tname,nice,pri,pgid,sid,nlwp,vsz,sz,f,tpgid,opri,time",
        "-o pid,rss,ruser,ruid,rgroup,stime,bsdstart,start_time,egroup,euser",
        "-j",
        "-jf",
        "-o pid,cmd",
    ];
    let mut compared = Vec::new();
    for options in sets {
        // A start at the turn of a minute may be told differently: the clock is read twice.
        let same = (0..3).find_map(|_| compare(options).filter(|(_, ours, theirs)| ours == theirs));
        compared.push(same.or_else(|| compare(options)));
    }
    let gone = top(&[pid, i32::MAX], "-o pid", now()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(gone.processes, [[pid.to_string()]]);
    compared
}

/// The host's `ps` says the same.
#[test]
fn as_the_host_says() {
    // A process that starts at the turn of a second, as counted since the boot, may be told to have started in either, for
    // all its life: then another is asked about.
    let mut compared = asked_beside_the_host();
    for _ in 0..3 {
        if compared.iter().flatten().all(|(_, ours, theirs)| ours == theirs) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(300));
        compared = asked_beside_the_host();
    }
    for found in compared {
        let Some((options, ours, theirs)) = found else {
            eprintln!("SKIPPED: the host has no ps");
            return;
        };
        assert_eq!(ours, theirs, "{options}");
    }
}
