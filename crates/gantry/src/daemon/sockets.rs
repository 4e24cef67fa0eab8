//! The sockets of the daemon: bound by it, handed over by a service manager, or by the daemon that was here before.

use std::net::{TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::net::{AddressFamily, sockopt};
use serde::{Deserialize, Serialize};

use super::config::{DaemonConfig, without_tls};
use crate::client::host::Host;
use crate::failure::{Failure, Of, Outcome};

/// The first descriptor that a service manager hands over (sd_listen_fds(3)).
const FIRST: i32 = 3;
/// The most that are taken over.
const MOST: i32 = 64;
/// The variable that tells a daemon what the one before it hands over.
pub const VARIABLE: &str = "GANTRY_SOCKETS";

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// In the file system.
    Unix(UnixListener),
    /// Of TCP.
    Tcp(TcpListener),
}

impl Listener {
    fn of(fd: OwnedFd) -> Outcome<Self> {
        let what = "take over a socket";
        match sockopt::socket_domain(&fd).of(what)? {
            AddressFamily::UNIX => Ok(Self::Unix(fd.into())),
            AddressFamily::INET | AddressFamily::INET6 => Ok(Self::Tcp(fd.into())),
            other => Err(Failure::new(format!("{what}: it is of another family: {other:?}"))),
        }
    }

    /// Where it listens.
    pub fn place(&self) -> String {
        match self {
            Self::Unix(listener) => {
                let path = listener.local_addr().ok().and_then(|address| address.as_pathname().map(Path::to_path_buf));
                format!("unix://{}", path.unwrap_or_default().display())
            }
            Self::Tcp(listener) => listener.local_addr().map_or_else(|_| "tcp".to_owned(), |at| format!("tcp://{at}")),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(listener) => listener.as_fd(),
            Self::Tcp(listener) => listener.as_fd(),
        }
    }
}

/// A socket, and what it is for.
#[derive(Debug)]
pub struct Bound {
    /// What was asked for, by which the next daemon finds it: `unix:///run/x.sock`, `metrics 127.0.0.1:9323`.
    name: String,
    /// The socket.
    pub listener: Listener,
    /// Whether a service manager holds it too, and keeps it when we end.
    managed: bool,
}

impl Bound {
    /// Takes the socket's name away, if there is nobody else behind it.
    pub fn remove(&self) {
        if let (false, Some(path)) = (self.managed, self.name.strip_prefix("unix://")) {
            // Somebody may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// What one daemon hands over to the next.
#[derive(Debug, Serialize, Deserialize)]
struct Handed {
    /// Who: a child of the next must not believe that it is meant.
    pid: u32,
    /// How many daemons there were before it in this process.
    generation: u64,
    sockets: Vec<HandedSocket>,
}

#[derive(Debug, Serialize, Deserialize)]
struct HandedSocket {
    name: String,
    descriptor: i32,
    managed: bool,
}

/// What was handed over and has not found its use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Bound>,
    /// How many daemons there were before this one in this process.
    pub generation: u64,
}

impl Inherited {
    /// Takes over what this process was started with. It can be done once.
    pub fn take() -> Outcome<Self> {
        let mut all = Self::default();
        let own = std::process::id();
        if let Some(handed) = std::env::var(VARIABLE).ok().and_then(|text| serde_json::from_str::<Handed>(&text).ok())
            && handed.pid == own
        {
            all.generation = handed.generation;
            for HandedSocket { name, descriptor, managed } in handed.sockets {
                let listener = taken(descriptor)?;
                all.sockets.push(Bound { name, listener, managed });
            }
        }
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
        if number("LISTEN_PID") == Some(own) {
            let count = i32::try_from(number("LISTEN_FDS").unwrap_or(0)).unwrap_or(MOST).min(MOST);
            for descriptor in FIRST..FIRST + count {
                let listener = taken(descriptor)?;
                all.sockets.push(Bound { name: listener.place(), listener, managed: true });
            }
        }
        Ok(all)
    }

    fn find(&mut self, name: &str) -> Option<Bound> {
        let at = self.sockets.iter().position(|bound| bound.name == name)?;
        Some(self.sockets.swap_remove(at))
    }

    /// The sockets of the API: those of a service manager, and those that are configured.
    pub fn api(&mut self, config: &DaemonConfig) -> Outcome<Vec<Bound>> {
        let mut all: Vec<Bound> = self.sockets.extract_if(.., |bound| bound.managed).collect();
        if config.tls.is_none()
            && let Some(open) = all.iter().find(|bound| matches!(bound.listener, Listener::Tcp(_)))
        {
            return Err(without_tls(&open.listener.place()));
        }
        let mut wanted = config.places()?;
        // A manager that holds a socket of this kind holds the one.
        if !all.iter().any(|bound| matches!(bound.listener, Listener::Unix(_))) {
            wanted.insert(0, Host::Unix(config.socket.clone()));
        }
        for place in wanted {
            let name = place.to_string();
            let known = all.iter().any(|bound| bound.name == name || bound.listener.place() == name);
            if known {
                continue;
            }
            let bound = match self.find(&name) {
                Some(bound) => bound,
                None => Bound { listener: bind(&place, config)?, name, managed: false },
            };
            all.push(bound);
        }
        Ok(all)
    }

    /// A socket for something else than the API, by its use and its address.
    pub fn tcp(&mut self, purpose: &str, address: std::net::SocketAddr) -> Outcome<Bound> {
        let name = format!("{purpose} {address}");
        if let Some(bound) = self.find(&name) {
            return Ok(bound);
        }
        let listener = TcpListener::bind(address).of(format!("listen at {address} for {purpose}"))?;
        Ok(Bound { name, listener: Listener::Tcp(listener), managed: false })
    }

    /// Closes what the daemon before had and this one has no use for.
    pub fn close(self) -> u64 {
        for bound in &self.sockets {
            tracing::info!("{} is not configured any more, and closed", bound.name);
            bound.remove();
        }
        self.generation
    }
}

fn taken(descriptor: i32) -> Outcome<Listener> {
    let fd = gantry_sys::misc::take_inherited(descriptor).of(format!("take over descriptor {descriptor}"))?;
    Listener::of(fd)
}

fn bind(place: &Host, config: &DaemonConfig) -> Outcome<Listener> {
    match place {
        Host::Unix(path) => bind_path(path, config).map(Listener::Unix),
        Host::Tcp(host, port) => {
            let what = || format!("listen at {place}");
            let address = (host.as_str(), *port).to_socket_addrs().of(what())?.next();
            let address = address.ok_or_else(|| Failure::new(format!("{}: the name has no address", what())))?;
            TcpListener::bind(address).of(what()).map(Listener::Tcp)
        }
    }
}

fn bind_path(path: &PathBuf, config: &DaemonConfig) -> Outcome<UnixListener> {
    let what = || format!("listen at {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).of(what())?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        let text = format!("a daemon answers at {} already", path.display());
        let hint = "stop it, replace it with gantry daemon --replace, or choose another socket with --socket";
        return Err(Failure::new(text).hint(hint));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::from(error).of(what())),
        _ => {}
    }
    let listener = UnixListener::bind(path).of(what())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).of(what())?;
    if let Some(group) = &config.group {
        let id = group_id(group)?;
        std::os::unix::fs::chown(path, None, Some(id)).of(what())?;
    }
    Ok(listener)
}

/// The number of a group.
fn group_id(name: &str) -> Outcome<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string("/etc/group").of("read /etc/group")?;
    let found = text.lines().find_map(|line| {
        let mut parts = line.split(':');
        (parts.next() == Some(name)).then(|| parts.nth(1)?.parse().ok()).flatten()
    });
    found.ok_or_else(|| Failure::new(format!("there is no group {name:?}")))
}

/// Leaves sockets open for the program that this process is about to become; gives what is to be in [`VARIABLE`] for it.
pub fn hand_over<'a>(sockets: impl Iterator<Item = &'a Bound>, generation: u64) -> Outcome<String> {
    let mut handed = Handed { pid: std::process::id(), generation, sockets: Vec::new() };
    for bound in sockets {
        let fd = bound.listener.as_fd();
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty()).of("hand a socket over")?;
        let (name, descriptor, managed) = (bound.name.clone(), fd.as_raw_fd(), bound.managed);
        handed.sockets.push(HandedSocket { name, descriptor, managed });
    }
    Ok(serde_json::to_string(&handed)?)
}
