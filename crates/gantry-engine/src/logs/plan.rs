//! From a log driver and its options to what the monitor writes and what is shipped. Pure.
//!
//! Whatever the driver, the monitor writes a bounded file and never waits for anybody, and what goes elsewhere is read from
//! there. So containers are held up by no log server in either `mode`, the file is the buffer, and what is lost when a
//! server is away for long is the oldest. `max-buffer-size` and `fluentd-buffer-limit` are the least that the file holds.

use std::collections::BTreeMap;

use gantry_model::monitor::{LogFile, LogFormat};

use super::identity::{Attributes, Template};
use super::option;
use super::ship::{Shipper, fluentd, gelf, journald, syslog};
use crate::error::{Error, Result};
use crate::request::LogConfig;

/// The driver of containers that do not say, unless the engine is set up otherwise.
pub const DEFAULT: &str = "local";
/// All drivers.
pub const DRIVERS: [&str; 7] = ["fluentd", "gelf", "journald", "json-file", "local", "none", "syslog"];

/// Drivers of other engines, which are known and not to be had.
const ELSEWHERE: [&str; 4] = ["awslogs", "etwlogs", "gcplogs", "splunk"];

/// Bytes of a file, and how many files, if nothing is said: a log that cannot fill the disk.
const MAX_SIZE: u64 = 10 << 20;
const MAX_FILES: u32 = 5;
/// The most files that can be asked for: each is looked at when a log is read.
const MOST_FILES: u32 = 1000;

/// Options of every driver.
const COMMON: [&str; 7] = ["labels", "labels-regex", "env", "env-regex", "tag", "mode", "max-buffer-size"];
/// Options of a file that is the log.
const FILE: [&str; 3] = ["max-size", "max-file", "compress"];
/// Options of a file that is kept beside a log that goes elsewhere.
const CACHE: [&str; 4] = ["cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"];

/// Where output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPlan {
    /// The file, whose path is still open; none if nothing is kept.
    pub file: Option<LogFile>,
    /// Whether older pieces of the file are to be compressed.
    pub compress: bool,
    /// Whether the log can be read back.
    pub readable: bool,
    /// What goes along with entries where details are asked for.
    pub attributes: Attributes,
    /// What is shipped elsewhere from the file.
    pub shipper: Option<Shipper>,
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
    let mut all = if asked.driver.is_empty() || asked.driver == default.driver {
        default.options.clone()
    } else {
        BTreeMap::new()
    };
    all.extend(asked.options.clone());
    options(driver, &all)
}

/// What a driver with options means: what is asked of the monitor, and what is shipped.
///
/// # Errors
/// There is no such driver, or it has no such option, or a value makes no sense.
pub fn options(driver: &str, options: &BTreeMap<String, String>) -> Result<LogPlan> {
    if driver == "none" {
        return match options.keys().next() {
            Some(name) => Err(unknown(name, driver)),
            None => Ok(LogPlan {
                file: None,
                compress: false,
                readable: false,
                attributes: Attributes::default(),
                shipper: None,
            }),
        };
    }
    let buffer = mode(options)?;
    let own: &[&str] = match driver {
        "local" | "json-file" => &FILE,
        "journald" => &[],
        "syslog" => &syslog::OPTIONS,
        "fluentd" => &fluentd::OPTIONS,
        "gelf" => &gelf::OPTIONS,
        other if ELSEWHERE.contains(&other) => {
            return Err(Error::Unsupported(format!(
                "log driver {other} is not to be had with this engine: use one of {}",
                DRIVERS.join(", ")
            )));
        }
        other => return Err(Error::Invalid(format!("logger: no log driver named '{other}' is registered"))),
    };
    let is_file = own == FILE;
    let known = |name: &str| COMMON.contains(&name) || own.contains(&name) || (!is_file && CACHE.contains(&name));
    if let Some(name) = options.keys().find(|name| !known(name)) {
        return Err(unknown(name, driver));
    }
    let attributes = Attributes::new(options)?;
    // A tag that makes no sense is told even where nothing is tagged with it.
    let tag = match options.get("tag").filter(|text| !text.is_empty()) {
        Some(text) => Template::parse(text)?,
        None => Template::parse("{{.ID}}")?,
    };
    let get = |name: &str| options.get(name).map(String::as_str);
    let driver_of = match driver {
        "journald" => Some(journald::plan()),
        "syslog" => Some(syslog::plan(&get)?),
        "fluentd" => Some(fluentd::plan(&get)?),
        "gelf" => Some(gelf::plan(&get)?),
        _ => None,
    };
    let shipper = driver_of.map(|driver| Shipper::new(driver, tag, attributes.clone()));
    let buffer = match get("fluentd-buffer-limit") {
        Some(text) => buffer.max(option::size("fluentd-buffer-limit", text)?),
        None => buffer,
    };
    let (file, compress) = file(driver, &get, if is_file { 0 } else { buffer })?;
    let readable = match get("cache-disabled") {
        Some(text) => !option::switch("cache-disabled", text)?,
        None => true,
    };
    Ok(LogPlan { file: Some(file), compress, readable, attributes, shipper })
}

/// The options of the mode: the bytes of a buffer that are asked for.
fn mode(options: &BTreeMap<String, String>) -> Result<u64> {
    let mode = options.get("mode").map_or("", String::as_str);
    if !["", "blocking", "non-blocking"].contains(&mode) {
        return Err(Error::Invalid(format!("logger: logging mode not supported: {mode}")));
    }
    match options.get("max-buffer-size") {
        None => Ok(0),
        Some(_) if mode != "non-blocking" => {
            let words = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
            Err(Error::Invalid(words.to_owned()))
        }
        Some(text) => option::size("max-buffer-size", text),
    }
}

/// The file, and whether its pieces are compressed. It holds at least `buffer` bytes.
fn file<'a>(driver: &str, get: &impl Fn(&str) -> Option<&'a str>, buffer: u64) -> Result<(LogFile, bool)> {
    let (prefix, format) = match driver {
        "json-file" => ("", LogFormat::JsonFile),
        "local" => ("", LogFormat::Local),
        _ => ("cache-", LogFormat::Local),
    };
    let get = |name: &str| get(&format!("{prefix}{name}"));
    let mut max_size = match get("max-size") {
        None => MAX_SIZE,
        // Without bound, which is 0 here.
        Some("-1") => 0,
        Some(text) => option::size(&format!("{prefix}max-size"), text)?,
    };
    let max_files = match get("max-file") {
        None => MAX_FILES,
        Some(text) => match text.parse::<u32>() {
            Ok(0) | Err(_) => return Err(Error::Invalid("max-file cannot be less than 1".to_owned())),
            Ok(count) if count > MOST_FILES => {
                return Err(Error::Invalid(format!("max-file cannot be more than {MOST_FILES}")));
            }
            Ok(count) => count,
        },
    };
    // What is shipped needs pieces with names of their own, so that it is known what was sent.
    let max_files = if prefix.is_empty() { max_files } else { max_files.max(2) };
    if max_size > 0 {
        max_size = max_size.max(buffer.div_ceil(max_files.into()));
    }
    let rotated = max_files > 1 && max_size > 0;
    let compress = match get("compress") {
        None => driver != "json-file" && rotated,
        Some(text) => option::switch(&format!("{prefix}compress"), text)?,
    };
    if compress && !rotated {
        let words = "compress cannot be true when max-file is less than 2 or max-size is not set";
        return Err(Error::Invalid(words.to_owned()));
    }
    if compress && buffer == 0 {
        // A piece lies there twice while it is compressed: the pieces are smaller, so that all of them keep the bound.
        max_size = (max_size / (u64::from(max_files) + 1) * u64::from(max_files)).max(1);
    }
    Ok((LogFile { path: String::new(), format, max_size, max_files }, compress))
}

fn unknown(name: &str, driver: &str) -> Error {
    Error::Invalid(format!("unknown log opt '{name}' for {driver} log driver"))
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
                Ok(plan) => {
                    let file = plan.file.as_ref().map_or("nothing".to_owned(), |file| {
                        format!("{:?} {} {}", file.format, file.max_size, file.max_files)
                    });
                    let words = [(plan.compress, " compressed"), (!plan.readable && plan.file.is_some(), " hidden")];
                    let words: String = words.iter().filter(|(so, _)| *so).map(|(_, word)| *word).collect();
                    format!("{file}{words}{}", plan.shipper.map_or(String::new(), |shipper| format!(" > {shipper}")))
                }
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{driver} {options:?}");
        };
        check("", &[], "JsonFile 1048576 5");
        check("json-file", &[("max-file", "3"), ("tag", "x")], "JsonFile 1048576 3");
        check("json-file", &[("max-size", "60"), ("compress", "true")], "JsonFile 50 5 compressed");
        check("local", &[], "Local 8738130 5 compressed");
        check("local", &[("compress", "false")], "Local 10485760 5");
        check("local", &[("max-size", "2k"), ("max-file", "1")], "Local 2048 1");
        check("local", &[("max-size", "-1")], "Local 0 5");
        check("none", &[], "nothing");
        check("none", &[("x", "y")], "unknown log opt 'x' for none log driver");
        check("json-file", &[("x", "y")], "unknown log opt 'x' for json-file log driver");
        check("json-file", &[("syslog-address", "y")], "unknown log opt 'syslog-address' for json-file log driver");
        check("local", &[("max-size", "x")], "invalid value for max-size: x");
        check("local", &[("max-file", "0")], "max-file cannot be less than 1");
        check("local", &[("max-file", "1001")], "max-file cannot be more than 1000");
        let words = "compress cannot be true when max-file is less than 2 or max-size is not set";
        check("local", &[("max-file", "1"), ("compress", "true")], words);
        check("local", &[("compress", "yes")], "invalid boolean value for compress: yes");
        check("local", &[("mode", "fast")], "logger: logging mode not supported: fast");
        let words = "logger: max-buffer-size option is only supported with 'mode=non-blocking'";
        check("local", &[("max-buffer-size", "4m")], words);
        check("local", &[("mode", "non-blocking"), ("max-buffer-size", "4m")], "Local 8738130 5 compressed");
        check("nope", &[], "logger: no log driver named 'nope' is registered");
        let all = "fluentd, gelf, journald, json-file, local, none, syslog";
        check("splunk", &[], &format!("log driver splunk is not to be had with this engine: use one of {all}"));
    }

    #[test]
    fn what_is_shipped() {
        let check = |driver: &str, given: &[(&str, &str)], expect: &str| {
            let map = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found = match options(driver, &map) {
                Ok(plan) => format!("{}, {}", plan.shipper.unwrap(), plan.file.unwrap().max_size),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{driver} {given:?}");
        };
        check("journald", &[], "journald, 8738130");
        check("journald", &[("cache-max-size", "60"), ("cache-max-file", "1")], "journald, 40");
        check("journald", &[("cache-max-size", "0")], "invalid value for cache-max-size: 0");
        check("journald", &[("max-size", "1m")], "unknown log opt 'max-size' for journald log driver");
        check("journald", &[("mode", "non-blocking"), ("max-buffer-size", "100m")], "journald, 20971520");
        check("syslog", &[], "syslog to this machine, 8738130");
        check("syslog", &[("syslog-address", "tcp+tls://a"), ("tag", "x")], "syslog to tcp+tls://a:514, 8738130");
        check("syslog", &[("syslog-facility", "x")], "invalid syslog facility");
        check("syslog", &[("syslog-format", "x")], "invalid syslog format");
        check("syslog", &[("tag", "{{x}}")], &Template::parse("{{x}}").unwrap_err().to_string());
        check("fluentd", &[], "fluentd to tcp://127.0.0.1:24224, 8738130");
        check("fluentd", &[("fluentd-address", "a:1")], "fluentd to tcp://a:1, 8738130");
        check("fluentd", &[("fluentd-buffer-limit", "100m")], "fluentd to tcp://127.0.0.1:24224, 20971520");
        check("fluentd", &[("fluentd-retry-wait", "x")], "invalid duration for fluentd-retry-wait: x");
        let both = "conflicting options: cannot specify both 'fluentd-async' and 'fluentd-async-connect'";
        check("fluentd", &[("fluentd-async", "1"), ("fluentd-async-connect", "1")], both);
        check("gelf", &[("gelf-address", "udp://a:12201")], "gelf to udp://a:12201, 8738130");
        check("gelf", &[], "gelf: please provide gelf-address as proto://host:port");
        check("gelf", &[("gelf-address", "unix:///x")], "gelf: endpoint needs to be TCP or UDP");
        let words = "unknown value \"x\" for log opt \"gelf-compression-type\" for gelf log driver";
        check("gelf", &[("gelf-address", "udp://a:1"), ("gelf-compression-type", "x")], words);
        let words = "gelf-compression-type is for udp only";
        check("gelf", &[("gelf-address", "tcp://a:1"), ("gelf-compression-type", "none")], words);
    }
}
