//! Names with values: environment, labels, options; from the command line and from files.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What is outside: the environment of this program, and files. Tests have their own.
pub struct Outside<'a> {
    /// A variable of the environment.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    /// The text of a file.
    pub read: &'a dyn Fn(&Path) -> Result<String, String>,
    /// The directory that relative paths are below.
    pub here: &'a Path,
}

/// The environment of a container: that of files, then what is given.
pub fn environment(files: &[PathBuf], given: &[String], outside: &Outside<'_>) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    for file in files {
        let lookup = |name: &str| (outside.variable)(name).map(|value| format!("{name}={value}"));
        lines(file, outside, &lookup, &mut all)?;
    }
    for text in given {
        let (name, value) = text.split_once('=').map_or((text.as_str(), None), |(name, value)| (name, Some(value)));
        if name.is_empty() {
            return Err(format!("invalid environment variable: {text}"));
        }
        match (value, (outside.variable)(name)) {
            // What is not set here takes away what the image has.
            (None, Some(value)) => all.push(format!("{name}={value}")),
            _ => all.push(text.clone()),
        }
    }
    Ok(all)
}

/// The labels of a container: those of files, then what is given.
pub fn labels(files: &[PathBuf], given: &[String], outside: &Outside<'_>) -> Result<BTreeMap<String, String>, String> {
    let mut all = Vec::new();
    for file in files {
        lines(file, outside, &|name| Some(name.to_owned()), &mut all)?;
    }
    for text in given {
        if text.split('=').next().is_none_or(|name| name.trim().is_empty()) {
            return Err(format!("invalid label '{text}': empty name"));
        }
        all.push(text.clone());
    }
    Ok(map(&all))
}

/// `KEY=VALUE` by key; without a value it is empty. The last of a key counts.
pub fn map(all: &[String]) -> BTreeMap<String, String> {
    all.iter()
        .map(|text| {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect()
}

/// Reads a file of names with values. `bare` says what stands for a name without one.
fn lines(
    file: &Path,
    outside: &Outside<'_>,
    bare: &dyn Fn(&str) -> Option<String>,
    all: &mut Vec<String>,
) -> Result<(), String> {
    let text = (outside.read)(file)?;
    for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
        let line = line.trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').map_or((line, None), |(name, value)| (name, Some(value)));
        let at = || format!("poorly formatted environment: {}: line {}", file.display(), index + 1);
        if name.is_empty() {
            return Err(format!("{}: no variable name on line '{line}'", at()));
        }
        if name.contains(char::is_whitespace) {
            return Err(format!("{}: variable '{name}' contains whitespaces", at()));
        }
        match value {
            Some(value) => all.push(format!("{name}={value}")),
            None => all.extend(bare(name)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outside<'a>() -> Outside<'a> {
        let read = |file: &Path| match file.to_str() {
            Some("good") => Ok("\u{feff}# a comment\n A=1\nHOME\nNONE\n\nB=x y=z\n".to_owned()),
            Some("bad") => Ok("A=1\nB C=1\n".to_owned()),
            Some("worse") => Ok("=1".to_owned()),
            _ => Err("open none: no such file or directory".to_owned()),
        };
        let variable = |name: &str| (name == "HOME").then(|| "/root".to_owned());
        Outside { variable: Box::leak(Box::new(variable)), read: Box::leak(Box::new(read)), here: Path::new("/") }
    }

    #[test]
    fn environments() {
        let check = |files: &[&str], given: &[&str], expect: &str| {
            let files: Vec<PathBuf> = files.iter().map(PathBuf::from).collect();
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            let got = environment(&files, &given, &outside());
            assert_eq!(got.map_or_else(|why| format!("!{why}"), |all| all.join("|")), expect, "{files:?} {given:?}");
        };
        check(&[], &["A=1", "HOME", "NONE", "E="], "A=1|HOME=/root|NONE|E=");
        check(&["good"], &["A=2"], "A=1|HOME=/root|B=x y=z|A=2");
        check(&[], &["=x"], "!invalid environment variable: =x");
        check(&["bad"], &[], "!poorly formatted environment: bad: line 2: variable 'B C' contains whitespaces");
        check(&["worse"], &[], "!poorly formatted environment: worse: line 1: no variable name on line '=1'");
        check(&["none"], &[], "!open none: no such file or directory");
    }

    #[test]
    fn label_lists() {
        let given = ["a=b".to_owned(), "c".to_owned(), "a=d=e".to_owned()];
        let found = labels(&[PathBuf::from("good")], &given, &outside()).unwrap();
        let text: Vec<String> = found.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(text, ["A=1", "B=x y=z", "HOME=", "NONE=", "a=d=e", "c="]);
        assert_eq!(labels(&[], &["=x".to_owned()], &outside()).unwrap_err(), "invalid label '=x': empty name");
    }
}
