//! What containers use, as `docker stats` has it.

use crate::render::listing::Listing;
use crate::render::{id, units};
use crate::template::Value;

/// The listing.
pub const LISTING: Listing = Listing {
    table: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
    titles: &[
        ("Container", "CONTAINER"),
        ("Name", "NAME"),
        ("ID", "CONTAINER ID"),
        ("CPUPerc", "CPU %"),
        ("MemUsage", "MEM USAGE / LIMIT"),
        ("MemPerc", "MEM %"),
        ("NetIO", "NET I/O"),
        ("BlockIO", "BLOCK I/O"),
        ("PIDs", "PIDS"),
    ],
};

/// The row of a container: by what it was asked for, and the last of its measurements, if there is one.
pub fn row(asked: &str, stats: Option<&Value>, whole: bool) -> Value {
    let fields = match stats {
        None => {
            let dashes = || "--".to_owned();
            [
                ("BlockIO", dashes()),
                ("CPUPerc", dashes()),
                ("Container", asked.to_owned()),
                ("ID", String::new()),
                ("MemPerc", dashes()),
                ("MemUsage", "-- / --".to_owned()),
                ("Name", dashes()),
                ("NetIO", dashes()),
                ("PIDs", dashes()),
            ]
        }
        Some(stats) => measured(asked, stats, whole),
    };
    Value::row(fields.map(|(name, text)| (name, Value::Text(text))))
}

#[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
fn measured(asked: &str, stats: &Value, whole: bool) -> [(&'static str, String); 9] {
    let name = stats.text("name").trim_start_matches('/');
    let (used, limit) = memory(stats);
    let percent = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let (read, written) = blocks(stats);
    let (received, sent) = network(stats);
    let pair = |a: u64, b: u64| format!("{} / {}", units::size(a), units::size(b));
    [
        ("BlockIO", pair(read, written)),
        ("CPUPerc", format!("{:.2}%", cpu(stats))),
        ("Container", asked.to_owned()),
        ("ID", id(stats.text("id"), whole)),
        ("MemPerc", format!("{percent:.2}%")),
        ("MemUsage", format!("{} / {}", units::binary_size(used), units::binary_size(limit))),
        ("Name", if name.is_empty() { "--".to_owned() } else { name.to_owned() }),
        ("NetIO", pair(received, sent)),
        ("PIDs", stats.at(&["pids_stats"]).int("current").to_string()),
    ]
}

fn count(value: &Value, name: &str) -> u64 {
    u64::try_from(value.int(name)).unwrap_or(0)
}

/// The share of one CPU, in percent, since the measurement before.
#[allow(clippy::cast_precision_loss)]
fn cpu(stats: &Value) -> f64 {
    let (now, before) = (stats.at(&["cpu_stats"]), stats.at(&["precpu_stats"]));
    let used = now.at(&["cpu_usage"]).int("total_usage") - before.at(&["cpu_usage"]).int("total_usage");
    let passed = now.int("system_cpu_usage") - before.int("system_cpu_usage");
    let cpus = match now.int("online_cpus") {
        0 => now.at(&["cpu_usage", "percpu_usage"]).items().len() as i64,
        cpus => cpus,
    };
    if used > 0 && passed > 0 { used as f64 / passed as f64 * cpus as f64 * 100.0 } else { 0.0 }
}

/// Memory in use, without what the kernel gives back at once, and its limit.
fn memory(stats: &Value) -> (u64, u64) {
    let memory = stats.at(&["memory_stats"]);
    let usage = count(memory, "usage");
    let kept = memory.at(&["stats"]);
    let inactive = ["total_inactive_file", "inactive_file"].into_iter().find(|name| kept.get(name).is_some());
    let inactive = inactive.map_or(0, |name| count(kept, name));
    (if inactive < usage { usage - inactive } else { usage }, count(memory, "limit"))
}

/// Bytes read and written.
fn blocks(stats: &Value) -> (u64, u64) {
    let list = stats.at(&["blkio_stats"]).list("io_service_bytes_recursive");
    let sum = |letter: char| {
        let of = list.iter().filter(|one| one.text("op").to_ascii_lowercase().starts_with(letter));
        of.map(|one| count(one, "value")).sum()
    };
    (sum('r'), sum('w'))
}

/// Bytes received and sent.
fn network(stats: &Value) -> (u64, u64) {
    let all = stats.at(&["networks"]).entries();
    let sum = |name: &str| all.iter().map(|(_, one)| count(one, name)).sum();
    (sum("rx_bytes"), sum("tx_bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows() {
        let stats: Value = serde_json::from_str(
            r#"{"id":"0123456789abcdef","name":"/web","pids_stats":{"current":3},
            "cpu_stats":{"cpu_usage":{"total_usage":300},"system_cpu_usage":2000,"online_cpus":2},
            "precpu_stats":{"cpu_usage":{"total_usage":100},"system_cpu_usage":1000},
            "memory_stats":{"usage":3145728,"limit":67108864,"stats":{"inactive_file":1048576}},
            "networks":{"eth0":{"rx_bytes":1500,"tx_bytes":0},"eth1":{"rx_bytes":1,"tx_bytes":2}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":5},{"op":"write","value":4096},{"op":"","value":9}]}}"#,
        )
        .unwrap();
        let form = LISTING.form(None).unwrap();
        let rows = [row("web", Some(&stats), false), row("gone", None, false)];
        insta::assert_snapshot!(LISTING.render(&form, &rows, None).unwrap(), @r"
        CONTAINER ID   NAME      CPU %     MEM USAGE / LIMIT   MEM %     NET I/O      BLOCK I/O    PIDS
        0123456789ab   web       40.00%    2MiB / 64MiB        3.12%     1.5kB / 2B   5B / 4.1kB   3
                       --        --        -- / --             --        --           --           --
        ");
    }
}
