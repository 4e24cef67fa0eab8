//! `logs`: of one container as it wrote them, of several with their names before each line.

use std::io::{self, Write};

use futures_util::future::try_join_all;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::cli::container::Logs;
use crate::client::frames::{Channel, Frames};
use crate::client::{Client, Request, Target};
use crate::context::{self, Context};
use crate::failure::{Failure, Outcome};
use crate::terminal;
use crate::times;

/// The longest line that is kept until it ends, in bytes.
const LINE: usize = 64 << 10;
/// Colours of names, as a terminal knows them.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 31];

/// Shows what containers wrote.
pub fn run(context: &Context, args: &Logs) -> Outcome {
    let time = |text: &Option<String>| match text.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => times::stamp(text, context::now_in_nanoseconds()).map(Some).map_err(Failure::Usage),
        None => Ok(None),
    };
    let (since, until) = (time(&args.since)?, time(&args.until)?);
    let target = |id: &str| {
        Target::new(&["containers", id, "logs"])
            .flag("stdout", true)
            .flag("stderr", true)
            .maybe("since", since.as_deref())
            .maybe("until", until.as_deref())
            .flag("timestamps", args.timestamps)
            .flag("details", args.details)
            .flag("follow", args.follow)
            .with("tail", &args.tail)
    };
    context.ask(async |client| {
        let mut streams = Vec::new();
        for (index, name) in args.names.iter().enumerate() {
            let found = client.json(Request::get(Target::new(&["containers", name, "json"]))).await?;
            let id = found.text("Id").to_owned();
            let prefix = (args.names.len() > 1).then(|| prefix(&args.names, index));
            streams.push((id, found.at(&["Config"]).is("Tty"), prefix));
        }
        let shown = streams.iter().map(|(id, terminal, prefix)| show(client, target(id), *terminal, prefix.as_deref()));
        if args.follow {
            return try_join_all(shown).await.map(drop);
        }
        for one in shown {
            one.await?;
        }
        Ok(())
    })
}

/// What stands before the lines of one of several: its name, as wide as the longest, in a colour of its own.
fn prefix(names: &[String], index: usize) -> String {
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or(0);
    let text = format!("{:<width$} | ", names[index]);
    if terminal::output_colours() { format!("\u{1b}[{}m{text}\u{1b}[0m", COLOURS[index % COLOURS.len()]) } else { text }
}

async fn show(client: &Client, target: Target, tty: bool, prefix: Option<&str>) -> Outcome {
    let mut body: Incoming = client.call(Request::get(target)).await?.into_body();
    let mut frames = (!tty).then(Frames::default);
    let (mut out, mut err) = (Lines::new(prefix), Lines::new(prefix));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Failure::new(format!("the daemon's answer was cut off: {error}")))?;
        let Some(data) = frame.data_ref() else { continue };
        match &mut frames {
            None => out.write(data, &mut io::stdout().lock())?,
            Some(frames) => {
                frames.feed(data);
                while let Some((channel, piece)) = frames.next()? {
                    match channel {
                        Channel::Out => out.write(&piece, &mut io::stdout().lock())?,
                        Channel::Err => err.write(&piece, &mut io::stderr().lock())?,
                    }
                }
            }
        }
    }
    out.end(&mut io::stdout().lock())?;
    err.end(&mut io::stderr().lock())
}

/// Writes as it comes; with a prefix, a whole line at a time.
struct Lines<'a> {
    prefix: Option<&'a str>,
    line: Vec<u8>,
}

impl<'a> Lines<'a> {
    const fn new(prefix: Option<&'a str>) -> Self {
        Self { prefix, line: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8], to: &mut dyn Write) -> Outcome {
        let Some(prefix) = self.prefix else { return put(to, bytes) };
        self.line.extend_from_slice(bytes);
        let mut text = Vec::new();
        while let Some(at) =
            self.line.iter().position(|byte| *byte == b'\n').or((self.line.len() > LINE).then_some(LINE))
        {
            let rest = self.line.split_off(at + 1);
            text.extend_from_slice(prefix.as_bytes());
            text.append(&mut self.line);
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
            self.line = rest;
        }
        put(to, &text)
    }

    fn end(&mut self, to: &mut dyn Write) -> Outcome {
        if self.line.is_empty() { Ok(()) } else { self.write(b"\n", to) }
    }
}

fn put(to: &mut dyn Write, bytes: &[u8]) -> Outcome {
    match to.write_all(bytes).and_then(|()| to.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::new(format!("write the log: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let check = |prefix: Option<&str>, pieces: &[&str], expect: &str| {
            let mut lines = Lines::new(prefix);
            let mut out = Vec::new();
            for piece in pieces {
                lines.write(piece.as_bytes(), &mut out).unwrap();
            }
            lines.end(&mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expect, "{pieces:?}");
        };
        check(None, &["a", "b\nc"], "ab\nc");
        check(Some("x | "), &["a", "b\nc"], "x | ab\nx | c\n");
        check(Some("x | "), &["a\n\nb\n"], "x | a\nx | \nx | b\n");
        check(Some("x | "), &[], "");
        let long = "a".repeat(LINE + 10);
        let (whole, rest) = long.split_at(LINE + 1);
        check(Some("- "), &[&long], &format!("- {whole}\n- {rest}\n"));
        assert_eq!(prefix(&["a".to_owned(), "long".to_owned()], 0), "a    | ");
    }
}
