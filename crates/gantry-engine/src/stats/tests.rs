//! What numbers come to, in each shape of host.

use std::path::PathBuf;

use gantry_cgroup::Hierarchy;

use super::*;

/// A cgroup of files, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir = std::env::temp_dir().join(format!("gantry-stats-{}-{name}", std::process::id()));
        for (path, content) in files {
            let path = dir.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        Self(dir)
    }

    fn v1(&self, controllers: &[&str]) -> Vec<Hierarchy> {
        let hierarchy = |name: &&str| Hierarchy {
            subsystems: name.split(',').map(str::to_owned).collect(),
            dir: self.0.join(name),
        };
        controllers.iter().map(hierarchy).collect()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const V2: [(&str, &str); 9] = [
    ("u/cpu.stat", "usage_usec 300\nuser_usec 200\nsystem_usec 100\nnr_periods 5\nnr_throttled 2\nthrottled_usec 7\n"),
    ("u/memory.current", "1000\n"),
    ("u/memory.max", "max\n"),
    ("u/memory.stat", "anon 300\nfile 600\ninactive_file 400\n"),
    ("u/memory.events", "low 0\noom 3\n"),
    ("u/pids.current", "4\n"),
    ("u/pids.max", "10\n"),
    ("u/io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n"),
    ("u/cgroup.procs", "1\n"),
];

fn unified(files: &Files) -> Location {
    Location { unified: Some(files.0.join("u")), ..Location::default() }
}

#[test]
fn version_2() {
    let files = Files::new("v2", &V2);
    let stats = read(&unified(&files), None, 77).unwrap();
    assert_eq!((stats.read, stats.networks.clone()), (77, None));
    let cpu = stats.cpu.unwrap();
    assert_eq!((cpu.total, cpu.user, cpu.kernel, cpu.per_cpu), (300_000, 200_000, 100_000, None));
    assert_eq!((cpu.periods, cpu.throttled_periods, cpu.throttled_time), (5, 2, 7000));
    let memory = stats.memory.unwrap();
    assert_eq!((memory.usage, memory.max, memory.failures, memory.used()), (1000, None, 3, 600));
    // Without a limit it is the machine's memory.
    assert!(memory.limit > 1 << 20 && memory.limit < 1 << 50, "{}", memory.limit);
    assert_eq!(stats.pids, Some(Pids { current: 4, limit: Some(10) }));
    let blkio = stats.blkio.unwrap();
    let ops: Vec<_> = blkio.service_bytes.iter().map(|entry| (entry.op.as_str(), entry.value)).collect();
    assert_eq!(ops, [("read", 1), ("write", 2)]);
    assert!(stats.system.cpus > 0 && stats.system.usage > 0);
}

#[test]
fn what_is_not_counted_is_absent() {
    let files = Files::new("bare", &[V2[0], V2[8]]);
    let stats = read(&unified(&files), Some(std::process::id() as i32), 0).unwrap();
    assert!(stats.cpu.is_some());
    assert_eq!((stats.memory, stats.blkio), (None, None));
    // The processes are counted without the controller.
    assert_eq!(stats.pids, Some(Pids { current: 1, limit: None }));
    assert!(!stats.networks.unwrap().contains_key("lo"));
    let nothing = read(&Location::none(), Some(i32::MAX), 0).unwrap();
    assert_eq!((nothing.cpu, nothing.memory, nothing.pids, nothing.networks), (None, None, None, None));
}

const V1: [(&str, &str); 11] = [
    ("cpu,cpuacct/cpuacct.usage", "900\n"),
    ("cpu,cpuacct/cpuacct.usage_percpu", "400 500 \n"),
    ("cpu,cpuacct/cpuacct.stat", "user 2\nsystem 1\n"),
    ("cpu,cpuacct/cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n"),
    ("memory/memory.usage_in_bytes", "5000\n"),
    ("memory/memory.max_usage_in_bytes", "6000\n"),
    ("memory/memory.limit_in_bytes", "8192\n"),
    ("memory/memory.failcnt", "2\n"),
    ("memory/memory.stat", "inactive_file 1\ntotal_inactive_file 4000\n"),
    ("blkio/blkio.throttle.io_service_bytes", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
    ("blkio/blkio.throttle.io_serviced", "8:0 Read 1\n"),
];

#[test]
fn version_1_and_both() {
    let check = |location: &Location, pids: Option<Pids>| {
        let stats = read(location, None, 0).unwrap();
        let cpu = stats.cpu.unwrap();
        assert_eq!((cpu.total, cpu.per_cpu), (900, Some(vec![400, 500])));
        assert_eq!((cpu.user, cpu.kernel, cpu.throttled_time), (20_000_000, 10_000_000, 3));
        let memory = stats.memory.unwrap();
        let counts = (memory.usage, memory.max, memory.limit, memory.failures, memory.used());
        assert_eq!(counts, (5000, Some(6000), 8192, 2, 1000));
        let blkio = stats.blkio.unwrap();
        let ops: Vec<_> = blkio.service_bytes.iter().map(|entry| (entry.op.as_str(), entry.value)).collect();
        assert_eq!(ops, [("Read", 5), ("Total", 5)]);
        assert_eq!(stats.pids, pids);
    };
    let files = Files::new("v1", &V1);
    let mut location = Location { v1: files.v1(&["cpu,cpuacct", "memory", "blkio"]), ..Location::default() };
    check(&location, None);
    // In hybrid version 1 wins where it counts, and version 2 knows the processes.
    let beside = Files::new("hybrid", &V2);
    location.unified = Some(beside.0.join("u"));
    check(&location, Some(Pids { current: 4, limit: Some(10) }));
}

#[test]
fn for_people() {
    let at = |total, usage, cpus| Stats {
        cpu: Some(Cpu { total, ..Cpu::default() }),
        system: System { usage, cpus },
        ..Stats::default()
    };
    let check = |before: &Stats, now: &Stats, expect: f64| {
        let found = cpu_percent(before, now);
        assert!((found - expect).abs() < 1e-9, "{found}");
    };
    check(&at(100, 1000, 4), &at(200, 2000, 4), 40.0);
    check(&at(100, 1000, 4), &at(100, 1000, 4), 0.0);
    check(&at(200, 1000, 4), &at(100, 2000, 4), 0.0);
    check(&Stats::default(), &at(50, 100, 2), 100.0);
    let memory =
        |usage, inactive| Memory { usage, stat: [("inactive_file".to_owned(), inactive)].into(), ..Memory::default() };
    let found = [memory(10, 4).used(), memory(10, 10).used(), memory(10, 11).used(), Memory::default().used()];
    assert_eq!(found, [6, 10, 10, 0]);
}
