//! `cargo xtask sdk`: the libraries that people drive Docker with, against our daemon: docker-py beside the real engine,
//! and testcontainers with real databases.
//!
//! Packages are kept in `target/sdk`, in versions that are written down here, so that an old failure can be had again.

use crate::{debian, dist, peers, sh};
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What is installed from the Python package index. All of it is Python alone, so that any interpreter can take it.
const PACKAGES: &[&str] = &["docker==7.2.0", "testcontainers==4.15.0", "pg8000==1.31.6", "redis==8.1.0"];

/// What the databases' images hold.
const DATABASES: &[&str] = &["postgresql-15", "redis-server"];

/// What starts them.
const ENTRYPOINTS: &[&str] = &["xtask/sdk/postgres-entrypoint", "xtask/sdk/redis-entrypoint"];

/// `cargo xtask sdk`: prepares what is missing and runs the sessions in the peers' box, which is taken down if it was.
pub fn main(args: &[String]) -> Result<ExitCode> {
    anyhow::ensure!(args.is_empty(), "usage: cargo xtask sdk");
    let ready = prepare()?;
    let _box = peers::hold()?;
    Ok(sh::exit_code(sh::status(&mut ready.command(&dist::test_program()?, &dist::runtime()?))?))
}

/// What the sessions need, on the disk.
pub struct Ready {
    packages: PathBuf,
    images: PathBuf,
}

impl Ready {
    /// The command that plays the sessions. The box has to be up.
    pub fn command(&self, program: &Path, runtime: &Path) -> Command {
        let script = sh::root().join("xtask/scripts/sdk.sh");
        let paths = [&*script, program, runtime, &*self.packages, &*self.images].map(Path::to_string_lossy);
        let mut args = vec!["bash"];
        args.extend(paths.iter().map(AsRef::as_ref));
        peers::command("sealed", &args)
    }
}

/// Installs the packages and makes the databases' archive, unless they are there. The error says what is missing.
pub fn prepare() -> Result<Ready> {
    let directory = sh::target_dir().join("sdk");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let packages = directory.join("python");
    let mark = packages.join("installed");
    let wanted = PACKAGES.join("\n");
    if fs::read_to_string(&mark).ok().as_ref() != Some(&wanted) {
        install(&directory, &packages).context("install the libraries of Python")?;
        fs::write(&mark, &wanted).context("mark the libraries as whole")?;
    }
    refresh(&directory)?;
    debian::archive(&directory.join("databases.tar"), DATABASES, ENTRYPOINTS).context("make the databases' image")?;
    Ok(Ready { packages, images: directory })
}

/// Removes an archive that was made with other entry points.
fn refresh(directory: &Path) -> Result<()> {
    let archive = directory.join("databases.tar");
    let Ok(made) = fs::metadata(&archive).and_then(|found| found.modified()) else { return Ok(()) };
    for entrypoint in ENTRYPOINTS {
        let written = fs::metadata(sh::root().join(entrypoint)).and_then(|found| found.modified());
        if written.with_context(|| format!("look at {entrypoint}"))? > made {
            return fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()));
        }
    }
    Ok(())
}

/// Puts packages into a directory, by an installer that is there only for it.
fn install(directory: &Path, packages: &Path) -> Result<()> {
    for old in [packages, &directory.join("installer")] {
        if old.exists() {
            fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
        }
    }
    let installer = directory.join("installer");
    let quiet = |command: &mut Command| sh::run(command.stdin(Stdio::null()).stdout(Stdio::null()));
    quiet(Command::new("python3").args(["-m", "venv"]).arg(&installer))
        .context("make an environment (python3-venv)")?;
    let mut pip = Command::new(installer.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--target"])
        .arg(packages);
    pip.args(["--only-binary=:all:", "--platform=any", "--python-version=3.11", "--implementation=py"]).args(PACKAGES);
    quiet(&mut pip)?;
    fs::remove_dir_all(&installer).with_context(|| format!("remove {}", installer.display()))
}
