//! From what was found to what is printed. Everything here is data to text.

pub mod changes;
pub mod containers;
pub mod disk;
pub mod history;
pub mod images;
pub mod info;
pub mod listing;
pub mod networks;
pub mod removed;
pub mod stats;
pub mod table;
pub mod units;
pub mod usage;

use crate::template::Value;

/// Labels as they are shown: `a=b,c=d`, by their names.
pub fn labels(labels: Option<&Value>) -> String {
    let entries = labels.map(Value::entries).unwrap_or_default();
    let all = Value::sorted(entries).into_iter().map(|(key, value)| format!("{key}={value}"));
    all.collect::<Vec<_>>().join(",")
}

/// An id as it is shown: the first twelve digits, or all of it.
pub fn id(text: &str, whole: bool) -> String {
    if whole {
        return text.to_owned();
    }
    let digits = text.split_once(':').map_or(text, |(_, digits)| digits);
    digits.chars().take(12).collect()
}
