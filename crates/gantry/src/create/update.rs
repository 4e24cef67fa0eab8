//! From the options of `update` to what the API is sent: what is not given stays as it is.

use serde_json::{Map, Value};

use super::{limits, units};
use crate::cli::container::Update;

/// The body of `POST /containers/NAME/update`.
pub fn update(options: &Update) -> Result<Value, String> {
    let wrong = |flag: &str, text: &str, why: &str| format!("invalid argument {text:?} for \"--{flag}\" flag: {why}");
    let size = |value: &Option<String>, flag: &str| match value.as_deref() {
        None => Ok(None),
        Some(text) if flag == "memory-swap" => {
            units::bytes_or_unlimited(text).map(Some).map_err(|why| wrong(flag, text, &why))
        }
        Some(text) => units::bytes(text).map(Some).map_err(|why| wrong(flag, text, &why)),
    };
    let cpus = match options.cpus.as_deref() {
        None => None,
        Some(text) => Some(units::cpus(text).map_err(|why| wrong("cpus", text, &why))?),
    };
    let numbers = [
        ("BlkioWeight", options.blkio_weight.map(i64::from)),
        ("CpuPeriod", options.cpu_period),
        ("CpuQuota", options.cpu_quota),
        ("CpuRealtimePeriod", options.cpu_rt_period),
        ("CpuRealtimeRuntime", options.cpu_rt_runtime),
        ("CpuShares", options.cpu_shares),
        ("NanoCpus", cpus),
        ("Memory", size(&options.memory, "memory")?),
        ("MemoryReservation", size(&options.memory_reservation, "memory-reservation")?),
        ("MemorySwap", size(&options.memory_swap, "memory-swap")?),
        ("PidsLimit", options.pids_limit),
    ];
    let mut body = Map::new();
    body.extend(numbers.into_iter().filter_map(|(key, value)| Some((key.to_owned(), Value::from(value?)))));
    for (key, value) in [("CpusetCpus", &options.cpuset_cpus), ("CpusetMems", &options.cpuset_mems)] {
        body.extend(value.as_ref().map(|value| (key.to_owned(), Value::from(value.clone()))));
    }
    if let Some(policy) = &options.restart {
        body.insert("RestartPolicy".to_owned(), limits::restart(policy)?);
    }
    if body.is_empty() {
        return Err("you must provide one or more flags when using this command".to_owned());
    }
    Ok(Value::Object(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    #[test]
    fn bodies() {
        let check = |line: &str, expect: &str| {
            let words = ["update"].into_iter().chain(line.split(' ')).chain(["box"]);
            let got = update(&Line::try_parse_from(words).unwrap().update);
            assert_eq!(got.map_or_else(|why| format!("!{why}"), |value| value.to_string()), expect, "{line}");
        };
        check("--memory 1g --memory-swap=-1", r#"{"Memory":1073741824,"MemorySwap":-1}"#);
        check("--cpus .5 --cpuset-cpus 0", r#"{"CpusetCpus":"0","NanoCpus":500000000}"#);
        check(
            "--pids-limit=-1 --restart on-failure:2",
            r#"{"PidsLimit":-1,"RestartPolicy":{"MaximumRetryCount":2,"Name":"on-failure"}}"#,
        );
        check("--blkio-weight 300 -c 5", r#"{"BlkioWeight":300,"CpuShares":5}"#);
        check("x", "!you must provide one or more flags when using this command");
        check("--memory x", "!invalid argument \"x\" for \"--memory\" flag: invalid size: 'x'");
    }
}
