//! What a service manager is told (sd_notify(3)), if one asked for it.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Tells the service manager something.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let Ok(socket) = UnixDatagram::unbound() else { return };
    // A manager that does not listen misses it.
    let _ = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => {
            use std::os::linux::net::SocketAddrExt as _;
            std::os::unix::net::SocketAddr::from_abstract_name(name)
                .and_then(|address| socket.send_to_addr(state.as_bytes(), &address))
        }
        None => socket.send_to(state.as_bytes(), path),
    };
}

/// The daemon answers.
pub fn ready() {
    notify("READY=1\nSTATUS=answers");
}

/// The daemon reads its configuration again, or is replaced; [`ready`] ends that.
pub fn reloading(status: &str) {
    let micros = gantry_sys::misc::monotonic_micros();
    notify(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS={status}"));
}

/// The daemon ends.
pub fn stopping() {
    notify("STOPPING=1\nSTATUS=ends");
}

/// How often the service manager wants to hear of the daemon: half the time after which it takes it for dead.
pub fn watchdog() -> Option<Duration> {
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|micros| *micros > 1).map(|micros| Duration::from_micros(micros / 2))
}

/// The daemon lives.
pub fn alive() {
    notify("WATCHDOG=1");
}
