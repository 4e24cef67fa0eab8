//! Words that may not stand in the repository: unfinished work, and places that a reader of the project does not have.

use super::rules::rust;
use super::{File, Finding, code};

/// Marks of unfinished work, in Rust code or its comments.
const UNFINISHED: &[&str] = &["todo!(", "unimplemented!(", "FIXME", "XXX", "not yet implemented", "not yet supported"];

/// Paths of one machine, and hosts whose names are a matter of configuration. Checked in every text.
const FOREIGN: &[&str] = &["/work/", "../shared", "shared/design", "shared/facts", "shared/tools", "deb.debian.org"];

/// The files that may name them: this table, and what cargo writes.
const EXEMPT: &[&str] = &["xtask/src/tidy/words.rs", "Cargo.lock"];

/// Lines with a word that may not be there.
pub fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in files.iter().filter(|file| !EXEMPT.contains(&file.path.as_str())) {
        for (index, line) in file.text.lines().enumerate() {
            for word in FOREIGN.iter().filter(|word| stands_alone(line, word)) {
                findings.push(Finding::new(
                    file,
                    index + 1,
                    format!("{word:?} means nothing to a reader of the project"),
                ));
            }
        }
    }
    for file in rust(files).filter(|file| !EXEMPT.contains(&file.path.as_str())) {
        let code = code::only(&file.text);
        for (index, (line, code)) in file.text.lines().zip(code.lines()).enumerate() {
            // Macros count in code, the other marks in comments too, but neither in a string.
            let marks = UNFINISHED.iter().filter(|mark| {
                if mark.ends_with('(') { code.contains(**mark) } else { comment(line, code).contains(**mark) }
            });
            findings.extend(marks.map(|mark| Finding::new(file, index + 1, format!("unfinished: {mark}"))));
        }
    }
    findings
}

/// The comment at the end of a line, or the whole of a line that is a comment.
fn comment<'a>(line: &'a str, code: &str) -> &'a str {
    let from = code.trim_end().len();
    line.get(from..).and_then(|rest| rest.find("//").map(|at| &rest[at..])).unwrap_or_default()
}

/// Whether a path stands in a line without being the tail of a longer one.
fn stands_alone(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | ')' | '$');
    line.match_indices(word).any(|(at, _)| !line[..at].chars().next_back().is_some_and(part))
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn words_are_found() {
        testing::check(check, &[("a.rs", "let a = \"FIXME\"; // fine\n// XXX\ntodo!()\n")], &["a.rs:2", "a.rs:3"]);
        testing::check(check, &[("a.md", "see /work/x\nsee home/work/x, $dir/work/y\n")], &["a.md:1"]);
        testing::check(check, &[("xtask/src/tidy/words.rs", "/work/")], &[]);
    }
}
