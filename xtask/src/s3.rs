//! An S3 store on loopback for the tests of the registry: moto, from the Python package index.

use crate::sh;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What is installed, in one version, so that an old failure can be had again.
const PACKAGE: &str = "moto[server]>=5,<6";

/// A file in an environment whose packages are all there.
const MARK: &str = "installed";

/// How long it may take to answer, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server that ends when this is dropped. What was stored in it is gone then.
pub struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Starts a server, installed before if need be. The error says what is missing.
pub fn start() -> Result<Server> {
    let venv = sh::target_dir().join("s3-venv");
    let program = venv.join("bin/moto_server");
    if !venv.join(MARK).is_file() {
        install(&venv).context("install moto")?;
    }
    let port = free_port()?;
    let log_path = sh::target_dir().join("test/s3.log");
    fs::create_dir_all(sh::target_dir().join("test"))?;
    let log = fs::File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;
    let mut command = Command::new(&program);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("start {}", program.display()))?;
    let mut server = Server { child, port };
    let started = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = server.child.try_wait()? {
            bail!("moto ended before it answered: {status}; see {}", log_path.display());
        }
        ensure!(started.elapsed() < PATIENCE, "moto does not answer; see {}", log_path.display());
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(server)
}

/// Makes the environment where it stays, since its programs name their interpreter. A mark says that it is whole.
fn install(venv: &Path) -> Result<()> {
    if venv.exists() {
        fs::remove_dir_all(venv).with_context(|| format!("remove {}", venv.display()))?;
    }
    let quiet = |command: &mut Command| sh::run(command.stdin(Stdio::null()).stdout(Stdio::null()));
    quiet(Command::new("python3").args(["-m", "venv"]).arg(venv)).context("make an environment (python3-venv)")?;
    quiet(Command::new(venv.join("bin/python")).args(["-m", "pip", "install", "--quiet", PACKAGE]))?;
    fs::write(venv.join(MARK), PACKAGE).context("mark the environment as whole")
}

/// A port that nothing listens on. Another program may take it before it is used, which then shows as a failed start.
fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen on loopback")?;
    Ok(listener.local_addr()?.port())
}
