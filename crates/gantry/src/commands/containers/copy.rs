//! `cp`: files from a container or to one.
//!
//! The API knows archives alone. Where what is copied ends up depends on both sides, as with `cp -a`: into a directory
//! that is there, or under the name that was given.

use std::io::{self, BufReader, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::Incoming;
use tokio::sync::mpsc;

use super::tree::{self, Rebase, absolute};
use crate::cli::container::Cp;
use crate::client::{Client, Request, Target};
use crate::context::Context;
use crate::failure::{Failure, Of, Outcome};
use crate::render::units;
use crate::template::Value;
use crate::terminal;

/// Pieces that wait for the other side, at most.
const QUEUE: usize = 16;
/// Bytes that are read at once.
const PIECE: usize = 64 << 10;
/// Symbolic links that lead from one to the next, at most.
const LINKS: usize = 40;
/// Bits of a mode as the API has it.
const DIRECTORY: i64 = 1 << 31;
const SYMLINK: i64 = 1 << 27;

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum Side<'a> {
    Container(&'a str, &'a str),
    Here(&'a str),
    Archive,
}

/// `CONTAINER:PATH`, unless it is a path that begins with a slash or a dot.
fn side(text: &str) -> Side<'_> {
    match text.split_once(':') {
        _ if text == "-" => Side::Archive,
        Some((name, path)) if !text.starts_with('/') && !name.starts_with('.') => Side::Container(name, path),
        _ => Side::Here(text),
    }
}

/// Copies.
pub fn run(context: &Context, args: &Cp) -> Outcome {
    if args.source.is_empty() || args.target.is_empty() {
        let which = if args.source.is_empty() { "source" } else { "destination" };
        return Err(Failure::Usage(format!("{which} can not be empty")));
    }
    match (side(&args.source), side(&args.target)) {
        (Side::Container(..), Side::Container(..)) => Err(Failure::new("copying between containers is not supported")),
        (Side::Container(name, path), to) => context.ask(async |client| from(client, args, name, path, to).await),
        (from, Side::Container(name, path)) => context.ask(async |client| into(client, args, from, name, path).await),
        _ => Err(Failure::new("must specify at least one container source")),
    }
}

/// What is known of a path in a container.
struct Stat {
    directory: bool,
    link: Option<String>,
}

fn archive(name: &str, path: &str) -> Target {
    Target::new(&["containers", name, "archive"]).with("path", path)
}

fn stat_of(answer: &Response<Incoming>) -> Outcome<Stat> {
    let header = answer.headers().get("x-docker-container-path-stat").and_then(|value| value.to_str().ok());
    let document =
        header.and_then(|text| STANDARD.decode(text).ok()).and_then(|text| serde_json::from_slice(&text).ok());
    let Some(document): Option<Value> = document else {
        return Err(Failure::new("the daemon does not say what is at the path"));
    };
    let mode = document.int("mode");
    let link = (mode & SYMLINK != 0).then(|| document.text("linkTarget").to_owned());
    Ok(Stat { directory: mode & DIRECTORY != 0, link })
}

async fn stat(client: &Client, name: &str, path: &str) -> Outcome<Stat> {
    // The answer to HEAD has no body that could say what is wrong.
    let answer = client.call(Request::head(archive(name, path))).await?;
    stat_of(&answer)
}

/// Where a link at a path leads to.
fn follow(path: &str, link: &str) -> String {
    if link.starts_with('/') {
        return link.to_owned();
    }
    let parent = split(path).0;
    absolute(link, Path::new(&parent)).display().to_string()
}

/// Directory and last part of a path; of `x/.` the last part is the dot.
fn split(path: &str) -> (String, String) {
    if path == "." || path.ends_with("/.") {
        let directory = path.trim_end_matches('.').trim_end_matches('/');
        return (if directory.is_empty() { "/".to_owned() } else { directory.to_owned() }, ".".to_owned());
    }
    let clean = path.trim_end_matches('/');
    match clean.rsplit_once('/') {
        Some(("", name)) => ("/".to_owned(), name.to_owned()),
        Some((directory, name)) => (directory.to_owned(), name.to_owned()),
        None if clean.is_empty() => ("/".to_owned(), "/".to_owned()),
        None => (".".to_owned(), clean.to_owned()),
    }
}

/// Where an archive is taken apart, and under which name.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    directory: String,
    rebase: Option<(String, String)>,
}

/// Decides it: `target` is a directory, something else that is there, or nothing yet.
fn place(source: &str, source_is_directory: bool, target: &str, there: Option<bool>) -> Result<Place, &'static str> {
    let (directory, name) = split(target);
    let own = split(source).1;
    let under_name = Ok(Place { directory, rebase: Some((own, name)) });
    match there {
        Some(true) => Ok(Place { directory: target.to_owned(), rebase: None }),
        Some(false) if source_is_directory => Err("cannot copy directory"),
        None if !source_is_directory && (target.ends_with('/') || target.ends_with("/.")) => Err("no such directory"),
        Some(false) | None => under_name,
    }
}

async fn from(client: &Client, args: &Cp, name: &str, path: &str, to: Side<'_>) -> Outcome {
    let mut path = path.to_owned();
    let mut renamed = None;
    if args.follow_link
        && let Ok(Stat { link: Some(link), .. }) = stat(client, name, &path).await
    {
        let target = follow(&path, &link);
        let (own, asked) = (split(&target).1, split(&path).1);
        renamed = (own != asked).then_some((own, asked));
        path = target;
    }
    let answer = client.call(Request::get(archive(name, &path))).await?;
    let found = stat_of(&answer)?;
    let mut body = answer.into_body();
    let Side::Here(here) = to else {
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| Failure::new(format!("the archive was cut off: {error}")))?;
            if let Some(data) = frame.data_ref() {
                write_out(data)?;
            }
        }
        return Ok(());
    };
    let target = absolute(here, &std::env::current_dir().of("find the present directory")?).display().to_string();
    let target = through_links(target)?;
    let there = std::fs::symlink_metadata(&target).ok().map(|found| found.is_dir());
    let shown_as = renamed.as_ref().map_or_else(|| path.clone(), |(_, asked)| format!("{}/{asked}", split(&path).0));
    let place = place(&shown_as, found.directory, &target, there).map_err(Failure::new)?;
    if !Path::new(&place.directory).is_dir() {
        return Err(Failure::new(format!("invalid output path: directory \"{}\" does not exist", place.directory)));
    }
    let rebase = join(renamed, place.rebase);
    let size = receive(body, PathBuf::from(place.directory), rebase, args.archive).await?;
    tell(args, size, &target);
    Ok(())
}

/// What a path here leads to, if it is a symbolic link: what it leads to is written, as by `cp`.
fn through_links(target: String) -> Outcome<String> {
    let mut path = target;
    for _ in 0..LINKS {
        let clean = PathBuf::from(path.trim_end_matches("/."));
        if !clean.is_symlink() {
            return Ok(path);
        }
        let link = std::fs::read_link(&clean).of(clean.display())?;
        path = follow(&clean.to_string_lossy(), &link.to_string_lossy());
    }
    Err(Failure::new(format!("stat {path}: too many levels of symbolic links")))
}

/// One renaming after the other.
fn join(first: Option<(String, String)>, then: Option<(String, String)>) -> Option<Rebase> {
    let (from, to) = match (first, then) {
        (None, then) => then?,
        (first, None) => first?,
        (Some((from, _)), Some((_, to))) => (from, to),
    };
    Some(Rebase { from: from.into_bytes(), to: to.into_bytes() })
}

fn write_out(data: &[u8]) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(data).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::new(format!("write to standard output: {error}"))),
    }
}

/// Takes an archive apart while it comes. Gives its size.
async fn receive(mut body: Incoming, directory: PathBuf, rebase: Option<Rebase>, owners: bool) -> Outcome<u64> {
    let (sender, pieces) = mpsc::channel::<io::Result<Bytes>>(QUEUE);
    let work = tokio::task::spawn_blocking(move || {
        let pieces = BufReader::with_capacity(PIECE, Pieces::new(pieces));
        tree::unpack(pieces, &directory, rebase.as_ref(), owners)
    });
    let mut size = 0;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().unwrap_or_default(),
            Err(error) => {
                let _ = sender.send(Err(io::Error::other(format!("the archive was cut off: {error}")))).await;
                break;
            }
        };
        size += piece.len() as u64;
        // Whoever takes it apart says why it stopped.
        if sender.send(Ok(piece)).await.is_err() {
            break;
        }
    }
    drop(sender);
    work.await.map_err(|error| Failure::new(format!("take the archive apart: {error}")))??;
    Ok(size)
}

/// Pieces that come, as something to read.
pub struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Pieces {
    /// What comes by a channel; it is read where that may wait.
    pub fn new(pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        Self { pieces, piece: Bytes::new() }
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.piece = piece?,
            }
        }
        let size = buffer.len().min(self.piece.len());
        buffer[..size].copy_from_slice(&self.piece.split_to(size));
        Ok(size)
    }
}

/// Something to write into that sends pieces.
struct Sender {
    pieces: mpsc::Sender<io::Result<Bytes>>,
    sent: u64,
}

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent += bytes.len() as u64;
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.pieces.blocking_send(piece).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

async fn into(client: &Client, args: &Cp, from: Side<'_>, name: &str, path: &str) -> Outcome {
    let mut target = path.to_owned();
    let mut found = stat(client, name, path).await;
    if let Ok(Stat { link: Some(link), .. }) = &found {
        target = follow(path, link);
        found = stat(client, name, &target).await;
    }
    let there = match found {
        Ok(found) => Some(found.directory),
        Err(failure) if failure.not_found() => None,
        Err(failure) => return Err(failure),
    };
    let (sender, pieces) = mpsc::channel(QUEUE);
    let mut out = Sender { pieces: sender, sent: 0 };
    let (directory, work) = match from {
        Side::Here(here) => {
            let (source, name_of) = source(args, here)?;
            let is_directory = std::fs::metadata(&source).is_ok_and(|found| found.is_dir())
                && (args.follow_link || !source.is_symlink());
            let place = place(&format!("/{name_of}"), is_directory, &target, there).map_err(Failure::new)?;
            let packed_as = place.rebase.map_or(name_of, |(_, to)| to);
            let work = tokio::task::spawn_blocking(move || {
                let mut buffered = io::BufWriter::with_capacity(PIECE, &mut out);
                let outcome = tree::pack(&source, packed_as.as_bytes(), &mut buffered);
                let flushed = buffered.flush();
                drop(buffered);
                finish(&out, outcome.and_then(|()| flushed.of("send the archive")))
            });
            (place.directory, work)
        }
        _ if there != Some(true) => {
            return Err(Failure::new(format!("destination \"{name}:{path}\" must be a directory")));
        }
        _ => {
            let work = tokio::task::spawn_blocking(move || {
                let outcome = io::copy(&mut io::stdin().lock(), &mut out).map(drop).of("send the archive");
                finish(&out, outcome)
            });
            (target.clone(), work)
        }
    };
    let request = archive(name, &directory).with("noOverwriteDirNonDir", "true");
    let request = if args.archive { request.with("copyUIDGID", "true") } else { request };
    let answer = client.bytes(Request::put(request).archive(pieces)).await;
    let packed = work.await.map_err(|error| Failure::new(format!("pack the archive: {error}")))?;
    // The daemon's word is why nobody took it any more.
    if let Err(failure @ Failure::Daemon { .. }) = answer {
        return Err(failure);
    }
    let size = packed?;
    answer?;
    tell(args, size, &format!("{name}:{target}"));
    Ok(())
}

/// What is said at the end of an archive: its size, or that it is none.
fn finish(out: &Sender, outcome: Outcome) -> Outcome<u64> {
    if let Err(failure) = &outcome {
        // An archive that is not whole must not look as if it were.
        let _ = out.pieces.blocking_send(Err(io::Error::other(failure.text())));
    }
    outcome.map(|()| out.sent)
}

/// What is read here, and the name that it has in the archive.
fn source(args: &Cp, here: &str) -> Outcome<(PathBuf, String)> {
    let full = absolute(here, &std::env::current_dir().of("find the present directory")?).display().to_string();
    let name = split(&full).1;
    let path = PathBuf::from(full.trim_end_matches("/."));
    let path = if path.as_os_str().is_empty() { PathBuf::from("/") } else { path };
    let found = std::fs::symlink_metadata(&path).of(format!("lstat {}", path.display()))?;
    if here.ends_with('/') && !path.is_dir() {
        return Err(Failure::new(format!("{}: not a directory", path.display())));
    }
    if args.follow_link && found.is_symlink() {
        let link = std::fs::read_link(&path).of(path.display())?;
        let parent = path.parent().unwrap_or(Path::new("/"));
        return Ok((absolute(&link.to_string_lossy(), parent), name));
    }
    Ok((path, name))
}

fn tell(args: &Cp, size: u64, to: &str) {
    if !args.quiet && io::stdout().is_terminal() {
        terminal::tell(&format!("Successfully copied {} to {to}\n", units::size(size)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides() {
        assert_eq!(side("box:/etc"), Side::Container("box", "/etc"));
        assert_eq!(side("/a:b"), Side::Here("/a:b"));
        assert_eq!(side("./a:b"), Side::Here("./a:b"));
        assert_eq!(side("a"), Side::Here("a"));
        assert_eq!(side("-"), Side::Archive);
    }

    #[test]
    fn places() {
        let check = |source: &str, directory: bool, target: &str, there: Option<bool>, expect: &str| {
            let got = match place(source, directory, target, there) {
                Ok(Place { directory, rebase: None }) => directory,
                Ok(Place { directory, rebase: Some((from, to)) }) => format!("{directory} {from}->{to}"),
                Err(why) => format!("!{why}"),
            };
            assert_eq!(got, expect, "{source} {target}");
        };
        check("/etc/hosts", false, "/tmp", Some(true), "/tmp");
        check("/etc/hosts", false, "/tmp/x", None, "/tmp hosts->x");
        check("/etc/hosts", false, "/tmp/x", Some(false), "/tmp hosts->x");
        check("/etc/hosts", false, "/tmp/x/", None, "!no such directory");
        check("/etc", true, "/tmp/x", None, "/tmp etc->x");
        check("/etc", true, "/tmp/x", Some(false), "!cannot copy directory");
        check("/etc/.", true, "/tmp/x", None, "/tmp .->x");
        check("/etc/.", true, "/tmp", Some(true), "/tmp");
        check("/etc/", true, "/x", None, "/ etc->x");
    }

    #[test]
    fn links() {
        assert_eq!(follow("/a/link", "../b"), "/b");
        assert_eq!(follow("/a/link", "/c"), "/c");
        assert_eq!(follow("/a/link", "d"), "/a/d");
        assert_eq!(
            join(Some(("b".into(), "a".into())), Some(("a".into(), "c".into()))),
            Some(Rebase { from: b"b".to_vec(), to: b"c".to_vec() })
        );
    }
}
