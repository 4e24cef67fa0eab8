//! How answers end that come piece by piece, when the server does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Frame, SizeHint};
use serde_json::json;
use tokio::sync::watch;

use crate::reply::Body;
use crate::server::Phase;

/// What is said to whoever waits for something that is cut off.
pub(crate) const WORDS: &str = "the daemon ends or is replaced, and has cut this off: ask again";

/// The last words of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Last {
    /// It follows something that has no end, and just ends.
    Follow,
    /// It waits for a container, for as long as that takes.
    Wait,
    /// It tells of progress, and then of an error.
    Progress,
    /// It is content, of which a part must not be taken for the whole: the connection breaks.
    Content,
}

/// The parts of a path, without the version.
pub(crate) fn parts(path: &str) -> Vec<&str> {
    let mut parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let version =
        |part: &str| part.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if parts.first().is_some_and(|first| version(first)) {
        parts.remove(0);
    }
    parts
}

/// The last words of the answer to a request.
pub(crate) fn last_words(method: &str, path: &[&str]) -> Last {
    match (method, path) {
        ("GET", ["events"] | ["containers", _, "logs" | "stats"]) | ("POST", ["containers", _, "attach"]) => {
            Last::Follow
        }
        ("POST", ["exec", _, "start"]) => Last::Follow,
        ("POST", ["containers", _, "wait"]) => Last::Wait,
        ("POST", ["images", "create" | "load"] | ["images", .., "push"] | ["build"]) => Last::Progress,
        _ => Last::Content,
    }
}

impl Last {
    /// When they are said.
    const fn phase(self) -> Phase {
        match self {
            Self::Follow | Self::Wait => Phase::Draining,
            Self::Progress | Self::Content => Phase::Ending,
        }
    }

    /// What is said; none is the end without a word.
    fn words(self) -> Option<std::io::Result<Bytes>> {
        let line = |document: serde_json::Value| Some(Ok(format!("{document}\r\n").into()));
        match self {
            Self::Follow => None,
            Self::Wait => line(json!({"StatusCode": -1, "Error": {"Message": WORDS}})),
            Self::Progress => line(json!({"errorDetail": {"message": WORDS}, "error": WORDS})),
            Self::Content => Some(Err(std::io::Error::other(WORDS))),
        }
    }
}

/// The same body, ended by the server's end if that comes first.
pub(crate) fn ended_by(body: Body, last: Last, mut phase: watch::Receiver<Phase>) -> Body {
    if body.size_hint().exact().is_some() {
        return body;
    }
    let end = Box::pin(async move {
        // Without a sender there is nobody who could end it.
        if phase.wait_for(|phase| *phase >= last.phase()).await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    Ended { body, last: Some(last), end }.boxed_unsync()
}

/// A body that the server's end ends.
struct Ended {
    body: Body,
    /// None when it has ended.
    last: Option<Last>,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl hyper::body::Body for Ended {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let Some(last) = self.last else { return Poll::Ready(None) };
        let over = self.end.as_mut().poll(context).is_ready();
        // What goes on and on never waits, so the end is looked for first; who waits for an end gets that if it is there.
        if !over || last == Last::Wait {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(frame)) => return Poll::Ready(Some(frame)),
                Poll::Ready(None) => {
                    self.last = None;
                    return Poll::Ready(None);
                }
                Poll::Pending if !over => return Poll::Pending,
                Poll::Pending => {}
            }
        }
        self.last = None;
        Poll::Ready(last.words().map(|words| words.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.last.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_words() {
        let check = |method: &str, path: &str, expect: Last| {
            assert_eq!(last_words(method, &parts(path)), expect, "{method} {path}");
        };
        check("GET", "/v1.45/events", Last::Follow);
        check("GET", "/containers/x/logs", Last::Follow);
        check("GET", "/v1.24/containers/x/stats", Last::Follow);
        check("POST", "/v1.45/containers/x/wait", Last::Wait);
        check("POST", "/v1.45/images/create", Last::Progress);
        check("POST", "/v1.45/images/localhost:5000/a/b/push", Last::Progress);
        check("GET", "/v1.45/images/a/get", Last::Content);
        check("GET", "/v1.45/containers/x/export", Last::Content);
        check("GET", "/volumes", Last::Content);
    }

    fn endless() -> Body {
        use futures_util::StreamExt as _;
        let pieces = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"one\n"))) });
        http_body_util::StreamBody::new(pieces.chain(futures_util::stream::pending())).boxed_unsync()
    }

    async fn collected(last: Last, end: Phase) -> Result<String, String> {
        let (sender, phase) = watch::channel(Phase::Serving);
        let body = ended_by(endless(), last, phase);
        let collecting = tokio::spawn(body.collect());
        tokio::task::yield_now().await;
        sender.send_replace(end);
        let ended = tokio::time::timeout(std::time::Duration::from_millis(200), collecting).await;
        match ended.map_err(|_| "goes on".to_owned())?.map_err(|error| error.to_string())? {
            Ok(all) => Ok(String::from_utf8_lossy(&all.to_bytes()).into_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[tokio::test]
    async fn what_never_ends_is_ended_and_what_works_is_told() {
        assert_eq!(collected(Last::Follow, Phase::Draining).await, Ok("one\n".to_owned()));
        assert_eq!(collected(Last::Progress, Phase::Draining).await, Err("goes on".to_owned()));
        assert_eq!(collected(Last::Content, Phase::Ending).await, Err(WORDS.to_owned()));
        let told = collected(Last::Progress, Phase::Ending).await.unwrap();
        assert!(told.starts_with("one\n{\"error\":") && told.contains(WORDS), "{told}");
        let told = collected(Last::Wait, Phase::Draining).await.unwrap();
        assert!(told.contains("\"StatusCode\":-1"), "{told}");
    }
}
