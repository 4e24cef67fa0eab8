//! YAML into the values of JSON: what specifications need of it. Aliases, tags and keys that are no text are refused.

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Number, Value};

/// How deep values lie in each other.
const MAX_DEPTH: usize = 64;

/// Reads one document, and nothing beside it.
pub(super) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> serde_json::Result<T> {
    let value = document(text).map_err(<serde_json::Error as serde::de::Error>::custom)?;
    serde_json::from_value(value)
}

fn document(text: &str) -> Result<Value, String> {
    let mut events = Events(Parser::new_from_str(text));
    let mut found = None;
    loop {
        match events.next()? {
            Event::StreamStart | Event::DocumentStart(_) | Event::DocumentEnd | Event::Nothing => {}
            Event::StreamEnd => return Ok(found.unwrap_or_default()),
            _ if found.is_some() => return Err("there is more than one document".to_owned()),
            event => found = Some(events.value(event, 0)?),
        }
    }
}

struct Events<'a>(Parser<'a, saphyr_parser::StrInput<'a>>);

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, String> {
        match self.0.next_event() {
            Some(Ok((event, _))) => Ok(event),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(Event::StreamEnd),
        }
    }

    /// The value that begins with an event.
    fn value(&mut self, event: Event<'a>, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("values lie in each other more than {MAX_DEPTH} deep"));
        }
        match event {
            Event::Scalar(.., Some(tag)) | Event::SequenceStart(_, Some(tag)) | Event::MappingStart(_, Some(tag)) => {
                Err(format!("tag {tag} is not supported"))
            }
            Event::Scalar(text, ScalarStyle::Plain, ..) => Ok(plain(&text)),
            Event::Scalar(text, ..) => Ok(Value::String(text.into_owned())),
            Event::SequenceStart(..) => {
                let mut list = Vec::new();
                loop {
                    match self.next()? {
                        Event::SequenceEnd => return Ok(Value::Array(list)),
                        event => list.push(self.value(event, depth + 1)?),
                    }
                }
            }
            Event::MappingStart(..) => self.mapping(depth),
            Event::Alias(_) => Err("aliases are not supported".to_owned()),
            other => Err(format!("unexpected {other:?}")),
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Value, String> {
        let mut map = Map::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(Value::Object(map)),
                Event::Scalar(text, .., None) => text.into_owned(),
                _ => return Err("a key must be text".to_owned()),
            };
            let event = self.next()?;
            let value = self.value(event, depth + 1)?;
            if map.insert(key.clone(), value).is_some() {
                return Err(format!("key {key:?} stands twice"));
            }
        }
    }
}

/// What a word without quotes is. Numbers with a zero before them are octal, as for whoever writes such files.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Value::String(text.to_owned());
    }
    let radix = |digits: &str, radix| u64::from_str_radix(digits, radix).ok().map(Number::from);
    let number = match digits {
        _ if digits.starts_with("0x") => radix(&digits[2..], 16),
        _ if digits.starts_with("0o") => radix(&digits[2..], 8),
        _ if digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| (b'0'..b'8').contains(&b)) => {
            radix(digits, 8)
        }
        _ if text.starts_with('-') => text.parse::<i64>().ok().map(Number::from),
        _ => digits.parse::<u64>().ok().map(Number::from),
    };
    let float = || digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b)).then(|| text.parse().ok());
    let number = number.or_else(|| Number::from_f64(float()??));
    number.map_or_else(|| Value::String(text.to_owned()), Value::Number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents() {
        let check = |text: &str, expect: &str| {
            let found = document(text).map_or_else(|error| error, |value| value.to_string());
            assert!(
                found == expect || (expect.ends_with('*') && found.starts_with(expect.trim_end_matches('*'))),
                "{found}"
            );
        };
        check("", "null");
        check("---\na: 1\nb: [x, \"2\", '3', ~]\n...\n", r#"{"a":1,"b":["x","2","3",null]}"#);
        check("a:\n- b: c\n  d: e\n- f\n", r#"{"a":[{"b":"c","d":"e"},"f"]}"#);
        check("a: |\n  x\n  y\n", r#"{"a":"x\ny\n"}"#);
        check(
            "a: 0666\nb: 0o17\nc: 0x1f\nd: 09\ne: -3\nf: 1.5\ng: 1.2.3\nh: 0\n",
            r#"{"a":438,"b":15,"c":31,"d":9,"e":-3,"f":1.5,"g":"1.2.3","h":0}"#,
        );
        check("a: true\nb: yes\nc: .inf\nd: -x\n", r#"{"a":true,"b":"yes","c":".inf","d":"-x"}"#);
        check("a: 1\na: 2\n", "key \"a\" stands twice");
        check("a: &x 1\nb: *x\n", "aliases are not supported");
        check("a: !!str 1\n", "tag *");
        check("? [a]\n: 1\n", "a key must be text");
        check("a\n---\nb\n", "there is more than one document");
        check("a: [", "*");
        check(&"[".repeat(100), "values lie in each other more than 64 deep");
        check(&"- ".repeat(100), "values lie in each other more than 64 deep");
    }

    /// Damaged text is refused, or read, and nothing else.
    #[test]
    fn damaged() {
        let text = "cdiVersion: 0.6.0\nkind: a.b/c\ndevices:\n- name: \"0\"\n  containerEdits: {env: [A=b], mounts: [{x: 'y'}]}\n";
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..5000 {
            let mut bytes = text.as_bytes().to_vec();
            for _ in 0..=next(4) {
                let at = next(bytes.len());
                match next(3) {
                    0 => bytes[at] = b":-[]{}&*!|>'\"%@`#,?\n\t \\x"[next(24)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, b"\n -:{}[]'\"&"[next(11)]),
                }
            }
            let _ = document(&String::from_utf8_lossy(&bytes));
        }
    }
}
