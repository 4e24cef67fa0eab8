//! From a log driver and its options to what the monitor does. Pure.

use gantry_model::monitor::{LogFile, LogFormat};

use crate::error::{Error, Result};
use crate::request::LogConfig;

/// The driver of containers that do not say, unless the engine is set up otherwise.
pub const DEFAULT: &str = "local";
/// All drivers.
pub const DRIVERS: [&str; 3] = ["json-file", "local", "none"];

/// Drivers of other engines, which are known and not to be had.
const ELSEWHERE: [&str; 8] = ["awslogs", "etwlogs", "fluentd", "gcplogs", "gelf", "journald", "splunk", "syslog"];

/// Bytes of a file, and how many files, if nothing is said: a log that cannot fill the disk.
const MAX_SIZE: u64 = 10 << 20;
const MAX_FILES: u32 = 5;
/// Options that say what a log is to be shown with, or how the writer is not held up, which it never is here.
const SHOWN: [&str; 7] = ["labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The file, whose path is still open; none if nothing is kept.
    pub file: Option<LogFile>,
}

impl LogPlan {
    /// Whether it is a file of JSON lines.
    pub fn is_json(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.format == LogFormat::JsonFile)
    }
}

/// Where the output of a container goes that asks for `asked`, with an engine whose default is `default`.
///
/// # Errors
/// There is no such driver, or it has no such option, or a value makes no sense.
pub fn plan(asked: &LogConfig, default: &LogConfig) -> Result<LogPlan> {
    let driver = [&asked.driver, &default.driver].into_iter().find(|driver| !driver.is_empty());
    let driver = driver.map_or(DEFAULT, String::as_str);
    // The engine's options are for the engine's driver.
    let mut options = if asked.driver.is_empty() || asked.driver == default.driver {
        default.options.clone()
    } else {
        std::collections::BTreeMap::new()
    };
    options.extend(asked.options.clone());
    let format = match driver {
        "local" => LogFormat::Local,
        "json-file" => LogFormat::JsonFile,
        "none" => {
            if let Some(name) = options.keys().next() {
                return Err(Error::Invalid(format!("unknown log opt '{name}' for none log driver")));
            }
            return Ok(LogPlan { file: None });
        }
        other if ELSEWHERE.contains(&other) => {
            return Err(Error::Unsupported(format!(
                "log driver {other} is not to be had with this engine: use local or json-file"
            )));
        }
        other => return Err(Error::Invalid(format!("logger: no log driver named '{other}' is registered"))),
    };
    let (mut max_size, mut max_files) = (MAX_SIZE, MAX_FILES);
    for (name, value) in &options {
        match name.as_str() {
            "max-size" => max_size = size(value)?,
            "max-file" => {
                let count = value.parse().ok().filter(|count| *count >= 1);
                max_files = count.ok_or_else(|| Error::Invalid("max-file cannot be less than 1".to_owned()))?;
            }
            "compress" => {
                let yes: bool =
                    value.parse().map_err(|_| Error::Invalid(format!("invalid value for compress: {value}")))?;
                if yes && format == LogFormat::JsonFile {
                    let words =
                        "logs of json-file are not compressed here: use the driver local, or leave compress out";
                    return Err(Error::Unsupported(words.to_owned()));
                }
            }
            name if SHOWN.contains(&name) => {}
            name => return Err(Error::Invalid(format!("unknown log opt '{name}' for {driver} log driver"))),
        }
    }
    Ok(LogPlan { file: Some(LogFile { path: String::new(), format, max_size, max_files }) })
}

/// Bytes of a text such as `10m`; -1 is without bound, which is 0 here.
fn size(text: &str) -> Result<u64> {
    if text == "-1" {
        return Ok(0);
    }
    let lower = text.to_ascii_lowercase();
    let bare = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, factor) = match bare.char_indices().last() {
        Some((at, 'k')) => (&bare[..at], 1 << 10),
        Some((at, 'm')) => (&bare[..at], 1 << 20),
        Some((at, 'g')) => (&bare[..at], 1 << 30),
        _ => (bare, 1_u64),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| Error::Invalid(format!("invalid value for max-size: {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_and_options() {
        let config = |driver: &str, options: &[(&str, &str)]| LogConfig {
            driver: driver.to_owned(),
            options: options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let check = |driver: &str, options: &[(&str, &str)], expect: &str| {
            let default = config("json-file", &[("max-size", "1m")]);
            let found = match plan(&config(driver, options), &default) {
                Ok(LogPlan { file: Some(file) }) => format!("{:?} {} {}", file.format, file.max_size, file.max_files),
                Ok(LogPlan { file: None }) => "nothing".to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{driver} {options:?}");
        };
        check("", &[], "JsonFile 1048576 5");
        check("json-file", &[("max-file", "3"), ("tag", "x")], "JsonFile 1048576 3");
        check("local", &[], "Local 10485760 5");
        check("local", &[("max-size", "2k")], "Local 2048 5");
        check("local", &[("max-size", "-1")], "Local 0 5");
        check("none", &[], "nothing");
        check("none", &[("x", "y")], "unknown log opt 'x' for none log driver");
        check("json-file", &[("x", "y")], "unknown log opt 'x' for json-file log driver");
        check("local", &[("max-size", "x")], "invalid value for max-size: x");
        check("local", &[("max-file", "0")], "max-file cannot be less than 1");
        check("nope", &[], "logger: no log driver named 'nope' is registered");
        check("gelf", &[], "log driver gelf is not to be had with this engine: use local or json-file");
    }
}
