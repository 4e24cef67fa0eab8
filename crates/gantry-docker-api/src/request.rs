//! A request, taken apart.

use std::str::FromStr;

use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

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
    pub(crate) body: Incoming,
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
        Ok(Self { method: parts.method, path, query, headers: parts.headers, version, body, upgrade })
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

    /// A number of the query.
    pub(crate) fn number<T: FromStr>(&self, key: &str) -> Outcome<Option<T>> {
        match self.get(key) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Failure::invalid(format!("invalid value {text:?} of {key}"))),
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

    /// The body as a document; nothing is an empty one.
    pub(crate) async fn json<T: DeserializeOwned + Default>(&mut self) -> Outcome<T> {
        let bytes = self.bytes().await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        Ok(serde_json::from_slice(&bytes)?)
    }
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
    fn versions() {
        assert_eq!("1.24".parse(), Ok(Version(1, 24)));
        assert!(Version(1, 9) < Version(1, 24) && Version(2, 0) > Version::NEWEST);
        assert!("1".parse::<Version>().is_err() && "a.b".parse::<Version>().is_err());
    }
}
