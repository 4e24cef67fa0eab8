//! `events`: statistics at intervals, and what happens in between.

use std::io::{self, Write};
use std::time::Instant;

use gantry_cgroup::OomEvent;
use gantry_model::oci::state::Status;
use gantry_oci::cli::Events;
use gantry_oci::log::Log;
use gantry_oci::output::{self, Event};
use gantry_runtime::{Error, Runtime};

use super::Failure;

pub(super) fn events(runtime: &Runtime, events: &Events, log: &Log) -> Result<u8, Failure> {
    let id = events.id.as_str();
    if events.stats {
        tell(&output::event(id, &Event::Stats(&runtime.stats(&events.id)?))?)?;
        return Ok(0);
    }
    let report = runtime.report(&events.id)?;
    if report.status == Status::Stopped {
        return Err(Error::Status { action: "watch", id: events.id.to_string(), status: report.status }.into());
    }
    let mut watch = report.record.cgroup.watch_oom()?;
    let mut next = Instant::now() + events.interval;
    loop {
        let line = match watch.next(next.saturating_duration_since(Instant::now()))? {
            OomEvent::Gone => return Ok(0),
            OomEvent::Oom => output::event(id, &Event::OutOfMemory)?,
            OomEvent::None if Instant::now() < next => continue,
            OomEvent::None => {
                next += events.interval;
                match runtime.stats(&events.id) {
                    Ok(stats) => output::event(id, &Event::Stats(&stats))?,
                    Err(Error::NotFound(_) | Error::Status { .. }) => return Ok(0),
                    // What cannot be read now may be readable later, as when a limit is just being changed.
                    Err(error) => {
                        log.error(error);
                        continue;
                    }
                }
            }
        };
        if !tell(&line)? {
            return Ok(0);
        }
    }
}

/// Writes a line; false where its reader has gone.
fn tell(line: &str) -> io::Result<bool> {
    let mut out = io::stdout().lock();
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        result => result.map(|()| true),
    }
}
