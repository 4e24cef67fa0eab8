//! Credential helpers: programs that keep passwords in a store of the system (`docker-credential-NAME`).
//!
//! They are somebody else's programs: what they print and how long they run is bounded.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::credential::Credential;
use crate::error::{Error, Result};
use crate::header::tidy;

/// The most that a helper may print, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;
/// What helpers give as the name of what is a refresh token.
const TOKEN_NAME: &str = "<token>";

/// A helper by the name in `credsStore` or `credHelpers`.
#[derive(Clone, Debug)]
pub(crate) struct Helper<'a> {
    pub(crate) name: &'a str,
    /// Where programs are looked for, as `PATH` has it.
    pub(crate) search: &'a OsStr,
    /// How long it may run.
    pub(crate) limit: Duration,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    #[serde(default, rename = "ServerURL")]
    server_url: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

impl Helper<'_> {
    /// The credential for a server, if there is one.
    pub(crate) fn get(&self, server: &str) -> Result<Option<Credential>> {
        let (good, output) = self.run("get", server.as_bytes())?;
        if !good {
            // The protocol has no other sign of it than this text.
            let unknown = output.contains("credentials not found") || output.contains("no credentials");
            return if unknown { Ok(None) } else { Err(self.error("get", &output)) };
        }
        let entry: Entry =
            serde_json::from_str(&output).map_err(|error| self.error("get", &format!("its answer: {error}")))?;
        Ok(match entry {
            Entry { secret, .. } if secret.is_empty() => None,
            Entry { username, secret, .. } if username == TOKEN_NAME => {
                Some(Credential::Identity { username: String::new(), token: secret })
            }
            Entry { username, secret, .. } => Some(Credential::Password { username, password: secret }),
        })
    }

    /// Keeps a credential.
    pub(crate) fn store(&self, server: &str, credential: &Credential) -> Result<()> {
        let (username, secret) = match credential {
            Credential::Password { username, password } => (username.as_str(), password),
            Credential::Identity { token, .. } => (TOKEN_NAME, token),
            Credential::Bearer(_) => {
                return Err(self.error("store", "it keeps passwords and refresh tokens only"));
            }
        };
        let entry = Entry { server_url: server.into(), username: username.into(), secret: secret.clone() };
        let text = serde_json::to_vec(&entry).map_err(|error| self.error("store", &error.to_string()))?;
        self.done("store", &text)
    }

    /// Forgets a credential.
    pub(crate) fn erase(&self, server: &str) -> Result<()> {
        self.done("erase", server.as_bytes())
    }

    fn done(&self, action: &'static str, input: &[u8]) -> Result<()> {
        match self.run(action, input)? {
            (true, _) => Ok(()),
            (false, output) => Err(self.error(action, &output)),
        }
    }

    /// Runs it: whether it succeeded, and what it printed.
    fn run(&self, action: &'static str, input: &[u8]) -> Result<(bool, String)> {
        let program = self.find(action)?;
        let failed = |error: std::io::Error| self.error(action, &error.to_string());
        let mut child = Command::new(program)
            .arg(action)
            .env("PATH", self.search)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let deadline = Instant::now() + self.limit;
        let output = exchange(&mut child, input.to_vec()).map_err(failed)?;
        let output = output.recv_timeout(self.limit);
        let status = wait(&mut child, deadline).map_err(failed)?;
        let (Ok(output), Some(status)) = (output, status) else {
            let seconds = self.limit.as_secs();
            return Err(self.error(action, &format!("it did not end within {seconds} s, and was stopped")));
        };
        if output.len() as u64 > MAX_OUTPUT {
            return Err(self.error(action, &format!("it printed more than {MAX_OUTPUT} bytes")));
        }
        Ok((status.success(), String::from_utf8_lossy(&output).trim().to_owned()))
    }

    /// Its program. The name comes from a file, and may not lead out of the search path.
    fn find(&self, action: &'static str) -> Result<PathBuf> {
        let good = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_' | b'.');
        if self.name.is_empty() || self.name.len() > 128 || !self.name.bytes().all(good) {
            return Err(self.error(action, "its name is made of letters, digits, - _ and ."));
        }
        let file = format!("docker-credential-{}", self.name);
        let places = std::env::split_paths(self.search).filter(|place| place.is_absolute());
        let found = places.map(|place| place.join(&file)).find(|path| path.is_file());
        found.ok_or_else(|| self.error(action, "it is not in PATH; install it, or change the configuration"))
    }

    fn error(&self, action: &'static str, why: &str) -> Error {
        let why = if why.is_empty() { "failed".to_owned() } else { tidy(why) };
        Error::Helper { program: format!("docker-credential-{}", tidy(self.name)), action, why }
    }
}

/// Writes to a program and reads from it on threads of their own, so that neither can hold us.
fn exchange(child: &mut Child, input: Vec<u8>) -> std::io::Result<mpsc::Receiver<Vec<u8>>> {
    let (sender, receiver) = mpsc::channel();
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let write = move || {
        // One that does not read what it does not need is none the worse.
        stdin.map(|mut stdin| stdin.write_all(&input))
    };
    let read = move || {
        let mut output = vec![];
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_OUTPUT + 1).read_to_end(&mut output);
        }
        // The one who waited may have given up.
        let _ = sender.send(output);
    };
    std::thread::Builder::new().name("helper-in".into()).spawn(write)?;
    std::thread::Builder::new().name("helper-out".into()).spawn(read)?;
    Ok(receiver)
}

/// Waits for a program until the deadline, then stops it.
fn wait(child: &mut Child, deadline: Instant) -> std::io::Result<Option<std::process::ExitStatus>> {
    let mut pause = Duration::from_millis(1);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}
