//! Changes of a configuration in the words of a Dockerfile, as `import --change` and `commit --change` take them.

use std::collections::BTreeMap;

use gantry_model::image::{ContainerConfig, Healthcheck};
use serde_json::json;

use crate::error::{Error, Result};
use crate::time;

/// Applies one change, such as `CMD ["sh"]` or `ENV A=b`, to a configuration.
pub fn apply(config: &mut ContainerConfig, change: &str) -> Result<()> {
    let refuse = |why: &str| Error::invalid("change", change, why);
    let change_text = change.trim();
    let (word, rest) = change_text.split_once(char::is_whitespace).unwrap_or((change_text, ""));
    let rest = rest.trim();
    if rest.is_empty() {
        return Err(refuse("it says nothing: write an instruction and its value, such as CMD [\"sh\"]"));
    }
    match word.to_ascii_uppercase().as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "SHELL" => config.shell = Some(list(rest).ok_or_else(|| refuse("a shell is a JSON list"))?),
        "ENV" => {
            for (name, value) in pairs(rest).map_err(refuse)? {
                let start = format!("{name}=");
                let entry = format!("{name}={value}");
                match config.env.iter_mut().find(|there| there.starts_with(&start)) {
                    Some(there) => *there = entry,
                    None => config.env.push(entry),
                }
            }
        }
        "LABEL" => config.labels.extend(pairs(rest).map_err(refuse)?),
        "EXPOSE" => {
            for port in words(rest).map_err(refuse)? {
                expose(&mut config.exposed_ports, &port).map_err(refuse)?;
            }
        }
        "VOLUME" => {
            let volumes = list(rest).map_or_else(|| words(rest), Ok).map_err(refuse)?;
            config.volumes.extend(volumes.into_iter().map(|volume| (volume, json!({}))));
        }
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => config.working_dir = directory(&config.working_dir, rest),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "ONBUILD" => config.on_build.get_or_insert_default().push(rest.to_owned()),
        "HEALTHCHECK" => config.healthcheck = Some(healthcheck(rest).map_err(refuse)?),
        _ => {
            return Err(refuse(
                "it is none of CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME and WORKDIR",
            ));
        }
    }
    Ok(())
}

/// The JSON form, if it is one.
fn list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// The JSON form, or a line for the shell.
fn command(text: &str) -> Vec<String> {
    list(text).unwrap_or_else(|| vec!["/bin/sh".to_owned(), "-c".to_owned(), text.to_owned()])
}

/// Words with quotes and backslashes.
fn words(text: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\\', None | Some('"')) => word.get_or_insert_default().push(chars.next().unwrap_or('\\')),
            ('\'' | '"', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(end)) if c == end => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    if quote.is_some() { Err("a quote is not closed") } else { Ok(words) }
}

/// `A=b C="d e"`, or the old form `A b`.
fn pairs(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let first = text.split_whitespace().next().unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text.split_once(char::is_whitespace).ok_or("there is no value: write NAME=value")?;
        return Ok(vec![(name.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) | None => Err("a name is missing: write NAME=value"),
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
    };
    words(text)?.into_iter().map(pair).collect()
}

/// `80`, `80/udp`, `8000-8010/tcp`.
fn expose(ports: &mut BTreeMap<String, serde_json::Value>, text: &str) -> Result<(), &'static str> {
    let (range, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err("a port's protocol is tcp, udp or sctp");
    }
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let (Ok(low), Ok(high)) = (low.parse::<u16>(), high.parse::<u16>()) else {
        return Err("a port is a number up to 65535");
    };
    if low > high {
        return Err("a range of ports begins with the lower one");
    }
    ports.extend((low..=high).map(|port| (format!("{port}/{protocol}"), json!({}))));
    Ok(())
}

/// An absolute directory, or one below the one before.
fn directory(before: &str, text: &str) -> String {
    let joined = if text.starts_with('/') { text.to_owned() } else { format!("{before}/{text}") };
    let mut parts: Vec<&str> = Vec::new();
    for part in joined.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

fn healthcheck(text: &str) -> Result<Healthcheck, &'static str> {
    let mut check = Healthcheck::default();
    let mut rest = text;
    while let Some(option) = rest.strip_prefix("--") {
        let (option, tail) = option.split_once(char::is_whitespace).ok_or("there is no CMD")?;
        let (name, value) = option.split_once('=').ok_or("an option is --NAME=VALUE")?;
        let duration = || time::parse_duration(value).ok_or("a duration is a number with a unit, such as 30s");
        match name {
            "interval" => check.interval = duration()?,
            "timeout" => check.timeout = duration()?,
            "start-period" => check.start_period = duration()?,
            "start-interval" => check.start_interval = duration()?,
            "retries" => check.retries = value.parse().map_err(|_| "retries are a number")?,
            _ => return Err("options are --interval, --timeout, --start-period, --start-interval and --retries"),
        }
        rest = tail.trim_start();
    }
    let (word, line) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    check.test = match (word.to_ascii_uppercase().as_str(), line.trim()) {
        ("NONE", "") => vec!["NONE".to_owned()],
        ("CMD", line) if !line.is_empty() => match list(line) {
            Some(list) => std::iter::once("CMD".to_owned()).chain(list).collect(),
            None => vec!["CMD-SHELL".to_owned(), line.to_owned()],
        },
        _ => return Err("a health check is NONE, or CMD and a command"),
    };
    Ok(check)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes() {
        let check = |changes: &[&str], expect: serde_json::Value| {
            let mut config = ContainerConfig::default();
            for change in changes {
                apply(&mut config, change).unwrap();
            }
            assert_eq!(serde_json::to_value(&config).unwrap(), expect, "{changes:?}");
        };
        check(&["CMD [\"a\", \"b\"]"], json!({"Cmd": ["a", "b"]}));
        check(&["cmd a b"], json!({"Cmd": ["/bin/sh", "-c", "a b"]}));
        check(&["ENTRYPOINT []"], json!({"Entrypoint": []}));
        check(&["ENV A=1 B=\"x y\"", "ENV A 2  3"], json!({"Env": ["A=2  3", "B=x y"]}));
        check(&["LABEL a.b='c d' e=f\\ g"], json!({"Labels": {"a.b": "c d", "e": "f g"}}));
        check(
            &["EXPOSE 80 53/UDP 8-9"],
            json!({"ExposedPorts": {"80/tcp": {}, "53/udp": {}, "8/tcp": {}, "9/tcp": {}}}),
        );
        check(&["VOLUME [\"/a\"]", "VOLUME /b /c"], json!({"Volumes": {"/a": {}, "/b": {}, "/c": {}}}));
        check(&["WORKDIR /a/./b", "WORKDIR ../c"], json!({"WorkingDir": "/a/c"}));
        check(&["USER 1:2", "STOPSIGNAL SIGINT"], json!({"User": "1:2", "StopSignal": "SIGINT"}));
        check(&["ONBUILD RUN x", "ONBUILD RUN y"], json!({"OnBuild": ["RUN x", "RUN y"]}));
        check(&["SHELL [\"a\"]"], json!({"Shell": ["a"]}));
        check(
            &["HEALTHCHECK --interval=1m30s --retries=2 CMD curl x"],
            json!({"Healthcheck": {"Test": ["CMD-SHELL", "curl x"], "Interval": 90_000_000_000_u64, "Timeout": 0,
                "StartPeriod": 0, "StartInterval": 0, "Retries": 2}}),
        );
    }

    #[test]
    fn refused() {
        for change in [
            "",
            "CMD",
            "RUN x",
            "FROM x",
            "ENV A",
            "ENV =b",
            "LABEL a=\"b",
            "EXPOSE x",
            "EXPOSE 9-8",
            "EXPOSE 70000",
            "EXPOSE 1/icmp",
            "SHELL x",
            "HEALTHCHECK x",
            "HEALTHCHECK --interval=3 CMD x",
        ] {
            assert!(apply(&mut ContainerConfig::default(), change).is_err(), "{change}");
        }
    }
}
