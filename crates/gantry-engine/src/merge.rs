//! What a container runs: what was asked for, joined with what its image says. Pure.

use std::collections::BTreeMap;

use gantry_model::image::{ContainerConfig, Healthcheck};
use gantry_model::names::signal;

use crate::error::{Error, Result};
use crate::request::{Config, Port};

/// Joins what was asked for with the image's configuration.
///
/// # Errors
/// There is nothing to run, or a value makes no sense.
pub(crate) fn merge(asked: Config, image: &ContainerConfig) -> Result<Config> {
    let mut config = asked;
    if config.user.is_empty() {
        config.user.clone_from(&image.user);
    }
    for port in image.exposed_ports.keys() {
        config.exposed_ports.insert(port.parse::<Port>().map_err(|error| Error::Invalid(error.to_string()))?);
    }
    config.env = environment(&config.env, &image.env);
    match &config.entrypoint {
        None => {
            if config.cmd.as_ref().is_none_or(Vec::is_empty) {
                config.cmd.clone_from(&image.cmd);
            }
            config.entrypoint.clone_from(&image.entrypoint);
        }
        // A single empty word stands for none at all.
        Some(words) if words.len() == 1 && words[0].is_empty() => config.entrypoint = Some(Vec::new()),
        Some(_) => {}
    }
    if config.working_dir.is_empty() {
        config.working_dir.clone_from(&image.working_dir);
    }
    if !config.working_dir.is_empty() && !config.working_dir.starts_with('/') {
        let dir = &config.working_dir;
        return Err(Error::Invalid(format!(
            "the working directory {dir:?} is invalid, it needs to be an absolute path"
        )));
    }
    config.labels = overlaid(&image.labels, std::mem::take(&mut config.labels));
    config.volumes.extend(image.volumes.keys().cloned());
    if config.stop_signal.is_empty() {
        config.stop_signal = image.stop_signal.clone().unwrap_or_default();
    }
    if !config.stop_signal.is_empty() {
        signal_number(&config.stop_signal)?;
    }
    config.health = health(config.health.take(), image.healthcheck.as_ref());
    if config.entrypoint.as_ref().is_none_or(Vec::is_empty) && config.cmd.as_ref().is_none_or(Vec::is_empty) {
        return Err(Error::Invalid("no command specified".to_owned()));
    }
    Ok(config)
}

/// The words that are executed.
pub(crate) fn words(config: &Config) -> Vec<String> {
    config.entrypoint.iter().flatten().chain(config.cmd.iter().flatten()).cloned().collect()
}

/// The number of a signal.
pub(crate) fn signal_number(name: &str) -> Result<i32> {
    match signal::parse(name) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(Error::Invalid(format!("invalid signal: {name}"))),
    }
}

/// The asked-for variables, then those of the image that were not mentioned. One without a value takes the image's away.
fn environment(asked: &[String], image: &[String]) -> Vec<String> {
    let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
    let named: Vec<String> = asked.iter().map(|variable| name(variable)).collect();
    let own = asked.iter().filter(|variable| variable.contains('='));
    let rest = image.iter().filter(|variable| !named.contains(&name(variable)));
    own.chain(rest).cloned().collect()
}

fn overlaid(under: &BTreeMap<String, String>, over: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = under.clone();
    all.extend(over);
    all
}

/// What a health check leaves open is as the image has it.
fn health(asked: Option<Healthcheck>, image: Option<&Healthcheck>) -> Option<Healthcheck> {
    let Some(mut asked) = asked else { return image.cloned() };
    let Some(image) = image else { return Some(asked) };
    if asked.test.is_empty() {
        asked.test.clone_from(&image.test);
    }
    let fill = |value: &mut i64, from: i64| {
        if *value == 0 {
            *value = from;
        }
    };
    fill(&mut asked.interval, image.interval);
    fill(&mut asked.timeout, image.timeout);
    fill(&mut asked.start_period, image.start_period);
    fill(&mut asked.start_interval, image.start_interval);
    fill(&mut asked.retries, image.retries);
    Some(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Option<Vec<String>> {
        (words != "-").then(|| words.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn what_runs() {
        let check = |asked: [&str; 2], image: [&str; 2], expect: &str| {
            let config = Config { entrypoint: list(asked[0]), cmd: list(asked[1]), ..Config::default() };
            let image =
                ContainerConfig { entrypoint: list(image[0]), cmd: list(image[1]), ..ContainerConfig::default() };
            let found = merge(config, &image).map_or_else(|error| error.to_string(), |config| words(&config).join(" "));
            assert_eq!(found, expect, "{asked:?}");
        };
        check(["-", "-"], ["-", "sh"], "sh");
        check(["-", "-"], ["/e", "sh"], "/e sh");
        check(["-", "ls -l"], ["/e", "sh"], "/e ls -l");
        check(["/mine", "-"], ["/e", "sh"], "/mine");
        check(["/mine", "x"], ["/e", "sh"], "/mine x");
        check(["", "x"], ["/e", "sh"], "x");
        check(["-", "-"], ["-", "-"], "no command specified");
        check(["-", ""], ["/e", "sh"], "/e sh");
    }

    #[test]
    fn the_environment() {
        let check = |asked: &str, image: &str, expect: &str| {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(environment(&words(asked), &words(image)).join(" "), expect, "{asked} over {image}");
        };
        check("", "PATH=/bin A=1", "PATH=/bin A=1");
        check("A=2 B=3", "PATH=/bin A=1", "A=2 B=3 PATH=/bin");
        check("A", "PATH=/bin A=1", "PATH=/bin");
        check("A=", "A=1", "A=");
    }

    #[test]
    fn wrong_values() {
        let check = |config: Config, expect: &str| {
            let image = ContainerConfig { cmd: list("sh"), ..ContainerConfig::default() };
            assert_eq!(merge(config, &image).unwrap_err().to_string(), expect);
        };
        let default = Config::default;
        let expect = "the working directory \"x\" is invalid, it needs to be an absolute path";
        check(Config { working_dir: "x".to_owned(), ..default() }, expect);
        check(Config { stop_signal: "SIGNO".to_owned(), ..default() }, "invalid signal: SIGNO");
    }
}
