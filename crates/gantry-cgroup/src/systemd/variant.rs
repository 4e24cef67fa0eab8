//! Values of properties in the text form of GVariant, as annotations `org.systemd.property.NAME` carry them.

use std::collections::BTreeMap;

use crate::error::Error;
use crate::systemd::{Property, Value};

const PREFIX: &str = "org.systemd.property.";

/// The properties in a set of annotations.
pub(crate) fn properties(annotations: &BTreeMap<String, String>) -> Result<Vec<Property>, Error> {
    annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value)))
        .map(|(name, value)| {
            let wrong = |why: &str| Error::resource("annotations", format!("{PREFIX}{name}: {value}"), why);
            if name.len() < 3 || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_alphabetic()) {
                return Err(wrong("the name of a property has 3 to 64 letters"));
            }
            let parsed = parse(value).ok_or_else(|| wrong("not a value in GVariant's text form of a known type"))?;
            seconds(name, parsed).ok_or_else(|| wrong("seconds must be a number that is not negative"))
        })
        .collect()
}

/// On the bus, what a unit file calls `TimeoutStopSec` is `TimeoutStopUSec`, in microseconds.
fn seconds(name: &str, value: Value) -> Option<Property> {
    let stem = name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_ascii_lowercase()));
    let Some(stem) = stem else { return Some(Property::new(name, value)) };
    let whole = match value {
        Value::F64(v) if (0.0..1e12).contains(&v) => return Some(usec(stem, (v * 1e6) as u64)),
        Value::Byte(v) => u64::from(v),
        Value::I32(v) => u64::try_from(v).ok()?,
        Value::U32(v) => u64::from(v),
        Value::I64(v) => u64::try_from(v).ok()?,
        Value::U64(v) => v,
        _ => return None,
    };
    Some(usec(stem, whole.saturating_mul(1_000_000)))
}

fn usec(stem: &str, value: u64) -> Property {
    Property::new(&format!("{stem}USec"), Value::U64(value))
}

/// Reads a boolean, a number (with its type before it, or an int32), a string, or a list of strings.
fn parse(text: &str) -> Option<Value> {
    let text = text.trim();
    match text {
        "true" => return Some(Value::Bool(true)),
        "false" => return Some(Value::Bool(false)),
        _ => {}
    }
    if text.starts_with(['\'', '"']) {
        let (value, rest) = string(text)?;
        return rest.is_empty().then_some(Value::Str(value));
    }
    if let Some(list) = text.strip_prefix("@as").unwrap_or(text).trim_start().strip_prefix('[') {
        return strings(list).map(Value::Strings);
    }
    let (kind, number) = text.split_once(' ').unwrap_or((if text.contains('.') { "double" } else { "int32" }, text));
    let number = number.trim();
    Some(match kind {
        "byte" | "@y" => Value::Byte(match number.strip_prefix("0x") {
            Some(hex) => u8::from_str_radix(hex, 16).ok()?,
            None => number.parse().ok()?,
        }),
        "int32" | "@i" => Value::I32(number.parse().ok()?),
        "uint32" | "@u" => Value::U32(number.parse().ok()?),
        "int64" | "@x" => Value::I64(number.parse().ok()?),
        "uint64" | "@t" => Value::U64(number.parse().ok()?),
        "double" | "@d" => Value::F64(number.parse().ok()?),
        _ => return None,
    })
}

/// A quoted string at the beginning, and what follows it.
fn string(text: &str) -> Option<(String, &str)> {
    let mut chars = text.char_indices();
    let (_, quote) = chars.next()?;
    let mut out = String::new();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                c @ ('\\' | '\'' | '"') => c,
                _ => return None,
            }),
            c if c == quote => return Some((out, text[at + 1..].trim_start())),
            '\0' => return None,
            c => out.push(c),
        }
    }
    None
}

/// The rest of a list after its opening bracket.
fn strings(mut rest: &str) -> Option<Vec<String>> {
    let mut out = Vec::new();
    rest = rest.trim_start();
    if rest == "]" {
        return Some(out);
    }
    loop {
        if !rest.starts_with(['\'', '"']) {
            return None;
        }
        let (value, after) = string(rest)?;
        out.push(value);
        match after.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return (after == "]").then_some(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(values: &[&str]) -> Value {
        Value::Strings(values.iter().map(|&v| v.to_owned()).collect())
    }

    #[test]
    fn values() {
        let check = |text: &str, expect: Option<Value>| assert_eq!(parse(text), expect, "{text:?}");
        check("true", Some(Value::Bool(true)));
        check("'a b'", Some(Value::Str("a b".into())));
        check("\"it's\"", Some(Value::Str("it's".into())));
        check("'it\\'s'", Some(Value::Str("it's".into())));
        check("uint64 18446744073709551615", Some(Value::U64(u64::MAX)));
        check("-7", Some(Value::I32(-7)));
        check("int64 -7", Some(Value::I64(-7)));
        check("byte 0x1f", Some(Value::Byte(31)));
        check("1.5", Some(Value::F64(1.5)));
        check("['a', \"b\"]", Some(list(&["a", "b"])));
        check("@as []", Some(list(&[])));
        check("['a',]", None);
        check("['a'", None);
        check("'a", None);
        check("uint32 -1", None);
        check("int32 4000000000", None);
        check("", None);
        check("{'a': 1}", None);
    }

    #[test]
    fn annotations() {
        let check = |name: &str, value: &str, expect: &str| {
            let map = BTreeMap::from([(name.to_owned(), value.to_owned()), ("other".to_owned(), "x".to_owned())]);
            let got = properties(&map).map_or_else(
                |_| "refused".to_owned(),
                |all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
            );
            assert_eq!(got, expect, "{name}");
        };
        check("org.systemd.property.TimeoutStopSec", "uint64 3", "TimeoutStopUSec=3000000");
        check("org.systemd.property.TimeoutStopSec", "1.5", "TimeoutStopUSec=1500000");
        check("org.systemd.property.TimeoutStopUSec", "uint64 3", "TimeoutStopUSec=3");
        check("org.systemd.property.CollectMode", "'inactive-or-failed'", "CollectMode=inactive-or-failed");
        check("org.systemd.property.TimeoutStopSec", "-1", "refused");
        check("org.systemd.property.a b", "true", "refused");
        check("org.systemd.property.AB", "true", "refused");
    }
}
