//! The documents of the API.

pub(crate) mod commit;
pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod host;
pub(crate) mod limits;
pub(crate) mod network;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// `null` is the default, as Go has it.
pub(crate) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// A word, or a list of words.
pub(crate) fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        One(String),
        Many(Vec<String>),
    }
    Ok(match Option::<Words>::deserialize(deserializer)? {
        None => None,
        Some(Words::One(one)) => Some(vec![one]),
        Some(Words::Many(many)) => Some(many),
    })
}

/// A set as Go has it: names with empty objects.
pub(crate) type Set = BTreeMap<String, Value>;

/// Lays the given values over the defaults, by name; what the defaults do not have is left out.
pub(crate) fn over(defaults: Value, given: &Value) -> Value {
    let (mut all, given) = match (defaults, given) {
        (Value::Object(all), Value::Object(given)) => (all, given),
        (defaults, _) => return defaults,
    };
    for (key, value) in &mut all {
        if let Some(found) = given.get(key).filter(|found| !found.is_null()) {
            value.clone_from(found);
        }
    }
    Value::Object(all)
}
