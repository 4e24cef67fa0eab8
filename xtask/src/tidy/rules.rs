//! The rules about where code may stand and what it may use.

use super::{File, Finding, code};
use std::collections::{BTreeMap, BTreeSet};

/// The crate that may hold unsafe code.
const UNSAFE_CRATE: &str = "crates/gantry-sys/";

/// The crates that decide and do nothing else: no I/O of their own, no clock, no chance. What they read from or write to
/// is given to them.
const PURE: &[&str] = &[
    "crates/gantry-model/",
    "crates/gantry-seccomp/",
    "crates/gantry-tar/",
    "crates/gantry-erofs/",
    "crates/gantry-inflate/",
];

/// The executable that is small, and starts in a millisecond.
const RUNTIME: &str = "gantry-oci";

/// What it may not depend on, by whichever way.
const FOREIGN_TO_RUNTIME: &[&str] = &["tokio", "mio", "hyper", "reqwest", "axum", "rustls", "redb"];

/// What a pure crate may not depend on.
const IMPURE_CRATES: &[&str] =
    &["libc", "rustix", "nix", "tokio", "mio", "rand", "getrandom", "chrono", "time", "gantry-sys", "gantry-cgroup"];

/// What a pure crate may not call.
const IMPURE_PATHS: &[&str] = &[
    "std::fs",
    "std::net",
    "std::os",
    "std::env",
    "std::process",
    "std::thread",
    "SystemTime",
    "Instant",
    "println!",
    "eprintln!",
];

/// Unsafe code stands in one crate, and each use of it says why it is sound.
pub fn unsafe_fenced(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in rust(files) {
        let code = code::only(&file.text);
        let lines: Vec<&str> = file.text.lines().collect();
        for (index, line) in code.lines().enumerate().filter(|(_, line)| code::has_word(line, "unsafe")) {
            if !file.path.starts_with(UNSAFE_CRATE) {
                findings.push(Finding::new(file, index + 1, "unsafe code outside gantry-sys"));
            } else if is_block(line) && !explained(&lines[..=index]) {
                findings.push(Finding::new(file, index + 1, "an unsafe block without a `// SAFETY:` line"));
            }
        }
    }
    findings
}

fn is_block(line: &str) -> bool {
    line.contains("unsafe {") || line.contains("unsafe impl")
}

/// Whether the last of these lines, or the comment above its statement, has a SAFETY line.
fn explained(lines: &[&str]) -> bool {
    let near = lines.iter().rev().take(12);
    near.take_while(|line| !line.trim().is_empty()).any(|line| line.contains("SAFETY:"))
}

/// Every crate has the lints of the workspace, but the one that may be unsafe; and those forbid unsafe code.
pub fn lints_inherited(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        if file.path == "Cargo.toml" {
            if !file.text.contains("unsafe_code = \"forbid\"") {
                findings.push(Finding::new(file, 0, "the workspace does not forbid unsafe code"));
            }
        } else if !file.path.starts_with(UNSAFE_CRATE) && !file.text.contains("[lints]\nworkspace = true") {
            findings.push(Finding::new(file, 0, "the lints of the workspace are not inherited"));
        }
    }
    findings
}

/// Pure crates depend on nothing that acts, and call nothing that does.
pub fn pure_crates(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| PURE.iter().any(|path| file.path.starts_with(path))) {
        if file.path.ends_with("Cargo.toml") {
            let dependencies = dependencies(&file.text);
            for name in IMPURE_CRATES.iter().filter(|name| dependencies.contains(**name)) {
                findings.push(Finding::new(file, 0, format!("a pure crate depends on {name}")));
            }
        } else if file.is("rs") && file.path.contains("/src/") && !is_test(&file.path) {
            let code = code::only(code::before_tests(&file.text));
            for (index, line) in code.lines().enumerate() {
                for path in IMPURE_PATHS.iter().filter(|path| code::has_word(line, path)) {
                    findings.push(Finding::new(file, index + 1, format!("a pure crate uses {path}")));
                }
            }
        }
    }
    findings
}

/// The names in the `[dependencies]` of a manifest.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    lines.filter_map(|line| line.split(['=', '.', ' ']).next()).filter(|name| !name.is_empty()).collect()
}

/// The runtime is synchronous and talks to the kernel: nothing that it is built from, or tested with, is for networks.
pub fn runtime_graph(files: &[File]) -> Vec<Finding> {
    let Some(lock) = files.iter().find(|file| file.path == "Cargo.lock") else { return Vec::new() };
    let packages = locked(&lock.text);
    let (mut reached, mut ahead) = (BTreeSet::new(), vec![RUNTIME]);
    while let Some(name) = ahead.pop() {
        if reached.insert(name) {
            ahead.extend(packages.get(name).into_iter().flatten());
        }
    }
    let foreign = FOREIGN_TO_RUNTIME.iter().filter(|name| reached.contains(**name));
    foreign.map(|name| Finding::new(lock, 0, format!("{RUNTIME} depends on {name}"))).collect()
}

/// The packages of a lock file, each with the names of those that it depends on.
fn locked(text: &str) -> BTreeMap<&str, Vec<&str>> {
    let mut packages: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in text.split("[[package]]").skip(1) {
        let Some(name) = package.lines().find_map(|line| line.strip_prefix("name = ")) else { continue };
        let list = package.split_once("dependencies = [").map_or("", |(_, rest)| rest);
        let list = list.lines().skip(1).take_while(|line| *line != "]");
        // Two versions of one name count as one: the list then names the version too.
        let names = list.filter_map(|line| line.trim().trim_matches(['"', ',']).split(' ').next());
        packages.entry(name.trim_matches('"')).or_default().extend(names);
    }
    packages
}

/// Crates lie side by side, each in a folder of its own name.
pub fn flat_layout(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let folder = match file.path.split('/').collect::<Vec<_>>()[..] {
            ["crates", folder, _] => folder,
            ["xtask", _] => "xtask",
            _ => {
                findings.push(Finding::new(file, 0, "a crate that is not directly in crates/"));
                continue;
            }
        };
        if !file.text.contains(&format!("name = \"{folder}\"")) {
            findings.push(Finding::new(file, 0, "a crate is not called as its folder"));
        }
    }
    findings
}

/// Every module says why it exists.
pub fn module_docs(files: &[File]) -> Vec<Finding> {
    let silent = |file: &&File| !file.text.trim_start().starts_with("//!");
    rust(files).filter(silent).map(|file| Finding::new(file, 1, "the module does not open with `//!`")).collect()
}

/// Links between our pages lead somewhere.
pub fn links_resolve(files: &[File]) -> Vec<Finding> {
    let known: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let exists = |path: &str| known.contains(path) || known.iter().any(|file| file.starts_with(&format!("{path}/")));
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| file.is("md")) {
        for (index, line) in file.text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let path = target.split('#').next().unwrap_or_default();
                if path.is_empty() || path.contains("://") {
                    continue;
                }
                if resolve(&file.path, path).is_none_or(|path| !exists(&path)) {
                    findings.push(Finding::new(file, index + 1, format!("the link to {target} leads nowhere")));
                }
            }
        }
    }
    findings
}

/// A path relative to the folder of a file, as a path from the top; none if it leads out.
fn resolve(from: &str, to: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in to.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

/// The files with Rust in them.
pub fn rust(files: &[File]) -> impl Iterator<Item = &File> {
    files.iter().filter(|file| file.is("rs"))
}

/// Whether a file holds tests and nothing else.
pub fn is_test(path: &str) -> bool {
    path.contains("/tests/") || path.ends_with("/tests.rs")
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use super::*;

    #[test]
    fn unsafe_code_is_fenced_and_explained() {
        let sys = "crates/gantry-sys/src/a.rs";
        check(unsafe_fenced, &[("crates/x/src/a.rs", "// unsafe\nlet a = \"unsafe\";\n")], &[]);
        check(unsafe_fenced, &[("crates/x/src/a.rs", "fn a() {\n  unsafe { b() }\n}")], &["crates/x/src/a.rs:2"]);
        check(unsafe_fenced, &[(sys, "// SAFETY: b takes nothing.\nunsafe { b() }")], &[]);
        check(unsafe_fenced, &[(sys, "// SAFETY: another one.\n\nunsafe { b() }")], &["crates/gantry-sys/src/a.rs:3"]);
        check(unsafe_fenced, &[(sys, "unsafe { b() }")], &["crates/gantry-sys/src/a.rs:1"]);
    }

    #[test]
    fn lints_are_inherited() {
        check(lints_inherited, &[("Cargo.toml", "unsafe_code = \"forbid\"")], &[]);
        check(lints_inherited, &[("Cargo.toml", "")], &["Cargo.toml:0"]);
        check(lints_inherited, &[("crates/x/Cargo.toml", "[lints]\nworkspace = true\n")], &[]);
        check(lints_inherited, &[("crates/x/Cargo.toml", "")], &["crates/x/Cargo.toml:0"]);
        check(lints_inherited, &[("crates/gantry-sys/Cargo.toml", "")], &[]);
    }

    #[test]
    fn pure_crates_do_nothing() {
        let manifest = "crates/gantry-model/Cargo.toml";
        let module = "crates/gantry-model/src/a.rs";
        check(pure_crates, &[(manifest, "[dependencies]\nserde = 1\n[dev-dependencies]\nlibc = 1\n")], &[]);
        let impure = "[dependencies]\nlibc = { workspace = true }\nrustix.workspace = true\n";
        check(pure_crates, &[(manifest, impure)], &["crates/gantry-model/Cargo.toml:0"; 2]);
        check(pure_crates, &[(module, "use std::fmt;\n// std::fs\n#[cfg(test)]\nmod tests {\nuse std::fs;\n}\n")], &[]);
        check(
            pure_crates,
            &[(module, "use std::fs;\nlet a = Instant::now();")],
            &["crates/gantry-model/src/a.rs:1", "crates/gantry-model/src/a.rs:2"],
        );
        check(pure_crates, &[("crates/gantry-sys/src/a.rs", "use std::fs;")], &[]);
    }

    #[test]
    fn the_runtime_is_synchronous() {
        let package =
            |name: &str, needs: &str| format!("[[package]]\nname = \"{name}\"\ndependencies = [\n{needs}]\n\n");
        let good = package("gantry-oci", " \"a 1.0.0\",\n") + &package("a", "") + &package("b", " \"tokio\",\n");
        let bad = package("gantry-oci", " \"b\",\n \"a 1.0.0\",\n") + &package("a", " \"tokio\",\n");
        check(runtime_graph, &[("Cargo.lock", &good)], &[]);
        check(runtime_graph, &[("Cargo.lock", &bad)], &["Cargo.lock:0"]);
    }

    #[test]
    fn crates_lie_side_by_side() {
        check(flat_layout, &[("crates/a/Cargo.toml", "name = \"a\""), ("xtask/Cargo.toml", "name = \"xtask\"")], &[]);
        check(flat_layout, &[("crates/a/Cargo.toml", "name = \"b\"")], &["crates/a/Cargo.toml:0"]);
        check(flat_layout, &[("crates/a/b/Cargo.toml", "name = \"b\"")], &["crates/a/b/Cargo.toml:0"]);
    }

    #[test]
    fn modules_say_why() {
        check(module_docs, &[("a.rs", "//! Because.\n"), ("b.md", "")], &[]);
        check(module_docs, &[("a.rs", "/// Not.\n")], &["a.rs:1"]);
    }

    #[test]
    fn links_lead_somewhere() {
        let here = ("docs/a.md", "[b](../b.md#part) [c](https://c) [d](#d) [e](sub) [f](sub/f.rs)");
        check(links_resolve, &[here, ("b.md", ""), ("docs/sub/f.rs", "")], &[]);
        check(links_resolve, &[("a.md", "x\n[b](b.md) [c](../a.md)")], &["a.md:2", "a.md:2"]);
    }
}
