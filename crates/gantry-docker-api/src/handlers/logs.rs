//! Logs.

use bytes::Bytes;
use gantry_engine::logs::{Entry, Query};

use super::stream::{MULTIPLEXED, RAW};
use crate::error::{Failure, Outcome};
use crate::reply::{Reply, stream};
use crate::request::{Request, Version};
use crate::server::Api;
use crate::time::{self, rfc3339};

/// How entries are shown.
#[derive(Clone, Debug)]
struct Shown {
    terminal: bool,
    timestamps: bool,
    /// What stands before each line.
    details: String,
}

/// `GET /containers/ID/logs`.
pub(crate) async fn logs(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let time = |key: &str| match request.get(key) {
        "" | "0" => Ok(None),
        text => time::parse(text).map(Some).ok_or_else(|| Failure::invalid(format!("invalid value {text:?} of {key}"))),
    };
    let query = Query {
        stdout: request.flag("stdout"),
        stderr: request.flag("stderr"),
        since: time("since")?,
        until: time("until")?,
        // What is no number is all.
        tail: request.get("tail").parse().ok(),
        follow: request.flag("follow"),
    };
    if !query.stdout && !query.stderr {
        return Err(Failure::invalid("Bad parameters: you must choose at least one stream"));
    }
    let view = api.engine.container(id)?;
    let logs = api.engine.logs(id, query).await?;
    let shown = Shown {
        terminal: view.record.config.terminal,
        timestamps: request.flag("timestamps"),
        details: if request.flag("details") { details(&view) } else { String::new() },
    };
    let kind = if request.version >= Version(1, 42) && !shown.terminal { MULTIPLEXED } else { RAW };
    let pieces = futures_util::stream::unfold((logs, shown), |(mut logs, shown)| async move {
        match logs.next().await {
            Ok(Some(entries)) => Some((Ok(bytes_of(&entries, &shown)), (logs, shown))),
            Ok(None) => None,
            Err(error) => Some((Err(std::io::Error::other(error.to_string())), (logs, shown))),
        }
    });
    Ok(stream(kind, pieces))
}

/// What the log options say is to be shown with each line.
fn details(view: &gantry_engine::View) -> String {
    let record = &view.record;
    let option = |name: &str| record.host.log.options.get(name).cloned().unwrap_or_default();
    let (labels, env) = (option("labels"), option("env"));
    let mut pairs = Vec::new();
    for name in labels.split(',').filter(|name| !name.is_empty()) {
        if let Some(value) = record.config.labels.get(name) {
            pairs.push(format!("{name}={value}"));
        }
    }
    for name in env.split(',').filter(|name| !name.is_empty()) {
        let value = record.config.env.iter().find_map(|one| one.strip_prefix(name)?.strip_prefix('='));
        pairs.extend(value.map(|value| format!("{name}={value}")));
    }
    pairs.sort_unstable();
    format!("{} ", pairs.join(","))
}

fn bytes_of(entries: &[Entry], shown: &Shown) -> Bytes {
    let mut out = Vec::new();
    for entry in entries {
        let mut line = Vec::new();
        if shown.timestamps {
            line.extend_from_slice(padded(entry.time).as_bytes());
            line.push(b' ');
        }
        line.extend_from_slice(shown.details.as_bytes());
        line.extend_from_slice(&entry.text);
        if !shown.terminal {
            out.extend_from_slice(&[entry.stream.number(), 0, 0, 0]);
            out.extend_from_slice(&(line.len() as u32).to_be_bytes());
        }
        out.extend_from_slice(&line);
    }
    out.into()
}

/// A text as a client gets it that is attached to standard output.
pub(crate) fn framed(text: &str, terminal: bool) -> Bytes {
    let stream = gantry_model::logrecord::Stream::Stdout;
    let entry = Entry { time: 0, stream, text: text.as_bytes().to_vec() };
    bytes_of(&[entry], &Shown { terminal, timestamps: false, details: String::new() })
}

/// RFC 3339 with all nine digits.
fn padded(nanoseconds: i64) -> String {
    let text = rfc3339(nanoseconds);
    let text = text.trim_end_matches('Z');
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    format!("{seconds}.{fraction:0<9}Z")
}

/// All that was logged, as an attached client gets it.
pub(crate) async fn logged(api: &Api, id: &str, streams: gantry_engine::request::Streams) -> Outcome<Bytes> {
    let query = Query { stdout: streams.stdout, stderr: streams.stderr, ..Query::default() };
    let terminal = api.engine.container(id)?.record.config.terminal;
    let shown = Shown { terminal, timestamps: false, details: String::new() };
    let mut logs = api.engine.logs(id, query).await?;
    let mut all = Vec::new();
    while let Some(entries) = logs.next().await? {
        all.extend_from_slice(&bytes_of(&entries, &shown));
    }
    Ok(all.into())
}

#[cfg(test)]
mod tests {
    #[test]
    fn nine_digits() {
        assert_eq!(super::padded(1_500_000_000), "1970-01-01T00:00:01.500000000Z");
        assert_eq!(super::padded(1_000_000_000), "1970-01-01T00:00:01.000000000Z");
    }
}
