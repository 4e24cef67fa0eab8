//! Short ways into JSON documents, for expectations.

use serde_json::Value;

use crate::outcome::{Outcome, fail};

/// Reads a document; the text is shown when it is none.
pub fn parse(text: &str) -> Outcome<Value> {
    serde_json::from_str(text).or_else(|error| fail(format!("no JSON document ({error}): {text:?}")))
}

/// The value at `pointer`; `null` when there is none.
pub fn at<'a>(document: &'a Value, pointer: &str) -> &'a Value {
    document.pointer(pointer).unwrap_or(&Value::Null)
}

/// The mount in force at `target` in a probe's report: the last one there.
pub fn mount_at<'a>(report: &'a Value, target: &str) -> Option<&'a Value> {
    at(report, "/mounts").as_array()?.iter().rev().find(|mount| at(mount, "/target") == target)
}

/// Whether the list at `pointer` holds the text `word`.
pub fn has(document: &Value, pointer: &str, word: &str) -> bool {
    at(document, pointer).as_array().is_some_and(|list| list.iter().any(|item| item == word))
}
