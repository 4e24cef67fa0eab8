//! An engine in a directory of its own, with an image of busybox.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gantry_distribution::{Anonymous, Client};
use gantry_engine::request::{Config, CreateContainer, Network, NetworkMode, RemoveOptions, Streams, WaitFor};
use gantry_engine::{Engine, Options};
use gantry_images::{Images, ImportOptions};
use gantry_store::Store;

/// A place for an engine, removed with all that runs in it.
pub struct Place {
    pub path: PathBuf,
    pub name: String,
}

#[allow(clippy::disallowed_methods)]
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as i64
}

impl Place {
    pub fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("ge{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&path).unwrap();
        Self { path, name }
    }

    pub fn options(&self) -> Options {
        let program = std::env::current_exe().unwrap();
        let beside = || program.ancestors().nth(2).unwrap().join("gantry-oci");
        let runtime = std::env::var_os("GANTRY_OCI").map_or_else(beside, PathBuf::from);
        assert!(runtime.exists(), "{} is missing: cargo build -p gantry-oci", runtime.display());
        Options {
            root: self.path.join("root"),
            run: self.path.join("run"),
            runtime,
            cgroup_parent: self.name.clone(),
            systemd: false,
            prefix: "gt".to_owned(),
            log: gantry_engine::request::LogConfig::default(),
            clock: now,
        }
    }

    /// Opens the engine, with its image.
    pub async fn open(&self) -> Engine {
        let store = Store::open(&self.path.join("root"), gantry_store::Options::default()).unwrap();
        let client = Client::new(gantry_distribution::Config::default(), std::sync::Arc::new(Anonymous)).unwrap();
        let images = Images::new(store, client);
        if images.find("busybox").await.is_err() {
            let name = Some("busybox:latest".parse().unwrap());
            let changes = vec!["CMD [\"sh\"]".to_owned(), "ENV PATH=/bin".to_owned()];
            images
                .import(std::io::Cursor::new(busybox()), ImportOptions { name, changes, ..ImportOptions::default() })
                .await
                .unwrap();
        }
        Engine::open(self.options(), images).await.unwrap()
    }
}

/// Runs a test in a network namespace of its own, so that the host's is left alone and two tests do not meet.
pub fn in_own_network<F: Future<Output = ()>>(test: impl FnOnce() -> F) {
    const NEWNET: i32 = 0x4000_0000;
    let netns = std::thread::spawn(|| {
        gantry_sys::ns::unshare(NEWNET).unwrap();
        gantry_sys::netlink::loopback_up().unwrap();
        std::fs::File::open("/proc/thread-self/ns/net").unwrap()
    });
    let netns = std::sync::Arc::new(netns.join().unwrap());
    let enter = move || gantry_sys::ns::setns(std::os::fd::AsFd::as_fd(&*netns), NEWNET).unwrap();
    enter();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().on_thread_start(enter).build().unwrap();
    runtime.block_on(test());
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whatever a failed test left running.
        self.end_processes();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = self.path.display().to_string();
        let points = mounts.lines().rev().filter_map(|line| line.split(' ').nth(4));
        for at in points.filter(|at| at.starts_with(&below)) {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
        if let Err(error) = self.cgroups().delete() {
            eprintln!("{error}");
        }
        // Network devices go with the namespace of the test.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

impl Place {
    /// The cgroup that containers get theirs in, in every hierarchy.
    pub fn cgroups(&self) -> gantry_cgroup::Location {
        let layout = gantry_cgroup::Layout::detect().unwrap();
        let dir = |mount: &gantry_cgroup::Mount| mount.point.join(&self.name);
        let v1 = layout.v1.iter().map(|mount| gantry_cgroup::Hierarchy {
            subsystems: mount.subsystems().split(',').map(str::to_owned).collect(),
            dir: dir(mount),
        });
        gantry_cgroup::Location { v1: v1.collect(), unified: layout.unified.as_ref().map(dir), unit: None }
    }

    /// Kills containers and monitors, and waits until they are gone.
    fn end_processes(&self) {
        let id = format!("/{}/", self.name);
        let mut found = true;
        for _ in 0..500 {
            if !found {
                return;
            }
            found = false;
            // What is frozen dies only when it is thawed.
            for dir in self.cgroups().dirs() {
                for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                    let _ = std::fs::write(entry.path().join("freezer.state"), "THAWED");
                    let _ = std::fs::write(entry.path().join("cgroup.freeze"), "0");
                }
            }
            for entry in std::fs::read_dir("/proc").unwrap().flatten() {
                let Some(pid) = entry.file_name().to_string_lossy().parse().ok() else { continue };
                let read = |name: &str| std::fs::read(entry.path().join(name)).unwrap_or_default();
                let has = |name: &str| String::from_utf8_lossy(&read(name)).contains(&id);
                // One that has ended has no arguments any more, and waits only for its parent.
                if !read("cmdline").is_empty()
                    && (has("cgroup") || has("cmdline"))
                    && let Some(pid) = rustix::process::Pid::from_raw(pid)
                {
                    found = true;
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
            if found {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// A root file system with busybox in it, as an archive.
fn busybox() -> Vec<u8> {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("busybox-{}-{}", std::process::id(), now()));
    for below in ["bin", "etc", "tmp", "proc", "sys", "dev", "root"] {
        std::fs::create_dir_all(dir.join(below)).unwrap();
    }
    std::fs::copy("/bin/busybox", dir.join("bin/busybox")).unwrap();
    for name in [
        "sh", "echo", "cat", "sleep", "true", "false", "ls", "id", "head", "seq", "kill", "touch", "mount", "wc", "nc",
        "ip", "grep", "cut", "tr",
    ] {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(name)).unwrap();
    }
    std::fs::write(dir.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1001:u:/home/user:/bin/sh\n")
        .unwrap();
    std::fs::write(dir.join("etc/group"), "root:x:0:\nuser:x:1001:\nmore:x:1002:user\n").unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&dir).args(["-c", "."]).stdout(std::process::Stdio::piped());
    let mut child = tar.spawn().unwrap();
    let mut bytes = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut bytes).unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::remove_dir_all(&dir).unwrap();
    bytes
}

/// A container that runs a line of shell, without a network.
pub fn shell(line: &str) -> CreateContainer {
    CreateContainer {
        image: "busybox".to_owned(),
        config: Config { cmd: Some(vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]), ..Config::default() },
        network: Network { mode: NetworkMode::None, ..Network::default() },
        ..CreateContainer::default()
    }
}

/// Runs a container to its end: its exit status, and what it wrote to each stream.
pub async fn run(engine: &Engine, request: CreateContainer) -> (i32, String, String) {
    let id = engine.create(request).await.unwrap().id;
    let attached = engine.attach(&id, Streams { stdin: false, stdout: true, stderr: true }).await.unwrap();
    let ended = engine.wait(&id, WaitFor::NextExit).unwrap();
    engine.start(&id).await.unwrap();
    let (out, err) = read(attached).await;
    let code = ended.await.unwrap().code;
    engine.remove(&id, RemoveOptions::default()).await.unwrap();
    (code, out, err)
}

/// All that comes over a connection, by stream.
pub async fn read(mut attached: gantry_engine::Attached) -> (String, String) {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), attached.socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    if attached.terminal {
        return (String::from_utf8(bytes).unwrap(), String::new());
    }
    let (mut out, mut err, mut rest) = (Vec::new(), Vec::new(), &bytes[..]);
    while let [stream, _, _, _, a, b, c, d, more @ ..] = rest {
        let (data, after) = more.split_at(u32::from_be_bytes([*a, *b, *c, *d]) as usize);
        if *stream == 1 {
            out.extend(data);
        } else {
            err.extend(data);
        }
        rest = after;
    }
    (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
}
