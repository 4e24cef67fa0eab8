//! `debug bundle`: what is known of the daemon and of this machine, in one archive to be read by somebody else.
//!
//! Everything has a bound, in bytes and in time. A part that cannot be had is told of in the archive, and keeps nobody from
//! the others. Values that may be secrets are not in it.

mod gather;
mod redact;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use gantry_tar::{Entry, Time, Writer};

use crate::cli::debug::Bundle;
use crate::client::{self, Request, Target};
use crate::context::{self, Context};
use crate::failure::{Failure, Of, Outcome};
use crate::terminal;

use gather::Parts;

/// How long the daemon may take over one answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// The most containers that are inspected.
const CONTAINERS: usize = 200;
/// How far back events are asked for, in seconds.
const EVENTS: i64 = 24 * 3600;

/// Writes the archive.
pub fn bundle(context: &Context, args: &Bundle) -> Outcome {
    let now = context::now();
    let file = match &args.output {
        Some(file) => file.clone(),
        None => PathBuf::from(format!("gantry-debug-{now}.tar.gz")),
    };
    let parts = context::run(async {
        let mut parts = Parts::default();
        parts.add("version.txt", Ok(format!("gantry {}\n", env!("CARGO_PKG_VERSION")).into_bytes()));
        parts.add("config.toml", configuration(context));
        match client::connect(context.global(), false).await {
            Ok(client) => of_daemon(&client, &mut parts, now).await,
            Err(failure) => parts.add("daemon/answers.txt", Err(failure)),
        }
        let (run, root) = directories(context);
        gather::of_machine(&mut parts, &run, &root).await;
        Ok(parts)
    })?;
    let (text, name) = (parts.failures(), format!("gantry-debug-{now}"));
    if file.as_os_str() == "-" {
        return write(io::stdout().lock(), &name, &parts, now).of("write to standard output");
    }
    // What it holds is for nobody else on this machine.
    let what = || format!("write {}", file.display());
    let out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&file).of(what())?;
    write(out, &name, &parts, now).of(what())?;
    let lacking = if text.is_empty() {
        String::new()
    } else {
        format!("; {} parts could not be had, as its failures.txt says", text.lines().count())
    };
    terminal::print(&format!("wrote {} ({} parts{lacking})\n", file.display(), parts.all.len()))
}

/// The directories of the daemon, as far as the configuration tells.
fn directories(context: &Context) -> (PathBuf, PathBuf) {
    let config = context.config().unwrap_or_default();
    let root = context.root(&config).unwrap_or_else(|_| PathBuf::from("/var/lib/gantry"));
    (config.daemon.run, root)
}

fn write(out: impl Write, name: &str, parts: &Parts, now: i64) -> Outcome {
    let mut archive = Writer::new(GzEncoder::new(out, Compression::default()));
    let mut append = |path: &str, bytes: &[u8]| -> Outcome {
        let entry = Entry {
            path: format!("{name}/{path}").into_bytes(),
            size: bytes.len() as u64,
            mode: 0o600,
            mtime: Time { seconds: now, ..Time::default() },
            ..Entry::default()
        };
        Ok(archive.append(&entry, bytes)?)
    };
    for (path, bytes) in &parts.all {
        append(path, bytes)?;
    }
    append("failures.txt", parts.failures().as_bytes())?;
    archive.finish()?.finish()?.flush()?;
    Ok(())
}

/// The configuration file, without secrets.
fn configuration(context: &Context) -> Outcome<Vec<u8>> {
    let file = context.global().config.clone().unwrap_or_else(|| Path::new(crate::config::DEFAULT).to_path_buf());
    let text = std::fs::read_to_string(&file).of(format!("read {}", file.display()))?;
    let mut table: toml::Table = toml::from_str(&text).map_err(|error| Failure::new(error.message().to_owned()))?;
    redact::toml(&mut table);
    Ok(toml::to_string_pretty(&table)?.into_bytes())
}

/// What the daemon says.
async fn of_daemon(client: &client::Client, parts: &mut Parts, now: i64) {
    let text = |number: i64| number.to_string();
    let events = Target::new(&["events"]).with("since", &text(now - EVENTS)).with("until", &text(now));
    for (name, target) in [
        ("daemon/version.json", Target::new(&["version"])),
        ("daemon/info.json", Target::new(&["info"])),
        ("daemon/containers.json", Target::new(&["containers", "json"]).with("all", "1")),
        ("daemon/images.json", Target::new(&["images", "json"])),
        ("daemon/networks.json", Target::new(&["networks"])),
        ("daemon/volumes.json", Target::new(&["volumes"])),
        ("daemon/df.json", Target::new(&["system", "df"])),
        ("daemon/events.json", events),
    ] {
        let answer = ask(client, target).await;
        parts.add(name, answer.map(|bytes| redact::json_lines(&bytes)));
    }
    let list = ask(client, Target::new(&["containers", "json"]).with("all", "1")).await.unwrap_or_default();
    let list: Vec<serde_json::Value> = serde_json::from_slice(&list).unwrap_or_default();
    let ids: Vec<&str> = list.iter().filter_map(|one| one["Id"].as_str()).collect();
    for id in ids.iter().take(CONTAINERS) {
        let short = id.get(..12).unwrap_or(id);
        let answer = ask(client, Target::new(&["containers", id, "json"])).await;
        parts.add(&format!("daemon/containers/{short}.json"), answer.map(|bytes| redact::json_lines(&bytes)));
    }
    if ids.len() > CONTAINERS {
        let text = format!("there are {} containers, the newest {CONTAINERS} are inspected", ids.len());
        parts.add("daemon/containers", Err(Failure::new(text)));
    }
}

async fn ask(client: &client::Client, target: Target) -> Outcome<Vec<u8>> {
    match tokio::time::timeout(PATIENCE, client.bytes(Request::get(target))).await {
        Ok(answer) => answer.map(|bytes| bytes.to_vec()),
        Err(_) => Err(Failure::new(format!("the daemon does not answer in {} seconds", PATIENCE.as_secs()))),
    }
}
