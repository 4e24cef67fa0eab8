//! `cargo xtask session`: one script for the real Docker client, against the real Docker Engine and against ours.
//!
//! Both engines run in the sealed box, each fresh and by itself, and go through the same steps. What every step says, and
//! its status, is compared after what differs by nature (ids, times) is taken out. A difference that stays is named in the
//! steps with its reason, is told at the end, and is an error once it is gone.

mod compare;
mod normal;
mod script;

use crate::{dist, peers, sh};
use anyhow::{Context, Result, bail};
use script::Step;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask session [--client FILE]... [--only TEXT] [--program FILE] [--runtime FILE]

Without a client, the one of the box and that of Debian 12 are used. --only runs the steps whose names contain TEXT; those
that they need are not found out. Without a program or a runtime they are built.
";

/// A docker client: what it is called, and where it is.
struct Client {
    name: String,
    path: PathBuf,
}

/// Our executables.
struct Ours {
    program: PathBuf,
    runtime: PathBuf,
}

/// `cargo xtask session`.
pub fn main(args: &[String]) -> Result<ExitCode> {
    let (mut clients, mut only) = (Vec::new(), String::new());
    let (mut program, mut runtime) = (None, None);
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let value = args.next().with_context(|| format!("{arg} needs a value\n{USAGE}"))?;
        match arg.as_str() {
            "--client" => clients.push(Client { name: value.clone(), path: PathBuf::from(value) }),
            "--only" => only.clone_from(value),
            "--program" => program = Some(PathBuf::from(value)),
            "--runtime" => runtime = Some(PathBuf::from(value)),
            _ => bail!("unknown option {arg}\n{USAGE}"),
        }
    }
    let _box = peers::hold()?;
    let clients = if clients.is_empty() { known_clients() } else { clients };
    let ours = Ours {
        program: program.map_or_else(dist::test_program, Ok)?,
        runtime: runtime.map_or_else(dist::runtime, Ok)?,
    };
    let passed = run_all(clients, &only, &ours, &mut |line| println!("{line}"))?;
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Goes through all steps with the client of the box, which is up; whether nothing differs. The older one shows what its own
/// answers make of the same engine, and takes as long again: it has its turn when the command is run by itself.
pub fn run(program: &Path, runtime: &Path, each_line: &mut dyn FnMut(&str)) -> Result<bool> {
    let ours = Ours { program: program.to_owned(), runtime: runtime.to_owned() };
    run_all(known_clients().into_iter().take(1).collect(), "", &ours, each_line)
}

/// The client of the box, and that of Debian 12, which is older by years.
fn known_clients() -> Vec<Client> {
    let old = sh::dir_from_env("GANTRY_DOCKER_DIR", "/var/tmp/gantry-docker").join("bin/docker");
    vec![
        Client { name: "of the box".to_owned(), path: PathBuf::from("/usr/bin/docker") },
        Client { name: "of Debian 12".to_owned(), path: old },
    ]
}

fn run_all(clients: Vec<Client>, only: &str, ours: &Ours, each_line: &mut dyn FnMut(&str)) -> Result<bool> {
    let script = script::read()?;
    let mut passed = true;
    for client in clients {
        if client.name == "of Debian 12"
            && let Err(error) = fetch_old(&client.path)
        {
            each_line(&format!("SKIPPED session with the client {}: {error:#}", client.name));
            each_line("0 passed, 0 failed, 1 skipped");
            continue;
        }
        let steps: Vec<&Step> = script.steps.iter().filter(|step| step.name.contains(only)).collect();
        each_line(&format!("--- session of {} steps with the client {}", steps.len(), client.name));
        let place = sh::target_dir().join("session");
        let said = engines(&client, &steps, &place, ours)?;
        let is_whole = only.is_empty() && client.path == Path::new("/usr/bin/docker");
        let mut lines = Vec::new();
        let mut failures =
            compare::report(&script, &steps, &said, is_whole, None, &mut |line| lines.push(line.to_owned()));
        if failures.is_empty() {
            for line in &lines {
                each_line(line);
            }
            continue;
        }
        // The real engine's answers, too, depend on what comes first now and then.
        for line in lines.iter().filter(|line| line.starts_with("FAIL") || line.starts_with("    ")) {
            each_line(&line.replacen("FAIL  ", "differs", 1));
        }
        each_line("--- both engines go through the steps once more: what differs again fails");
        let said = engines(&client, &steps, &place, ours)?;
        failures = compare::report(&script, &steps, &said, is_whole, Some(&failures), each_line);
        passed &= failures.is_empty();
    }
    Ok(passed)
}

/// Gets the client of Debian 12 by its package's name, once. Only a Debian 12 has it to give.
fn fetch_old(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let directory = path.ancestors().nth(2).context("the directory of the client")?;
    let script = r#"set -e
        apt-cache policy docker.io | grep -q 'Candidate: 20\.10' || { echo "docker.io 20.10 is not in this host's packages" >&2; exit 1; }
        mkdir -p "$1/new/bin"; cd "$1/new"
        apt-get -q -o APT::Sandbox::User=root download docker.io
        dpkg-deb --fsys-tarfile docker.io_*.deb | tar -xO ./usr/bin/docker >bin/docker
        chmod +x bin/docker; mv bin ..; rm -r "$1/new""#;
    let directory = directory.to_string_lossy();
    sh::run(&mut sh::command("bash", &["-c", script, "fetch", &*directory]))
        .context("get the docker client of Debian 12 (apt-get download docker.io)")
}

/// What a step said: its status, standard output and standard error.
#[derive(Debug, Default, Clone)]
pub struct Said {
    status: String,
    out: String,
    err: String,
}

/// What both engines said at each step: Docker's first.
type Both = Vec<[Said; 2]>;

const ENGINES: [&str; 2] = ["docker", "gantry"];

/// Lets both engines go through the steps, at the same time.
fn engines(client: &Client, steps: &[&Step], place: &Path, ours: &Ours) -> Result<Both> {
    if place.exists() {
        fs::remove_dir_all(place).with_context(|| format!("empty {}", place.display()))?;
    }
    // What the box sees is below /tmp.
    let shared = PathBuf::from(format!("/tmp/gantry-session-{}", std::process::id()));
    let result = in_shared(client, steps, &shared, ours);
    // Kept to look at, but for what is large.
    for name in ["gantry-program", "gantry-oci", "docker-client"] {
        drop(fs::remove_file(shared.join(name)));
    }
    drop(sh::run(&mut sh::command("cp", &["-r", &shared.to_string_lossy(), &place.to_string_lossy()])));
    drop(fs::remove_dir_all(&shared));
    result
}

fn in_shared(client: &Client, steps: &[&Step], shared: &Path, ours: &Ours) -> Result<Both> {
    let write = |path: PathBuf, text: &str| {
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        made.with_context(|| format!("write {}", path.display()))
    };
    for (number, step) in steps.iter().enumerate() {
        write(shared.join(format!("steps/{number:03}")), &step.script)?;
    }
    write(shared.join("session.sh"), include_str!("../../scripts/session.sh"))?;
    let copy = |from: &Path, name: &str| -> Result<String> {
        let to = shared.join(name);
        fs::copy(from, &to).with_context(|| format!("copy {} to {}", from.display(), to.display()))?;
        Ok(to.to_string_lossy().into_owned())
    };
    let (program, runtime) = (copy(&ours.program, "gantry-program")?, copy(&ours.runtime, "gantry-oci")?);
    let client = if client.path.starts_with("/usr/bin") {
        client.path.to_string_lossy().into_owned()
    } else {
        copy(&client.path, "docker-client")?
    };
    let (script, directory) = (shared.join("session.sh"), shared.to_string_lossy());
    let script = script.to_string_lossy();
    let mut running = Vec::new();
    for engine in ENGINES {
        let args = ["bash", &*script, engine, &*directory, &client, &program, &runtime];
        let child = peers::command("sealed", &args).spawn().with_context(|| format!("run the session of {engine}"))?;
        running.push((engine, child));
    }
    // Both are waited for before either's failure is told.
    let ended: Vec<_> = running.iter_mut().map(|(engine, child)| (*engine, child.wait())).collect();
    for (engine, status) in ended {
        let status = status.with_context(|| format!("wait for the session of {engine}"))?;
        if !status.success() {
            bail!("the session of {engine}: {status}");
        }
    }
    let read = |engine: &str, number: usize| -> Result<Said> {
        let read = |kind: &str| {
            let path = shared.join(format!("{engine}/{number:03}.{kind}"));
            let bytes = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            Ok::<_, anyhow::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(Said { status: read("status")?.trim().to_owned(), out: read("out")?, err: read("err")? })
    };
    (0..steps.len()).map(|number| Ok([read("docker", number)?, read("gantry", number)?])).collect()
}
