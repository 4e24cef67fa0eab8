//! The socket that clients connect to: our own, or one that a service manager holds.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener as StdListener};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use super::config::DaemonConfig;
use crate::failure::{Failure, Of, Outcome};

/// The first descriptor that a service manager passes on.
const FIRST: i32 = 3;

/// A socket that is bound.
pub struct Bound {
    listener: StdListener,
    /// Its path, if it is ours to remove.
    path: Option<PathBuf>,
}

impl Bound {
    /// Takes the socket away.
    pub fn remove(self) {
        if let Some(path) = self.path {
            // Somebody may have been faster.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Binds the socket, or takes over the one that systemd passes on (sd_listen_fds(3)).
pub fn bind(config: &DaemonConfig) -> Outcome<Bound> {
    if let Some(listener) = passed_on()? {
        return Ok(Bound { listener, path: None });
    }
    let path = &config.socket;
    let what = || format!("listen at {}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).of(what())?;
    }
    if answers(path) {
        let text = format!("a daemon answers at {} already", path.display());
        return Err(Failure::new(text).hint("stop it, or choose another socket with --socket"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::from(error).of(what())),
        _ => {}
    }
    let listener = StdListener::bind(path).of(what())?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).of(what())?;
    if let Some(group) = &config.group {
        let id = group_id(group)?;
        std::os::unix::fs::chown(path, None, Some(id)).of(what())?;
    }
    Ok(Bound { listener, path: Some(path.clone()) })
}

/// Whether somebody listens at a path.
fn answers(path: &Path) -> bool {
    std::os::unix::net::UnixStream::connect(path).is_ok()
}

/// The socket for the runtime of this program.
pub fn listener(bound: &Bound) -> Outcome<UnixListener> {
    let what = "listen";
    let listener = bound.listener.try_clone().of(what)?;
    listener.set_nonblocking(true).of(what)?;
    UnixListener::from_std(listener).of(what)
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

/// The first socket that was passed on, if this process is who it was passed to.
fn passed_on() -> Outcome<Option<StdListener>> {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    if number("LISTEN_PID") != Some(std::process::id()) || number("LISTEN_FDS").is_none_or(|count| count == 0) {
        return Ok(None);
    }
    let what = "take over the socket that the service manager passes on";
    let own = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty()).of(what)?;
    let fd = rustix::process::pidfd_getfd(own, FIRST, rustix::process::PidfdGetfdFlags::empty()).of(what)?;
    // The original must not go on to containers.
    gantry_sys::misc::close_on_exec_from(FIRST as u32).of(what)?;
    Ok(Some(StdListener::from(fd)))
}

/// Tells the service manager something (sd_notify(3)).
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // A manager that does not listen misses it.
    let _ = socket.send_to(state.as_bytes(), path);
}

/// The daemon answers.
pub fn say_ready() {
    notify("READY=1");
}

/// The daemon ends.
pub fn say_stopping() {
    notify("STOPPING=1");
}
