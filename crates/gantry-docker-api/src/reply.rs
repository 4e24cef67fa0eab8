//! Answers.

use bytes::Bytes;
use futures_util::Stream;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use serde::Serialize;

use crate::error::Failure;

/// The body of an answer.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;
/// An answer.
pub(crate) type Reply = Response<Body>;

/// A body of these bytes.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// An answer with a status and nothing else.
pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(full(Bytes::new()));
    *reply.status_mut() = status;
    reply
}

/// An answer with a document.
pub(crate) fn json(status: StatusCode, document: &impl Serialize) -> Reply {
    let mut text = serde_json::to_vec(document).unwrap_or_default();
    text.push(b'\n');
    let mut reply = Response::new(full(text));
    *reply.status_mut() = status;
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// A good answer with a document.
pub(crate) fn ok(document: &impl Serialize) -> Reply {
    json(StatusCode::OK, document)
}

/// An answer that comes piece by piece; its head goes at once.
pub(crate) fn stream(
    content_type: &'static str,
    pieces: impl Stream<Item = std::io::Result<Bytes>> + Send + 'static,
) -> Reply {
    use futures_util::StreamExt as _;
    let mut reply = Response::new(StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync());
    reply.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

impl From<Failure> for Reply {
    fn from(failure: Failure) -> Self {
        #[derive(Serialize)]
        struct Message {
            message: String,
        }
        if failure.status == StatusCode::NOT_MODIFIED {
            return empty(failure.status);
        }
        json(failure.status, &Message { message: failure.message })
    }
}
