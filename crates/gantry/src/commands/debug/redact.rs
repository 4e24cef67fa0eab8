//! Secrets are taken out: values of the environment, and whatever a name or a form gives away.

use serde_json::Value;

/// What stands for what was taken out.
const GONE: &str = "(redacted)";
/// Parts of names of secrets, in lower case.
const NAMES: [&str; 6] = ["password", "passwd", "secret", "token", "credential", "access_key"];
/// Names that hold one of those, and are of files or of nothing secret.
const HARMLESS: [&str; 3] = ["_file", "token_ttl", "secrets"];

/// Whether the name of a value says that it is secret.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase();
    NAMES.iter().any(|part| name.contains(part)) && !HARMLESS.iter().any(|part| name.ends_with(part))
}

/// A text without a password in an address (`https://user:word@host`), or in options (`username=a,password=b`).
fn text(text: &str) -> String {
    let mut out = text.to_owned();
    if let Some((before, rest)) = text.split_once("://")
        && let Some((user, after)) = rest.split('/').next().and_then(|authority| authority.rsplit_once('@'))
    {
        let path = &rest[user.len() + 1 + after.len()..];
        out = format!("{before}://{GONE}@{after}{path}");
    }
    if out.contains('=') {
        let hide = |part: &str| match part.split_once('=') {
            Some((name, _)) if is_secret(name) => format!("{name}={GONE}"),
            _ => part.to_owned(),
        };
        out = out.split(',').map(hide).collect::<Vec<_>>().join(",");
    }
    out
}

/// Takes the secrets out of a document.
pub fn json(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                match value {
                    Value::Array(list) if name == "Env" => list.iter_mut().for_each(variable),
                    Value::String(_) if is_secret(name) => *value = GONE.into(),
                    other => json(other),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(json),
        Value::String(string) => *string = text(string),
        _ => {}
    }
}

/// Takes the value out of a variable.
fn variable(value: &mut Value) {
    if let Value::String(string) = value {
        let name = string.split('=').next().unwrap_or_default();
        *string = format!("{name}={GONE}");
    }
}

/// Takes the secrets out of documents, of which there may be one a line; what is none is taken out as a whole.
pub fn json_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for document in serde_json::Deserializer::from_slice(bytes).into_iter::<Value>() {
        let Ok(mut document) = document else {
            out.extend_from_slice(b"(what follows is no JSON)\n");
            break;
        };
        json(&mut document);
        out.extend_from_slice(&serde_json::to_vec_pretty(&document).unwrap_or_default());
        out.push(b'\n');
    }
    out
}

/// Takes the secrets out of a configuration.
pub fn toml(table: &mut toml::Table) {
    for (name, value) in table.iter_mut() {
        match value {
            toml::Value::String(string) if is_secret(name) => GONE.clone_into(string),
            other => within(other),
        }
    }
}

fn within(value: &mut toml::Value) {
    match value {
        toml::Value::String(string) => *string = text(string),
        toml::Value::Array(list) => list.iter_mut().for_each(within),
        toml::Value::Table(table) => toml(table),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let check = |given: &str, expect: &str| assert_eq!(text(given), expect, "{given}");
        check("https://user:word@host/path?a=b", "https://(redacted)@host/path?a=b");
        check("https://host/path@x", "https://host/path@x");
        check("addr=1.2.3.4,username=a,password=b", "addr=1.2.3.4,username=a,password=(redacted)");
        check("plain, text", "plain, text");
    }

    #[test]
    fn documents() {
        let given = r#"{"Config":{"Env":["A=b=c","PATH"],"Labels":{"db.password":"x","tier":"prod"}},"Token":"t","N":1}
{"Options":{"o":"username=a,password=b"}}"#;
        let out = String::from_utf8(json_lines(given.as_bytes())).unwrap();
        let all: Vec<Value> = serde_json::Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().unwrap();
        assert_eq!(all[0]["Config"]["Env"], serde_json::json!(["A=(redacted)", "PATH=(redacted)"]));
        assert_eq!(all[0]["Config"]["Labels"], serde_json::json!({"db.password": GONE, "tier": "prod"}));
        assert_eq!((&all[0]["Token"], &all[0]["N"]), (&GONE.into(), &1.into()));
        assert_eq!(all[1]["Options"]["o"], "username=a,password=(redacted)");
        assert_eq!(json_lines(b"no json"), b"(what follows is no JSON)\n");
    }

    #[test]
    fn configurations() {
        let given = "proxy = 'http://a:b@p'\n[daemon.registry.storage.s3]\naccess_key_id = 'AK'\nsecret_access_key_file = '/f'\n\
                     [[daemon.registry.upstream]]\nname = 'x'\npassword_file = '/p'\n[daemon.registry.auth]\ntoken_ttl = '5m'";
        let mut table: toml::Table = toml::from_str(given).unwrap();
        toml(&mut table);
        let out = toml::to_string(&table).unwrap();
        for expect in ["http://(redacted)@p", "access_key_id = \"(redacted)\"", "\"/f\"", "\"/p\"", "\"5m\""] {
            assert!(out.contains(expect), "{expect}: {out}");
        }
    }
}
