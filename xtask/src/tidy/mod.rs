//! `cargo xtask tidy`: the promises of ARCHITECTURE.md that no compiler checks.
//!
//! A rule is a function from the files of the work tree to findings, so each is tested with files that are made up.

mod code;
mod rules;
mod size;
mod words;

use crate::sh;
use anyhow::{Context, Result};
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

/// A file of the work tree, its path relative to the top.
pub struct File {
    pub path: String,
    pub text: String,
}

impl File {
    /// Whether the name ends in an extension, given without its dot.
    pub fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    pub path: String,
    /// Counted from 1; 0 if it is about the whole file.
    pub line: usize,
    pub what: String,
}

impl Finding {
    /// A finding about a line, counted from 1, or about a whole file with 0.
    pub fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.what),
            line => write!(f, "{}:{line}: {}", self.path, self.what),
        }
    }
}

type Rule = fn(&[File]) -> Vec<Finding>;

/// Every rule, by the name that ARCHITECTURE.md calls it.
const RULES: &[(&str, Rule)] = &[
    ("unsafe-fenced", rules::unsafe_fenced),
    ("lints-inherited", rules::lints_inherited),
    ("pure-crates", rules::pure_crates),
    ("runtime-graph", rules::runtime_graph),
    ("flat-layout", rules::flat_layout),
    ("module-docs", rules::module_docs),
    ("links-resolve", rules::links_resolve),
    ("invariants-named", invariants_named),
    ("size", size::check),
    ("words", words::check),
];

/// `cargo xtask tidy`.
pub fn main(_: &[String]) -> Result<ExitCode> {
    let files = work_tree()?;
    let mut found = 0;
    for (name, rule) in RULES {
        for finding in rule(&files) {
            found += 1;
            println!("{finding} [{name}]");
        }
    }
    println!("tidy: {} rules over {} files, {found} findings", RULES.len(), files.len());
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Every text file that git knows of or would.
fn work_tree() -> Result<Vec<File>> {
    let list = sh::output(&mut sh::command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    let mut files = Vec::new();
    for path in list.lines() {
        match fs::read(sh::root().join(path)) {
            Ok(bytes) => {
                let Ok(text) = String::from_utf8(bytes) else { continue };
                files.push(File { path: path.to_owned(), text });
            }
            // Deleted, and git not yet told.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("read {path}")),
        }
    }
    Ok(files)
}

/// Every rule is told of in ARCHITECTURE.md, under its name.
fn invariants_named(files: &[File]) -> Vec<Finding> {
    let Some(page) = files.iter().find(|file| file.path == "ARCHITECTURE.md") else { return Vec::new() };
    let unnamed = RULES.iter().filter(|(name, _)| !page.text.contains(&format!("`{name}`")));
    unnamed.map(|(name, _)| Finding::new(page, 0, format!("the rule `{name}` is not told of"))).collect()
}

#[cfg(test)]
pub mod testing {
    use super::{File, Rule};

    /// Runs a rule over files given as (path, text), and compares what it finds, as "path:line".
    pub fn check(rule: Rule, files: &[(&str, &str)], expect: &[&str]) {
        let made: Vec<File> =
            files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        let found = rule(&made);
        let places: Vec<String> = found.iter().map(|finding| format!("{}:{}", finding.path, finding.line)).collect();
        assert_eq!(places, expect, "{found:?}");
    }
}
