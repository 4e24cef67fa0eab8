//! A request, taken apart.

use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Failure, Outcome};
use crate::filters::Filters;

/// The largest document in bytes.
const MAX_DOCUMENT: usize = 4 << 20;

/// The version of the API that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u16, pub(crate) u16);

impl Version {
    /// The newest that is spoken.
    pub(crate) const NEWEST: Self = Self(1, 51);
    /// The oldest.
    pub(crate) const OLDEST: Self = Self(1, 24);
}

impl FromStr for Version {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (major, minor) = text.split_once('.').ok_or(())?;
        Ok(Self(major.parse().map_err(|_| ())?, minor.parse().map_err(|_| ())?))
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// A request.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// The path without the version, decoded, in pieces.
    pub(crate) path: Vec<String>,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) version: Version,
    pub(crate) body: Content,
    /// The connection, if the client wants to have it for itself.
    pub(crate) upgrade: Option<hyper::upgrade::OnUpgrade>,
}

impl Request {
    /// Takes a request apart. None says that the version is out of range.
    pub(crate) fn new(mut request: http::Request<Incoming>) -> Outcome<Self> {
        let wants = request.headers().get(http::header::UPGRADE).is_some();
        let upgrade = wants.then(|| hyper::upgrade::on(&mut request));
        let (parts, body) = request.into_parts();
        let mut path: Vec<String> = parts.uri.path().split('/').skip(1).map(decoded).collect();
        let version = match path.first().and_then(|first| first.strip_prefix('v')).map(Version::from_str) {
            Some(Ok(version)) => {
                path.remove(0);
                version
            }
            _ => Version::NEWEST,
        };
        if version > Version::NEWEST {
            let newest = Version::NEWEST;
            let words = format!("client version {version} is too new. Maximum supported API version is {newest}");
            return Err(Failure::invalid(words));
        }
        if version < Version::OLDEST {
            let oldest = Version::OLDEST;
            let words = format!(
                "client version {version} is too old. Minimum supported API version is {oldest}, please upgrade your client \
                 to a newer version"
            );
            return Err(Failure::invalid(words));
        }
        let pairs = parts.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let query = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let plus = |text: &str| decoded(&text.replace('+', " "));
        let query = query.map(|(key, value)| (plus(key), plus(value))).collect();
        Ok(Self {
            method: parts.method,
            path,
            query,
            headers: parts.headers,
            version,
            body: Content(Some(body)),
            upgrade,
        })
    }

    /// A value of the query; empty if there is none.
    pub(crate) fn get(&self, key: &str) -> &str {
        self.query.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }

    /// All values of the query under a key.
    pub(crate) fn all(&self, key: &str) -> Vec<&str> {
        self.query.iter().filter(|(name, _)| name == key).map(|(_, value)| value.as_str()).collect()
    }

    /// Whether there is a value of the query that says yes.
    pub(crate) fn flag(&self, key: &str) -> bool {
        let value = self.get(key).trim().to_ascii_lowercase();
        !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
    }

    /// The same, with what it is if it is not there.
    pub(crate) fn flag_or(&self, key: &str, default: bool) -> bool {
        if self.query.iter().any(|(name, _)| name == key) { self.flag(key) } else { default }
    }

    /// A number of the query. What is none is refused in the words that clients know.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Outcome<Option<T>> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| no_number(text)),
        }
    }

    /// The filters.
    pub(crate) fn filters(&self) -> Outcome<Filters> {
        Filters::parse(self.get("filters"))
    }

    /// The body as a whole.
    pub(crate) async fn bytes(&mut self) -> Outcome<Bytes> {
        let body = Limited::new(&mut self.body, MAX_DOCUMENT);
        let all = body.collect().await.map_err(|error| Failure::invalid(format!("read the body: {error}")))?;
        Ok(all.to_bytes())
    }

    /// The body as a whole, which is to be a document by what its head says.
    pub(crate) async fn document(&mut self) -> Outcome<Bytes> {
        let bytes = self.bytes().await?;
        match self.headers.get(CONTENT_TYPE) {
            // Without a body there is nothing to say of it.
            None if bytes.is_empty() => {}
            given => {
                is_document(&given.map_or(String::new(), |given| String::from_utf8_lossy(given.as_bytes()).into()))?;
            }
        }
        Ok(bytes)
    }

    /// The body as a document; nothing is an empty one.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Outcome<T> {
        let bytes = self.document().await?;
        if bytes.is_empty() { Ok(T::default()) } else { typed(parse(&bytes)?) }
    }
}

/// The body of a request. What of it nobody has read is read when it is dropped, up to a bound: a client that is cut off
/// while it sends may not look at the answer.
#[derive(Debug)]
pub(crate) struct Content(Option<Incoming>);

/// The most that is read of a body that nobody wants, in bytes.
const MAX_UNREAD: usize = 256 << 10;
/// How long a client may take to send it.
const UNREAD: Duration = Duration::from_secs(2);

impl Body for Content {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.0.as_mut().map_or(Poll::Ready(None), |body| Pin::new(body).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        let Some(body) = self.0.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let rest = Limited::new(body, MAX_UNREAD).collect();
            // Whatever comes of it is of no interest.
            runtime.spawn(async move { drop(tokio::time::timeout(UNREAD, rest).await) });
        }
    }
}

/// What is said of a text that is no number.
pub(crate) fn no_number(text: &str) -> Failure {
    Failure::invalid(format!("strconv.Atoi: parsing {text:?}: invalid syntax"))
}

/// Refuses a content type that is not JSON's.
fn is_document(text: &str) -> Outcome<()> {
    let malformed = |why: &str| Failure::invalid(format!("malformed Content-Type header ({text}): mime: {why}"));
    let (kind, parameters) = text.split_once(';').unwrap_or((text, ""));
    let kind = kind.trim();
    if kind.is_empty() {
        return Err(malformed("no media type"));
    }
    let is_parameter = |part: &str| part.split_once('=').is_some_and(|(name, _)| !name.trim().is_empty());
    if !parameters.trim().is_empty() && !parameters.split(';').all(is_parameter) {
        return Err(malformed("invalid media parameter"));
    }
    if !kind.eq_ignore_ascii_case("application/json") {
        return Err(Failure::invalid(format!("unsupported Content-Type header ({text}): must be 'application/json'")));
    }
    Ok(())
}

/// Reads one document, after which there is nothing.
pub(crate) fn parse(bytes: &[u8]) -> Outcome<Value> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Value::deserialize(&mut reader)?;
    reader.end().map_err(|_| Failure::invalid("unexpected content after JSON"))?;
    Ok(value)
}

/// Takes an object as what it is to be; `null` is an empty one.
pub(crate) fn typed<T: DeserializeOwned + Default>(value: Value) -> Outcome<T> {
    let kind = match value {
        Value::Object(_) => return Ok(serde_json::from_value(value)?),
        Value::Null => return Ok(T::default()),
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
    };
    Err(Failure::invalid(format!("invalid JSON: an object is meant, not {kind}")))
}

/// A text whose `%XX` are decoded; what is no UTF-8 is replaced.
fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let [first, more @ ..] = rest {
        let code = match (first, more) {
            (b'%', [a, b, ..]) => std::str::from_utf8(&[*a, *b]).ok().and_then(|hex| u8::from_str_radix(hex, 16).ok()),
            _ => None,
        };
        out.push(code.unwrap_or(*first));
        rest = if code.is_some() { &more[2..] } else { more };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent() {
        for (text, expect) in
            [("a%2Fb", "a/b"), ("%", "%"), ("%zz", "%zz"), ("%2", "%2"), ("%E2%82%AC", "€"), ("%ff", "\u{fffd}")]
        {
            assert_eq!(decoded(text), expect);
        }
    }

    #[test]
    fn content_types() {
        let check = |text: &str, expect: &str| {
            let found = is_document(text).map_err(|failure| failure.message).err().unwrap_or_default();
            assert_eq!(found, expect, "{text}");
        };
        check("application/json", "");
        check("Application/JSON; charset=utf-8", "");
        check("application/json;", "");
        check("", "malformed Content-Type header (): mime: no media type");
        check(
            "application/json;;",
            "malformed Content-Type header (application/json;;): mime: invalid media parameter",
        );
        check("text/plain", "unsupported Content-Type header (text/plain): must be 'application/json'");
    }

    #[test]
    fn documents() {
        let check = |text: &str, expect: Result<&str, &str>| {
            let found = parse(text.as_bytes()).and_then(typed::<std::collections::BTreeMap<String, String>>);
            let found = found.map(|map| map.get("a").cloned().unwrap_or_default()).map_err(|failure| failure.message);
            assert_eq!(found, expect.map(str::to_owned).map_err(str::to_owned), "{text}");
        };
        check(r#"{"a":"b"}"#, Ok("b"));
        check(" {} ", Ok(""));
        check("null", Ok(""));
        check("{", Err("invalid JSON: unexpected EOF"));
        check("{}{}", Err("unexpected content after JSON"));
        check("[]", Err("invalid JSON: an object is meant, not array"));
    }

    #[test]
    fn versions() {
        assert_eq!("1.24".parse(), Ok(Version(1, 24)));
        assert!(Version(1, 9) < Version(1, 24) && Version(2, 0) > Version::NEWEST);
        assert!("1".parse::<Version>().is_err() && "a.b".parse::<Version>().is_err());
    }
}
