//! The steps, as they are written in `steps/`.
//!
//! A step begins with `= NAME`; what follows is a script of a shell. A line `~ EXPRESSION :: REASON` in it says which
//! lines may differ there and why; before the first step of a file, it is so for all steps. `?` instead of `~` says that
//! they need not: by chance, or with one of the clients.

use anyhow::{Context, Result, bail};
use regex_lite::Regex;

const FILES: &[(&str, &str)] = &[
    ("common.txt", include_str!("steps/common.txt")),
    ("images.txt", include_str!("steps/images.txt")),
    ("containers.txt", include_str!("steps/containers.txt")),
    ("inspect.txt", include_str!("steps/inspect.txt")),
    ("networks.txt", include_str!("steps/networks.txt")),
    ("volumes.txt", include_str!("steps/volumes.txt")),
    ("system.txt", include_str!("steps/system.txt")),
];

/// A difference that may be.
#[derive(Debug)]
pub struct Accepted {
    pub lines: Regex,
    pub reason: String,
    /// Whether it is there in every session: one that is by chance, or only with one client, may be missing.
    pub always: bool,
}

/// One step.
#[derive(Debug)]
pub struct Step {
    pub name: String,
    pub script: String,
    pub accepted: Vec<Accepted>,
}

/// All steps, and what may differ in any.
#[derive(Debug, Default)]
pub struct Script {
    pub steps: Vec<Step>,
    pub accepted: Vec<Accepted>,
}

/// Reads what is compiled in.
pub fn read() -> Result<Script> {
    let mut script = Script::default();
    for (file, text) in FILES {
        add(&mut script, text).with_context(|| format!("read the steps of {file}"))?;
    }
    Ok(script)
}

fn add(script: &mut Script, text: &str) -> Result<()> {
    let mut current: Option<Step> = None;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("= ") {
            script.steps.extend(current.take());
            if script.steps.iter().any(|step| step.name == name) {
                bail!("two steps are called {name:?}");
            }
            current = Some(Step { name: name.to_owned(), script: String::new(), accepted: Vec::new() });
        } else if let Some((rule, always)) =
            line.strip_prefix("~ ").map(|rule| (rule, true)).or(line.strip_prefix("? ").map(|rule| (rule, false)))
        {
            let (lines, reason) = rule.split_once(" :: ").with_context(|| format!("no reason in {line:?}"))?;
            let lines = Regex::new(lines).with_context(|| format!("the expression of {line:?}"))?;
            let accepted = current.as_mut().map_or(&mut script.accepted, |step| &mut step.accepted);
            accepted.push(Accepted { lines, reason: reason.to_owned(), always });
        } else if let Some(step) = &mut current {
            step.script.push_str(line);
            step.script.push('\n');
        }
    }
    script.steps.extend(current);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_can_be_read() {
        let script = read().unwrap();
        assert!(script.steps.len() >= 150, "{}", script.steps.len());
        assert!(script.steps.iter().all(|step| !step.script.trim().is_empty()));
    }

    #[test]
    fn steps_and_reasons() {
        let mut script = Script::default();
        add(&mut script, "# words\n~ ^x :: everywhere\n= a\necho 1\necho 2\n~ y$ :: here\n? z :: or not\n= b\ntrue\n")
            .unwrap();
        assert_eq!(script.steps[0].script, "echo 1\necho 2\n");
        assert_eq!(script.steps[0].accepted[0].reason, "here");
        assert!(script.steps[0].accepted[0].always && !script.steps[0].accepted[1].always);
        assert_eq!((script.steps[1].name.as_str(), script.accepted.len()), ("b", 1));
        assert!(add(&mut script, "= a\n").is_err());
        assert!(add(&mut script, "= c\n~ no reason\n").is_err());
    }
}
