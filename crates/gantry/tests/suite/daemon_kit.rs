//! A daemon of a test: in a directory and a network namespace of its own, with an image of busybox, and gone without a
//! trace when the test ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its place cannot be made")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::world::{Said, bare, said};

const NEWNET: i32 = 0x4000_0000;
/// How long something that happens by itself may take.
pub const SOON: Duration = Duration::from_secs(20);

/// A daemon, and where it is.
pub struct Daemon {
    pub dir: PathBuf,
    name: String,
    /// The network namespace that it is in.
    network: std::fs::File,
    child: Option<Child>,
    flags: Vec<String>,
}

impl Daemon {
    /// A place for a daemon; none, and said so, where there can be none.
    pub fn place(test: &str) -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() || !Path::new("/bin/busybox").exists() {
            eprintln!("SKIPPED: {test}: a daemon needs root, and its image /bin/busybox");
            return None;
        }
        let name = format!("gd{}x{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        let network = std::thread::spawn(|| {
            gantry_sys::ns::unshare(NEWNET).unwrap();
            let up = Command::new("/bin/busybox").args(["ip", "link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            std::fs::File::open("/proc/thread-self/ns/net").unwrap()
        });
        Some(Self { dir, name, network: network.join().unwrap(), child: None, flags: Vec::new() })
    }

    /// The same with a daemon that answers.
    pub fn started(test: &str, configuration: &str, flags: &[&str]) -> Option<Self> {
        let mut daemon = Self::place(test)?;
        daemon.write("config.toml", configuration);
        daemon.flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        daemon.start();
        Some(daemon)
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        std::fs::write(self.dir.join(name), text).unwrap();
        self.path(name)
    }

    /// Does something in the network of the daemon.
    pub fn inside<T: Send + 'static>(&self, what: impl FnOnce() -> T + Send + 'static) -> std::thread::JoinHandle<T> {
        let network = self.network.try_clone().unwrap();
        std::thread::spawn(move || {
            gantry_sys::ns::setns(std::os::fd::AsFd::as_fd(&network), NEWNET).unwrap();
            what()
        })
    }

    /// The command that is the daemon, run by `program`.
    pub fn command(&self, program: &Path, flags: &[String]) -> Command {
        let runtime = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("gantry-oci");
        let runtime = std::env::var_os("GANTRY_OCI").map_or(runtime, PathBuf::from);
        assert!(runtime.exists(), "{} is missing: cargo build -p gantry-oci", runtime.display());
        let mut command = Command::new(program);
        for name in ["GANTRY_HOST", "DOCKER_HOST", "GANTRY_ROOT", "GANTRY_CONFIG", "NOTIFY_SOCKET", "LISTEN_FDS"] {
            command.env_remove(name);
        }
        command.arg("--root").arg(self.dir.join("root")).arg("--config").arg(self.dir.join("config.toml"));
        command.args(["daemon", "--cgroup-parent", &self.name, "--network-prefix", "gd"]);
        command.arg("--run-dir").arg(self.dir.join("run")).arg("--socket").arg(self.dir.join("s"));
        command.arg("--runtime").arg(runtime).args(flags).stdin(Stdio::null());
        command
    }

    pub fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("log")).unwrap();
        let mut command = self.command(Path::new(env!("CARGO_BIN_EXE_gantry")), &self.flags);
        command.stdout(Stdio::null()).stderr(log);
        self.child = Some(self.inside(move || command.spawn().unwrap()).join().unwrap());
        let began = Instant::now();
        while UnixStream::connect(self.dir.join("s")).is_err() || !self.log().contains("answers at") {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < SOON, "the daemon {ended:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(self.child.as_ref().unwrap())
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// Asks it to end, and gives its exit status.
    pub fn stop(&mut self) -> Option<i32> {
        self.signal(rustix::process::Signal::TERM);
        let mut child = self.child.take().unwrap();
        child.wait().unwrap().code()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// Waits until the log says something `count` times.
    pub fn until_logged(&self, text: &str, count: usize) {
        let began = Instant::now();
        while self.log().matches(text).count() < count {
            assert!(began.elapsed() < SOON, "it does not say {text:?} {count} times: {}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The port of the first address that the log tells after `before`.
    pub fn port(&self, before: &str) -> u16 {
        let log = self.log();
        let line = log.rsplit(before).next().unwrap();
        line.split_whitespace().next().unwrap().rsplit(':').next().unwrap().parse().unwrap()
    }

    /// A command of a client.
    pub fn client(&self, args: &[&str]) -> Command {
        let mut command = bare();
        command.arg("-H").arg(format!("unix://{}", self.dir.join("s").display())).args(args);
        command.env("DOCKER_CONFIG", &self.dir).env("HOME", &self.dir);
        command
    }

    pub fn ask(&self, args: &[&str]) -> Said {
        said(self.client(args).output().unwrap())
    }

    /// What a command said that must succeed.
    pub fn ok(&self, args: &[&str]) -> String {
        let said = self.ask(args);
        assert_eq!(said.status, 0, "{args:?}: {said:?}\n{}", self.log());
        said.out
    }

    /// Gives the daemon the image `busybox`.
    pub fn import(&self) {
        let root = self.dir.join("busybox");
        for below in ["bin", "etc", "proc", "sys", "dev", "tmp", "www"] {
            std::fs::create_dir_all(root.join(below)).unwrap();
        }
        std::fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for name in ["sh", "cat", "sleep", "true", "echo", "httpd", "seq", "nslookup"] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(name)).unwrap();
        }
        std::fs::write(root.join("www/index.html"), "here\n").unwrap();
        let archive = self.path("busybox.tar");
        assert!(
            Command::new("tar").args(["-C", root.to_str().unwrap(), "-cf", &archive, "."]).status().unwrap().success()
        );
        self.ok(&["import", &archive, "busybox"]);
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            let ids = self.ask(&["ps", "-aq"]).out;
            let mut args = vec!["rm", "-f"];
            args.extend(ids.split_whitespace());
            if args.len() > 2 {
                self.ask(&args);
            }
            self.stop();
        }
        let id = format!("/{}/", self.name);
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let cgroup = std::fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if cgroup.contains(&id)
                && let Ok(pid) = entry.file_name().to_string_lossy().parse()
                && let Some(pid) = rustix::process::Pid::from_raw(pid)
            {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = self.dir.display().to_string();
        let mut below: Vec<&str> =
            mounts.lines().filter_map(|line| line.split(' ').nth(4)).filter(|at| at.starts_with(&below)).collect();
        below.sort_unstable_by(|a, b| b.cmp(a));
        for at in below {
            let _ = rustix::mount::unmount(at, rustix::mount::UnmountFlags::DETACH);
        }
        let _ = std::fs::remove_dir_all(&self.dir);
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            let _ = std::fs::remove_dir(controller.path().join(&self.name));
        }
        let _ = std::fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.name));
    }
}

/// Asks for something over a new connection; gives the whole answer.
pub fn exchange(mut stream: impl Read + Write, what: &str) -> std::io::Result<String> {
    write!(stream, "{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The same over a socket in the file system.
pub fn over_unix(path: &Path, what: &str) -> std::io::Result<String> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(SOON))?;
    exchange(stream, what)
}

/// The same over TCP.
pub fn over_tcp(address: &str, what: &str) -> std::io::Result<String> {
    let stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SOON))?;
    exchange(stream, what)
}
