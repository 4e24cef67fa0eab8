//! What a template works on: JSON whose objects keep their order, printed as Go prints values.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};

/// A value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// Nothing, or a key that is not there.
    #[default]
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in order.
    List(Vec<Value>),
    /// Values by name, in the order of the document.
    Map(Vec<(String, Value)>),
}

impl Value {
    /// The value that something has as JSON.
    pub fn of<T: Serialize>(thing: &T) -> serde_json::Result<Self> {
        serde_json::from_str(&serde_json::to_string(thing)?)
    }

    /// A row of a listing: texts by name.
    pub fn row<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self::Map(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// What a map has under a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        match self {
            Self::Map(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The value at a path of names, or nothing.
    pub fn at(&self, path: &[&str]) -> &Value {
        static NOTHING: Value = Value::Null;
        let mut value = self;
        for name in path {
            match value.get(name) {
                Some(inner) => value = inner,
                None => return &NOTHING,
            }
        }
        value
    }

    /// The text under a name, or none.
    pub fn text(&self, name: &str) -> &str {
        match self.get(name) {
            Some(Self::Text(text)) => text,
            _ => "",
        }
    }

    /// The number under a name, or 0.
    pub fn int(&self, name: &str) -> i64 {
        self.get(name).map_or(0, Self::number)
    }

    /// What a number is, as a whole one; 0 for anything else.
    pub const fn number(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::Float(n) => *n as i64,
            _ => 0,
        }
    }

    /// Whether the value under a name is true.
    pub fn is(&self, name: &str) -> bool {
        self.get(name) == Some(&Self::Bool(true))
    }

    /// The values of a list; none of anything else.
    pub fn items(&self) -> &[Value] {
        match self {
            Self::List(items) => items,
            _ => &[],
        }
    }

    /// The list under a name.
    pub fn list(&self, name: &str) -> &[Value] {
        self.get(name).map_or(&[], Self::items)
    }

    /// The entries of a map, in the order of the document; none of anything else.
    pub fn entries(&self) -> &[(String, Value)] {
        match self {
            Self::Map(entries) => entries,
            _ => &[],
        }
    }

    /// Whether `if` takes it for true: all but nothing, zero and empty.
    pub fn truth(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(yes) => *yes,
            Self::Int(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Text(text) => !text.is_empty(),
            Self::List(items) => !items.is_empty(),
            Self::Map(entries) => !entries.is_empty(),
        }
    }

    /// What it is, for an error.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float(_) => "a float",
            Self::Text(_) => "a string",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }

    /// The entries of a map by name, as Go goes through them.
    pub fn sorted(entries: &[(String, Value)]) -> Vec<&(String, Value)> {
        let mut sorted: Vec<_> = entries.iter().collect();
        sorted.sort_by(|a, b| a.0.cmp(&b.0));
        sorted
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = |value: &Value, f: &mut fmt::Formatter<'_>| match value {
            Self::Null => f.write_str("<nil>"),
            other => other.fmt(f),
        };
        match self {
            Self::Null => f.write_str("<no value>"),
            Self::Bool(yes) => yes.fmt(f),
            Self::Int(n) => n.fmt(f),
            Self::Float(n) => n.fmt(f),
            Self::Text(text) => f.write_str(text),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    f.write_str(if index > 0 { " " } else { "" })?;
                    inner(item, f)?;
                }
                f.write_str("]")
            }
            Self::Map(entries) => {
                f.write_str("map[")?;
                for (index, (key, value)) in Self::sorted(entries).into_iter().enumerate() {
                    write!(f, "{}{key}:", if index > 0 { " " } else { "" })?;
                    inner(value, f)?;
                }
                f.write_str("]")
            }
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(yes) => serializer.serialize_bool(*yes),
            Self::Int(n) => serializer.serialize_i64(*n),
            Self::Float(n) => serializer.serialize_f64(*n),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => items.serialize(serializer),
            Self::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, yes: bool) -> Result<Value, E> {
        Ok(Value::Bool(yes))
    }

    fn visit_i64<E>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    #[allow(clippy::cast_precision_loss, reason = "it is the nearest that a template can have")]
    fn visit_u64<E>(self, n: u64) -> Result<Value, E> {
        Ok(i64::try_from(n).map_or(Value::Float(n as f64), Value::Int))
    }

    #[allow(clippy::unnecessary_wraps, reason = "the trait asks for it")]
    fn visit_f64<E>(self, n: f64) -> Result<Value, E> {
        Ok(Value::Float(n))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Value::Map(entries))
    }
}
