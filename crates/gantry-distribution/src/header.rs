//! The other headers of the distribution protocol, each read by one small bounded function.

use gantry_model::Digest;
use http::HeaderMap;
use http::header::{AsHeaderName, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, LINK, RANGE};
use serde::Deserialize;

/// The most of a header that is read, in bytes.
const MAX_HEADER: usize = 8 << 10;
/// The most of a registry's message that is shown, in characters.
const MAX_MESSAGE: usize = 300;

/// A header's text, if it is text and of a sane length.
pub(crate) fn text(headers: &HeaderMap, name: impl AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok().map(str::trim).filter(|text| text.len() <= MAX_HEADER)
}

/// `Docker-Content-Digest`: absent, or a digest, or what stands there instead.
pub(crate) fn content_digest(headers: &HeaderMap) -> Result<Option<Digest>, String> {
    match text(headers, "docker-content-digest").filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => text.parse().map(Some).map_err(|error: gantry_model::digest::InvalidDigest| error.to_string()),
    }
}

/// The media type, without parameters; empty if there is none.
pub(crate) fn content_type(headers: &HeaderMap) -> String {
    let text = text(headers, CONTENT_TYPE).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// `Content-Length`.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH)?.parse().ok()
}

/// `Content-Range` of an answer: where it begins, and the size of the whole if it is told.
pub(crate) fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let (range, size) = text(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, size.parse().ok()))
}

/// `Range` of an upload: how many bytes the registry has. `0-0` is one byte or none, as registries differ, and is
/// taken as none; the caller sends that byte again or not at all.
pub(crate) fn received(headers: &HeaderMap) -> Option<u64> {
    let text = text(headers, RANGE)?;
    let text = text.strip_prefix("bytes=").or_else(|| text.strip_prefix("bytes ")).unwrap_or(text);
    let (first, last) = text.split_once('-')?;
    let last: u64 = last.trim().parse().ok()?;
    if first.trim() != "0" {
        return None;
    }
    Some(if last == 0 { 0 } else { last.checked_add(1)? })
}

/// The target of the `Link` header with `rel="next"` (RFC 8288).
pub(crate) fn next_link(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).into_iter().take(16).find_map(|value| {
        let mut rest = value.to_str().ok().filter(|text| text.len() <= MAX_HEADER)?;
        while let Some((_, more)) = rest.split_once('<') {
            let (target, parameters) = more.split_once('>')?;
            let end = parameters.find('<').unwrap_or(parameters.len());
            if is_next(&parameters[..end]) {
                return Some(target.trim().to_owned());
            }
            rest = &parameters[end..];
        }
        None
    })
}

/// Whether the parameters of a link hold `rel=next`, quoted or not, among other relations or alone.
fn is_next(parameters: &str) -> bool {
    parameters.split([';', ',']).any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("rel") && value.split_whitespace().any(|rel| rel.eq_ignore_ascii_case("next"))
    })
}

/// The first code and the messages of an error's body (distribution-spec, Error Codes), made fit for a terminal.
pub(crate) fn error_body(bytes: &[u8]) -> (String, String) {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Body {
        errors: Vec<One>,
        // What token servers and proxies write instead.
        details: Option<serde_json::Value>,
        message: Option<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct One {
        code: Option<serde_json::Value>,
        message: Option<String>,
    }
    let Ok(body) = serde_json::from_slice::<Body>(bytes) else {
        // A page of a proxy says nothing that fits here.
        let plain = std::str::from_utf8(bytes).ok().filter(|text| !text.trim_start().starts_with(['<', '{', '[']));
        return (String::new(), tidy(plain.unwrap_or_default()));
    };
    let string = |value: Option<serde_json::Value>| match value {
        Some(serde_json::Value::String(text)) => tidy(&text),
        _ => String::new(),
    };
    let mut code = String::new();
    let mut messages = vec![];
    for one in body.errors.into_iter().take(8) {
        let this = string(one.code);
        messages.push(tidy(&one.message.filter(|m| !m.is_empty()).unwrap_or_else(|| this.clone())));
        if code.is_empty() {
            code = this;
        }
    }
    if messages.is_empty() {
        messages.push(body.message.map_or_else(|| string(body.details), |m| tidy(&m)));
    }
    (code, tidy(&messages.join("; ")))
}

/// A text from outside in one line, without control characters, cut to a length that fits one.
pub(crate) fn tidy(text: &str) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_MESSAGE).collect();
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, http::HeaderValue::from_bytes(value.as_bytes()).unwrap());
        headers
    }

    #[test]
    fn links() {
        let check = |value: &str, expect: Option<&str>| {
            assert_eq!(next_link(&headers("link", value)).as_deref(), expect, "{value}");
        };
        check(r#"</v2/a/tags/list?n=2&last=b>; rel="next""#, Some("/v2/a/tags/list?n=2&last=b"));
        check("<https://h.test/x>;rel=next", Some("https://h.test/x"));
        check(r#"</a>; rel="prev", </b>; title="x"; REL="last Next""#, Some("/b"));
        check(r#"</a,b;c>; rel="next""#, Some("/a,b;c"));
        check(r#"</a>; rel="nextish""#, None);
        check("</a>", None);
        check("</a", None);
        check("", None);
        check("rel=next", None);
        check(&format!("<{}>; rel=next", "a".repeat(MAX_HEADER)), None);
    }

    #[test]
    fn ranges_of_uploads() {
        let check =
            |value: &str, expect: Option<u64>| assert_eq!(received(&headers("range", value)), expect, "{value}");
        check("0-0", Some(0));
        check("0-99", Some(100));
        check("bytes=0-99", Some(100));
        check("5-99", None);
        check("0", None);
        check("0--1", None);
        check("0-18446744073709551615", None);
        check("", None);
    }

    #[test]
    fn ranges_of_answers() {
        let check =
            |value: &str, expect| assert_eq!(content_range(&headers("content-range", value)), expect, "{value}");
        check("bytes 5-9/10", Some((5, Some(10))));
        check("bytes 5-9/*", Some((5, None)));
        check("bytes 9-5/10", None);
        check("bytes */10", None);
        check("5-9/10", None);
        check("bytes x", None);
    }

    #[test]
    fn types_and_digests() {
        assert_eq!(content_type(&headers("content-type", "Application/JSON; charset=utf-8")), "application/json");
        assert_eq!(content_type(&HeaderMap::new()), "");
        assert_eq!(content_digest(&HeaderMap::new()), Ok(None));
        assert!(content_digest(&headers("docker-content-digest", "sha256:00")).is_err());
        assert_eq!(content_length(&headers("content-length", "12")), Some(12));
        assert_eq!(content_length(&headers("content-length", "-1")), None);
    }

    #[test]
    fn bodies_of_errors() {
        let check = |text: &str, code: &str, message: &str| {
            assert_eq!(error_body(text.as_bytes()), (code.to_owned(), message.to_owned()), "{text}");
        };
        check(r#"{"errors":[{"code":"NAME_UNKNOWN","message":"no such\nname"}]}"#, "NAME_UNKNOWN", "no such name");
        check(r#"{"errors":[{"code":"A"},{"code":"B","message":"b"}]}"#, "A", "A; b");
        check(r#"{"errors":[{"code":5}]}"#, "", "");
        check(r#"{"details":"incorrect username or password"}"#, "", "incorrect username or password");
        check(r#"{"message":"\u001b[31mred"}"#, "", "[31mred");
        check("plain words", "", "plain words");
        check("<html>", "", "");
        check(r#"{"errors":3}"#, "", "");
        check("", "", "");
    }
}
