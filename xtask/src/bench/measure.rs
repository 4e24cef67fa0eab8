//! The measurement itself: runs inside the peers' box, where all contestants find the same world.
//!
//! Every contestant gets the same bundle: a root with busybox, the configuration that `runc spec` writes, and Docker's
//! seccomp profile.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Milliseconds per work, per contestant, in the order measured.
type Samples = BTreeMap<&'static str, BTreeMap<String, Vec<f64>>>;

struct Contestant {
    name: String,
    path: PathBuf,
}

/// A directory with a bundle, the runtimes' state, and nothing else; removed when dropped.
struct Ground {
    dir: PathBuf,
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("bench: cannot remove {}: {error}", self.dir.display());
        }
    }
}

/// `bench measure ROUNDS SECCOMP NAME=PATH ...`: prints one line of JSON.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let [rounds, seccomp, contestants @ ..] = args else { bail!("bench measure ROUNDS SECCOMP NAME=PATH ...") };
    let rounds: usize = rounds.parse().context("the number of rounds")?;
    let ground = Ground { dir: PathBuf::from(format!("/tmp/gantry-bench-{}", std::process::id())) };
    let config = make_root(&ground, Path::new(seccomp))?;
    let mut able = Vec::new();
    for contestant in contestants {
        let (name, path) = contestant.split_once('=').context("a contestant is NAME=PATH")?;
        let contestant = Contestant { name: name.into(), path: path.into() };
        make_bundles(&ground, &contestant, &config)?;
        match run(&ground, &contestant) {
            Ok(_) => able.push(contestant),
            // crun refuses hybrid cgroups; ours has to take part.
            Err(error) if name != "gantry-oci" => eprintln!("bench: {name} takes no part: {error:#}"),
            Err(error) => return Err(error.context("gantry-oci cannot run")),
        }
    }
    let mut samples = Samples::new();
    take_turns(&ground, &able, rounds, &mut samples)?;
    let mut memory = BTreeMap::new();
    for contestant in &able {
        memory.insert(contestant.name.clone(), peak_memory(&ground, contestant)?);
    }
    println!("{}", json!({ "milliseconds": samples, "peak_kilobytes": memory }));
    Ok(ExitCode::SUCCESS)
}

/// Each work in turn, and in it each contestant in turn, after two rounds that do not count.
fn take_turns(ground: &Ground, able: &[Contestant], rounds: usize, samples: &mut Samples) -> Result<()> {
    type Work = fn(&Ground, &Contestant) -> Result<f64>;
    let works: [(&str, Work); 2] = [("run", run), ("create+start+delete", create_start_delete)];
    for (work, measure) in works {
        for round in 0..rounds + 2 {
            for contestant in able {
                let milliseconds = measure(ground, contestant)?;
                if round >= 2 {
                    samples.entry(work).or_default().entry(contestant.name.clone()).or_default().push(milliseconds);
                }
            }
        }
    }
    let running: Vec<Running<'_>> = able.iter().map(|one| Running::start(ground, one)).collect::<Result<_>>()?;
    for round in 0..rounds + 2 {
        for container in &running {
            let milliseconds = timed(&mut container.contestant.call(ground, &["exec", &container.id, "/bin/true"]))?;
            if round >= 2 {
                let of_work = samples.entry("exec").or_default();
                of_work.entry(container.contestant.name.clone()).or_default().push(milliseconds);
            }
        }
    }
    Ok(())
}

fn run(ground: &Ground, contestant: &Contestant) -> Result<f64> {
    let bundle = ground.bundle(contestant, "true");
    timed(&mut contestant.call(ground, &["run", "--bundle", &bundle, &contestant.id()]))
}

fn create_start_delete(ground: &Ground, contestant: &Contestant) -> Result<f64> {
    let (bundle, id) = (ground.bundle(contestant, "true"), contestant.id());
    let created = timed(&mut contestant.call(ground, &["create", "--bundle", &bundle, &id]))?;
    let started = timed(&mut contestant.call(ground, &["start", &id]))?;
    let deleted = timed(&mut contestant.call(ground, &["delete", "--force", &id]))?;
    Ok(created + started + deleted)
}

/// The runtime's highest resident memory over a run, in kilobytes: the median of five. It is taken by busybox, which is
/// small itself: a process inherits the peak of the one that started it.
fn peak_memory(ground: &Ground, contestant: &Contestant) -> Result<f64> {
    let report = ground.dir.join("memory");
    let mut peaks = Vec::new();
    for _ in 0..5 {
        let mut command = Command::new("busybox");
        command.args(["time", "-f", "%M", "-o"]).arg(&report).arg(&contestant.path);
        command.arg("--root").arg(ground.dir.join("state").join(&contestant.name)).args([
            "run",
            "--bundle",
            &ground.bundle(contestant, "true"),
        ]);
        timed(command.arg(contestant.id()))?;
        let text = fs::read_to_string(&report).context("read what busybox wrote")?;
        peaks.push(text.trim().parse::<f64>().with_context(|| format!("{text:?} is not a number"))?);
        fs::remove_file(&report)?;
    }
    Ok(super::report::median(&peaks))
}

/// Milliseconds from before a program starts until it has ended.
fn timed(command: &mut Command) -> Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::null());
    // A created container keeps what it is given: its standard error may not be a pipe that we read to its end.
    let error_file = std::env::temp_dir().join(format!("gantry-bench-{}.stderr", std::process::id()));
    command.stderr(fs::File::create(&error_file).context("make a file for errors")?);
    let started = Instant::now();
    let status = command.status().with_context(|| format!("start {}", command.get_program().display()))?;
    let elapsed = started.elapsed().as_secs_f64() * 1e3;
    let errors = fs::read_to_string(&error_file).unwrap_or_default();
    drop(fs::remove_file(&error_file));
    ensure!(status.success(), "{command:?}: {status}: {}", errors.lines().last().unwrap_or_default());
    Ok(elapsed)
}

/// A container that sleeps, for commands to be executed in it.
struct Running<'a> {
    contestant: &'a Contestant,
    ground: &'a Ground,
    id: String,
}

impl<'a> Running<'a> {
    fn start(ground: &'a Ground, contestant: &'a Contestant) -> Result<Self> {
        let id = format!("{}-sleeps", contestant.id());
        let container = Self { contestant, ground, id };
        let bundle = ground.bundle(contestant, "sleep");
        timed(&mut contestant.call(ground, &["run", "--detach", "--bundle", &bundle, &container.id]))?;
        Ok(container)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Err(error) = timed(&mut self.contestant.call(self.ground, &["delete", "--force", &self.id])) {
            eprintln!("bench: {error:#}");
        }
    }
}

impl Contestant {
    fn id(&self) -> String {
        format!("gantry-bench-{}-{}", std::process::id(), self.name)
    }

    fn call(&self, ground: &Ground, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.arg("--root").arg(ground.dir.join("state").join(&self.name)).args(args);
        command
    }
}

impl Ground {
    /// The bundle of a contestant that runs `true` or `sleep`.
    fn bundle(&self, contestant: &Contestant, name: &str) -> String {
        self.dir.join(format!("{}-{name}", contestant.name)).to_string_lossy().into_owned()
    }
}

/// The root file system, and the configuration that every bundle has.
fn make_root(ground: &Ground, seccomp: &Path) -> Result<Value> {
    let root = ground.dir.join("rootfs");
    for directory in ["bin", "proc", "sys", "dev", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create {}", root.display()))?;
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    for applet in ["true", "sleep", "sh"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(applet))?;
    }
    let spec = Command::new("runc").args(["spec", "--bundle"]).arg(&ground.dir).status().context("start runc")?;
    ensure!(spec.success(), "runc spec: {spec}");
    let text = fs::read(ground.dir.join("config.json")).context("read what runc spec wrote")?;
    let mut config: Value = serde_json::from_slice(&text)?;
    config["process"]["terminal"] = json!(false);
    // Older versions ask for ambient capabilities that are not inheritable, which no kernel grants.
    if let Some(capabilities) = config["process"]["capabilities"].as_object_mut() {
        capabilities.remove("ambient");
    }
    config["root"]["path"] = json!(root);
    config["linux"]["seccomp"] = serde_json::from_slice(&fs::read(seccomp).context("read the seccomp profile")?)?;
    Ok(config)
}

/// The two bundles of a contestant. Each has a cgroup at the top of the tree, wherever this program runs itself.
fn make_bundles(ground: &Ground, contestant: &Contestant, config: &Value) -> Result<()> {
    for (name, arguments) in [("true", json!(["/bin/true"])), ("sleep", json!(["/bin/sleep", "600"]))] {
        let mut config = config.clone();
        config["process"]["args"] = arguments;
        config["linux"]["cgroupsPath"] = json!(format!("/{}-{name}", contestant.id()));
        let bundle = PathBuf::from(ground.bundle(contestant, name));
        fs::create_dir_all(&bundle)?;
        fs::write(bundle.join("config.json"), config.to_string())?;
    }
    Ok(())
}
