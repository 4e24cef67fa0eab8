//! From a method and a path to what is asked. Pure.

use std::borrow::Cow;

use gantry_model::digest::Digest;
use gantry_model::reference::{check_repository, check_tag};
use http::Method;

use super::refusal::{Code, Refusal};
use crate::config::Action;

/// A tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tag(String),
    Digest(Digest),
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Ping,
    Catalog,
    Token,
    Health,
    /// With a repository; the text is its name.
    In(String, Work),
}

/// What is asked of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    GetManifest(Target),
    PutManifest(Target),
    DeleteManifest(Target),
    GetBlob(Digest),
    DeleteBlob(Digest),
    StartUpload,
    UploadStatus(String),
    UploadChunk(String),
    FinishUpload(String),
    CancelUpload(String),
    Tags,
    Referrers(Digest),
}

impl Work {
    /// The right that it needs.
    pub const fn action(&self) -> Action {
        match self {
            Self::GetManifest(_) | Self::GetBlob(_) | Self::Tags | Self::Referrers(_) => Action::Pull,
            Self::DeleteManifest(_) | Self::DeleteBlob(_) => Action::Delete,
            _ => Action::Push,
        }
    }

    /// Its name in the metrics.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::GetManifest(_) => "manifest_get",
            Self::PutManifest(_) => "manifest_put",
            Self::DeleteManifest(_) => "manifest_delete",
            Self::GetBlob(_) => "blob_get",
            Self::DeleteBlob(_) => "blob_delete",
            Self::StartUpload => "upload_start",
            Self::UploadStatus(_) => "upload_status",
            Self::UploadChunk(_) => "upload_chunk",
            Self::FinishUpload(_) => "upload_finish",
            Self::CancelUpload(_) => "upload_cancel",
            Self::Tags => "tags",
            Self::Referrers(_) => "referrers",
        }
    }
}

/// Reads a path. The specification's names hold no character that is escaped, so an escape is undone before the check.
pub(crate) fn route(method: &Method, path: &str) -> Result<Route, Refusal> {
    let read = matches!(*method, Method::GET | Method::HEAD);
    let fixed = match path {
        "/v2" | "/v2/" => Some(Route::Ping),
        "/v2/_catalog" => Some(Route::Catalog),
        "/token" => Some(Route::Token),
        "/healthz" | "/readyz" => Some(Route::Health),
        _ => None,
    };
    if let Some(route) = fixed {
        return if read { Ok(route) } else { Err(unsupported(method, path)) };
    }
    let path = unescape(path).ok_or_else(|| Refusal::new(Code::NameInvalid, "the path is not UTF-8"))?;
    let Some(rest) = path.strip_prefix("/v2/") else { return Err(nothing(&path)) };
    let Some((name, kind, argument)) = split(rest) else { return Err(nothing(&path)) };
    check_repository(name).map_err(|e| Refusal::new(Code::NameInvalid, e.to_string()))?;
    let work = work(method, kind, argument)?.ok_or_else(|| unsupported(method, &path))?;
    Ok(Route::In(name.to_owned(), work))
}

fn work(method: &Method, kind: Kind, argument: &str) -> Result<Option<Work>, Refusal> {
    let method = if *method == Method::HEAD && !matches!(kind, Kind::Upload) { &Method::GET } else { method };
    let digest = || argument.parse::<Digest>().map_err(|e| Refusal::new(Code::DigestInvalid, e.to_string()));
    Ok(match (kind, method.as_str()) {
        (Kind::Manifest, "GET") => Some(Work::GetManifest(target(argument)?)),
        (Kind::Manifest, "PUT") => Some(Work::PutManifest(target(argument)?)),
        (Kind::Manifest, "DELETE") => Some(Work::DeleteManifest(target(argument)?)),
        (Kind::Blob, "GET") => Some(Work::GetBlob(digest()?)),
        (Kind::Blob, "DELETE") => Some(Work::DeleteBlob(digest()?)),
        (Kind::Start, "POST") => Some(Work::StartUpload),
        (Kind::Upload, "GET") => Some(Work::UploadStatus(argument.to_owned())),
        (Kind::Upload, "PATCH") => Some(Work::UploadChunk(argument.to_owned())),
        (Kind::Upload, "PUT") => Some(Work::FinishUpload(argument.to_owned())),
        (Kind::Upload, "DELETE") => Some(Work::CancelUpload(argument.to_owned())),
        (Kind::Tags, "GET") => Some(Work::Tags),
        (Kind::Referrers, "GET") => Some(Work::Referrers(digest()?)),
        _ => None,
    })
}

#[derive(Clone, Copy)]
enum Kind {
    Manifest,
    Blob,
    Start,
    Upload,
    Tags,
    Referrers,
}

/// The repository is whatever goes before the last part that says what is asked.
fn split(rest: &str) -> Option<(&str, Kind, &str)> {
    if let Some(name) = rest.strip_suffix("/tags/list") {
        return Some((name, Kind::Tags, ""));
    }
    if let Some(name) = rest.strip_suffix("/blobs/uploads/").or_else(|| rest.strip_suffix("/blobs/uploads")) {
        return Some((name, Kind::Start, ""));
    }
    let (head, argument) = rest.rsplit_once('/')?;
    let kinds = [
        ("/blobs/uploads", Kind::Upload),
        ("/manifests", Kind::Manifest),
        ("/blobs", Kind::Blob),
        ("/referrers", Kind::Referrers),
    ];
    kinds.iter().find_map(|(part, kind)| head.strip_suffix(part).map(|name| (name, *kind, argument)))
}

fn target(text: &str) -> Result<Target, Refusal> {
    if text.contains(':') {
        let digest = text
            .parse()
            .map_err(|e: gantry_model::digest::InvalidDigest| Refusal::new(Code::DigestInvalid, e.to_string()))?;
        return Ok(Target::Digest(digest));
    }
    check_tag(text).map_err(|e| Refusal::new(Code::TagInvalid, e.to_string()))?;
    Ok(Target::Tag(text.to_owned()))
}

fn nothing(path: &str) -> Refusal {
    let path: String = path.chars().take(200).collect();
    Refusal::new(Code::Unsupported, format!("there is nothing at {path}")).with_status(http::StatusCode::NOT_FOUND)
}

fn unsupported(method: &Method, path: &str) -> Refusal {
    let path: String = path.chars().take(200).collect();
    Refusal::new(Code::Unsupported, format!("{method} is not possible on {path}"))
}

/// Undoes escapes of a path or a query's value; none if it is no UTF-8 then.
pub(crate) fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        if let Some(byte) =
            hex.filter(|h| h.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|h| u8::from_str_radix(h, 16).ok())
        {
            out.push(byte);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}

/// The values of a query, by name, in their order. A plus sign stays one: media types have it, and clients of registries
/// do not escape it.
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|p| !p.is_empty()).take(256);
        let text = |t: &str| unescape(t).map(Cow::into_owned).unwrap_or_default();
        let pair =
            |p: &str| p.split_once('=').map_or((text(p), String::new()), |(name, value)| (text(name), text(value)));
        Self(pairs.map(pair).collect())
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// Escapes what a query's value must not hold.
pub(crate) fn escape(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/:".contains(&b);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";

    #[test]
    fn routes() {
        let check = |method: &str, path: &str, expect: &str| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let found = match route(&method, path) {
                Ok(Route::In(name, work)) => format!("{name} {}", work.name()),
                Ok(other) => format!("{other:?}"),
                Err(refusal) => format!("{} {}", refusal.status.as_u16(), refusal.code.as_str()),
            };
            assert_eq!(found, expect, "{method} {path}");
        };
        let digest = format!("sha256:{HEX}");
        check("GET", "/v2/", "Ping");
        check("HEAD", "/v2", "Ping");
        check("POST", "/v2/", "405 UNSUPPORTED");
        check("GET", "/v2/_catalog", "Catalog");
        check("GET", "/token", "Token");
        check("GET", "/", "404 UNSUPPORTED");
        check("GET", "/v2/a/b/c/manifests/latest", "a/b/c manifest_get");
        check("HEAD", &format!("/v2/a/manifests/{digest}"), "a manifest_get");
        check("HEAD", &format!("/v2/a/manifests/sha256%3A{HEX}"), "a manifest_get");
        check("PUT", "/v2/a/manifests/v1", "a manifest_put");
        check("DELETE", "/v2/a/manifests/v1", "a manifest_delete");
        check("PUT", "/v2/a/manifests/.v1", "400 TAG_INVALID");
        check("PUT", "/v2/a/manifests/sha256:00", "400 DIGEST_INVALID");
        check("GET", "/v2/A/manifests/v1", "400 NAME_INVALID");
        check("GET", "/v2/../a/manifests/v1", "400 NAME_INVALID");
        check("GET", "/v2/a@b/manifests/v1", "400 NAME_INVALID");
        check("GET", &format!("/v2/{}/manifests/v1", "a".repeat(256)), "400 NAME_INVALID");
        check("GET", &format!("/v2/a/blobs/{digest}"), "a blob_get");
        check("GET", "/v2/a/blobs/md5:00", "400 DIGEST_INVALID");
        check("POST", "/v2/a/blobs/uploads/", "a upload_start");
        check("POST", "/v2/a/blobs/uploads", "a upload_start");
        check("PATCH", "/v2/a/blobs/uploads/x", "a upload_chunk");
        check("PUT", "/v2/a/blobs/uploads/x", "a upload_finish");
        check("GET", "/v2/a/blobs/uploads/x", "a upload_status");
        check("DELETE", "/v2/a/blobs/uploads/x", "a upload_cancel");
        check("POST", "/v2/a/blobs/uploads/x", "405 UNSUPPORTED");
        check("GET", "/v2/a/tags/list", "a tags");
        check("GET", "/v2/a/blobs/tags/list", "a/blobs tags");
        check("GET", &format!("/v2/a/referrers/{digest}"), "a referrers");
        check("GET", "/v2/a/referrers/x", "400 DIGEST_INVALID");
        check("GET", "/v2/%ff/tags/list", "400 NAME_INVALID");
    }

    #[test]
    fn queries() {
        let query = Query::parse(Some("n=1&artifactType=a%2Fb+json&tag=x&tag=y&flag"));
        assert_eq!(query.get("n"), Some("1"));
        assert_eq!(query.get("artifactType"), Some("a/b+json"));
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!((query.get("flag"), query.get("none")), (Some(""), None));
        assert_eq!(unescape(&escape("a+b c/é&")).unwrap(), "a+b c/é&");
        assert_eq!(unescape("100%").unwrap(), "100%");
    }
}
