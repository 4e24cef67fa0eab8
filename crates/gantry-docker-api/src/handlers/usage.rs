//! What containers use.

use std::time::Duration;

use gantry_engine::stats::{Blkio, Cpu, Stats};
use serde_json::{Map, Value, json};

use crate::error::Outcome;
use crate::reply::{Reply, ok, stream};
use crate::request::Request;
use crate::server::Api;
use crate::time::rfc3339;

/// How often numbers are told.
const PAUSE: Duration = Duration::from_secs(1);

/// `GET /containers/ID/stats`.
pub(crate) async fn stats(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let view = api.engine.container(id)?;
    let (name, id) = (view.record.name_path(), view.record.id.clone());
    let streamed = request.flag_or("stream", true);
    if !streamed {
        let before = if request.flag("one-shot") {
            None
        } else {
            // Shares of processor time need two looks.
            let before = api.engine.stats(&id).await?;
            tokio::time::sleep(PAUSE).await;
            before
        };
        let now = api.engine.stats(&id).await?;
        return Ok(ok(&document(&name, &id, now.as_ref(), before.as_ref())));
    }
    let first = api.engine.stats(&id).await?;
    let state = (api.clone(), name, id, first, true);
    let pieces = futures_util::stream::unfold(state, |(api, name, id, before, first)| async move {
        if !first {
            tokio::time::sleep(PAUSE).await;
        }
        // It ends when the container is gone.
        let now = api.engine.stats(&id).await.ok()?;
        let line = format!("{}\n", document(&name, &id, now.as_ref(), before.as_ref().filter(|_| !first)));
        Some((Ok(line.into()), (api, name, id, now, false)))
    });
    Ok(stream("application/json", pieces))
}

/// `GET /containers/ID/top`.
pub(crate) async fn top(api: &Api, id: &str, request: &Request) -> Outcome<Reply> {
    let top = api.engine.top(id, request.get("ps_args")).await?;
    Ok(ok(&json!({"Titles": top.titles, "Processes": top.processes})))
}

/// The numbers of a moment and those of the one before.
fn document(name: &str, id: &str, now: Option<&Stats>, before: Option<&Stats>) -> Value {
    let Some(now) = now else {
        return json!({
            "read": rfc3339(0), "preread": rfc3339(0), "pids_stats": {}, "blkio_stats": blkio(None, false), "num_procs": 0,
            "storage_stats": {}, "cpu_stats": cpu(None), "precpu_stats": cpu(None), "memory_stats": {}, "name": name, "id": id,
        });
    };
    let mut document = json!({
        "read": rfc3339(now.read),
        "preread": rfc3339(before.map_or(0, |before| before.read)),
        "pids_stats": pids(now),
        "blkio_stats": blkio(now.blkio.as_ref(), is_split(now)),
        "num_procs": 0,
        "storage_stats": {},
        "cpu_stats": cpu(Some(now)),
        "precpu_stats": cpu(before),
        "memory_stats": memory(now),
        "name": name,
        "id": id,
    });
    if let (Some(networks), Some(object)) = (&now.networks, document.as_object_mut()) {
        let networks = networks.iter().filter(|(name, _)| *name != "lo").map(|(name, one)| {
            let numbers = json!({
                "rx_bytes": one.rx_bytes, "rx_packets": one.rx_packets, "rx_errors": one.rx_errors, "rx_dropped": one.rx_dropped,
                "tx_bytes": one.tx_bytes, "tx_packets": one.tx_packets, "tx_errors": one.tx_errors, "tx_dropped": one.tx_dropped,
            });
            (name.clone(), numbers)
        });
        object.insert("networks".to_owned(), networks.collect::<Map<_, _>>().into());
    }
    document
}

fn pids(now: &Stats) -> Value {
    let Some(pids) = &now.pids else { return json!({}) };
    let mut document = json!({"current": pids.current});
    if let Some(object) = document.as_object_mut() {
        match pids.limit {
            Some(limit) => drop(object.insert("limit".to_owned(), limit.into())),
            None if is_split(now) => {}
            // Without a limit it is as large as can be.
            None => drop(object.insert("limit".to_owned(), u64::MAX.into())),
        }
    }
    document
}

fn cpu(stats: Option<&Stats>) -> Value {
    let none = Cpu::default();
    let cpu = stats.and_then(|stats| stats.cpu.as_ref()).unwrap_or(&none);
    let mut usage = json!({
        "total_usage": cpu.total, "usage_in_kernelmode": cpu.kernel, "usage_in_usermode": cpu.user,
    });
    if let (Some(per_cpu), Some(object)) = (&cpu.per_cpu, usage.as_object_mut()) {
        object.insert("percpu_usage".to_owned(), json!(per_cpu));
    }
    let mut document = json!({
        "cpu_usage": usage,
        "throttling_data": {
            "periods": cpu.periods, "throttled_periods": cpu.throttled_periods, "throttled_time": cpu.throttled_time,
        },
    });
    if let (Some(stats), Some(object)) = (stats, document.as_object_mut()) {
        object.insert("system_cpu_usage".to_owned(), stats.system.usage.into());
        object.insert("online_cpus".to_owned(), stats.system.cpus.into());
    }
    document
}

fn memory(now: &Stats) -> Value {
    let Some(memory) = &now.memory else { return json!({}) };
    let mut document = json!({"usage": memory.usage, "stats": memory.stat, "limit": memory.limit});
    if let Some(object) = document.as_object_mut() {
        if let Some(max) = memory.max {
            object.insert("max_usage".to_owned(), max.into());
        }
        if memory.failures != 0 {
            object.insert("failcnt".to_owned(), memory.failures.into());
        }
    }
    document
}

/// Whether the numbers are those of cgroup version 1, which has some of its own and tells of nothing by an empty list.
fn is_split(stats: &Stats) -> bool {
    stats.cpu.as_ref().is_some_and(|cpu| cpu.per_cpu.is_some())
}

fn blkio(blkio: Option<&Blkio>, split: bool) -> Value {
    let list = |entries: Option<&Vec<_>>| {
        let entries: Option<&Vec<_>> = entries.filter(|entries: &&Vec<_>| split || !entries.is_empty());
        entries.map_or(Value::Null, |entries| json!(entries))
    };
    json!({
        "io_service_bytes_recursive": list(blkio.map(|io| &io.service_bytes)),
        "io_serviced_recursive": list(blkio.map(|io| &io.serviced)),
        "io_queue_recursive": list(blkio.map(|io| &io.queued)),
        "io_service_time_recursive": list(blkio.map(|io| &io.service_time)),
        "io_wait_time_recursive": list(blkio.map(|io| &io.wait_time)),
        "io_merged_recursive": list(blkio.map(|io| &io.merged)),
        "io_time_recursive": list(blkio.map(|io| &io.time)),
        "sectors_recursive": list(blkio.map(|io| &io.sectors)),
    })
}
