//! The functions of templates: Go's, and Docker's beside them.

use std::cmp::Ordering;
use std::fmt::Write as _;

use super::value::Value;

/// Widest field of `printf` and of `pad`, in characters.
const MAX_WIDTH: usize = 4096;

const NAMES: [&str; 22] = [
    "and", "eq", "ge", "gt", "index", "join", "json", "le", "len", "lower", "lt", "ne", "not", "or", "pad", "print",
    "printf", "println", "slice", "split", "title", "truncate",
];

/// Whether there is a function of this name.
pub fn known(name: &str) -> bool {
    NAMES.contains(&name) || name == "upper"
}

/// Calls a function. With `titles`, what changes a text leaves it as it is: it is the title of a column.
pub fn call(name: &str, mut args: Vec<Value>, titles: bool) -> Result<Value, String> {
    if titles && matches!(name, "json" | "split" | "join" | "title" | "lower" | "upper" | "truncate") {
        // The title is the argument that is changed: the first, or what came through the pipeline.
        return match name {
            "truncate" | "split" | "join" if !args.is_empty() => Ok(args.swap_remove(0)),
            _ => args.pop().ok_or_else(|| wrong_count(name)),
        };
    }
    match (name, &args[..]) {
        ("and" | "or", [.., last]) => Ok(args.iter().find(|a| a.truth() == (name == "or")).unwrap_or(last).clone()),
        ("not", [one]) => Ok(Value::Bool(!one.truth())),
        ("eq", [first, rest @ ..]) if !rest.is_empty() => {
            Ok(Value::Bool(rest.iter().any(|other| compare(first, other) == Some(Ordering::Equal))))
        }
        ("ne", [a, b]) => Ok(Value::Bool(compare(a, b) != Some(Ordering::Equal))),
        ("lt" | "le" | "gt" | "ge", [a, b]) => {
            let order = compare(a, b).ok_or_else(|| format!("{} and {} have no order", a.kind(), b.kind()))?;
            Ok(Value::Bool(match name {
                "lt" => order.is_lt(),
                "le" => order.is_le(),
                "gt" => order.is_gt(),
                _ => order.is_ge(),
            }))
        }
        ("len", [one]) => length(one).map(|n| Value::Int(n as i64)),
        ("index", [of, keys @ ..]) => keys.iter().try_fold(of.clone(), |value, key| index(&value, key)),
        ("slice", [of, bounds @ ..]) if bounds.len() <= 2 => slice(of, bounds),
        ("print", all) => Ok(Value::Text(print(all))),
        ("println", all) => Ok(Value::Text(all.iter().map(Value::to_string).collect::<Vec<_>>().join(" ") + "\n")),
        ("printf", [Value::Text(format), rest @ ..]) => printf(format, rest).map(Value::Text),
        ("json", [one]) => serde_json::to_string(one).map(Value::Text).map_err(|error| error.to_string()),
        ("split", [Value::Text(text), Value::Text(at)]) => {
            Ok(Value::List(text.split(at.as_str()).map(|part| Value::Text(part.to_owned())).collect()))
        }
        ("join", [Value::List(items), Value::Text(between)]) => {
            Ok(Value::Text(items.iter().map(Value::to_string).collect::<Vec<_>>().join(between)))
        }
        ("join", [Value::Null, Value::Text(_)]) => Ok(Value::Text(String::new())),
        ("lower", [Value::Text(text)]) => Ok(Value::Text(text.to_lowercase())),
        ("upper", [Value::Text(text)]) => Ok(Value::Text(text.to_uppercase())),
        ("title", [Value::Text(text)]) => Ok(Value::Text(title(text))),
        ("pad", [Value::Text(text), Value::Int(before), Value::Int(after)]) => {
            let spaces = |n: i64| " ".repeat((n.max(0) as usize).min(MAX_WIDTH));
            // As Docker has it: nothing stays nothing.
            let padded = if text.is_empty() { String::new() } else { spaces(*before) + text + &spaces(*after) };
            Ok(Value::Text(padded))
        }
        ("truncate", [Value::Text(text), Value::Int(most)]) => {
            Ok(Value::Text(text.chars().take((*most).max(0) as usize).collect()))
        }
        _ => Err(wrong_arguments(name, &args)),
    }
}

fn wrong_count(name: &str) -> String {
    format!("{name} needs an argument")
}

fn wrong_arguments(name: &str, args: &[Value]) -> String {
    if args.is_empty() {
        return wrong_count(name);
    }
    let kinds: Vec<&str> = args.iter().map(Value::kind).collect();
    format!("{name} does not take {}", kinds.join(", "))
}

/// A whole number as any other; beyond 2^53 it is the nearest.
#[allow(clippy::cast_precision_loss)]
fn float(n: i64) -> f64 {
    n as f64
}

fn compare(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Float(b)) => float(*a).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&float(*b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        (Value::Null, Value::Null) => Some(Ordering::Equal),
        _ => None,
    }
}

fn length(value: &Value) -> Result<usize, String> {
    match value {
        Value::Null => Ok(0),
        Value::Text(text) => Ok(text.len()),
        Value::List(items) => Ok(items.len()),
        Value::Map(entries) => Ok(entries.len()),
        other => Err(format!("{} has no length", other.kind())),
    }
}

/// An element of a list, which must be there, or of a map, where what is not there is empty.
fn index(value: &Value, key: &Value) -> Result<Value, String> {
    match (value, key) {
        (Value::List(items), Value::Int(at)) => {
            let found = usize::try_from(*at).ok().and_then(|at| items.get(at));
            found.cloned().ok_or_else(|| format!("index out of range: {at}"))
        }
        (Value::Map(_), Value::Text(key)) => Ok(value.get(key).cloned().unwrap_or(Value::Text(String::new()))),
        (Value::Null, Value::Text(_)) => Ok(Value::Text(String::new())),
        (Value::Null, _) => Err("index of nothing".to_owned()),
        (value, key) => Err(format!("{} has no index that is {}", value.kind(), key.kind())),
    }
}

fn slice(value: &Value, bounds: &[Value]) -> Result<Value, String> {
    let length = length(value)?;
    let bound = |at: usize, default: usize| match bounds.get(at) {
        None => Ok(default),
        Some(Value::Int(n)) => {
            usize::try_from(*n).ok().filter(|n| *n <= length).ok_or(format!("index out of range: {n}"))
        }
        Some(other) => Err(format!("a bound is {}", other.kind())),
    };
    let (from, to) = (bound(0, 0)?, bound(1, length)?);
    if from > to {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::Text(text) => {
            text.get(from..to).map(|part| Value::Text(part.to_owned())).ok_or_else(|| "it cuts a character".to_owned())
        }
        Value::List(items) => Ok(Value::List(items[from..to].to_vec())),
        other => Err(format!("{} cannot be sliced", other.kind())),
    }
}

/// As Go's Sprint: a space between two that are no texts.
fn print(all: &[Value]) -> String {
    let mut out = String::new();
    for (at, value) in all.iter().enumerate() {
        let texts =
            matches!(value, Value::Text(_)) || at.checked_sub(1).is_none_or(|b| matches!(all[b], Value::Text(_)));
        let _ = write!(out, "{}{value}", if texts { "" } else { " " });
    }
    out
}

fn title(text: &str) -> String {
    let mut start = true;
    let mut out = String::new();
    for c in text.chars() {
        if start {
            out.extend(c.to_uppercase());
        } else {
            out.push(c);
        }
        start = c.is_whitespace() || "-/.,:;()[]".contains(c);
    }
    out
}

/// `%s %v %d %q %t %x %f %%` with width, precision, and the flags `-` and `0`.
fn printf(format: &str, args: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let flags = rest.len() - rest.trim_start_matches(['-', '0', '+', ' ', '#']).len();
        let (flags, after) = rest.split_at(flags);
        let (width, after) = number(after);
        let (precision, after) = match after.strip_prefix('.') {
            Some(after) => {
                let (precision, after) = number(after);
                (Some(precision.unwrap_or(0)), after)
            }
            None => (None, after),
        };
        let verb = after.chars().next().ok_or("a format ends with %")?;
        rest = &after[verb.len_utf8()..];
        if verb == '%' {
            out.push('%');
            continue;
        }
        let text = match args.next() {
            Some(value) => verb_text(verb, value, precision)?,
            None => format!("%!{verb}(MISSING)"),
        };
        pad_to(&mut out, &text, flags, width.unwrap_or(0));
    }
    out.push_str(rest);
    Ok(out)
}

fn number(text: &str) -> (Option<usize>, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    (text[..end].parse::<usize>().ok().map(|n| n.min(MAX_WIDTH)), &text[end..])
}

fn verb_text(verb: char, value: &Value, precision: Option<usize>) -> Result<String, String> {
    let cut = |text: String| precision.map_or(text.clone(), |most| text.chars().take(most).collect());
    match (verb, value) {
        ('v' | 't', value) => Ok(value.to_string()),
        ('s', value) => Ok(cut(value.to_string())),
        ('d', Value::Int(n)) => Ok(n.to_string()),
        ('x', Value::Int(n)) => Ok(format!("{n:x}")),
        ('x', Value::Text(text)) => Ok(text.bytes().fold(String::new(), |out, byte| out + &format!("{byte:02x}"))),
        ('q', Value::Text(text)) => serde_json::to_string(text).map_err(|error| error.to_string()),
        ('f', Value::Float(n)) => Ok(format!("{n:.*}", precision.unwrap_or(6))),
        ('f', Value::Int(n)) => Ok(format!("{:.*}", precision.unwrap_or(6), float(*n))),
        (verb, value) => Err(format!("printf has no %{verb} for {}", value.kind())),
    }
}

fn pad_to(out: &mut String, text: &str, flags: &str, width: usize) {
    let missing = width.saturating_sub(text.chars().count());
    if flags.contains('-') {
        out.push_str(text);
        out.push_str(&" ".repeat(missing));
    } else {
        out.push_str(&(if flags.contains('0') { "0" } else { " " }).repeat(missing));
        out.push_str(text);
    }
}
