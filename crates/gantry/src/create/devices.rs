//! Devices of the host, by path, by what they can do, and how fast they may be.

use serde_json::{Value, json};

use super::csv;
use super::pairs;
use super::units;

/// Devices by path, and by their CDI names.
#[derive(Debug, Default, PartialEq)]
pub struct Devices {
    /// `Devices`.
    pub mappings: Vec<Value>,
    /// Names such as `vendor.com/class=one`.
    pub cdi: Vec<String>,
}

impl Devices {
    /// Reads all of `--device`.
    pub fn read(all: &[String]) -> Result<Self, String> {
        let mut devices = Self::default();
        for text in all {
            if is_cdi(text) { devices.cdi.push(text.clone()) } else { devices.mappings.push(mapping(text)?) }
        }
        Ok(devices)
    }
}

/// Whether a text is `VENDOR/CLASS=NAME`, which no path is.
fn is_cdi(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    let word = |text: &str, signs: &str| {
        text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text.ends_with(|c: char| c.is_ascii_alphanumeric())
            && text.chars().all(|c| c.is_ascii_alphanumeric() || signs.contains(c))
    };
    word(vendor, "-._") && word(class, "-_") && word(name, "-._:")
}

fn mapping(text: &str) -> Result<Value, String> {
    let mode = |text: &str| !text.is_empty() && text.chars().all(|c| "rwm".contains(c));
    let parts: Vec<&str> = text.split(':').collect();
    let (host, container, rules) = match parts[..] {
        [host] => (host, host, "rwm"),
        [host, rules] if mode(rules) => (host, host, rules),
        [host, container] => (host, container, "rwm"),
        [host, container, rules] if mode(rules) => (host, container, rules),
        [_, _, rules] => return Err(format!("bad mode specified: {rules}")),
        _ => return Err(format!("bad format for path: {text}")),
    };
    if host.is_empty() || container.is_empty() {
        return Err(format!("bad format for path: {text}"));
    }
    if !container.starts_with('/') {
        return Err(format!("{container} is not an absolute path"));
    }
    Ok(json!({"PathOnHost": host, "PathInContainer": container, "CgroupPermissions": rules}))
}

/// A rule such as `c 42:* rmw`.
pub fn rule(text: &str) -> Result<String, String> {
    let wrong = || format!("invalid device cgroup format '{text}'");
    let [kind, numbers, access] = text.split(' ').collect::<Vec<_>>()[..] else { return Err(wrong()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text == "*" || (!text.is_empty() && text.chars().all(|c| c.is_ascii_digit()));
    let good = ["a", "b", "c"].contains(&kind)
        && number(major)
        && number(minor)
        && (1..=3).contains(&access.len())
        && access.chars().all(|c| "rwm".contains(c));
    if good { Ok(text.to_owned()) } else { Err(wrong()) }
}

/// Reads a `--gpus`.
pub fn gpus(text: &str) -> Result<Value, String> {
    let count = |text: &str| match text {
        "all" => Ok(-1),
        text => text.parse::<i64>().map_err(|_| format!("count must be an integer: {text:?}")),
    };
    let mut seen: Vec<String> = Vec::new();
    let (mut driver, mut number, mut ids) = (String::new(), None, None);
    let (mut capabilities, mut options) = (None, None);
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<String>>();
    for field in csv::fields(text)? {
        let (key, value) = field.split_once('=').unwrap_or(("count", &field));
        if seen.iter().any(|one| one == key) {
            return Err(format!("gpu request key '{key}' can be specified only once"));
        }
        seen.push(key.to_owned());
        match key {
            "driver" => value.clone_into(&mut driver),
            "count" => number = Some(count(value)?),
            "device" => ids = Some(list(value)),
            "capabilities" => {
                let mut all = list(value);
                all.push("gpu".to_owned());
                capabilities = Some(all);
            }
            "options" => options = Some(pairs::map(&csv::fields(value)?)),
            other => return Err(format!("unexpected key '{other}' in '{field}'")),
        }
    }
    let number = number.unwrap_or(i64::from(ids.is_none()));
    Ok(json!({
        "Driver": driver,
        "Count": number,
        "DeviceIDs": ids,
        "Capabilities": [capabilities.unwrap_or_else(|| vec!["gpu".to_owned()])],
        "Options": options.unwrap_or_default(),
    }))
}

/// Which kind of number a device is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// Bytes, with a unit.
    Bytes,
    /// A count.
    Count,
    /// A weight of 10 to 1000.
    Weight,
}

/// Reads `DEVICE:NUMBER`.
pub fn rated(text: &str, rate: Rate) -> Result<Value, String> {
    let (path, number) =
        text.split_once(':').filter(|(path, _)| !path.is_empty()).ok_or_else(|| format!("bad format: {text}"))?;
    if !path.starts_with("/dev/") {
        return Err(format!("bad format for device path: {text}"));
    }
    match rate {
        Rate::Weight => {
            let weight: Option<u16> = number.parse().ok().filter(|weight| matches!(weight, 0 | 10..=1000));
            let weight = weight.ok_or_else(|| format!("invalid weight for device: {text}"))?;
            Ok(json!({"Path": path, "Weight": weight}))
        }
        Rate::Bytes => {
            let form = "The correct format is <device-path>:<number>[<unit>]. Number must be a positive integer. Unit is optional \
                        and can be kb, mb, or gb";
            let rate = units::bytes(number).map_err(|_| format!("invalid rate for device: {text}. {form}"))?;
            Ok(json!({"Path": path, "Rate": rate}))
        }
        Rate::Count => {
            let form = "The correct format is <device-path>:<number>. Number must be a positive integer";
            let rate: u64 = number.parse().map_err(|_| format!("invalid rate for device: {text}. {form}"))?;
            Ok(json!({"Path": path, "Rate": rate}))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(got: Result<Value, String>) -> String {
        got.map_or_else(|why| format!("!{why}"), |value| value.to_string())
    }

    #[test]
    fn mappings() {
        let check = |text: &str, expect: &str| {
            let got = Devices::read(&[text.to_owned()]).map(|devices| {
                let all = devices.mappings.iter().map(|one| {
                    let field = |name: &str| one[name].as_str().unwrap_or_default().to_owned();
                    format!("{} {} {}", field("PathOnHost"), field("PathInContainer"), field("CgroupPermissions"))
                });
                all.chain(devices.cdi.iter().map(|name| format!("cdi {name}"))).collect::<Vec<_>>().join(",")
            });
            assert_eq!(got.unwrap_or_else(|why| format!("!{why}")), expect, "{text}");
        };
        check("/dev/fuse", "/dev/fuse /dev/fuse rwm");
        check("/dev/fuse:r", "/dev/fuse /dev/fuse r");
        check("/dev/a:/dev/b", "/dev/a /dev/b rwm");
        check("/dev/a:/dev/b:rw", "/dev/a /dev/b rw");
        check("vendor.com/gpu=0", "cdi vendor.com/gpu=0");
        check("/dev/a:/dev/b:x", "!bad mode specified: x");
        check("/dev/a:b", "!b is not an absolute path");
        check("", "!bad format for path: ");
        check("a:b:c:d", "!bad format for path: a:b:c:d");
    }

    #[test]
    fn rules() {
        for good in ["c 42:* rmw", "a *:* r", "b 1:2 w"] {
            assert_eq!(rule(good).as_deref(), Ok(good));
        }
        for wrong in ["", "c 42:*", "d 1:1 r", "c 1 r", "c 1:1 x", "c 1:1 rwmr", "c a:1 r"] {
            assert_eq!(rule(wrong), Err(format!("invalid device cgroup format '{wrong}'")));
        }
    }

    #[test]
    fn gpu_requests() {
        let check = |text: &str, expect: &str| assert_eq!(shown(gpus(text)), expect, "{text}");
        let plain = |count: i64| {
            format!(r#"{{"Capabilities":[["gpu"]],"Count":{count},"DeviceIDs":null,"Driver":"","Options":{{}}}}"#)
        };
        check("all", &plain(-1));
        check("2", &plain(2));
        check("driver=nvidia", &plain(1).replace("\"Driver\":\"\"", "\"Driver\":\"nvidia\""));
        check(
            "\"device=0,1\",\"capabilities=utility,compute\"",
            r#"{"Capabilities":[["utility","compute","gpu"]],"Count":0,"DeviceIDs":["0","1"],"Driver":"","Options":{}}"#,
        );
        check("some", "!count must be an integer: \"some\"");
        check("1,count=2", "!gpu request key 'count' can be specified only once");
        check("x=1", "!unexpected key 'x' in 'x=1'");
    }

    #[test]
    fn rates() {
        let check = |text: &str, rate: Rate, expect: &str| assert_eq!(shown(rated(text, rate)), expect, "{text}");
        check("/dev/sda:1mb", Rate::Bytes, r#"{"Path":"/dev/sda","Rate":1048576}"#);
        check("/dev/sda:100", Rate::Count, r#"{"Path":"/dev/sda","Rate":100}"#);
        check("/dev/sda:500", Rate::Weight, r#"{"Path":"/dev/sda","Weight":500}"#);
        check("/dev/sda:5", Rate::Weight, "!invalid weight for device: /dev/sda:5");
        check("sda:5", Rate::Count, "!bad format for device path: sda:5");
        check("sda", Rate::Count, "!bad format: sda");
        check(
            "/dev/sda:x",
            Rate::Count,
            "!invalid rate for device: /dev/sda:x. The correct format is <device-path>:<number>. Number must be a positive integer",
        );
    }
}
