//! Counters, in the text form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the classes of durations, in milliseconds.
const CLASSES: [u64; 9] = [1, 5, 10, 50, 100, 500, 1_000, 10_000, 60_000];

#[derive(Default)]
struct Histogram {
    classes: [u64; CLASSES.len()],
    count: u64,
    micros: u64,
}

/// What is counted.
#[derive(Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<(&'static str, u16), u64>>,
    durations: Mutex<BTreeMap<&'static str, Histogram>>,
    pub sent: Arc<AtomicU64>,
    pub received: AtomicU64,
    pub connections: AtomicI64,
    pub uploads_expired: AtomicU64,
    pub gc_runs: AtomicU64,
    pub gc_blobs: AtomicU64,
    pub gc_bytes: AtomicU64,
    pub retention_removed: AtomicU64,
    pub cache_hits: AtomicU64,
    pub cache_misses: AtomicU64,
    pub cache_evicted: AtomicU64,
    pub cache_passed: AtomicU64,
}

impl Metrics {
    /// Counts a request.
    pub fn request(&self, operation: &'static str, status: u16, took: Duration) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry((operation, status)).or_default() += 1;
        let mut durations = self.durations.lock().unwrap_or_else(PoisonError::into_inner);
        let histogram = durations.entry(operation).or_default();
        for (class, bound) in histogram.classes.iter_mut().zip(CLASSES) {
            *class += u64::from(took.as_micros() <= u128::from(bound * 1000));
        }
        histogram.count += 1;
        histogram.micros += took.as_micros() as u64;
    }

    /// The text. `uploads`: how many are open.
    pub fn render(&self, uploads: usize) -> String {
        let mut out = String::new();
        // Writing to a text does not fail.
        let _ = self.write(&mut out, uploads);
        out
    }

    fn write(&self, out: &mut String, uploads: usize) -> std::fmt::Result {
        writeln!(out, "# HELP gantry_registry_requests_total Requests by operation and status.")?;
        writeln!(out, "# TYPE gantry_registry_requests_total counter")?;
        for ((operation, status), count) in self.requests.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            writeln!(out, "gantry_registry_requests_total{{operation=\"{operation}\",status=\"{status}\"}} {count}")?;
        }
        let name = "gantry_registry_request_seconds";
        writeln!(out, "# HELP {name} Time from a request's head to the head of its answer.\n# TYPE {name} histogram")?;
        for (operation, histogram) in self.durations.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (class, bound) in histogram.classes.iter().zip(CLASSES) {
                let bound = Duration::from_millis(bound).as_secs_f64();
                writeln!(out, "{name}_bucket{{operation=\"{operation}\",le=\"{bound}\"}} {class}")?;
            }
            writeln!(out, "{name}_bucket{{operation=\"{operation}\",le=\"+Inf\"}} {}", histogram.count)?;
            writeln!(
                out,
                "{name}_sum{{operation=\"{operation}\"}} {}",
                Duration::from_micros(histogram.micros).as_secs_f64()
            )?;
            writeln!(out, "{name}_count{{operation=\"{operation}\"}} {}", histogram.count)?;
        }
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        for (name, help, value) in [
            ("sent_bytes_total", "Bytes of bodies sent.", load(&self.sent)),
            ("received_bytes_total", "Bytes of uploads received.", load(&self.received)),
            ("uploads_expired_total", "Uploads removed since nobody went on with them.", load(&self.uploads_expired)),
            ("gc_runs_total", "Collections that ended.", load(&self.gc_runs)),
            ("gc_blobs_total", "Blobs that collections removed.", load(&self.gc_blobs)),
            ("gc_bytes_total", "Bytes of links that collections removed.", load(&self.gc_bytes)),
            ("retention_removed_total", "Tags and manifests that rules removed.", load(&self.retention_removed)),
            ("cache_hits_total", "Requests for upstream's content answered from storage.", load(&self.cache_hits)),
            ("cache_misses_total", "Requests for upstream's content passed on.", load(&self.cache_misses)),
            ("cache_evicted_total", "Blobs and manifests that made room for others.", load(&self.cache_evicted)),
            ("cache_passed_total", "Blobs that passed through since there is no room.", load(&self.cache_passed)),
        ] {
            writeln!(out, "# HELP gantry_registry_{name} {help}\n# TYPE gantry_registry_{name} counter")?;
            writeln!(out, "gantry_registry_{name} {value}")?;
        }
        let connections = u64::try_from(self.connections.load(Ordering::Relaxed)).unwrap_or_default();
        for (name, help, value) in [
            ("connections", "Connections that are open.", connections),
            ("uploads", "Uploads that are open.", uploads as u64),
        ] {
            writeln!(out, "# HELP gantry_registry_{name} {help}\n# TYPE gantry_registry_{name} gauge")?;
            writeln!(out, "gantry_registry_{name} {value}")?;
        }
        Ok(())
    }
}
