//! What lists are reduced by, in the two forms that clients send. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::error::{Failure, Outcome};

/// Filters: for each name its values, of which one must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filters(pub(crate) BTreeMap<String, Vec<String>>);

impl Filters {
    /// Reads `{"name":{"value":true}}` or `{"name":["value"]}`.
    pub(crate) fn parse(text: &str) -> Outcome<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let fail = || Failure::invalid("invalid filter");
        let Value::Object(map) = serde_json::from_str(text).map_err(|_| fail())? else { return Err(fail()) };
        let mut filters = BTreeMap::new();
        for (name, values) in map {
            let values = match values {
                Value::Object(values) => {
                    values.into_iter().filter(|(_, on)| on.as_bool() != Some(false)).map(|(value, _)| value).collect()
                }
                Value::Array(values) => {
                    let text = |value: Value| value.as_str().map(str::to_owned).ok_or_else(fail);
                    values.into_iter().map(text).collect::<Outcome<Vec<_>>>()?
                }
                _ => return Err(fail()),
            };
            filters.insert(name, values);
        }
        Ok(Self(filters))
    }

    /// Refuses names that are not known.
    pub(crate) fn only(&self, known: &[&str]) -> Outcome<()> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Failure::invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// The values of a filter.
    pub(crate) fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether there is no such filter, or one of its values fits.
    pub(crate) fn any(&self, name: &str, fits: impl Fn(&str) -> bool) -> bool {
        let values = self.get(name);
        values.is_empty() || values.iter().any(|value| fits(value))
    }

    /// A filter that is yes or no.
    pub(crate) fn flag(&self, name: &str) -> Outcome<Option<bool>> {
        let values = self.get(name);
        let said = |words: [&str; 2]| values.iter().any(|value| words.contains(&value.as_str()));
        match (said(["1", "true"]), said(["0", "false"])) {
            _ if values.is_empty() => Ok(None),
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ => Err(Failure::invalid(format!("invalid filter '{name}=[{}]'", values.join(" ")))),
        }
    }

    /// Whether labels fit: each `label` must be there, and none of `label!`.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let has = |wanted: &String| match wanted.split_once('=') {
            Some((key, value)) => labels.get(key).is_some_and(|there| there == value),
            None => labels.contains_key(wanted),
        };
        self.get("label").iter().all(has) && !self.get("label!").iter().any(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms() {
        let check = |text: &str, expect: Option<&[&str]>| {
            let found = Filters::parse(text).ok().map(|filters| filters.get("a").to_vec());
            assert_eq!(found, expect.map(|list| list.iter().map(|&text| text.to_owned()).collect()), "{text}");
        };
        check("", Some(&[]));
        check(r#"{"a":{"x":true,"y":true}}"#, Some(&["x", "y"]));
        check(r#"{"a":["y","x"]}"#, Some(&["y", "x"]));
        check(r#"{"a":{"x":false}}"#, Some(&[]));
        check(r#"{"a":1}"#, None);
        check("[]", None);
        check("{", None);
    }

    #[test]
    fn flags() {
        let check = |text: &str, expect: Result<Option<bool>, &str>| {
            let found = Filters::parse(text).unwrap().flag("a").map_err(|failure| failure.message);
            assert_eq!(found, expect.map_err(str::to_owned), "{text}");
        };
        check("", Ok(None));
        check(r#"{"a":["1"]}"#, Ok(Some(true)));
        check(r#"{"a":["false"]}"#, Ok(Some(false)));
        check(r#"{"a":["x"]}"#, Err("invalid filter 'a=[x]'"));
        check(r#"{"a":["true","false"]}"#, Err("invalid filter 'a=[true false]'"));
    }

    #[test]
    fn labels() {
        let labels = [("k".to_owned(), "v".to_owned())].into();
        let check =
            |text: &str, expect: bool| assert_eq!(Filters::parse(text).unwrap().labels(&labels), expect, "{text}");
        check(r#"{"label":["k"]}"#, true);
        check(r#"{"label":["k=v"]}"#, true);
        check(r#"{"label":["k=w"]}"#, false);
        check(r#"{"label":["k","l"]}"#, false);
        check(r#"{"label!":["k"]}"#, false);
        check(r#"{"label!":["l"]}"#, true);
    }
}
