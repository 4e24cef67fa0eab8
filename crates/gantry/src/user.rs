//! What people have set for themselves in Docker's `config.json`: forms of lists, keys, and proxies for their containers.
//! A command reads it when it needs it. Logins are read elsewhere.

use std::path::PathBuf;

use crate::template::Value;
use crate::terminal;

/// The largest file that is read, in bytes.
const MAX: u64 = 1 << 20;
/// What a proxy is called there, and in the environment.
const PROXIES: [(&str, &str); 5] = [
    ("httpProxy", "HTTP_PROXY"),
    ("httpsProxy", "HTTPS_PROXY"),
    ("ftpProxy", "FTP_PROXY"),
    ("noProxy", "NO_PROXY"),
    ("allProxy", "ALL_PROXY"),
];

/// The document; nothing, if there is none.
fn config() -> Value {
    let Some(file) = file() else { return Value::Null };
    match std::fs::metadata(&file) {
        Ok(found) if found.len() <= MAX => {}
        _ => return Value::Null,
    }
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_else(|error| {
        terminal::tell(&format!("WARNING: {}: {error}\n", file.display()));
        Value::Null
    })
}

fn file() -> Option<PathBuf> {
    let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = from("DOCKER_CONFIG").or_else(|| from("HOME").map(|home| home.join(".docker")))?;
    Some(directory.join("config.json"))
}

/// A text, such as `psFormat` or `detachKeys`; none if it is not set.
pub fn setting(name: &str) -> Option<String> {
    Some(config().text(name).to_owned()).filter(|text| !text.is_empty())
}

/// The environment by which a container knows the proxies, as far as it is not given otherwise.
pub fn proxies(host: &str, given: &[String]) -> Vec<String> {
    proxies_of(&config(), host, given)
}

fn proxies_of(config: &Value, host: &str, given: &[String]) -> Vec<String> {
    let all = config.at(&["proxies"]);
    let ours = all.get(host).or_else(|| all.get("default")).cloned().unwrap_or_default();
    let known = |name: &str| given.iter().any(|text| text.split('=').next() == Some(name));
    let mut out = Vec::new();
    for (field, name) in PROXIES {
        let value = ours.text(field);
        let names = [name.to_owned(), name.to_ascii_lowercase()];
        out.extend(names.iter().filter(|name| !value.is_empty() && !known(name)).map(|name| format!("{name}={value}")));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn environments() {
        let config = serde_json::from_str(
            r#"{"proxies":{"default":{"httpProxy":"http://p:1","noProxy":"x"},"tcp://a:1":{"ftpProxy":"f"}}}"#,
        )
        .unwrap();
        let check = |host: &str, given: &[&str], expect: &str| {
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            assert_eq!(proxies_of(&config, host, &given).join(" "), expect, "{host} {given:?}");
        };
        check("unix:///x", &[], "HTTP_PROXY=http://p:1 http_proxy=http://p:1 NO_PROXY=x no_proxy=x");
        check("unix:///x", &["http_proxy=", "NO_PROXY"], "HTTP_PROXY=http://p:1 no_proxy=x");
        check("tcp://a:1", &[], "FTP_PROXY=f ftp_proxy=f");
        assert_eq!(proxies_of(&Value::Null, "x", &[]), Vec::<String>::new());
    }
}
