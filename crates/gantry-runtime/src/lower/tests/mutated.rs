//! Damaged configurations: lowering refuses them or not, and never panics.

use std::hash::{BuildHasher, Hasher, RandomState};

use serde_json::{Value, json};

use super::{Setting, default_config, patched};

/// Numbers from a seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit.max(1)
    }
}

/// Values that stand where others were expected.
fn oddities() -> Vec<Value> {
    vec![
        json!(null),
        json!(true),
        json!(0),
        json!(-1),
        json!(i64::MIN),
        json!(u64::MAX),
        json!(1.5),
        json!(""),
        json!("\0"),
        json!("/"),
        json!("../../.."),
        json!("/proc/../proc/self"),
        json!("=,:;@"),
        json!("x".repeat(5000)),
        json!("é\u{202e}"),
        json!([]),
        json!({}),
        json!([null, [], {}]),
        json!([{"containerID": u32::MAX, "hostID": u32::MAX, "size": u32::MAX}]),
        json!([{"type": "user"}, {"type": "mount"}, {"type": "time"}]),
        json!(["bind", "idmap=uids=@0-0-4294967295;gids=0-4294967295-1", "rro", "unbindable", "mode=99999999999"]),
    ]
}

/// How many values a document has, itself among them.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

/// The value of that number, in the order in which they are counted.
fn nth(value: &mut Value, mut index: usize) -> &mut Value {
    if index == 0 {
        return value;
    }
    index -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(items) => items.iter_mut().collect(),
        Value::Object(fields) => fields.values_mut().collect(),
        _ => unreachable!("a scalar has no values"),
    };
    for child in children {
        let size = count(child);
        if index < size {
            return nth(child, index);
        }
        index -= size;
    }
    unreachable!("the number is within the count")
}

/// Everything that a configuration can have, so that there is much to damage.
fn full() -> Value {
    patched(
        &default_config(),
        &json!({
            "domainname": "d",
            "hooks": {"prestart": [{"path": "/x", "timeout": 1}], "poststop": [{"path": "/x", "env": ["A=b"]}]},
            "process": {
                "consoleSize": {"height": 1, "width": 1},
                "user": {"additionalGids": [1], "umask": 18},
                "oomScoreAdj": 1,
                "scheduler": {"policy": "SCHED_OTHER", "nice": 1, "flags": ["SCHED_FLAG_RESET_ON_FORK"]},
                "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1}
            },
            "linux": {
                "uidMappings": super::mapped(1),
                "gidMappings": super::mapped(1),
                "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1, "fileMode": 438, "uid": 1, "gid": 1}],
                "sysctl": {"net.ipv4.ip_forward": "1"},
                "timeOffsets": {"boottime": {"secs": 1, "nanosecs": 1}},
                "netDevices": {"eth0": {"name": "x"}},
                "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-3", "flags": ["MPOL_F_STATIC_NODES"]},
                "personality": {"domain": "LINUX", "flags": ["X"]},
                "intelRdt": {"closID": "x", "schemata": ["L3:0=f"], "enableMonitoring": true},
                "rootfsPropagation": "shared"
            }
        }),
    )
}

#[test]
fn damage_never_panics() {
    let chosen = std::env::var("GANTRY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = chosen.unwrap_or_else(|| RandomState::new().build_hasher().finish()) | 1;
    // Shown when the test fails: the same seed in GANTRY_TEST_SEED repeats it.
    println!("GANTRY_TEST_SEED={seed}");
    let mut random = Random(seed);
    let (oddities, documents) = (oddities(), [default_config(), full()]);
    let mut settings = [Setting::root(), Setting::user(), Setting::hybrid()];
    settings[0].host.resctrl = Some("/sys/fs/resctrl".into());
    let mut accepted = 0;
    for round in 0..4000 {
        let mut document = documents[random.below(documents.len())].clone();
        for _ in 0..=random.below(3) {
            let place = random.below(count(&document));
            let with = oddities[random.below(oddities.len())].clone();
            *nth(&mut document, place) = with;
        }
        let setting = &settings[random.below(settings.len())];
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| setting.lower(&document)));
        let outcome = outcome.unwrap_or_else(|_| panic!("seed {seed}, round {round}: {document}"));
        if let Ok(steps) = outcome {
            accepted += 1;
            assert!(crate::step::listing(&steps).lines().count() >= steps.len());
        }
    }
    assert!(accepted > 100, "only {accepted} of 4000 were not refused: the damage is too great to test much");
}
