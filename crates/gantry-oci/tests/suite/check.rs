//! The helper that most tests are data for: a change of the default configuration, and what the probe then finds.

use gantry_testkit::json::{at, parse};
use gantry_testkit::{Container, Kit, Outcome, Stop, Test, ensure_eq};
use serde_json::Value;

/// A change of the configuration, and what the probe reports then.
pub struct Case {
    /// The test's name, within its area.
    pub name: &'static str,
    /// What is changed; may skip.
    pub change: fn(&mut Container<'_>) -> Outcome,
    /// Places in the report and the JSON value expected there.
    pub expect: &'static [(&'static str, &'static str)],
}

/// Makes tests of cases.
pub fn report_tests(area: &str, cases: &'static [Case]) -> Vec<Test> {
    cases.iter().map(|case| Test::new(format!("{area}::{}", case.name), move |kit| check(kit, case))).collect()
}

fn check(kit: &Kit, case: &Case) -> Outcome {
    let mut container = kit.container()?;
    (case.change)(&mut container)?;
    let report = container.run_json()?;
    expect(&report, case.expect)
}

/// Fails unless the document has these values at these places.
pub fn expect(report: &Value, expected: &[(&str, &str)]) -> Outcome {
    for (pointer, value) in expected {
        ensure_eq!(*at(report, pointer), parse(value)?, "{pointer}");
    }
    Ok(())
}

/// A change of the configuration that the runtime must refuse, and a word its message must hold.
pub struct Refused {
    /// The test's name, within its area.
    pub name: &'static str,
    /// What is changed; may skip.
    pub change: fn(&mut Container<'_>) -> Outcome,
    /// A word of the message, in lower case; empty takes any.
    pub says: &'static str,
}

/// Makes tests of refusals: `create` fails with a message, and leaves nothing even before anything is deleted.
pub fn refused_tests(area: &str, cases: &'static [Refused]) -> Vec<Test> {
    let refused = |case: &'static Refused| {
        Test::new(format!("{area}::{}", case.name), move |kit| {
            let mut container = kit.container()?;
            (case.change)(&mut container)?;
            check_refused(&container, case.says)
        })
    };
    cases.iter().map(refused).collect()
}

/// Fails unless `create` is refused with `says` in the message, and nothing is left.
pub fn check_refused(container: &Container<'_>, says: &str) -> Outcome {
    container.write_config()?;
    let output = container.refused(&["create", &container.id])?;
    let said = output.stderr.to_lowercase();
    gantry_testkit::ensure!(said.contains(says), "the message does not say {says:?}: {:?}", output.stderr);
    nothing_left(container)
}

/// Fails when something is left of the container although nothing was deleted.
pub fn nothing_left(container: &Container<'_>) -> Outcome {
    let left = container.leftovers();
    if left.is_empty() { Ok(()) } else { Err(Stop::Fail(format!("left behind: {}", left.join("; ")))) }
}

/// A test without arguments besides the kit.
pub fn test(name: &str, body: fn(&Kit) -> Outcome) -> Test {
    Test::new(name, body)
}
