//! `events`: statistics at intervals, and what happens in between.

use gantry_model::oci::state::Status;
use gantry_oci::cli::Events;
use gantry_runtime::Runtime;
use serde_json::json;

use super::{Failure, print};

pub(super) fn events(runtime: &Runtime, events: &Events) -> Result<u8, Failure> {
    let id = events.id.as_str();
    let stats = || -> Result<String, Failure> {
        Ok(format!("{}\n", json!({"type": "stats", "id": id, "data": runtime.stats(&events.id)?})))
    };
    if events.stats {
        return print(&stats()?);
    }
    let record = runtime.report(&events.id)?.record;
    let mut watch = record.cgroup.watch_oom()?;
    loop {
        print(&stats()?)?;
        let _ = watch.next(events.interval);
        if runtime.report(&events.id)?.status == Status::Stopped {
            return Ok(0);
        }
    }
}
