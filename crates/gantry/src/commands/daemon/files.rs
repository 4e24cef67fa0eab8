//! The files of an image by the daemon's API, which has none for it: of a container that is made of the image for this,
//! never started, and removed again.

use std::collections::BTreeMap;
use std::io::{BufReader, Read};

use bytes::Bytes;
use gantry_images::{Change, ChangeKind};
use gantry_model::platform::Platform;
use gantry_tar::{Entry, Kind, Reader};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::cli::image::{Diff, Export};
use crate::client::{Client, Request, Target};
use crate::commands::containers::{Pieces, write_files};
use crate::commands::stream::Output;
use crate::context::Context;
use crate::failure::{Failure, Of, Outcome};
use crate::render::changes;
use crate::terminal;

/// Pieces that wait to be looked at, at most.
const QUEUE: usize = 16;

/// Writes the files of a container to an archive; of an image, if no container has the name.
pub fn export(context: &Context, args: &Export) -> Outcome {
    let output = Output::open(args.output.as_deref(), "export")?;
    let mut writer = output.writer()?;
    let outcome = context.ask(async |client| {
        let missing = match args.platform {
            // Containers have one platform.
            Some(_) => None,
            None => match write_files(client, &args.image, &mut writer).await {
                Err(failure) if failure.not_found() => Some(failure),
                other => return other,
            },
        };
        let container = match Container::of(client, &args.image, args.platform.as_ref()).await {
            Err(failure) if failure.not_found() => return Err(missing.unwrap_or(failure)),
            other => other?,
        };
        let outcome = write_files(client, &container.id, &mut writer).await;
        container.remove(client).await;
        outcome
    });
    output.finish(outcome)
}

/// Shows which files differ between two images.
pub fn diff(context: &Context, args: &Diff) -> Outcome {
    let changes = context.ask(async |client| {
        let old = files(client, &args.old, args.platform.as_ref()).await?;
        let new = files(client, &args.new, args.platform.as_ref()).await?;
        Ok(compare(&old, &new))
    })?;
    if args.json {
        return terminal::print(&(serde_json::to_string(&changes)? + "\n"));
    }
    terminal::print(&changes::lines(&changes))
}

/// A container that is only there for its files.
struct Container {
    id: String,
}

impl Container {
    async fn of(client: &Client, image: &str, platform: Option<&Platform>) -> Outcome<Self> {
        let target =
            Target::new(&["containers", "create"]).maybe("platform", platform.map(ToString::to_string).as_deref());
        // It is not run, but an image without a command needs one.
        let body =
            json!({"Image": image, "Cmd": ["/"], "HostConfig": {"NetworkMode": "none"}, "NetworkDisabled": true});
        let made = client.json(Request::post(target).json(&body)).await?;
        Ok(Self { id: made.text("Id").to_owned() })
    }

    async fn remove(self, client: &Client) {
        let target = Target::new(&["containers", &self.id]).flag("v", true).flag("force", true);
        if let Err(failure) = client.bytes(Request::delete(target)).await {
            terminal::tell(&format!("WARNING: the container {} is left: {}\n", self.id, failure.text()));
        }
    }
}

/// What is compared of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    size: u64,
    /// Everything else: kind, mode, owner, target, content.
    what: Vec<u8>,
}

type Tree = BTreeMap<Vec<u8>, Seen>;

async fn files(client: &Client, image: &str, platform: Option<&Platform>) -> Outcome<Tree> {
    let container = Container::of(client, image, platform).await?;
    let answer = client.call(Request::get(Target::new(&["containers", &container.id, "export"]))).await;
    let outcome = match answer {
        Ok(answer) => look(answer.into_body()).await,
        Err(failure) => Err(failure),
    };
    container.remove(client).await;
    outcome
}

async fn look(mut body: Incoming) -> Outcome<Tree> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    let work = tokio::task::spawn_blocking(move || read(BufReader::new(Pieces::new(pieces))));
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => Ok(frame.into_data().unwrap_or_else(|_| Bytes::new())),
            Err(error) => Err(std::io::Error::other(format!("the archive was cut off: {error}"))),
        };
        if sender.send(piece).await.is_err() {
            break;
        }
    }
    drop(sender);
    work.await.map_err(|error| Failure::new(format!("read the archive: {error}")))?
}

fn read(archive: impl std::io::BufRead) -> Outcome<Tree> {
    let mut reader = Reader::new(archive);
    let mut entry = Entry::default();
    let mut tree = Tree::new();
    let mut buffer = vec![0; 64 << 10];
    while reader.read_entry(&mut entry).of("read the archive")? {
        let mut hash = Sha256::new();
        let kind = match entry.kind {
            Kind::File | Kind::Link => 0_u8,
            Kind::Symlink => 2,
            Kind::Char => 3,
            Kind::Block => 4,
            Kind::Directory => 5,
            Kind::Fifo => 6,
        };
        hash.update([kind]);
        for number in [u64::from(entry.mode), entry.uid, entry.gid, entry.major.into(), entry.minor.into()] {
            hash.update(number.to_le_bytes());
        }
        hash.update(&entry.link);
        let mut data = reader.data();
        loop {
            let size = data.read(&mut buffer).of("read the archive")?;
            if size == 0 {
                break;
            }
            hash.update(&buffer[..size]);
        }
        let name: Vec<u8> = [b"/", entry.path.strip_prefix(b"./").unwrap_or(&entry.path)].concat();
        let name = name.strip_suffix(b"/").unwrap_or(&name).to_vec();
        if !name.is_empty() {
            tree.insert(name, Seen { size: entry.size, what: hash.finalize().to_vec() });
        }
    }
    Ok(tree)
}

fn compare(old: &Tree, new: &Tree) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut add = |kind, path: &[u8], before, after| {
        changes.push(Change { kind, path: String::from_utf8_lossy(path).into_owned(), before, after });
    };
    for (path, seen) in new {
        match old.get(path) {
            None => add(ChangeKind::Added, path, 0, seen.size),
            Some(before) if before != seen => add(ChangeKind::Changed, path, before.size, seen.size),
            Some(_) => {}
        }
    }
    for (path, seen) in old.iter().filter(|(path, _)| !new.contains_key(*path)) {
        add(ChangeKind::Removed, path, seen.size, 0);
    }
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences() {
        let archive = |files: &[(&str, &str)]| {
            let mut writer = gantry_tar::Writer::new(Vec::new());
            for (name, content) in files {
                let entry = Entry {
                    path: name.as_bytes().to_vec(),
                    size: content.len() as u64,
                    mode: 0o644,
                    ..Entry::default()
                };
                writer.append(&entry, content.as_bytes()).unwrap();
            }
            read(writer.finish().unwrap().as_slice()).unwrap()
        };
        let old = archive(&[("a", "1"), ("b", "2"), ("same", "x")]);
        let new = archive(&[("b", "22"), ("c", "3"), ("same", "x")]);
        assert_eq!(changes::lines(&compare(&old, &new)), "D /a\nC /b  1B -> 2B\nA /c\n");
        assert_eq!(compare(&old, &old), vec![]);
    }
}
