//! Small files, small functions. What has a reason to be longer is listed with it, and the list may hold nothing else.

use super::rules::{is_test, rust};
use super::{File, Finding, code};

/// The list of what may be longer: `PATH LIMIT REASON` for a file, `PATH FUNCTION() LIMIT REASON` for a function.
const LIST: &str = "xtask/tidy-sizes.txt";

/// Lines of a file before its tests; a file of tests may have twice as many.
const FILE_LINES: usize = 500;
/// Lines from a function's signature to its closing brace.
const FUNCTION_LINES: usize = 70;

struct Allowance<'a> {
    path: &'a str,
    /// The name of the function; none for the file as a whole.
    function: Option<&'a str>,
    limit: usize,
    line: usize,
}

/// Files and functions that are too long, and allowances that nothing needs.
pub fn check(files: &[File]) -> Vec<Finding> {
    let list = files.iter().find(|file| file.path == LIST);
    let mut findings = Vec::new();
    let mut allowances = Vec::new();
    for (index, line) in list.map_or("", |file| &file.text).lines().enumerate() {
        match allowance(line, index + 1) {
            Some(Ok(allowance)) => allowances.push((allowance, false)),
            Some(Err(why)) => findings.extend(list.map(|list| Finding::new(list, index + 1, why))),
            None => {}
        }
    }
    for file in rust(files) {
        for (function, line, lines, usual) in measures(file) {
            if lines <= usual {
                continue;
            }
            let allowed =
                allowances.iter_mut().find(|(one, _)| one.path == file.path && one.function == function.as_deref());
            let limit = allowed.map_or(usual, |(allowance, used)| {
                *used = true;
                allowance.limit
            });
            if lines > limit {
                let what = function.map_or("the file".into(), |name| format!("the function {name}"));
                findings.push(Finding::new(file, line, format!("{what} has {lines} lines, of at most {limit}")));
            }
        }
    }
    let unused = allowances.iter().filter(|(_, used)| !used);
    findings.extend(
        unused.filter_map(|(one, _)| list.map(|list| Finding::new(list, one.line, "nothing needs this allowance"))),
    );
    findings
}

fn allowance(line: &str, number: usize) -> Option<Result<Allowance<'_>, String>> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let mut words = line.split_whitespace().peekable();
    let path = words.next()?;
    let function = words.next_if(|word| word.ends_with("()")).map(|word| word.trim_end_matches("()"));
    let Some(limit) = words.next().and_then(|word| word.parse().ok()) else {
        return Some(Err("an allowance is PATH [FUNCTION()] LIMIT REASON".into()));
    };
    if words.next().is_none() {
        return Some(Err("an allowance without a reason".into()));
    }
    Some(Ok(Allowance { path, function, limit, line: number }))
}

/// What there is to measure in a file: the function's name, or none for the file; its line; its lines; its usual limit.
fn measures(file: &File) -> Vec<(Option<String>, usize, usize, usize)> {
    let (lines, limit) = if is_test(&file.path) {
        (file.text.lines().count(), FILE_LINES * 2)
    } else {
        (code::before_tests(&file.text).lines().count(), FILE_LINES)
    };
    let mut measures = vec![(None, 0, lines, limit)];
    measures
        .extend(functions(&file.text).into_iter().map(|(name, line, lines)| (Some(name), line, lines, FUNCTION_LINES)));
    measures
}

/// Every function with a body: its name, its line and how many lines it has.
fn functions(text: &str) -> Vec<(String, usize, usize)> {
    let code = code::only(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        if code[..at].chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let Some(end) = end_of_body(&code[at..]) else { continue };
        if !name.is_empty() {
            let line = code[..at].matches('\n').count() + 1;
            found.push((name, line, code[at..at + end].matches('\n').count() + 1));
        }
    }
    found
}

/// Where the body of a function ends, from its keyword; none if it has no body. Braces in a signature, which only constant
/// expressions have, do not occur here.
fn end_of_body(code: &str) -> Option<usize> {
    let (mut depth, mut brackets) = (0_usize, 0_usize);
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.checked_sub(1)?,
            ';' if depth == 0 && brackets == 0 => return None,
            '{' => depth += 1,
            '}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn long(lines: usize) -> String {
        format!("fn small();\nfn long(a: [u8; 3]) {{\n{}}}\n", "    a();\n".repeat(lines - 2))
    }

    #[test]
    fn long_functions_are_found() {
        assert_eq!(
            functions("fn a() {}\nfn b();\nlet c: fn (u8);\n  fn d()\n{\n}\n"),
            [("a".to_owned(), 1, 1), ("d".to_owned(), 4, 3)]
        );
        testing::check(check, &[("a.rs", &long(70))], &[]);
        testing::check(check, &[("a.rs", &long(71))], &["a.rs:2"]);
    }

    #[test]
    fn long_files_are_found_but_for_their_tests() {
        let lines = "\n".repeat(500);
        testing::check(check, &[("a.rs", &lines)], &[]);
        testing::check(check, &[("a.rs", &format!("{lines}\n"))], &["a.rs:0"]);
        testing::check(check, &[("a.rs", &format!("{lines}#[cfg(test)]\nmod tests {{\n}}\n"))], &[]);
        testing::check(check, &[("a/tests/b.rs", &format!("{lines}{lines}"))], &[]);
    }

    #[test]
    fn an_allowance_needs_a_reason_and_a_use() {
        let long = long(80);
        let list = |text| ("xtask/tidy-sizes.txt", text);
        testing::check(check, &[("a.rs", &long), list("# why\na.rs long() 80 a table\n")], &[]);
        testing::check(check, &[("a.rs", &long), list("a.rs long() 79 a table\n")], &["a.rs:2"]);
        testing::check(check, &[("a.rs", &long), list("a.rs long() 80\n")], &["xtask/tidy-sizes.txt:1", "a.rs:2"]);
        testing::check(check, &[list("a.rs 600 a table\n")], &["xtask/tidy-sizes.txt:1"]);
    }
}
