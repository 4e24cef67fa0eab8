//! The registries and engines of a measurement: started here, and ended with it.

use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A server that ends when this is dropped.
pub struct Server {
    name: &'static str,
    child: Child,
}

impl Server {
    /// Starts a server, and waits until it is ready.
    pub fn start(name: &'static str, command: &mut Command, log: &Path, ready: &dyn Fn() -> bool) -> Result<Self> {
        let file = fs::File::create(log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        let mut server = Self { name, child };
        let started = Instant::now();
        while !ready() {
            let last = || fs::read_to_string(log).unwrap_or_default().lines().last().unwrap_or_default().to_owned();
            if let Some(status) = server.child.try_wait()? {
                bail!("{name} ended before it was ready: {status}: {}", last());
            }
            ensure!(started.elapsed() < Duration::from_secs(60), "{name} is not ready: {}", last());
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(server)
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The highest resident memory that it has had, in megabytes.
    pub fn peak_memory(&self) -> Result<f64> {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no peak of memory")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("read a peak of memory")?;
        Ok(kilobytes / 1000.0)
    }
}

impl Drop for Server {
    /// Asked first: an engine takes its own processes and mounts down.
    fn drop(&mut self) {
        let id = self.child.id().to_string();
        drop(Command::new("kill").arg(&id).status());
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_secs(15) {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(50)),
                _ => return,
            }
        }
        eprintln!("bench: {} does not end, and is killed", self.name);
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A registry with a directory of content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registry {
    Ours,
    Theirs,
}

impl Registry {
    pub const BOTH: [Self; 2] = [Self::Ours, Self::Theirs];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ours => "gantry",
            Self::Theirs => "docker-registry",
        }
    }

    /// Serves a directory at a port of loopback.
    pub fn serve(self, program: &Path, content: &Path, port: u16) -> Result<Server> {
        fs::create_dir_all(content).with_context(|| format!("create {}", content.display()))?;
        let address = format!("127.0.0.1:{port}");
        let log = content.with_extension("log");
        let mut command = match self {
            Self::Ours => {
                let mut command = Command::new(program);
                command.args(["registry", "serve", "--listen", &address, "--root"]).arg(content);
                command
            }
            Self::Theirs => {
                let config = content.with_extension("yml");
                let text = format!(
                    "version: 0.1\nlog: {{ level: error, accesslog: {{ disabled: true }} }}\nhttp: {{ addr: \"{address}\" }}\n\
                     storage: {{ filesystem: {{ rootdirectory: {} }}, delete: {{ enabled: true }} }}\n",
                    content.display()
                );
                fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
                let mut command = Command::new("docker-registry");
                command.arg("serve").arg(config);
                command
            }
        };
        Server::start(self.name(), &mut command, &log, &|| TcpStream::connect(&address).is_ok())
    }
}

/// Docker's engine with its containerd, whose socket is named too.
pub struct Docker {
    _server: Server,
    pub containerd: PathBuf,
}

/// Where the engine listens. Its clients find it by `DOCKER_HOST`.
pub const DOCKER_HOST: &str = "unix:///run/docker.sock";

impl Docker {
    /// Starts the engine with its state in a directory on disk, as an installed one has it.
    pub fn start(state: &Path) -> Result<Self> {
        fs::create_dir_all(state).with_context(|| format!("create {}", state.display()))?;
        let config = state.with_extension("json");
        let text = serde_json::json!({ "data-root": state, "storage-driver": "overlay2", "iptables": false,
            "ip6tables": false, "bridge": "none" });
        fs::write(&config, text.to_string()).with_context(|| format!("write {}", config.display()))?;
        let mut command = Command::new("dockerd");
        command.arg("--config-file").arg(config).args(["-H", DOCKER_HOST]);
        let ready = || {
            let mut client = Command::new("docker");
            client.args(["-H", DOCKER_HOST, "version"]).stdout(Stdio::null()).stderr(Stdio::null());
            client.status().is_ok_and(|status| status.success())
        };
        let server = Server::start("dockerd", &mut command, &state.with_extension("log"), &ready)?;
        Ok(Self { _server: server, containerd: "/run/docker/containerd/containerd.sock".into() })
    }
}
