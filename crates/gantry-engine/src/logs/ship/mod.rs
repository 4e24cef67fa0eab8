//! What containers wrote is sent to other logs, from the file that the monitor writes.
//!
//! How far that came is kept beside the log ([`Position`]), after what was sent: an engine that is killed loses nothing, and
//! sends the last pieces again. A server that is away is tried again; meanwhile the file holds what is to be sent, as far
//! as it is bounded.

mod connection;
pub(super) mod fluentd;
pub(super) mod gelf;
pub(super) mod journald;
pub(super) mod syslog;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gantry_model::logrecord::Stream;
use gantry_model::monitor::LogFile;
use tokio::sync::watch;
use tokio::time::Instant;

use super::Entry;
use super::changes::Changes;
use super::identity::{Attributes, Identity, Template};
use super::option::Address;
use super::reader::{Position, Reader};
use crate::engine::blocking;
use crate::error::{Context as _, Error, Result};
use connection::Connection;

/// How often at most it is written down how far it came.
const NOTED: Duration = Duration::from_millis(200);
/// How long nothing is heard before the log is looked at anyway.
const UNHEARD: Duration = Duration::from_secs(1);
/// How long a server is waited for at most between two tries.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// Where to, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Driver {
    Journald,
    Syslog(syslog::Plan),
    Fluentd(fluentd::Plan),
    Gelf(gelf::Plan),
}

/// Sends a log elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipper {
    driver: Driver,
    tag: Template,
    attributes: Attributes,
}

/// What a shipper is told while it runs.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Whether nothing more is going to be written to the log: then all is sent, and it ends.
    pub ended: watch::Receiver<bool>,
    /// Whether to end at once.
    pub shutdown: watch::Receiver<bool>,
}

/// Of a line in several parts, which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    id: u64,
    ordinal: u64,
    last: bool,
}

impl Part {
    /// What is said of it, by names without what comes before them.
    fn fields(&self) -> Vec<(&'static str, String)> {
        vec![
            ("message", "true".to_owned()),
            ("id", format!("{:016x}", self.id)),
            ("ordinal", self.ordinal.to_string()),
            ("last", self.last.to_string()),
        ]
    }
}

/// Which parts of lines came, one of each stream, and how many lines in parts there were.
#[derive(Debug, Default)]
struct Parts([Option<(u64, u64)>; 2], u64);

impl Parts {
    fn next(&mut self, entry: &Entry) -> Option<Part> {
        let place = &mut self.0[usize::from(entry.stream == Stream::Stderr)];
        if place.is_none() && !entry.is_partial() {
            return None;
        }
        let (id, ordinal) = place.map_or_else(
            || {
                // Lines that were read together have one time.
                self.1 += 1;
                ((entry.time as u64).wrapping_add(self.1), 1)
            },
            |(id, ordinal)| (id, ordinal + 1),
        );
        *place = entry.is_partial().then_some((id, ordinal));
        Some(Part { id, ordinal, last: !entry.is_partial() })
    }
}

/// What is sent in one go.
struct Packet {
    bytes: Vec<u8>,
    /// What is to be said to it.
    answer: Option<String>,
}

/// Makes packets of entries.
struct Encoder {
    driver: Driver,
    /// The container's, in short.
    id: String,
    tag: String,
    host: String,
    fields: BTreeMap<String, String>,
    values: BTreeMap<String, serde_json::Value>,
    parts: Parts,
    pid: u32,
    /// A number for each message, from one that hardly any other container begins with.
    messages: u64,
}

impl Encoder {
    fn encode(&mut self, entries: &[Entry], position: Position) -> Vec<Packet> {
        let plain = |bytes| Packet { bytes, answer: None };
        let parts: Vec<_> = entries.iter().map(|entry| (entry, self.parts.next(entry))).collect();
        match &self.driver {
            Driver::Journald => {
                parts.iter().map(|(entry, part)| plain(journald::encode(entry, *part, &self.fields))).collect()
            }
            Driver::Syslog(plan) => {
                entries.iter().map(|entry| plain(plan.encode(entry, &self.tag, &self.host, self.pid))).collect()
            }
            Driver::Gelf(plan) => {
                let packets = entries.iter().flat_map(|entry| {
                    self.messages = self.messages.wrapping_add(1);
                    plan.encode(entry, &self.values, self.messages)
                });
                packets.map(plain).collect()
            }
            Driver::Fluentd(plan) => {
                // It is the same for what is sent again, so that a server can tell.
                let id = format!("{}-{:08x}-{:016x}", self.id, position.number, position.offset);
                let bytes = plan.encode(&parts, &self.tag, &self.fields, &id);
                vec![Packet { bytes, answer: plan.acknowledge.then_some(id) }]
            }
        }
    }
}

impl fmt::Display for Shipper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.driver {
            Driver::Journald => f.write_str("journald"),
            Driver::Syslog(plan) => match &plan.address {
                None => f.write_str("syslog to this machine"),
                Some(address) => write!(f, "syslog to {address}"),
            },
            Driver::Fluentd(plan) => write!(f, "fluentd to {}", plan.address),
            Driver::Gelf(plan) => write!(f, "gelf to {}", plan.address),
        }
    }
}

impl Shipper {
    pub(super) fn new(driver: Driver, tag: Template, attributes: Attributes) -> Self {
        Self { driver, tag, attributes }
    }

    /// Whether somebody is there, before a container is started whose log is sent. A driver that is asked to do so in the
    /// background is not asked.
    ///
    /// # Errors
    /// Nobody is.
    pub async fn check(&self) -> Result<()> {
        if matches!(&self.driver, Driver::Fluentd(plan) if plan.asynchronous) {
            return Ok(());
        }
        self.connect().await.map(drop).context(|| format!("failed to initialize logging driver: {self}"))
    }

    async fn connect(&self) -> io::Result<Connection> {
        let none = syslog::TlsFiles::default();
        match &self.driver {
            Driver::Journald => Connection::journal(Path::new(journald::SOCKET)).await,
            Driver::Syslog(plan) => {
                if let Some(address) = &plan.address {
                    Connection::open(address, &plan.tls).await
                } else {
                    let mut last = io::Error::from(io::ErrorKind::NotFound);
                    for path in syslog::LOCAL {
                        let address = Address::Unixgram(path.to_owned());
                        match Connection::open(&address, &none).await {
                            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                            Err(error) => last = error,
                            Ok(connection) => return Ok(connection),
                        }
                    }
                    Err(last)
                }
            }
            Driver::Fluentd(plan) => Connection::open(&plan.address, &none).await,
            Driver::Gelf(plan) => Connection::open(&plan.address, &none).await,
        }
    }

    /// How often a piece is tried again before it is given up, how long is waited at first, and how much longer each time.
    fn patience(&self) -> (u32, Duration, f64) {
        match &self.driver {
            Driver::Journald | Driver::Syslog(_) => (u32::MAX, Duration::from_millis(100), 2.0),
            Driver::Fluentd(plan) => (plan.retries, plan.wait, 1.5),
            Driver::Gelf(plan) => (plan.retries, plan.delay, 1.0),
        }
    }

    fn encoder(&self, identity: &Identity) -> Encoder {
        let tag = self.tag.render(identity);
        let extra = self.attributes.of(identity);
        let fields = match &self.driver {
            Driver::Journald => journald::fields(identity, &tag, &extra),
            _ => fluentd::fields(identity, &extra),
        };
        Encoder {
            driver: self.driver.clone(),
            id: identity.id.chars().take(12).collect(),
            messages: identity.id.get(..16).and_then(|id| u64::from_str_radix(id, 16).ok()).unwrap_or_default(),
            values: gelf::fields(identity, &tag, &extra),
            host: identity.hostname.clone(),
            parts: Parts::default(),
            pid: std::process::id(),
            tag,
            fields,
        }
    }

    /// Sends a log, from where it was left, until it has ended and all is sent, or it is to stop. How far it came is kept
    /// at `cursor`.
    ///
    /// # Errors
    /// The log cannot be read. That nobody takes it is no error: it is tried again.
    pub async fn run(&self, file: LogFile, identity: Identity, cursor: PathBuf, mut signals: Signals) -> Result<()> {
        let mut sending =
            Sending { shipper: self, encoder: self.encoder(&identity), connection: None, id: identity.id.clone() };
        let dir = Path::new(&file.path).parent().map(Path::to_path_buf).unwrap_or_default();
        let path = cursor.clone();
        let mut reader = blocking(move || Ok(Reader::resume(&file, load(&path)?))).await?;
        let mut changes = Changes::of(&dir);
        let mut noted = (reader.position(), Instant::now());
        let done = loop {
            let ended = *signals.ended.borrow();
            if let Some(changes) = &mut changes {
                changes.seen();
            }
            let before = reader.position();
            let (back, entries) = blocking(move || {
                let entries = reader.read()?;
                Ok((reader, entries))
            })
            .await?;
            reader = back;
            if !entries.is_empty() {
                tokio::select! {
                    () = sending.send(&entries, before) => {}
                    _ = signals.shutdown.wait_for(|stop| *stop) => break before,
                }
            }
            let position = reader.position();
            if position != noted.0 && (entries.is_empty() || noted.1.elapsed() > NOTED) {
                save(&cursor, position).await?;
                noted = (position, Instant::now());
            }
            if !entries.is_empty() {
                continue;
            }
            if ended || *signals.shutdown.borrow() {
                break position;
            }
            tokio::select! {
                () = heard(changes.as_mut()) => {}
                Ok(_) = signals.ended.wait_for(|ended| *ended) => {}
                Ok(_) = signals.shutdown.wait_for(|stop| *stop) => {}
            }
        };
        save(&cursor, done).await
    }
}

/// Waits for word of changes, but not for ever.
async fn heard(changes: Option<&mut Changes>) {
    match changes {
        Some(changes) => {
            let _ = tokio::time::timeout(UNHEARD, changes.changed()).await;
        }
        None => tokio::time::sleep(NOTED).await,
    }
}

struct Sending<'a> {
    shipper: &'a Shipper,
    encoder: Encoder,
    connection: Option<Connection>,
    id: String,
}

impl Sending<'_> {
    /// Sends entries, for as long as it takes, or as often as is asked for.
    async fn send(&mut self, entries: &[Entry], position: Position) {
        let mut left = self.encoder.encode(entries, position);
        let (retries, mut wait, factor) = self.shipper.patience();
        let mut tries = 0_u32;
        while !left.is_empty() {
            let Err(error) = self.attempt(&mut left).await else { return };
            self.connection = None;
            if tries == 0 {
                tracing::warn!(container = self.id, %error, "the log cannot be sent by {}", self.shipper);
            }
            if tries >= retries {
                tracing::warn!(container = self.id, "{} entries of the log are given up", entries.len());
                return;
            }
            tries += 1;
            tokio::time::sleep(wait).await;
            wait = wait.mul_f64(factor).min(MAX_WAIT.max(wait));
        }
    }

    /// Sends what is left, and takes it away.
    async fn attempt(&mut self, left: &mut Vec<Packet>) -> io::Result<()> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.shipper.connect().await?,
        };
        if !connection.is_packets() && left.iter().all(|packet| packet.answer.is_none()) {
            let all: Vec<u8> = left.iter().flat_map(|packet| packet.bytes.iter().copied()).collect();
            connection.send(&all).await?;
            left.clear();
        }
        let mut sent = 0;
        let done = loop {
            let Some(packet) = left.get(sent) else { break Ok(()) };
            if let Err(error) = connection.send(&packet.bytes).await {
                break Err(error);
            }
            if let Some(answer) = &packet.answer
                && let Err(error) = connection.expect(answer.as_bytes()).await
            {
                break Err(error);
            }
            sent += 1;
        };
        left.drain(..sent);
        done?;
        self.connection = Some(connection);
        Ok(())
    }
}

/// Reads how far it came; from the beginning if that is not known.
fn load(path: &Path) -> Result<Position> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Position::default()),
        other => other.context(|| format!("read {}", path.display()))?,
    };
    let numbers = text.trim().split_once(' ');
    let position = numbers.and_then(|(number, offset)| Some((number.parse().ok()?, offset.parse().ok()?)));
    let (number, offset) = position.ok_or_else(|| {
        let why = "it does not say how far a log was sent: remove it to send all of it again";
        Error::Invalid(format!("{}: {why}", path.display()))
    })?;
    Ok(Position { number, offset })
}

async fn save(path: &Path, position: Position) -> Result<()> {
    let path = path.to_path_buf();
    blocking(move || {
        let draft = path.with_extension("draft");
        let write = std::fs::write(&draft, format!("{} {}\n", position.number, position.offset));
        write.and_then(|()| std::fs::rename(&draft, &path)).context(|| format!("write {}", path.display()))
    })
    .await
}
