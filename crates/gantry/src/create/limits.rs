//! Limits of processes, policies and switches that are given as words.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::pairs::{Outside, map};
use super::units;
use crate::cli::create::Health;

const ULIMITS: [&str; 16] = [
    "as",
    "core",
    "cpu",
    "data",
    "fsize",
    "locks",
    "memlock",
    "msgqueue",
    "nice",
    "nofile",
    "nproc",
    "rss",
    "rtprio",
    "rttime",
    "sigpending",
    "stack",
];

const SYSCTLS: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
];

/// `NAME=SOFT[:HARD]`, sorted by name; the last of a name counts. None if there are none.
pub fn ulimits(all: &[String]) -> Result<Value, String> {
    let mut found = BTreeMap::new();
    for text in all {
        let (name, limits) = text.split_once('=').ok_or_else(|| format!("invalid ulimit argument: {text}"))?;
        if !ULIMITS.contains(&name) {
            return Err(format!("invalid ulimit type: {name}"));
        }
        let number = |text: &str| {
            let number: i64 = text.parse().map_err(|_| format!("invalid ulimit value: {text:?}"))?;
            if number < -1 { Err(format!("invalid ulimit value: {text:?}")) } else { Ok(number) }
        };
        let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
        let (soft, hard) = (number(soft)?, number(hard)?);
        if hard != -1 && (soft == -1 || soft > hard) {
            let soft = if soft == -1 { "unlimited".to_owned() } else { soft.to_string() };
            return Err(format!("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}"));
        }
        found.insert(name.to_owned(), json!({"Name": name, "Hard": hard, "Soft": soft}));
    }
    Ok(Value::Array(found.into_values().collect()))
}

/// `NAME[:TIMES]`.
pub fn restart(text: &str) -> Result<Value, String> {
    let (name, times) = text.split_once(':').map_or((text, None), |(name, times)| (name, Some(times)));
    if name.is_empty() && times.is_some() {
        return Err("invalid restart policy format: no policy provided before colon".to_owned());
    }
    let times = match times {
        Some(times) => times
            .parse::<i64>()
            .map_err(|_| "invalid restart policy format: maximum retry count must be an integer".to_owned())?,
        None => 0,
    };
    Ok(json!({"Name": name, "MaximumRetryCount": times}))
}

/// Kernel parameters that belong to namespaces.
pub fn sysctls(all: &[String]) -> Result<BTreeMap<String, String>, String> {
    for text in all {
        let name = text.split_once('=').map(|(name, _)| name);
        let known = |name: &str| SYSCTLS.contains(&name) || name.starts_with("net.") || name.starts_with("fs.mqueue.");
        if !name.is_some_and(known) {
            return Err(format!("sysctl '{text}' is not allowed"));
        }
    }
    Ok(map(all))
}

/// Security options, with the profiles that they name; and whether the usual paths are hidden.
pub fn security(all: &[String], outside: &Outside<'_>) -> Result<(Vec<String>, bool), String> {
    let (mut options, mut hidden) = (Vec::new(), true);
    for text in all {
        if text == "systempaths=unconfined" {
            hidden = false;
            continue;
        }
        if text == "no-new-privileges" {
            options.push(text.clone());
            continue;
        }
        let (key, value) = text
            .split_once('=')
            .or_else(|| text.split_once(':'))
            .ok_or_else(|| format!("invalid --security-opt: {text:?}"))?;
        if key == "seccomp" && !["unconfined", "builtin"].contains(&value) {
            let profile = (outside.read)(Path::new(value))
                .map_err(|why| format!("opening seccomp profile ({value}) failed: {why}"))?;
            let profile: Box<serde_json::value::RawValue> = serde_json::from_str(&profile)
                .map_err(|why| format!("compacting json for seccomp profile ({value}) failed: {why}"))?;
            options.push(format!("seccomp={}", compact(profile.get())));
        } else {
            options.push(text.clone());
        }
    }
    Ok((options, hidden))
}

/// A JSON document without the spaces between its parts.
fn compact(text: &str) -> String {
    let (mut quoted, mut escaped) = (false, false);
    text.chars()
        .filter(|&c| {
            if quoted {
                quoted = c != '"' || escaped;
                escaped = c == '\\' && !escaped;
                return true;
            }
            quoted = c == '"';
            !c.is_ascii_whitespace()
        })
        .collect()
}

/// `KEY=VALUE` that must have a value.
pub fn options(all: &[String], what: &str) -> Result<BTreeMap<String, String>, String> {
    match all.iter().find(|text| !text.contains('=')) {
        Some(text) => Err(format!("invalid {what}: {text}")),
        None => Ok(map(all)),
    }
}

/// The health check; none leaves the image's.
pub fn health(options: &Health) -> Result<Option<Value>, String> {
    let time = |value: &Option<String>, flag: &str| match value.as_deref() {
        None => Ok(0),
        Some(text) => {
            let time = units::nanoseconds(text)
                .map_err(|why| format!("invalid argument {text:?} for \"--{flag}\" flag: {why}"))?;
            if time < 0 { Err(format!("--{flag} cannot be negative")) } else { Ok(time) }
        }
    };
    let interval = time(&options.health_interval, "health-interval")?;
    let timeout = time(&options.health_timeout, "health-timeout")?;
    let start_period = time(&options.health_start_period, "health-start-period")?;
    let start_interval = time(&options.health_start_interval, "health-start-interval")?;
    let retries = options.health_retries.unwrap_or(0);
    if retries < 0 {
        return Err("--health-retries cannot be negative".to_owned());
    }
    let command = options.health_cmd.as_deref().filter(|command| !command.is_empty());
    let some = command.is_some() || [interval, timeout, start_period, start_interval, retries].iter().any(|n| *n != 0);
    if options.no_healthcheck {
        return if some {
            Err("--no-healthcheck conflicts with --health-* options".to_owned())
        } else {
            Ok(Some(json!({"Test": ["NONE"]})))
        };
    }
    if !some {
        return Ok(None);
    }
    let mut document = serde_json::Map::new();
    if let Some(command) = command {
        document.insert("Test".to_owned(), json!(["CMD-SHELL", command]));
    }
    let numbers = [
        ("Interval", interval),
        ("Timeout", timeout),
        ("StartPeriod", start_period),
        ("StartInterval", start_interval),
        ("Retries", retries),
    ];
    document.extend(numbers.into_iter().filter(|(_, n)| *n != 0).map(|(key, n)| (key.to_owned(), n.into())));
    Ok(Some(document.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::create::testing::{create, outside};

    fn own(all: &[&str]) -> Vec<String> {
        all.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn limits_of_processes() {
        let check = |all: &[&str], expect: &str| {
            let got = ulimits(&own(all)).map_or_else(|why| format!("!{why}"), |value| value.to_string());
            assert_eq!(got, expect, "{all:?}");
        };
        check(&[], "[]");
        check(
            &["nofile=5:9", "core=-1", "nofile=7"],
            r#"[{"Hard":-1,"Name":"core","Soft":-1},{"Hard":7,"Name":"nofile","Soft":7}]"#,
        );
        check(&["nofile"], "!invalid ulimit argument: nofile");
        check(&["frob=1"], "!invalid ulimit type: frob");
        check(&["nofile=9:5"], "!ulimit soft limit must be less than or equal to hard limit: 9 > 5");
        check(&["nofile=-1:5"], "!ulimit soft limit must be less than or equal to hard limit: unlimited > 5");
        check(&["nofile=x"], "!invalid ulimit value: \"x\"");
    }

    #[test]
    fn policies() {
        let check = |text: &str, expect: &str| {
            let got = restart(text).map_or_else(|why| format!("!{why}"), |value| value.to_string());
            assert_eq!(got, expect, "{text}");
        };
        check("always", r#"{"MaximumRetryCount":0,"Name":"always"}"#);
        check("on-failure:3", r#"{"MaximumRetryCount":3,"Name":"on-failure"}"#);
        check("on-failure:x", "!invalid restart policy format: maximum retry count must be an integer");
        check(":3", "!invalid restart policy format: no policy provided before colon");
    }

    #[test]
    fn words_of_security() {
        let check = |all: &[&str], expect: &str| {
            let got = security(&own(all), &outside());
            let got = got.map_or_else(|why| format!("!{why}"), |(all, hidden)| format!("{} {hidden}", all.join("|")));
            assert_eq!(got, expect, "{all:?}");
        };
        check(&["no-new-privileges", "apparmor=x", "label:disable"], "no-new-privileges|apparmor=x|label:disable true");
        check(&["seccomp=unconfined", "systempaths=unconfined"], "seccomp=unconfined false");
        check(&["seccomp=profile.json"], "seccomp={\"a b\":[1,\"\\\" \"]} true");
        check(&["seccomp=none"], "!opening seccomp profile (none) failed: open none: no such file or directory");
        check(&["frob"], "!invalid --security-opt: \"frob\"");
        assert_eq!(sysctls(&own(&["vm.x=1"])), Err("sysctl 'vm.x=1' is not allowed".to_owned()));
        assert_eq!(sysctls(&own(&["net.ipv4.ip_forward=1"])).unwrap()["net.ipv4.ip_forward"], "1");
        assert_eq!(options(&own(&["size"]), "storage option"), Err("invalid storage option: size".to_owned()));
    }

    #[test]
    fn health_checks() {
        let check = |line: &str, expect: &str| {
            let got = health(&create(line).health);
            let got =
                got.map_or_else(|why| format!("!{why}"), |value| value.map_or_else(String::new, |v| v.to_string()));
            assert_eq!(got, expect, "{line}");
        };
        check("", "");
        check("--no-healthcheck", r#"{"Test":["NONE"]}"#);
        check(
            "--health-cmd true --health-interval 1s --health-retries 3",
            r#"{"Interval":1000000000,"Retries":3,"Test":["CMD-SHELL","true"]}"#,
        );
        check("--health-timeout 500ms", r#"{"Timeout":500000000}"#);
        check("--no-healthcheck --health-retries 1", "!--no-healthcheck conflicts with --health-* options");
        check("--health-interval -1s", "!--health-interval cannot be negative");
        check(
            "--health-interval 5",
            "!invalid argument \"5\" for \"--health-interval\" flag: time: missing unit in duration \"5\"",
        );
    }
}
