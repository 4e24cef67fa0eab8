//! A daemon that says what a test tells it to, on a socket of its own: what the command line makes of answers, and what it
//! asks for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends where its place cannot be made")]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::world::{Said, World, bare, said};

/// A request that came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and target, without the version: `GET /containers/json?all=1`.
    pub what: String,
    /// The version of the API.
    pub version: String,
    pub body: String,
}

/// What is answered.
pub enum Answer {
    /// A status and a JSON document.
    Json(u16, String),
    /// A status, further headers, and bytes.
    Bytes(u16, &'static str, Vec<u8>),
    /// The connection is handed over: these bytes are written, and what comes is noted as a request of its own.
    Hijack(Vec<u8>),
}

/// An answer that says yes.
pub fn json(text: &str) -> Answer {
    Answer::Json(200, text.to_owned())
}

/// A frame of a stream of outputs.
pub fn frame(stream: u8, text: &str) -> Vec<u8> {
    let mut out = vec![stream, 0, 0, 0];
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    out
}

/// The daemon.
pub struct Fake {
    pub world: World,
    socket: PathBuf,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// A daemon that speaks a version of the API, and answers so.
    pub fn new(version: &'static str, answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let world = World::new();
        let socket = world.dir.join("daemon.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || drop(serve(stream.unwrap(), version, &noted, &*answer)));
            }
        });
        Self { world, socket, asked }
    }

    /// A call that speaks to this daemon.
    pub fn command(&self, line: &str) -> Command {
        let mut command = bare();
        command
            .args(line.split(' '))
            .env("GANTRY_HOST", format!("unix://{}", self.socket.display()))
            .env("DOCKER_CONFIG", self.world.dir.join("docker"))
            .env("HOME", &self.world.dir);
        command
    }

    pub fn run(&self, line: &str) -> Said {
        said(self.command(line).output().unwrap())
    }

    /// What was asked for since the last time, without the greetings.
    pub fn asked(&self) -> Vec<Asked> {
        let all = std::mem::take(&mut *self.asked.lock().unwrap());
        all.into_iter().filter(|one| one.what != "HEAD /_ping").collect()
    }
}

fn serve(
    mut stream: UnixStream,
    version: &str,
    noted: &Mutex<Vec<Asked>>,
    answer: &dyn Fn(&Asked) -> Answer,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    while let Some(asked) = read(&mut reader)? {
        noted.lock().unwrap().push(asked.clone());
        if asked.what == "HEAD /_ping" {
            let head = format!("HTTP/1.1 200 OK\r\nApi-Version: {version}\r\nContent-Length: 0\r\n\r\n");
            stream.write_all(head.as_bytes())?;
            continue;
        }
        match answer(&asked) {
            Answer::Json(status, text) => {
                reply(&mut stream, status, "Content-Type: application/json\r\n", text.as_bytes())?;
            }
            Answer::Bytes(status, headers, bytes) => reply(&mut stream, status, headers, &bytes)?,
            Answer::Hijack(bytes) => {
                stream.write_all(b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")?;
                stream.write_all(&bytes)?;
                let mut typed = String::new();
                reader.read_to_string(&mut typed)?;
                noted.lock().unwrap().push(Asked { what: "typed".to_owned(), body: typed, ..asked });
                return Ok(());
            }
        }
    }
    Ok(())
}

fn reply(stream: &mut UnixStream, status: u16, headers: &str, body: &[u8]) -> std::io::Result<()> {
    let head = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Asked>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let header = |name: &str| headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let mut body = Vec::new();
    if header("transfer-encoding") == Some("chunked") {
        body = chunks(reader)?;
    } else if let Some(length) = header("content-length") {
        reader.take(length.parse().unwrap()).read_to_end(&mut body)?;
    }
    let (version, target) = match target.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) => (version.to_owned(), format!("/{rest}")),
        None => (String::new(), target),
    };
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok(Some(Asked { what: format!("{method} {target}"), version, body }))
}

fn chunks(reader: &mut impl BufRead) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let size = u64::from_str_radix(line.trim(), 16).unwrap();
        reader.by_ref().take(size).read_to_end(&mut body)?;
        reader.read_line(&mut line)?;
        if size == 0 {
            return Ok(body);
        }
    }
}
