//! Filters as the API has them, and what a prune tells.

use std::collections::BTreeMap;

use crate::commands::list::filters;
use crate::failure::Outcome;
use crate::render::table;
use crate::template::Value;

/// `NAME=VALUE` as one JSON document; none if there are no filters.
pub fn encode(asked: &[String]) -> Outcome<Option<String>> {
    with(asked, &[])
}

/// The same with further ones.
pub fn with(asked: &[String], more: &[(&str, &str)]) -> Outcome<Option<String>> {
    let mut all: BTreeMap<String, BTreeMap<String, bool>> = BTreeMap::new();
    for (name, values) in filters(asked)? {
        all.entry(name).or_default().extend(values.into_iter().map(|value| (value, true)));
    }
    for (name, value) in more {
        all.entry((*name).to_owned()).or_default().insert((*value).to_owned(), true);
    }
    if all.is_empty() { Ok(None) } else { Ok(Some(serde_json::to_string(&all)?)) }
}

/// What went by a prune: its lines, and the bytes that came free.
pub fn pruned(done: &Value, title: &str, field: &str) -> (String, u64) {
    let gone = done.list(field);
    if gone.is_empty() {
        return (String::new(), 0);
    }
    let lines = gone.iter().map(|name| table::printable(&name.to_string()) + "\n").collect::<String>();
    (format!("{title}\n{lines}\n"), u64::try_from(done.int("SpaceReclaimed")).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let own = |all: &[&str]| all.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let text = encode(&own(&["label=a=b", "Status=running", "status=exited"])).unwrap().unwrap();
        assert_eq!(text, r#"{"label":{"a=b":true},"status":{"exited":true,"running":true}}"#);
        assert_eq!(encode(&[]).unwrap(), None);
        assert_eq!(with(&[], &[("dangling", "true")]).unwrap().unwrap(), r#"{"dangling":{"true":true}}"#);
        assert!(encode(&own(&["x"])).is_err());
    }

    #[test]
    fn what_went() {
        let done = serde_json::from_str(r#"{"ContainersDeleted":["a","b\u001b"],"SpaceReclaimed":5}"#).unwrap();
        assert_eq!(pruned(&done, "Deleted:", "ContainersDeleted"), ("Deleted:\na\nb?\n\n".to_owned(), 5));
        assert_eq!(pruned(&done, "Deleted:", "Other"), (String::new(), 0));
    }
}
