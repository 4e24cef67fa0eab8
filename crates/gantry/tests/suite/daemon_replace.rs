//! One daemon takes the place of another, and nobody is refused.

#![allow(clippy::unwrap_used, reason = "a test ends where its place cannot be made")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon_kit::{Daemon, SOON, over_tcp, over_unix};
use crate::world::said;

/// Asks again and again, until it is told to stop; gives how often it was answered, and every failure.
struct Loop {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU32>,
    thread: std::thread::JoinHandle<Vec<String>>,
}

impl Loop {
    fn begin(daemon: &Daemon, ask: impl Fn() -> std::io::Result<String> + Send + 'static) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let (over, count) = (Arc::clone(&stop), Arc::clone(&answered));
        let thread = daemon.inside(move || {
            let mut failures = Vec::new();
            while !over.load(Ordering::Relaxed) {
                match ask() {
                    Ok(answer) if answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.0 200") => {
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(answer) => failures.push(answer),
                    Err(error) => failures.push(error.to_string()),
                }
            }
            failures
        });
        Self { stop, answered, thread }
    }

    /// Waits for more answers.
    fn more(&self, count: u32) {
        let (until, began) = (self.answered.load(Ordering::Relaxed) + count, std::time::Instant::now());
        while self.answered.load(Ordering::Relaxed) < until && began.elapsed() < SOON {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn end(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let answered = self.answered.load(Ordering::Relaxed);
        let failures = self.thread.join().unwrap();
        assert!(failures.is_empty() && answered > 0, "{what}: {answered} were answered, these were not: {failures:?}");
    }
}

#[test]
fn nobody_is_refused_while_a_daemon_is_replaced() {
    let test = "nobody_is_refused_while_a_daemon_is_replaced";
    let text = "[daemon]\nmetrics = '127.0.0.1:0'\n[daemon.registry]\nlisten = '127.0.0.1:0'\n";
    let Some(mut daemon) = Daemon::started(test, text, &[]) else { return };
    daemon.import();
    daemon.ok(&["run", "-d", "--name", "web", "-p", "8099:80", "busybox", "httpd", "-f", "-h", "/www"]);
    daemon.ok(&[
        "run",
        "-d",
        "--name",
        "log",
        "busybox",
        "sh",
        "-c",
        "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done",
    ]);
    let process = daemon.ok(&["inspect", "--format", "{{.State.Pid}}", "web", "log"]);
    daemon.until_logged("metrics are at", 1);
    let metrics = format!("127.0.0.1:{}", daemon.port("metrics are at tcp://"));
    let registry = format!("127.0.0.1:{}", daemon.port("answers at tcp://"));
    let (socket, published) = (daemon.dir.join("s"), "127.0.0.1:8099");
    let api = Loop::begin(&daemon, move || over_unix(&socket, "GET /containers/json"));
    let web = Loop::begin(&daemon, move || over_tcp(published, "GET /index.html"));
    let numbers = Loop::begin(&daemon, move || over_tcp(&metrics, "GET /metrics"));
    let registry = Loop::begin(&daemon, move || over_tcp(&registry, "GET /v2/"));
    let pid = daemon.pid();
    for round in 1..=3 {
        api.more(20);
        if round == 1 {
            // The daemon's own way: by a signal, with the program at its place.
            daemon.signal(Signal::USR2);
        } else {
            let flags = ["--replace".to_owned()];
            let said = said(daemon.command(env!("CARGO_BIN_EXE_gantry").as_ref(), &flags).output().unwrap());
            assert!(said.status == 0 && said.out.contains("replaced: version"), "{said:?}\n{}", daemon.log());
        }
        daemon.until_logged("answers at unix://", round + 1);
        api.more(20);
    }
    for (one, what) in [(api, "the API"), (web, "the published port"), (numbers, "metrics"), (registry, "the registry")]
    {
        one.more(5);
        one.end(what);
    }
    assert_eq!(daemon.pid(), pid);
    assert_eq!(daemon.ok(&["inspect", "--format", "{{.State.Pid}}", "web", "log"]), process);
    let log = daemon.ok(&["logs", "log"]);
    let counted: Vec<u32> = log.lines().map(|line| line.parse().unwrap()).collect();
    assert!(counted.iter().zip(1..).all(|(one, expect)| *one == expect), "the log has a hole: {log}");
    // What the new daemon found is looked after: an end is seen, and leaves no process behind.
    daemon.ok(&["kill", "web", "log"]);
    daemon.ok(&["wait", "web", "log"]);
    let began = std::time::Instant::now();
    while children(pid) > 0 {
        assert!(began.elapsed() < SOON, "a monitor that has ended is not reaped");
        std::thread::sleep(Duration::from_millis(10));
    }
    let descriptors = std::fs::read_dir(format!("/proc/{}/fd", pid.as_raw_nonzero())).unwrap().count();
    assert!(descriptors < 60, "{descriptors} descriptors are open after three replacements");
    daemon.ok(&["rm", "web", "log"]);
    assert_eq!(daemon.stop(), Some(0));
    assert!(!daemon.dir.join("s").exists(), "the socket is left behind");
}

fn children(pid: rustix::process::Pid) -> usize {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", pid.as_raw_nonzero())).unwrap().flatten();
    tasks
        .map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default())
        .map(|text| text.split_whitespace().count())
        .sum()
}

#[test]
fn a_daemon_is_not_replaced_by_one_that_cannot_start() {
    let test = "a_daemon_is_not_replaced_by_one_that_cannot_start";
    let Some(mut daemon) = Daemon::started(test, "", &[]) else { return };
    let replace = || {
        let flags = ["--replace".to_owned()];
        said(daemon.command(env!("CARGO_BIN_EXE_gantry").as_ref(), &flags).output().unwrap())
    };
    daemon.write("config.toml", "[daemon]\nlog_driver = 'telepathy'\n");
    let refused = replace();
    assert!(refused.status == 1 && refused.err.contains("telepathy"), "{refused:?}");
    let (version, before) = (daemon.ok(&["version", "--format", "{{.Server.Version}}"]), daemon.pid());
    daemon.write("config.toml", "[daemon]\nlog_driver = 'json-file'\n");
    let replaced = replace();
    assert_eq!(replaced.status, 0, "{replaced:?}\n{}", daemon.log());
    assert_eq!(daemon.ok(&["info", "--format", "{{.LoggingDriver}}"]), "json-file\n");
    assert_eq!((daemon.ok(&["version", "--format", "{{.Server.Version}}"]), daemon.pid()), (version, before));
    assert_eq!(daemon.stop(), Some(0));
    let flags = ["--replace".to_owned()];
    let alone = said(daemon.command(env!("CARGO_BIN_EXE_gantry").as_ref(), &flags).output().unwrap());
    assert!(alone.status == 1 && alone.err.contains("no daemon runs in"), "{alone:?}");
}
