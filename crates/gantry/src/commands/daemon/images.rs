//! Images by the daemon, which has the store: the same commands that work on a store of their own with `--root`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use bytes::Bytes;
use gantry_images::{HistoryEntry, Removed, Summary};
use gantry_model::reference::Reference;
use http_body_util::BodyExt;
use serde_json::json;
use tokio::sync::mpsc;

use super::{filters, pull};
use crate::cli::image::{Archive, Compression, History, Import, List, Load, Prune, Pull, Push, Remove, Save, Tag};
use crate::client::lines::Lines;
use crate::client::{Client, Request, Target};
use crate::commands::archive::imported;
use crate::commands::containers::tree;
use crate::commands::stream::{self as files, Output};
use crate::context::{self, Context};
use crate::failure::{Failure, Of, Outcome, clean};
use crate::prompt;
use crate::render::images::{LISTING, Rows, WITH_DIGESTS};
use crate::render::{disk, history as steps, removed, units};
use crate::stream::Stream;
use crate::template::Value;
use crate::terminal;

/// Bytes that are sent at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the daemon, at most.
const QUEUE: usize = 16;

/// Refuses what only Gantry's daemon can do, if it is another's.
pub fn only_ours(client: &Client, asked: bool, what: &str) -> Outcome {
    if asked && !client.is_ours() {
        let failure =
            Failure::new(format!("{what}: the daemon at {} cannot do that, only Gantry's can", client.host()));
        return Err(failure.hint("with --root DIR the command works on a store of its own"));
    }
    Ok(())
}

/// Refuses what an older daemon would take no notice of.
pub fn since(client: &Client, asked: bool, version: (u32, u32), what: &str) -> Outcome {
    if asked && !client.speaks(version) {
        let (major, minor) = version;
        let own = client.version();
        return Err(Failure::new(format!(
            "{what}: the daemon speaks version {own} of the API, and it came with {major}.{minor}"
        )));
    }
    Ok(())
}

/// Downloads images.
pub fn pull(context: &Context, args: &Pull) -> Outcome {
    context.ask(async |client| {
        only_ours(client, args.all_platforms, "--all-platforms")?;
        let platform = args.platform.as_ref().map(ToString::to_string);
        for name in &args.names {
            let full = if args.all_tags { name.clone() } else { name.clone().with_default_tag() };
            if full != *name && !args.quiet && !args.json {
                terminal::print("Using default tag: latest\n")?;
            }
            let request = pull::request(&full, args.all_tags, platform.as_deref(), args.all_platforms);
            follow(client, request, args.quiet, args.json).await?;
            if !args.json {
                terminal::print(&format!("{full}\n"))?;
            }
        }
        Ok(())
    })
}

/// Uploads images.
pub fn push(context: &Context, args: &Push) -> Outcome {
    crate::commands::push::check(args)?;
    context.ask(async |client| {
        let compressed = args.compression != Compression::Keep || args.compression_level.is_some();
        only_ours(client, compressed, "--compression")?;
        since(client, args.platform.is_some(), (1, 46), "--platform")?;
        for name in pushed(client, args).await? {
            let compression = match args.compression {
                Compression::Keep => None,
                Compression::Gzip => Some("gzip"),
                Compression::Zstd => Some("zstd"),
            };
            let target = Target::named("images", &name.name(), "push")
                .maybe("tag", name.tag())
                .maybe("platform", args.platform.as_ref().map(|one| platform_document(&one.to_string())).as_deref())
                .maybe("compression", compression)
                .maybe("compression-level", args.compression_level.map(|level| level.to_string()).as_deref());
            let request = pull::with_login(Request::post(target), &name);
            follow(client, request, args.quiet, args.json).await?;
            if args.quiet {
                terminal::print(&format!("{name}\n"))?;
            }
        }
        Ok(())
    })
}

/// A platform as the API has it: a document.
pub fn platform_document(text: &str) -> String {
    let mut parts = text.split('/');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (os, architecture, variant) = (part(), part(), part());
    let mut document = json!({"os": os, "architecture": architecture});
    if !variant.is_empty() {
        document["variant"] = variant.into();
    }
    document.to_string()
}

/// What is pushed: a name, or every tag of the repository that is here.
async fn pushed(client: &Client, args: &Push) -> Outcome<Vec<Reference>> {
    let name = &args.name;
    if !args.all_tags {
        let full = name.clone().with_default_tag();
        if full != *name && !args.quiet && !args.json {
            terminal::print("Using default tag: latest\n")?;
        }
        return Ok(vec![full]);
    }
    let all = client.json(Request::get(Target::new(&["images", "json"]))).await?;
    let tags = all.items().iter().flat_map(|image| image.list("RepoTags").iter());
    let mut tags: Vec<Reference> = tags.filter_map(|tag| tag.to_string().parse::<Reference>().ok()).collect();
    tags.retain(|tag| tag.name() == name.name());
    tags.sort();
    if tags.is_empty() {
        let text = format!("An image does not exist locally with the tag: {}", name.familiar());
        return Err(Failure::new(text).of(format!("push {}", name.familiar())));
    }
    Ok(tags)
}

/// Shows what the daemon tells of what it does.
async fn follow(client: &Client, request: Request, quiet: bool, json: bool) -> Outcome {
    let mut lines = Lines::of(client.call(request).await?);
    let mut shown = if json { Stream::new(true) } else { Stream::for_result(quiet) };
    while let Some(line) = lines.next().await? {
        if json {
            terminal::print(&(serde_json::to_string(&line)? + "\n"))?;
        }
        shown.show(&line)?;
    }
    Ok(())
}

/// Lists images.
pub fn list(context: &Context, args: &List) -> Outcome {
    let listing = if args.digests { WITH_DIGESTS } else { LISTING };
    let asked = args.output.form(args.quiet, "imagesFormat");
    let asked = asked.as_deref();
    let form = listing.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let more: Vec<(&str, &str)> = args.name.iter().map(|name| ("reference", name.as_str())).collect();
    let target = Target::new(&["images", "json"])
        .flag("all", args.all)
        .maybe("filters", filters::with(&args.filter, &more)?.as_deref());
    context.ask(async |client| {
        let found = client.json(Request::get(target)).await?;
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&found)? + "\n"));
        }
        let digests = args.digests || asked.is_some_and(|format| format.contains(".Digest"));
        let images: Vec<Summary> = found.items().iter().filter_map(summary).collect();
        let rows = Rows { digests, whole: args.no_trunc, now: context::now() }.of(&images);
        let width = terminal::width().filter(|_| !args.no_trunc);
        terminal::print(&listing.render(&form, &rows, width)?)
    })
}

fn texts(all: &[Value]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

/// An image of a list; none if it has no id.
fn summary(one: &Value) -> Option<Summary> {
    // Older daemons give images without a name such names.
    let named = |all: Vec<String>| all.into_iter().filter(|name| !name.starts_with("<none>")).collect();
    Some(Summary {
        id: one.text("Id").parse().ok()?,
        parent_id: one.text("ParentId").to_owned(),
        repo_tags: named(texts(one.list("RepoTags"))),
        repo_digests: named(texts(one.list("RepoDigests"))),
        created: one.int("Created"),
        size: u64::try_from(one.int("Size")).unwrap_or(0),
        shared_size: one.int("SharedSize"),
        labels: None,
        containers: one.int("Containers"),
    })
}

/// Removes images.
pub fn remove(context: &Context, args: &Remove) -> Outcome {
    context.ask(async |client| {
        let (mut all, mut failed) = (Vec::new(), false);
        for image in &args.images {
            let target = Target::named("images", image, "").flag("force", args.force);
            match client.json(Request::delete(target)).await {
                Ok(gone) if args.json => all.extend(gone.items().to_vec()),
                Ok(gone) => terminal::print(&removed::lines(&gone.items().iter().map(gone_one).collect::<Vec<_>>()))?,
                Err(failure @ Failure::Daemon { .. }) => {
                    failed |= !(args.force && failure.not_found());
                    terminal::tell(&clean(&format!("{}\n", failure.text())));
                }
                Err(failure) => return Err(failure),
            }
        }
        if args.json {
            terminal::print(&(serde_json::to_string(&all)? + "\n"))?;
        }
        if failed { Err(Failure::Said) } else { Ok(()) }
    })
}

fn gone_one(one: &Value) -> Removed {
    match one.text("Untagged") {
        "" => Removed::Deleted(one.text("Deleted").to_owned()),
        name => Removed::Untagged(name.to_owned()),
    }
}

/// Gives an image one more name.
pub fn tag(context: &Context, args: &Tag) -> Outcome {
    let target =
        Target::named("images", &args.image, "tag").with("repo", &args.name.name()).maybe("tag", args.name.tag());
    context.ask(async |client| client.bytes(Request::post(target)).await.map(drop))
}

/// Shows how an image came to be.
pub fn history(context: &Context, args: &History) -> Outcome {
    let asked = args.output.format.as_deref();
    let listing = steps::listing(args.human);
    let form = listing.form(if args.quiet && asked.is_none() { Some("{{.ID}}") } else { asked })?;
    let platform = args.platform.as_ref().map(|one| platform_document(&one.to_string()));
    let target = Target::named("images", &args.image, "history").maybe("platform", platform.as_deref());
    context.ask(async |client| {
        since(client, args.platform.is_some(), (1, 48), "--platform")?;
        let found = client.json(Request::get(target)).await?;
        if args.output.json {
            return terminal::print(&(serde_json::to_string(&found)? + "\n"));
        }
        let all: Vec<HistoryEntry> = found.items().iter().map(step).collect();
        let rows = steps::rows(&all, args.human, args.no_trunc, context::now());
        let width = terminal::width().filter(|_| !args.no_trunc);
        terminal::print(&listing.render(&form, &rows, width)?)
    })
}

fn step(one: &Value) -> HistoryEntry {
    HistoryEntry {
        id: one.text("Id").to_owned(),
        created: one.int("Created"),
        created_by: one.text("CreatedBy").to_owned(),
        tags: None,
        size: u64::try_from(one.int("Size")).unwrap_or(0),
        comment: one.text("Comment").to_owned(),
    }
}

/// Writes images to an archive.
pub fn save(context: &Context, args: &Save) -> Outcome {
    let output = Output::open(args.output.as_deref(), "save")?;
    let mut writer = output.writer()?;
    let platform = args.platform.as_ref().map(|one| platform_document(&one.to_string()));
    let oci = args.format == Archive::Oci;
    let mut target = Target::new(&["images", "get"]).maybe("platform", platform.as_deref());
    if oci {
        target = target.with("format", "oci-archive");
    }
    for image in &args.images {
        target = target.with("names", image);
    }
    let outcome = context.ask(async |client| {
        only_ours(client, oci, "--format oci-archive")?;
        since(client, args.platform.is_some(), (1, 48), "--platform")?;
        let mut body = client.call(Request::get(target)).await?.into_body();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::new(format!("the archive was cut off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                writer.write_all(data).of("write the archive")?;
            }
        }
        writer.flush().of("write the archive")
    });
    output.finish(outcome)
}

/// Sends what is read, piece by piece, from a thread that may wait for it.
fn send(mut from: impl Read + Send + 'static) -> mpsc::Receiver<io::Result<Bytes>> {
    let (sender, pieces) = mpsc::channel(QUEUE);
    std::thread::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let piece = match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(size) => Ok(Bytes::copy_from_slice(&buffer[..size])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            let ended = piece.is_err();
            if sender.blocking_send(piece).is_err() || ended {
                return;
            }
        }
    });
    pieces
}

/// A layout in a directory, as the archive that the daemon takes.
fn packed(directory: &Path) -> Outcome<impl Read + Send + 'static> {
    let (reader, mut writer) = io::pipe().of("make a pipe")?;
    let directory = directory.to_owned();
    std::thread::spawn(move || {
        let mut names: Vec<_> = std::fs::read_dir(&directory).into_iter().flatten().flatten().collect();
        names.sort_by_key(std::fs::DirEntry::file_name);
        let roots: Vec<_> = names.iter().map(|one| (one.path(), one.file_name())).collect();
        // Who reads sees an archive that is cut off, and says so.
        let _ = tree::pack_all(&roots, &mut writer);
    });
    Ok(reader)
}

/// Reads images from an archive, or from a layout in a directory.
pub fn load(context: &Context, args: &Load) -> Outcome {
    let pieces = match args.input.as_deref() {
        Some(directory) if directory.is_dir() => send(packed(directory)?),
        input => send(files::input(input)?),
    };
    let platform = args.platform.as_ref().map(|one| platform_document(&one.to_string()));
    let quiet = args.quiet || args.json;
    let target = Target::new(&["images", "load"]).with("quiet", if quiet { "1" } else { "0" });
    let target = target.maybe("platform", platform.as_deref());
    context.ask(async |client| {
        since(client, args.platform.is_some(), (1, 48), "--platform")?;
        let mut lines = Lines::of(client.call(Request::post(target).archive(pieces)).await?);
        let mut shown = if args.json { Stream::new(true) } else { Stream::for_result(false) };
        while let Some(line) = lines.next().await? {
            if args.json {
                terminal::print(&(serde_json::to_string(&line)? + "\n"))?;
            }
            shown.show(&line)?;
        }
        Ok(())
    })
}

/// Makes an image of an archive of files.
pub fn import(context: &Context, args: &Import) -> Outcome {
    if args.file.starts_with("http://") || args.file.starts_with("https://") {
        let text = format!("import {}: archives are not fetched from the network", args.file);
        return Err(Failure::new(text).hint("fetch it first, as with curl -L, and pipe it into gantry import -"));
    }
    let file: File = files::input(Some(args.file.as_str()).filter(|file| *file != "-").map(Path::new))?;
    let mut target = Target::new(&["images", "create"]).with("fromSrc", "-");
    if let Some(name) = &args.name {
        target = target.with("repo", &name.name()).maybe("tag", name.tag());
    }
    target = target
        .maybe("message", args.message.as_deref())
        .maybe("platform", args.platform.as_ref().map(ToString::to_string).as_deref());
    for change in &args.change {
        target = target.with("changes", change);
    }
    context.ask(async |client| {
        let mut lines = Lines::of(client.call(Request::post(target).archive(send(file))).await?);
        let mut shown = if args.json { Stream::new(true) } else { Stream::for_result(false) };
        while let Some(line) = lines.next().await? {
            shown.show(&line)?;
            let id = line.text("status");
            if args.json && id.starts_with("sha256:") {
                terminal::print(&imported(id, true))?;
            }
        }
        Ok(())
    })
}

/// Removes images that are not used.
pub fn prune(context: &Context, args: &Prune) -> Outcome {
    let which = if args.all { "images without at least one container associated to them" } else { "dangling images" };
    let question = format!("WARNING! This will remove all {which}.\nAre you sure you want to continue?");
    let filters = filters::with(&args.filter, &[("dangling", if args.all { "false" } else { "true" })])?;
    if !args.dry_run && !args.force && !prompt::confirm(&question)? {
        return Err(Failure::new("image prune: nothing was removed, since nobody said yes").hint("give --force"));
    }
    context.ask(async |client| {
        only_ours(client, args.dry_run, "--dry-run")?;
        let target = Target::new(&["images", "prune"]).maybe("filters", filters.as_deref());
        let done = client.json(Request::post(target.flag("dry-run", args.dry_run))).await?;
        if args.json {
            return terminal::print(&(serde_json::to_string(&done)? + "\n"));
        }
        let bytes = units::size_of_four(u64::try_from(done.int("SpaceReclaimed")).unwrap_or(0));
        let text = disk::removed_images(&done);
        let text = if args.dry_run { text.replacen("Deleted Images", "Images that would be deleted", 1) } else { text };
        let what = if args.dry_run { "Space that would be reclaimed" } else { "Total reclaimed space" };
        terminal::print(&format!("{text}{what}: {bytes}\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let id = format!("sha256:{}", "a".repeat(64));
        let text = format!(
            r#"{{"Id":"{id}","RepoTags":["a:1","<none>:<none>"],"RepoDigests":null,"Created":5,"Size":7,"SharedSize":-1,"Containers":-1}}"#
        );
        let found = summary(&serde_json::from_str(&text).unwrap()).unwrap();
        assert_eq!((found.repo_tags, found.size, found.created), (vec!["a:1".to_owned()], 7, 5));
        assert_eq!(summary(&Value::Null), None);
        assert_eq!(platform_document("linux/arm64/v8"), r#"{"architecture":"arm64","os":"linux","variant":"v8"}"#);
        let gone = serde_json::from_str(r#"{"Deleted":"sha256:1"}"#).unwrap();
        assert_eq!(gone_one(&gone), Removed::Deleted("sha256:1".to_owned()));
    }
}
