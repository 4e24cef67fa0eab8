//! The two engines of a measurement, what speaks to them, and what they and their containers take of memory.

use super::who;
use crate::bench::images::servers::Server;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Our socket. The directory is of the measurement alone.
pub const OURS: &str = "/run/gantry.sock";
/// Docker's socket.
const THEIRS: &str = "/run/docker.sock";

/// Who takes turns: a client on an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Contestant {
    Ours,
    /// Docker's client on our engine.
    Mixed,
    Theirs,
}

impl Contestant {
    pub const ALL: [Self; 3] = [Self::Ours, Self::Mixed, Self::Theirs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => who::OURS,
            Self::Mixed => who::MIXED,
            Self::Theirs => who::THEIRS,
        }
    }

    /// What names of its containers begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Mixed => "mixed",
            Self::Theirs => "theirs",
        }
    }
}

/// Both engines, which run until this is dropped.
pub struct Engines {
    ours: Server,
    theirs: Server,
    program: PathBuf,
}

impl Engines {
    /// Starts both in a directory on disk, and gives them the same image.
    pub fn start(dir: &Path, program: &Path, runtime: &Path, cgroup: &str) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("create {}", dir.display()))?;
        let answers = |mut client: Command| {
            client.arg("version").stdout(Stdio::null()).stderr(Stdio::null());
            client.status().is_ok_and(|status| status.success())
        };
        let mut command = Command::new(program);
        command.args(["--log-level", "warn", "--root"]).arg(dir.join("gantry")).args(["daemon", "--socket", OURS]);
        command.args(["--run-dir", "/run/gantry", "--network-prefix", "gbn", "--runtime"]).arg(runtime);
        command.args(["--cgroup-parent", &format!("{cgroup}/gantry")]);
        let ready = || answers(client(Contestant::Ours, program));
        let ours = Server::start("gantry daemon", &mut command, &dir.join("gantry.log"), &ready)?;
        let mut command = Command::new("dockerd");
        command.arg("--data-root").arg(dir.join("docker")).args(["--storage-driver", "overlay2", "-H"]);
        command.arg(format!("unix://{THEIRS}")).args(["--cgroup-parent", &format!("/{cgroup}/docker")]);
        let ready = || answers(client(Contestant::Theirs, program));
        let theirs = Server::start("dockerd", &mut command, &dir.join("docker.log"), &ready)?;
        let engines = Self { ours, theirs, program: program.to_owned() };
        let image = make_image(dir)?;
        for contestant in [Contestant::Ours, Contestant::Theirs] {
            run(engines.client(contestant).arg("import").arg(&image).arg("busybox:latest"))?;
        }
        Ok(engines)
    }

    /// A client that is to be told what to do.
    pub fn client(&self, contestant: Contestant) -> Command {
        client(contestant, &self.program)
    }

    /// Memory of an engine itself, in megabytes.
    pub fn memory(&self, contestant: Contestant) -> Result<f64> {
        if contestant != Contestant::Theirs {
            return share(self.ours.id());
        }
        let containerd = processes(|words| is(words, "containerd"))?;
        ensure!(containerd.len() == 1, "there are {} processes of containerd", containerd.len());
        Ok(share(self.theirs.id())? + share(containerd[0])?)
    }

    /// Memory of what an engine has running for its containers, in megabytes, and how many such processes there are.
    pub fn memory_of_containers(contestant: Contestant) -> Result<(f64, usize)> {
        let found = processes(|words| match contestant {
            Contestant::Theirs => is(words, "containerd-shim-runc-v2") || is(words, "docker-proxy"),
            _ => words.get(1).is_some_and(|word| word == "monitor"),
        })?;
        let total = found.iter().map(|id| share(*id)).sum::<Result<f64>>()?;
        Ok((total, found.len()))
    }
}

fn client(contestant: Contestant, program: &Path) -> Command {
    let (program, socket) = match contestant {
        Contestant::Ours => (program, OURS),
        Contestant::Mixed => (Path::new("docker"), OURS),
        Contestant::Theirs => (Path::new("docker"), THEIRS),
    };
    let mut command = Command::new(program);
    command.arg("--host").arg(format!("unix://{socket}")).stdin(Stdio::null());
    command
}

/// An image that holds busybox and a few of its names.
fn make_image(dir: &Path) -> Result<PathBuf> {
    let root = dir.join("image");
    for directory in ["bin", "etc", "tmp"] {
        fs::create_dir_all(root.join(directory)).with_context(|| format!("create {}", root.display()))?;
    }
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).context("copy busybox")?;
    for applet in ["true", "sleep", "sh"] {
        symlink("busybox", root.join("bin").join(applet)).context("make a link")?;
    }
    let archive = dir.join("image.tar");
    run(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg("."))?;
    Ok(archive)
}

/// Runs a command whose output nobody wants, unless it fails.
pub fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, errors.trim());
    Ok(())
}

/// Whether a command line is of a program.
fn is(words: &[String], program: &str) -> bool {
    words.first().and_then(|word| word.rsplit('/').next()) == Some(program)
}

/// The processes, in this namespace, whose command line is such.
fn processes(such: impl Fn(&[String]) -> bool) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("read /proc")?.flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ended meanwhile has none.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let words: Vec<String> = line.split(|byte| *byte == 0).map(|w| String::from_utf8_lossy(w).into()).collect();
        if such(&words) {
            found.push(id);
        }
    }
    Ok(found)
}

/// The proportional set size of a process in megabytes: what it shares is counted in parts.
fn share(id: u32) -> Result<f64> {
    let path = format!("/proc/{id}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).with_context(|| format!("no Pss in {path}"))?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").trim().parse().context("read a set size")?;
    Ok(kilobytes / 1000.0)
}
