//! Holds what two engines said against each other, and tells of it.

use super::normal::Normal;
use super::script::{Accepted, Script, Step};
use super::{ENGINES, Said};
use std::collections::{BTreeMap, BTreeSet};

/// A line that one of the two said: whose it is, and what it says.
type Odd = (usize, String);

/// Compares and tells; gives what failed. A difference that is accepted where nothing differs is a failure if the session is
/// `whole`. What failed `before`, if there was such a session, is all that fails now.
pub fn report(
    script: &Script,
    steps: &[&Step],
    said: &[[Said; 2]],
    whole: bool,
    before: Option<&BTreeSet<String>>,
    each_line: &mut dyn FnMut(&str),
) -> BTreeSet<String> {
    let by_chance = |what: &str| before.is_some_and(|before| !before.contains(what));
    let mut failures = BTreeSet::new();
    let normal = Normal::new();
    let mut passed = 0;
    let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut used = vec![false; script.accepted.len()];
    for (step, [theirs, ours]) in steps.iter().zip(said) {
        let (theirs, ours) = (whole_text(theirs), whole_text(ours));
        let mut odd = differences(&normal.lines(&theirs), &normal.lines(&ours));
        let mut stale = Vec::new();
        for accepted in &step.accepted {
            if take(&mut odd, accepted) {
                reasons.entry(&accepted.reason).or_default().push(&step.name);
            } else if accepted.always {
                stale.push(accepted);
            }
        }
        for (accepted, used) in script.accepted.iter().zip(&mut used) {
            if take(&mut odd, accepted) {
                *used = true;
                reasons.entry(&accepted.reason).or_default().push(&step.name);
            }
        }
        let stale = if whole { stale } else { Vec::new() };
        if odd.is_empty() && stale.is_empty() {
            passed += 1;
            continue;
        }
        if by_chance(&step.name) {
            passed += 1;
            each_line(&format!("ok     {}, which differed only the second time", step.name));
            continue;
        }
        failures.insert(step.name.clone());
        each_line(&format!("FAIL   {}", step.name));
        for (engine, line) in odd {
            each_line(&format!("       {}: {line}", ENGINES[engine]));
        }
        for accepted in stale {
            each_line(&format!("       nothing differs any more by {}", accepted.lines));
        }
    }
    let unused = script.accepted.iter().zip(&used).filter(|(accepted, used)| whole && accepted.always && !**used);
    for (accepted, _) in unused {
        let what = format!("in no step anything differs any more by {}", accepted.lines);
        if !by_chance(&what) {
            each_line(&format!("FAIL   {what}"));
            failures.insert(what);
        }
    }
    each_line("");
    each_line("Differences that stay:");
    for (reason, names) in reasons {
        let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
        let names = names.iter().take(3).copied().collect::<Vec<_>>().join("; ");
        each_line(&format!("  {reason}\n      in: {names}{more}"));
    }
    each_line("");
    each_line(&format!("{passed} passed, {} failed", failures.len()));
    failures
}

fn whole_text(said: &Said) -> String {
    let status = format!("status: {}", said.status);
    let errors = said.err.lines().map(|line| format!("error: {line}"));
    said.out.lines().map(str::to_owned).chain(errors).chain([status]).collect::<Vec<_>>().join("\n")
}

/// Takes out the lines that may differ; whether there were any.
fn take(odd: &mut Vec<Odd>, accepted: &Accepted) -> bool {
    let before = odd.len();
    odd.retain(|(_, line)| !accepted.lines.is_match(line));
    odd.len() < before
}

/// The lines that are in one text and not, at that place, in the other.
fn differences(theirs: &[String], ours: &[String]) -> Vec<Odd> {
    let (rows, columns) = (theirs.len(), ours.len());
    // The length of the longest common row of lines from each pair of places on.
    let mut common = vec![vec![0_u32; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if theirs[row] == ours[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column, mut odd) = (0, 0, Vec::new());
    while row < rows || column < columns {
        if row < rows && column < columns && theirs[row] == ours[column] {
            (row, column) = (row + 1, column + 1);
        } else if row < rows && (column == columns || common[row + 1][column] >= common[row][column + 1]) {
            odd.push((0, theirs[row].clone()));
            row += 1;
        } else {
            odd.push((1, ours[column].clone()));
            column += 1;
        }
    }
    odd
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn lines_that_only_one_has() {
        let check = |theirs: &str, ours: &str, expect: &[(usize, &str)]| {
            let found = differences(&lines(theirs), &lines(ours));
            let expect: Vec<Odd> = expect.iter().map(|(of, line)| (*of, (*line).to_owned())).collect();
            assert_eq!(found, expect, "{theirs} / {ours}");
        };
        check("a b c", "a b c", &[]);
        check("a b c", "a c", &[(0, "b")]);
        check("a c", "a b c", &[(1, "b")]);
        check("a b c", "a x c", &[(0, "b"), (1, "x")]);
        check("", "a", &[(1, "a")]);
    }

    #[test]
    fn only_what_differs_twice_fails_the_second_time() {
        let step = |name: &str| Step { name: name.to_owned(), script: String::new(), accepted: Vec::new() };
        let said = |out: &str| Said { status: "0".to_owned(), out: out.to_owned(), err: String::new() };
        let (steps, script) = ([step("s"), step("t")], Script::default());
        let check = |before: Option<&[&str]>, expect: &[&str]| {
            let before = before.map(|names| names.iter().map(|&name| name.to_owned()).collect());
            let steps: Vec<&Step> = steps.iter().collect();
            let both = || [said("a\n"), said("b\n")];
            let failed = report(&script, &steps, &[both(), both()], true, before.as_ref(), &mut |_| {});
            assert_eq!(failed.iter().map(String::as_str).collect::<Vec<_>>(), expect, "{before:?}");
        };
        check(None, &["s", "t"]);
        check(Some(&["s"]), &["s"]);
        check(Some(&["other"]), &[]);
    }

    #[test]
    fn a_difference_that_is_accepted_must_be_there() {
        let mut script = Script::default();
        let step = Step {
            name: "s".to_owned(),
            script: String::new(),
            accepted: vec![Accepted {
                lines: regex_lite::Regex::new("^x").unwrap(),
                reason: "why".to_owned(),
                always: true,
            }],
        };
        let said = |out: &str| Said { status: "0".to_owned(), out: out.to_owned(), err: String::new() };
        let check = |ours: &str, whole: bool, script: &Script| {
            report(script, &[&step], &[[said("a\n"), said(ours)]], whole, None, &mut |_| {}).is_empty()
        };
        assert!(check("a\nx1\n", true, &script));
        assert!(!check("a\n", true, &script));
        assert!(check("a\n", false, &script));
        assert!(!check("b\nx\n", true, &script));
        script.accepted.push(Accepted {
            lines: regex_lite::Regex::new("^y").unwrap(),
            reason: "everywhere".to_owned(),
            always: true,
        });
        assert!(!check("a\nx1\n", true, &script), "never met");
        assert!(check("a\nx1\ny\n", true, &script));
    }
}
