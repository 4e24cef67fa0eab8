//! `cargo xtask test`: every lane of tests, and at the end what ran, what did not, and why.
//!
//! A lane is a kind of place to run in: nowhere special, this host as root, the peers' box, the virtual machine. A lane
//! that cannot run here is told as skipped, never as passed.

use crate::built::{self, Kind};
use crate::counts::{self, Counts, Failures};
use crate::{dist, peers, s3, sdk, session, sh, vm};
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

/// The crates whose tests need neither root nor a kernel of any kind.
const PURE: &[&str] = &["gantry-model", "gantry-seccomp", "gantry-tar", "gantry-erofs", "gantry-inflate", "xtask"];

/// A lane: its name, what it is, and how it runs.
struct Lane {
    name: &'static str,
    what: &'static str,
    run: fn(&mut Journal) -> Result<()>,
}

const LANES: &[Lane] = &[
    Lane { name: "lint", what: "format, clippy, the invariants, the dependency graph", run: lint },
    Lane { name: "unit", what: "crates that touch nothing", run: unit },
    Lane { name: "root", what: "this host, as root", run: root },
    Lane { name: "fuzz", what: "parsers against damaged input, for a short time", run: fuzz },
    Lane { name: "peers", what: "cgroup v2 alone, engines that use our runtime, images", run: peers_lane },
    Lane { name: "vm", what: "another kernel: AppArmor, SELinux, systemd", run: vm_lane },
];

/// What a lane did: its counts, the reasons for what it skipped, what failed, and everything that it printed, in a file.
struct Journal {
    counts: Counts,
    skips: Vec<String>,
    failures: Failures,
    log: fs::File,
}

impl Journal {
    /// A line of output: shown, kept, and counted if it is a closing line.
    fn line(&mut self, line: &str) {
        println!("{line}");
        // The log is a convenience: a full disk shows in the tests themselves.
        drop(writeln!(self.log, "{line}"));
        self.counts += counts::parse(line);
        self.failures.take(line);
        for reason in counts::skip_reasons(line) {
            if !self.skips.contains(&reason) {
                self.skips.push(reason);
            }
        }
    }

    /// Runs a test program, whose closing lines count. One that failed without counting a failure counts as one.
    fn tests(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let failed_before = self.counts.failed;
        let status = sh::stream(command, &mut |line| self.line(line))?;
        if !status.success() && self.counts.failed == failed_before {
            self.line(&format!("{name}: {status}"));
            self.counts.failed += 1;
        }
        Ok(())
    }

    /// Runs a program that is a check by itself: it passes or fails.
    fn check(&mut self, name: &str, command: &mut Command) -> Result<()> {
        let status = sh::stream(command, &mut |line| {
            println!("{line}");
        })?;
        self.line(&format!("{} {name}", if status.success() { "ok    " } else { "FAIL  " }));
        if status.success() {
            self.counts.passed += 1;
        } else {
            self.counts.failed += 1;
        }
        Ok(())
    }

    fn skip(&mut self, name: &str, why: &str) {
        self.line(&format!("SKIPPED {name}: {why}"));
        self.counts.skipped += 1;
    }
}

/// `cargo xtask test [--lane NAME]...`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let mut wanted = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let name = if arg == "--lane" { args.next().context("--lane needs a name")? } else { arg };
        let lane = LANES.iter().find(|lane| lane.name == name);
        wanted.push(lane.with_context(|| format!("no lane is called {name:?}; there are {}", names()))?);
    }
    let wanted = if wanted.is_empty() { LANES.iter().collect() } else { wanted };
    let directory = sh::target_dir().join("test");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let mut rows = Vec::new();
    for lane in wanted {
        println!("\n===== {}: {}", lane.name, lane.what);
        let log = directory.join(format!("{}.log", lane.name));
        let log = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let mut journal = Journal { counts: Counts::default(), skips: Vec::new(), failures: Failures::default(), log };
        let started = Instant::now();
        if let Err(error) = (lane.run)(&mut journal) {
            journal.line(&format!("FAIL   lane {}: {error:#}", lane.name));
            journal.counts.failed += 1;
        }
        rows.push(Row {
            name: lane.name,
            seconds: started.elapsed().as_secs(),
            counts: journal.counts,
            skips: journal.skips,
            failures: journal.failures.lines(),
        });
    }
    print!("{}", summary(&rows));
    Ok(if rows.iter().any(|row| row.counts.failed > 0) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn names() -> String {
    LANES.iter().map(|lane| lane.name).collect::<Vec<_>>().join(", ")
}

fn lint(journal: &mut Journal) -> Result<()> {
    journal.check("cargo fmt", &mut sh::cargo(&["fmt", "--all", "--check"]))?;
    let clippy = ["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"];
    journal.check("cargo clippy", &mut sh::cargo(&clippy))?;
    journal.check("cargo xtask tidy", &mut own(&["tidy"])?)?;
    let deny = ["deny", "--offline", "check", "licenses", "bans", "sources"];
    if sh::has("cargo-deny") {
        journal.check("cargo deny", &mut sh::cargo(&deny))
    } else {
        journal.skip("cargo deny", "cargo-deny is not installed (cargo install cargo-deny)");
        Ok(())
    }
}

fn unit(journal: &mut Journal) -> Result<()> {
    let mut cargo = sh::cargo(&["test", "--quiet", "--no-fail-fast"]);
    for package in PURE {
        cargo.args(["--package", package]);
    }
    journal.tests("unit tests", &mut cargo)
}

/// `cargo test` for the crates that touch something, always all of them: with only a few of them, what they depend on would
/// have other features, and be built once more.
pub fn cargo_test() -> Command {
    let mut cargo = sh::cargo(&["test", "--workspace"]);
    for package in PURE {
        cargo.args(["--exclude", package]);
    }
    cargo
}

fn root(journal: &mut Journal) -> Result<()> {
    if !is_root()? {
        journal.skip("lane root", "it makes namespaces, mounts and cgroups, and we are not root");
        return Ok(());
    }
    let runtime = dist::runtime()?;
    let mut cargo = cargo_test();
    cargo.args(["--quiet", "--no-fail-fast"]).env("GANTRY_LANE", "root").env("GANTRY_OCI", runtime);
    // Kept until the tests have ended.
    let storage = s3::start();
    match &storage {
        Ok(storage) => drop(cargo.env("GANTRY_S3_ENDPOINT", storage.endpoint())),
        Err(error) => journal.skip("tests of the registry on S3", &format!("{error:#}")),
    }
    journal.tests("tests as root", &mut cargo)
}

fn fuzz(journal: &mut Journal) -> Result<()> {
    journal.tests("fuzz", &mut own(&["fuzz", "--seconds", "60"])?)
}

fn peers_lane(journal: &mut Journal) -> Result<()> {
    if !is_root()? {
        journal.skip("lane peers", "the box is a root file system with mounts, and we are not root");
        return Ok(());
    }
    let runtime = &dist::runtime()?;
    let _box = peers::hold()?;
    for test in built::of(&["gantry-oci"], Kind::Tests)?.iter().filter(|test| !test.is_unit()) {
        journal.line(&format!("--- {} on cgroup v2 alone", test.name));
        let path = test.path.to_string_lossy();
        let mut command = peers::command("v2", &[&*path]);
        journal.tests(&test.name, command.env("GANTRY_LANE", "peers-v2").env("GANTRY_OCI", runtime))?;
    }
    // CRIU reaches into the kernel: that of the box is newer than the host's may be.
    for test in built::of(&["gantry-engine"], Kind::Tests)?.iter().filter(|test| test.name == "gantry-engine.engine") {
        journal.line("--- checkpoints of the engine on cgroup v2 alone");
        let path = test.path.to_string_lossy();
        let mut command = peers::command("v2", &[&*path, "checkpoint::"]);
        journal.tests(&test.name, command.env("GANTRY_LANE", "peers-v2").env("GANTRY_OCI", runtime))?;
    }
    journal.line("--- engines with our runtime in place of theirs");
    sealed(journal, "engines", "drop-in.sh", runtime)?;
    journal.line("--- images, registries and clients of others with ours");
    let program = dist::test_program()?;
    sealed(journal, "images", "images.sh", &program)?;
    journal.line("--- docker-py beside the real engine, and testcontainers with real databases");
    match sdk::prepare() {
        Ok(ready) => journal.tests("sdk", &mut ready.command(&program, runtime))?,
        Err(error) => journal.skip("docker-py and testcontainers", &format!("{error:#}")),
    }
    // Each step that differs is told and counted.
    let failed_before = journal.counts.failed;
    let passed = session::run(&program, runtime, &mut |line| journal.line(line))?;
    if !passed && journal.counts.failed == failed_before {
        bail!("a session failed without saying which step");
    }
    Ok(())
}

/// Runs a script that tests an executable in the sealed box.
fn sealed(journal: &mut Journal, name: &str, script: &str, executable: &Path) -> Result<()> {
    let script = sh::root().join("xtask/scripts").join(script);
    let (script, executable) = (script.to_string_lossy(), executable.to_string_lossy());
    journal.tests(name, &mut peers::command("sealed", &["bash", &*script, &*executable]))
}

fn vm_lane(journal: &mut Journal) -> Result<()> {
    if !is_root()? {
        journal.skip("lane vm", "its disk is made as root, and we are not root");
        return Ok(());
    }
    let failed_before = journal.counts.failed;
    let passed = vm::suite::run_with(&vm::Boot::ALL, &mut |line| journal.line(line))?;
    if !passed && journal.counts.failed == failed_before {
        bail!("a boot failed without saying which test");
    }
    Ok(())
}

/// This program with other arguments.
fn own(args: &[&str]) -> Result<Command> {
    let program = std::env::current_exe().context("find this program")?;
    Ok(sh::command(&program.to_string_lossy(), args))
}

fn is_root() -> Result<bool> {
    Ok(sh::output(&mut sh::command("id", &["-u"]))?.trim() == "0")
}

/// A lane's line in the table.
struct Row {
    name: &'static str,
    seconds: u64,
    counts: Counts,
    skips: Vec<String>,
    failures: Vec<String>,
}

/// The table of all lanes, what was skipped and why, what failed, and the sum as the last line.
fn summary(rows: &[Row]) -> String {
    let mut sum = Counts::default();
    let mut lines =
        vec![String::new(), format!("{:<8}{:>8}{:>8}{:>9}{:>9}", "lane", "passed", "failed", "skipped", "seconds")];
    for Row { name, seconds, counts, .. } in rows {
        sum += *counts;
        let Counts { passed, failed, skipped } = counts;
        lines.push(format!("{name:<8}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9}"));
    }
    let skips =
        rows.iter().flat_map(|row| row.skips.iter().map(move |skip| format!("skipped in {}: {skip}", row.name)));
    let before = lines.len();
    lines.push(String::new());
    lines.extend(skips);
    if lines.len() > before + 1 {
        lines.push(String::new());
    }
    for Row { name, failures, .. } in rows.iter().filter(|row| !row.failures.is_empty()) {
        lines.push(format!("failed in {name}:"));
        lines.extend(failures.iter().map(|line| format!("    {line}")));
        lines.push(String::new());
    }
    lines.push(sum.to_string());
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_ends_with_the_sum_alone_on_a_line() {
        let counts = Counts { passed: 5, failed: 1, skipped: 1 };
        let rows = [
            Row { name: "unit", seconds: 3, counts, skips: vec!["x: no y".into()], failures: vec![] },
            Row { name: "vm", seconds: 70, counts, skips: vec![], failures: vec!["FAIL  z".into()] },
        ];
        let text = summary(&rows);
        assert!(text.contains("unit           5       1        1        3\n"), "{text}");
        assert!(text.contains("\nskipped in unit: x: no y\n"), "{text}");
        assert!(text.contains("\nfailed in vm:\n    FAIL  z\n"), "{text}");
        assert!(text.ends_with("\n10 passed, 2 failed, 2 skipped\n"), "{text}");
    }
}
