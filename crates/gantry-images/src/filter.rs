//! What is asked of lists: Docker's filters of images.
//!
//! Values of one filter are alternatives, except for labels, which all must match; filters of several names all must.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::pattern;
use crate::time;
use gantry_model::reference::Reference;

/// Filters as the command line and the API have them: a name to its values.
pub type Filters = BTreeMap<String, Vec<String>>;

/// What is looked at in an image.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its names.
    pub names: &'a [Reference],
    /// Its labels.
    pub labels: &'a BTreeMap<String, String>,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
}

/// Filters that are understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Whether it may have no name, or must have none.
    pub dangling: Option<bool>,
    /// Labels that it must have: a name and, if it matters, a value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels that it must not have.
    pub not_labels: Vec<(String, Option<String>)>,
    /// Made before this, in nanoseconds since 1970.
    pub before: Option<i64>,
    /// Made after this.
    pub since: Option<i64>,
    /// Patterns of names.
    pub references: Vec<String>,
}

impl Filter {
    /// The filters that `list` knows. `before` and `since` name images, whose times `created` tells.
    pub fn of_list(filters: &Filters, now: i64, created: &dyn Fn(&str) -> Result<i64>) -> Result<Self> {
        let known = ["dangling", "label", "label!", "before", "since", "until", "reference"];
        let mut filter = Self::common(filters, &known, now)?;
        for name in values(filters, "before") {
            filter.not_after(created(name)?);
        }
        for name in values(filters, "since") {
            let time = created(name)?;
            filter.since = Some(filter.since.map_or(time, |since| since.max(time)));
        }
        filter.references = values(filters, "reference").to_vec();
        Ok(filter)
    }

    /// The filters that `prune` knows. Without `dangling=false` only what has no name is pruned.
    pub fn of_prune(filters: &Filters, now: i64) -> Result<Self> {
        let mut filter = Self::common(filters, &["dangling", "label", "label!", "until"], now)?;
        filter.dangling = match filter.dangling {
            None | Some(true) => Some(true),
            Some(false) => None,
        };
        Ok(filter)
    }

    fn common(filters: &Filters, known: &[&str], now: i64) -> Result<Self> {
        if let Some(name) = filters.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Error::invalid("filter", name.clone(), format!("it is none of {}", known.join(", "))));
        }
        let mut filter = Self::default();
        for value in values(filters, "dangling") {
            let value = boolean(value)
                .ok_or_else(|| Error::invalid("filter dangling", value.clone(), "it is true or false"))?;
            if filter.dangling.is_some_and(|other| other != value) {
                return Err(Error::invalid("filter dangling", "true,false", "it cannot be both"));
            }
            filter.dangling = Some(value);
        }
        let label = |text: &String| match text.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (text.clone(), None),
        };
        filter.labels = values(filters, "label").iter().map(label).collect();
        filter.not_labels = values(filters, "label!").iter().map(label).collect();
        for value in values(filters, "until") {
            let why = "it is a time such as 2026-01-02T15:04:05Z, seconds since 1970, or a duration such as 24h";
            let time = time::parse_point(value, now);
            filter.not_after(time.ok_or_else(|| Error::invalid("filter until", value.clone(), why))?);
        }
        Ok(filter)
    }

    fn not_after(&mut self, time: i64) {
        self.before = Some(self.before.map_or(time, |before| before.min(time)));
    }

    /// Whether an image is one of those asked for.
    pub fn matches(&self, image: Subject<'_>) -> bool {
        let has = |(name, value): &(String, Option<String>)| {
            image.labels.get(name).is_some_and(|there| value.as_ref().is_none_or(|value| value == there))
        };
        let tagged = image.names.iter().any(|name| name.tag().is_some());
        let dangling = image.names.is_empty();
        self.dangling.is_none_or(|wanted| if wanted { dangling } else { !dangling || tagged })
            && self.labels.iter().all(has)
            && !self.not_labels.iter().any(has)
            && self.before.is_none_or(|time| image.created < time)
            && self.since.is_none_or(|time| image.created > time)
            && (self.references.is_empty() || image.names.iter().any(|name| self.names(name)))
    }

    /// Whether a name is of one of the patterns, or there are none.
    pub fn names(&self, name: &Reference) -> bool {
        self.references.is_empty() || self.references.iter().any(|one| pattern::matches_reference(one, name))
    }
}

fn values<'a>(filters: &'a Filters, name: &str) -> &'a [String] {
    filters.get(name).map_or(&[], Vec::as_slice)
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(list: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::new();
        for (name, value) in list {
            filters.entry((*name).to_owned()).or_default().push((*value).to_owned());
        }
        filters
    }

    #[test]
    fn lists() {
        let names = ["nginx:1".parse().unwrap(), "localhost:5000/app:2".parse().unwrap()];
        let labels = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
        let check = |list: &[(&str, &str)], named: bool, expect: bool| {
            let created = |name: &str| Ok(name.parse::<i64>().unwrap_or_default());
            let filter = Filter::of_list(&filters(list), 1_000_000_000_000, &created).unwrap();
            let names: &[Reference] = if named { &names } else { &[] };
            let image = Subject { names, labels: &labels, created: 500 };
            assert_eq!(filter.matches(image), expect, "{list:?}");
        };
        check(&[], true, true);
        check(&[("dangling", "true")], true, false);
        check(&[("dangling", "true")], false, true);
        check(&[("dangling", "0")], false, false);
        check(&[("label", "a")], true, true);
        check(&[("label", "a=1")], true, true);
        check(&[("label", "a=2")], true, false);
        check(&[("label", "a"), ("label", "b")], true, false);
        check(&[("label!", "a")], true, false);
        check(&[("label!", "b")], true, true);
        check(&[("before", "501")], true, true);
        check(&[("before", "500")], true, false);
        check(&[("since", "499")], true, true);
        check(&[("since", "500")], true, false);
        check(&[("until", "1m")], true, true);
        check(&[("until", "0.000000400")], true, false);
        check(&[("reference", "nginx")], true, true);
        check(&[("reference", "x"), ("reference", "*/app:2")], true, true);
        check(&[("reference", "x")], true, false);
        check(&[("reference", "*")], false, false);
    }

    #[test]
    fn refused() {
        let check = |name: &str, value: &str| {
            let filters = filters(&[(name, value)]);
            assert!(Filter::of_list(&filters, 0, &|_| Ok(0)).is_err(), "{name}={value}");
        };
        check("x", "y");
        check("dangling", "maybe");
        check("until", "soon");
        assert!(Filter::of_prune(&filters(&[("reference", "x")]), 0).is_err());
        assert_eq!(Filter::of_prune(&filters(&[]), 0).unwrap().dangling, Some(true));
        assert_eq!(Filter::of_prune(&filters(&[("dangling", "false")]), 0).unwrap().dangling, None);
    }
}
