//! The measurement itself: runs inside the peers' box.
//!
//! Everybody writes to a disk of the measurement's own, where nothing is removed until it ends: ext4 searches long for
//! room for new files for minutes after many were removed. Before each timed command that disk is quiet, and memory is
//! there. Docker pulls and pushes through its engine, the others by themselves.

use super::data::{Data, IMAGES, Image};
use super::servers::{DOCKER_HOST, Docker, Registry, Server};
use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// Values per work, per contestant, in the order measured.
type Samples = BTreeMap<String, BTreeMap<String, Vec<f64>>>;

/// A part of the measurement.
type Work = fn(&mut Ground) -> Result<()>;

/// Where everything is: on the disk of the box, whose /tmp may be anything.
const DIR: &str = "/var/tmp/gantry-bench";

/// Bytes of the disk that is written to; what is not used of them takes no room.
const DISK: u64 = 60 << 30;

/// Ports of the registries that are pulled from, and of those that are pushed to.
const FULL: [u16; 2] = [5011, 5012];
const EMPTY: [u16; 2] = [5013, 5014];

struct Ground {
    dir: PathBuf,
    /// How many directories there were of each name.
    names: RefCell<BTreeMap<String, usize>>,
    program: PathBuf,
    /// What unpacks and does nothing else.
    unpacker: PathBuf,
    data: Data,
    rounds: usize,
    samples: Samples,
}

/// `bench measure-images ROUNDS WORK PROGRAM UNPACKER SCRIPT`: prints one line of JSON.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let [rounds, only, program, unpacker, script] = args else {
        bail!("bench measure-images ROUNDS WORK PROGRAM UNPACKER SCRIPT")
    };
    let rounds = rounds.parse().context("the number of rounds")?;
    let dir = PathBuf::from(DIR);
    let data = Data::in_dir(&dir, Path::new(script))?;
    let names = RefCell::default();
    let (program, unpacker) = (program.into(), unpacker.into());
    let mut ground = Ground { dir, names, program, unpacker, data, rounds, samples: Samples::new() };
    let works: [(&str, Work); 4] = [("unpack", unpack), ("serve", serve), ("pull", pull), ("push", push)];
    ensure!(only == "all" || works.iter().any(|(name, _)| name == only), "no work is called {only:?}");
    for (name, work) in works.into_iter().filter(|(name, _)| only == "all" || name == only) {
        eprintln!("bench: {name}");
        let at = ground.disk();
        let disk = Disk::new(&at)?;
        work(&mut ground).with_context(|| format!("measure {name}"))?;
        drop(disk);
    }
    println!("{}", json!(ground.samples));
    Ok(ExitCode::SUCCESS)
}

/// An empty file system in a file, mounted; removed when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    fn new(at: &'a Path) -> Result<Self> {
        remove_disk(at)?;
        fs::create_dir_all(at).with_context(|| format!("create {}", at.display()))?;
        let image = at.with_extension("ext4");
        File::create(&image)
            .and_then(|file| file.set_len(DISK))
            .with_context(|| format!("make {}", image.display()))?;
        // Nothing is left for the kernel to do later, while somebody is measured.
        run(Command::new("mkfs.ext4").args(["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(&image))?;
        // Straight to the file below, which would be kept in memory a second time; the device goes with the mount.
        let script = "device=$(losetup --find --show --direct-io=on \"$1\") && mount \"$device\" \"$2\"; ended=$?
            losetup -d \"$device\" && exit $ended";
        run(Command::new("sh").args(["-c", script, "sh"]).arg(&image).arg(at))?;
        Ok(Self(at))
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        if let Err(error) = remove_disk(self.0) {
            eprintln!("bench: {error:#}");
        }
    }
}

/// Also what an earlier run that was killed has left. An engine leaves mounts of its own; they are in this namespace only.
fn remove_disk(at: &Path) -> Result<()> {
    let script =
        "for at in $(cut -d ' ' -f 5 /proc/self/mountinfo | grep \"^$1\\(/\\|$\\)\" | tac); do umount -l \"$at\"; done
        rm -rf \"$1\" \"$1.ext4\"";
    run(Command::new("sh").args(["-c", script, "sh"]).arg(at))
}

/// What a command took.
struct Cost {
    seconds: f64,
    /// Of its processor time.
    processor: f64,
    /// Peak resident memory in megabytes.
    memory: f64,
}

impl Ground {
    fn note(&mut self, work: impl Into<String>, contestant: &str, value: f64) {
        self.samples.entry(work.into()).or_default().entry(contestant.into()).or_default().push(value);
    }

    /// The larger image takes its peers longer, and its figures vary less.
    fn rounds_of(&self, image: &Image) -> usize {
        if image.layers > 1 { self.rounds.saturating_sub(1).max(1) } else { self.rounds }
    }

    /// Where all that is measured is written.
    fn disk(&self) -> PathBuf {
        self.dir.join("disk")
    }

    /// Where something lies.
    fn path(&self, name: &str) -> PathBuf {
        let count = self.names.borrow().get(name).copied().unwrap_or(0);
        self.disk().join(format!("{name}-{count}"))
    }

    /// Our program on a store of its own.
    fn ours(&self, store: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(self.path(store)).args(args);
        command
    }

    /// Gives names to places where nothing is yet, waits for the disk, and has memory ready: a virtual machine gets it from
    /// its host when it is first touched, which takes longer than all that is measured.
    fn without(&self, names: &[&str]) -> Result<()> {
        for name in names {
            *self.names.borrow_mut().entry((*name).to_owned()).or_default() += 1;
        }
        run(Command::new("sync").arg("-f").arg(self.disk()))?;
        run(Command::new("dd").args(["if=/dev/zero", "of=/dev/null", "bs=2G", "count=1"]))
    }

    /// Runs a command to its end. A small program stands between, since a process inherits the peak of its parent.
    fn timed(&self, command: &mut Command) -> Result<Cost> {
        let report = self.path("cost");
        let mut watched = Command::new("busybox");
        watched.args(["time", "-f", "%U %S %M", "-o"]).arg(&report).arg(command.get_program()).args(command.get_args());
        let started = Instant::now();
        run(&mut watched)?;
        let seconds = started.elapsed().as_secs_f64();
        let text = fs::read_to_string(&report).context("read what busybox wrote")?;
        let numbers: Vec<f64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [user, system, kilobytes] = numbers[..] else { bail!("busybox time wrote {text:?}") };
        Ok(Cost { seconds, processor: user + system, memory: kilobytes / 1000.0 })
    }

    /// Registries that hold both images, ours and the other.
    fn full_registries(&self) -> Result<Vec<Server>> {
        let mut servers = Vec::new();
        for (registry, port) in Registry::BOTH.into_iter().zip(FULL) {
            let content = self.path(&format!("full-{}", registry.name()));
            servers.push(registry.serve(&self.program, &content, port)?);
            for image in &IMAGES {
                let from = format!("oci:{}:{}", self.data.layout().display(), image.name);
                let to = format!("docker://127.0.0.1:{port}/{}:1", image.name);
                run(skopeo(&["--preserve-digests", &from, &to]).arg("--dest-tls-verify=false"))?;
            }
        }
        Ok(servers)
    }
}

/// Runs a command whose output nobody wants, unless it fails.
fn run(command: &mut Command) -> Result<()> {
    command.env("DOCKER_HOST", DOCKER_HOST).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, errors.trim());
    Ok(())
}

fn skopeo(args: &[&str]) -> Command {
    let mut command = Command::new("skopeo");
    command.args(["copy", "--quiet"]).args(args);
    command
}

/// A plain archive into the directory of a layer, beside tar, and tar with the digest that a layer needs. The import of
/// the same archive writes it a second time, and is told beside that.
fn unpack(ground: &mut Ground) -> Result<()> {
    let archive = ground.data.archive(IMAGES[0].name, 0);
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let megabytes = fs::metadata(&archive)?.len() as f64 / 1e6;
    let (tar, unpack) = (archive.to_string_lossy().into_owned(), ground.unpacker.to_string_lossy().into_owned());
    for round in 0..=ground.rounds {
        for (contestant, work) in [
            ("gantry", "\"$3\" \"$1\" \"$2\""),
            ("gantry, no digest", "\"$3\" \"$1\" \"$2\" unverified"),
            ("tar", "tar -C \"$2\" -xpf \"$1\""),
            ("tar+sha256sum", "tar -C \"$2\" -xpf \"$1\" && sha256sum \"$1\""),
        ] {
            ground.without(&["tree"])?;
            let tree = ground.path("tree").to_string_lossy().into_owned();
            let script = format!("mkdir \"$2\" && {work} && sync -f \"$2\"");
            let cost = ground.timed(Command::new("sh").args(["-c", &script, "sh", &tar, &tree, &unpack]))?;
            // The first round warms the cache.
            if round > 0 {
                ground.note("unpack, MB/s", contestant, megabytes / cost.seconds);
                ground.note("unpack, MB/s per core", contestant, megabytes / cost.processor);
            }
        }
        ground.without(&["store"])?;
        let cost = ground.timed(&mut ground.ours("store", &["import", &tar, "bench/import:1"]))?;
        if round > 0 {
            ground.note("import, MB/s", "gantry", megabytes / cost.seconds);
        }
    }
    Ok(())
}

/// How many requests a second registries answer, and with how much memory.
fn serve(ground: &mut Ground) -> Result<()> {
    const REPOSITORY: &str = "bench/blobs";
    let mut servers = Vec::new();
    for (registry, port) in Registry::BOTH.into_iter().zip(EMPTY) {
        let content = format!("serve-{}", registry.name());
        ground.without(&[&content])?;
        let server = registry.serve(&ground.program, &ground.path(&content), port)?;
        let paths = push_blobs(ground, REPOSITORY, port)?;
        servers.push((registry, server, port, paths));
    }
    for _ in 0..ground.rounds {
        for (registry, _, port, script) in &servers {
            let mut command = Command::new("wrk");
            command.args(["--threads", "1", "--connections", "16", "--duration", "5s", "--script"]).arg(script);
            let output = command.arg(format!("http://127.0.0.1:{port}")).output().context("start wrk")?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
            ensure!(output.status.success() && !text.contains("Non-2xx"), "wrk at {}: {text}", registry.name());
            ground.note("GET of 1 MB blobs, requests/s", registry.name(), rate.context("wrk gave no rate")?);
        }
    }
    for (registry, server, ..) in &servers {
        ground.note("registry's peak memory, MB", registry.name(), server.peak_memory()?);
    }
    Ok(())
}

/// Puts blobs of a megabyte into a registry, and gives a script for wrk that asks for one after another.
fn push_blobs(ground: &Ground, repository: &str, port: u16) -> Result<PathBuf> {
    let archive = fs::read(ground.data.archive(IMAGES[0].name, 0)).context("read an archive")?;
    let blob = ground.path("blob");
    let mut paths = Vec::new();
    for chunk in archive.chunks_exact(1 << 20).take(32) {
        fs::write(&blob, chunk)?;
        let script = "set -e; digest=sha256:$(sha256sum \"$1\" | cut -d ' ' -f 1)
            url=$(curl -sSf -X POST -D - -o /dev/null \"$2/blobs/uploads/\" | tr -d '\\r' | sed -n 's/^[Ll]ocation: //p')
            case $url in /*) url=$3$url ;; esac
            case $url in *\\?*) url=\"$url&digest=$digest\" ;; *) url=\"$url?digest=$digest\" ;; esac
            curl -sSf -X PUT -H 'Content-Type: application/octet-stream' --data-binary @\"$1\" \"$url\" >/dev/null; echo $digest";
        let host = format!("http://127.0.0.1:{port}");
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&blob).arg(format!("{host}/v2/{repository}")).arg(&host);
        let output = command.output().context("start sh")?;
        ensure!(output.status.success(), "push a blob: {}", String::from_utf8_lossy(&output.stderr).trim());
        paths.push(format!("\"/v2/{repository}/blobs/{}\"", String::from_utf8_lossy(&output.stdout).trim()));
    }
    let script = ground.path(&format!("wrk-{port}.lua"));
    let list = paths.join(",\n");
    let text = format!(
        "local paths = {{\n{list}\n}}\nlocal n = 0\n\
         request = function() n = n % #paths + 1; return wrk.format(\"GET\", paths[n]) end\n"
    );
    fs::write(&script, text)?;
    Ok(script)
}

/// From a registry to files: ours from both registries, the others from docker-registry.
fn pull(ground: &mut Ground) -> Result<()> {
    let servers = ground.full_registries()?;
    let [ours, theirs] = FULL.map(|port| format!("127.0.0.1:{port}"));
    for image in &IMAGES {
        let work = format!("pull {}, s", described(image.name));
        for _ in 0..ground.rounds_of(image) {
            for (contestant, registry) in [("gantry", &theirs), ("gantry from gantry", &ours)] {
                ground.without(&["store"])?;
                let name = format!("{registry}/{}:1", image.name);
                let cost = ground.timed(&mut ground.ours("store", &["pull", "--quiet", &name]))?;
                ground.note(&work, contestant, cost.seconds);
                ground.note(format!("pull {}, peak MB", described(image.name)), contestant, cost.memory);
            }
            let name = format!("{theirs}/{}:1", image.name);
            ground.without(&["docker"])?;
            let docker = Docker::start(&ground.path("docker"))?;
            let cost = ground.timed(Command::new("docker").args(["-H", DOCKER_HOST, "pull", "--quiet", &name]))?;
            ground.note(&work, "docker", cost.seconds);
            let cost = pull_by_containerd(ground, &docker, &name)?;
            drop(docker);
            ground.note(&work, "containerd", cost.seconds);
            ground.without(&["copy"])?;
            let to = format!("oci:{}:x", ground.path("copy").display());
            let from = format!("docker://{name}");
            let cost = ground.timed(skopeo(&[&from, &to]).arg("--src-tls-verify=false"))?;
            ground.note(&work, "skopeo (no unpack)", cost.seconds);
            ground.note(format!("pull {}, peak MB", described(image.name)), "skopeo (no unpack)", cost.memory);
        }
    }
    drop(servers);
    Ok(())
}

fn pull_by_containerd(ground: &Ground, docker: &Docker, name: &str) -> Result<Cost> {
    ground.without(&[])?;
    let mut ctr = Command::new("ctr");
    ctr.arg("--address").arg(&docker.containerd).args(["--namespace", "bench", "images"]);
    ground.timed(ctr.args(["pull", "--plain-http", "--snapshotter", "overlayfs", name]))
}

/// What people call an image of the measurement.
fn described(name: &str) -> &str {
    if name == "one" { "231 MB" } else { "500 MB" }
}

/// From what is here to a registry that has nothing: ours to both registries, the others to docker-registry.
fn push(ground: &mut Ground) -> Result<()> {
    let servers = ground.full_registries()?;
    ground.without(&["docker", "store"])?;
    let docker = Docker::start(&ground.path("docker"))?;
    for image in &IMAGES {
        let pulled = format!("127.0.0.1:{}/{}:1", FULL[1], image.name);
        run(&mut ground.ours("store", &["pull", "--quiet", &pulled]))?;
        run(Command::new("docker").args(["pull", "--quiet", &pulled]))?;
        for port in EMPTY {
            let name = format!("127.0.0.1:{port}/{}:1", image.name);
            run(&mut ground.ours("store", &["tag", &pulled, &name]))?;
            run(Command::new("docker").args(["tag", &pulled, &name]))?;
        }
        for _ in 0..ground.rounds_of(image) {
            push_round(ground, image.name)?;
        }
    }
    drop((docker, servers));
    Ok(())
}

/// Everybody pushes an image once, each to a registry that was made for it.
fn push_round(ground: &mut Ground, image: &str) -> Result<()> {
    let (work, memory) = (format!("push {}, s", described(image)), format!("push {}, peak MB", described(image)));
    let [ours, theirs] = EMPTY.map(|port| format!("127.0.0.1:{port}/{image}:1"));
    let own = |name: &str| ground.ours("store", &["push", "--quiet", name]);
    let mut pushes = vec![
        ("gantry", Registry::Theirs, own(&theirs)),
        ("gantry to gantry", Registry::Ours, own(&ours)),
        ("docker", Registry::Theirs, {
            let mut command = Command::new("docker");
            command.args(["-H", DOCKER_HOST, "push", "--quiet", &theirs]);
            command
        }),
        ("skopeo", Registry::Theirs, {
            let from = format!("oci:{}:{image}", ground.data.layout().display());
            let mut command = skopeo(&["--preserve-digests", &from, &format!("docker://{theirs}")]);
            command.arg("--dest-tls-verify=false");
            command
        }),
    ];
    if image == IMAGES[0].name {
        // A layer that was made here, in a store that has it from nowhere else: it is compressed while it is sent.
        let name = format!("127.0.0.1:{}/imported:1", EMPTY[1]);
        let tar = ground.data.archive(image, 0).to_string_lossy().into_owned();
        ground.without(&["imported"])?;
        run(&mut ground.ours("imported", &["import", &tar, &name]))?;
        pushes.push(("gantry, compressing", Registry::Theirs, ground.ours("imported", &["push", "--quiet", &name])));
    }
    for (contestant, registry, mut command) in pushes {
        let content = format!("empty-{}", registry.name());
        ground.without(&[&content])?;
        let port = EMPTY[usize::from(registry == Registry::Theirs)];
        let server = registry.serve(&ground.program, &ground.path(&content), port)?;
        let cost = ground.timed(&mut command)?;
        drop(server);
        ground.note(&work, contestant, cost.seconds);
        if contestant != "docker" {
            ground.note(&memory, contestant, cost.memory);
        }
    }
    Ok(())
}
