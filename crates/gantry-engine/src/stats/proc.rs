//! What procfs says, read purely.

use std::collections::BTreeMap;

use super::{Interface, System};

/// Nanoseconds of a clock tick: `USER_HZ` is 100 on every architecture that containers run on.
const TICK: u64 = 10_000_000;

/// What the processors did, from /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq and softirq. Time of
/// guests is part of user already, and what a hypervisor took is nobody's.
pub(super) fn system(text: &str) -> Option<System> {
    let mut system = System::default();
    let mut found = false;
    for line in text.lines().take_while(|line| line.starts_with("cpu")) {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("cpu") {
            system.cpus += 1;
            continue;
        }
        let ticks: Vec<u64> = words.take(7).map(str::parse).collect::<Result<_, _>>().ok()?;
        if ticks.len() < 7 {
            return None;
        }
        system.usage = ticks.iter().fold(0_u64, |sum, ticks| sum.saturating_add(*ticks)).saturating_mul(TICK);
        found = true;
    }
    found.then_some(system)
}

/// Bytes of memory that the machine has, from /proc/meminfo.
pub(super) fn memory_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// A value of a file of lines `key value`.
pub(super) fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// The interfaces but the loopback, from /proc/PID/net/dev (proc_pid_net(5)). A line that is none is passed over.
pub(super) fn interfaces(text: &str) -> BTreeMap<String, Interface> {
    text.lines().filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

fn interface(line: &str) -> Option<(String, Interface)> {
    // A name may have a colon in it, numbers have none.
    let (name, numbers) = line.rsplit_once(':')?;
    let n: Vec<u64> = numbers.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>().ok()?;
    let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] =
        n[..]
    else {
        return None;
    };
    let counts = Interface { rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped };
    Some((name.trim().to_owned(), counts))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors() {
        let check = |text: &str, expect: Option<(u64, u32)>| {
            assert_eq!(system(text).map(|system| (system.usage / TICK, system.cpus)), expect, "{text}");
        };
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 0 0 0 0 0 0 0 0 0 0\nintr 1\ncpu9 1\n";
        check(text, Some((28, 2)));
        check("cpu 1 2 3 4 5 6 7\n", Some((28, 0)));
        check("cpu 1 2 3 4 5 6\n", None);
        check("cpu 1 2 x 4 5 6 7\n", None);
        check("intr 1\n", None);
        check("", None);
        check("cpu 18446744073709551615 1 0 0 0 0 0\n", Some((u64::MAX / TICK, 0)));
    }

    #[test]
    fn memory() {
        let check = |text: &str, expect| assert_eq!(memory_total(text), expect, "{text}");
        check("MemTotal:        8148108 kB\nMemFree: 1 kB\n", Some(8_148_108 * 1024));
        check("MemFree: 1 kB\n", None);
        check("MemTotal: x kB\n", None);
        check("MemTotal: 18446744073709551615 kB\n", None);
        let check = |key: &str, expect| assert_eq!(value("low 0\noom 3\noom_kill 4\n", key), expect, "{key}");
        check("oom", Some(3));
        check("oom_kill", Some(4));
        check("high", None);
    }

    #[test]
    fn networks() {
        let text = "Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: 1234567     890    1    2    3     4          5         6     7654     321    7    8    9    10      11         12
eth1:1:18446744073709551615 1 0 0 0 0 0 0 1 1 0 0 0 0 0 0
  bad0: 1 2 3
  bad1: 1 2 x 4 5 6 7 8 9 10 11 12 13 14 15 16
";
        let found = interfaces(text);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["eth0", "eth1:1"]);
        let expect = Interface {
            rx_bytes: 1_234_567,
            rx_packets: 890,
            rx_errors: 1,
            rx_dropped: 2,
            tx_bytes: 7654,
            tx_packets: 321,
            tx_errors: 7,
            tx_dropped: 8,
        };
        assert_eq!(found["eth0"], expect);
        assert_eq!(found["eth1:1"].rx_bytes, u64::MAX);
        assert_eq!(interfaces(""), BTreeMap::new());
    }
}
