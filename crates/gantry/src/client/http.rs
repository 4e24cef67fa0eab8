//! Requests and answers: HTTP/1.1 over whatever reaches the daemon.

use std::io::{self, ErrorKind};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;

use super::hijack::Hijacked;
use super::host::Host;
use super::query::Target;
use super::tls::Tls;
use crate::failure::{Failure, Outcome};
use crate::template::Value;

/// The newest version of the API that is spoken here.
const NEWEST: (u32, u32) = (1, 51);
/// The oldest.
const OLDEST: (u32, u32) = (1, 24);
/// What Gantry's daemon calls itself.
const OURS: &str = "Gantry/";
/// The longest document that is read, in bytes.
const MAX_DOCUMENT: usize = 256 << 20;
/// The longest message of an error.
const MAX_ERROR: usize = 1 << 20;

/// The body of a request.
pub type Body = UnsyncBoxBody<Bytes, io::Error>;

/// A request.
pub struct Request {
    method: Method,
    target: Target,
    body: Option<Body>,
    headers: Vec<(&'static str, String)>,
}

impl Request {
    /// Asks for something.
    pub const fn get(target: Target) -> Self {
        Self::new(Method::GET, target)
    }

    /// Asks for something to be done.
    pub const fn post(target: Target) -> Self {
        Self::new(Method::POST, target)
    }

    /// Asks for something to go.
    pub const fn delete(target: Target) -> Self {
        Self::new(Method::DELETE, target)
    }

    /// Puts something there.
    pub const fn put(target: Target) -> Self {
        Self::new(Method::PUT, target)
    }

    /// Asks what is known about something.
    pub const fn head(target: Target) -> Self {
        Self::new(Method::HEAD, target)
    }

    const fn new(method: Method, target: Target) -> Self {
        Self { method, target, body: None, headers: Vec::new() }
    }

    /// The same with a document.
    #[must_use]
    pub fn json(mut self, document: &impl serde::Serialize) -> Self {
        // A document of text and numbers can always be written.
        let text = serde_json::to_vec(document).unwrap_or_default();
        self.headers.push(("content-type", "application/json".to_owned()));
        self.body = Some(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync());
        self
    }

    /// The same with an archive, which comes in pieces.
    #[must_use]
    pub fn archive(mut self, pieces: mpsc::Receiver<io::Result<Bytes>>) -> Self {
        let stream = futures_util::stream::unfold(pieces, |mut pieces| async {
            pieces.recv().await.map(|piece| (piece.map(Frame::data), pieces))
        });
        self.headers.push(("content-type", "application/x-tar".to_owned()));
        self.body = Some(StreamBody::new(stream).boxed_unsync());
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }
}

/// Why the daemon was not reached.
#[derive(Debug)]
pub enum ConnectError {
    /// Nobody listens there.
    Nobody(io::Error),
    /// Something else.
    Other(String, Option<&'static str>),
}

impl ConnectError {
    /// What is said about it.
    pub fn into_failure(self, host: &Host) -> Failure {
        match self {
            Self::Nobody(error) => Failure::new(format!("cannot connect to the daemon at {host}: {error}"))
                .hint("start it with gantry daemon, or say with --host where it is"),
            Self::Other(why, hint) => {
                let failure = Failure::new(format!("cannot connect to the daemon at {host}: {why}"));
                hint.map_or_else(
                    || Failure::new(format!("cannot connect to the daemon at {host}: {why}")),
                    |hint| failure.hint(hint),
                )
            }
        }
    }
}

impl From<io::Error> for ConnectError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Self::Nobody(error),
            ErrorKind::PermissionDenied => Self::Other(
                error.to_string(),
                Some("run the command as root, as with sudo, or join the socket's group"),
            ),
            _ => Self::Other(error.to_string(), None),
        }
    }
}

/// A daemon that is spoken to.
pub struct Client {
    host: Host,
    tls: Option<Tls>,
    version: (u32, u32),
    /// Whether it is Gantry's daemon that answers.
    ours: bool,
    /// A connection on which nothing is asked at the moment.
    idle: Mutex<Option<SendRequest<Body>>>,
}

impl Client {
    /// Nothing is connected yet.
    pub const fn new(host: Host, tls: Option<Tls>) -> Self {
        Self { host, tls, version: NEWEST, ours: false, idle: Mutex::new(None) }
    }

    /// Where the daemon is.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// The version of the API that is spoken with it.
    pub fn version(&self) -> String {
        format!("{}.{}", self.version.0, self.version.1)
    }

    /// Whether it speaks a version of the API.
    pub fn speaks(&self, version: (u32, u32)) -> bool {
        self.version >= version
    }

    /// Whether it is Gantry's daemon, which can do more than the API says.
    pub const fn is_ours(&self) -> bool {
        self.ours
    }

    /// The newest version that this client speaks.
    pub fn newest() -> String {
        format!("{}.{}", NEWEST.0, NEWEST.1)
    }

    /// Finds out whether the daemon answers, and which version of the API it speaks.
    pub async fn greet(&mut self) -> Result<(), ConnectError> {
        let mut sender = self.open().await?;
        let request = hyper::Request::builder()
            .method(Method::HEAD)
            .uri("/_ping")
            .header(header::HOST, self.host.header())
            .header(header::USER_AGENT, user_agent())
            .body(empty());
        let request = request.map_err(|error| ConnectError::Other(error.to_string(), None))?;
        let other = |error: hyper::Error| ConnectError::Other(format!("it does not speak HTTP: {error}"), None);
        let answer = sender.send_request(request).await.map_err(other)?;
        let theirs = answer.headers().get("api-version").and_then(|value| version(value.to_str().ok()?));
        let server = answer.headers().get(header::SERVER).and_then(|server| server.to_str().ok());
        self.ours = server.is_some_and(|server| server.starts_with(OURS));
        answer.into_body().collect().await.map_err(other)?;
        // What tells no version is older than the header.
        self.version = theirs.unwrap_or(OLDEST).min(NEWEST);
        if self.version < OLDEST {
            let (major, minor) = self.version;
            return Err(ConnectError::Other(
                format!("it speaks version {major}.{minor} of the API, 1.24 is the oldest here"),
                None,
            ));
        }
        self.keep(sender);
        Ok(())
    }

    async fn open(&self) -> Result<SendRequest<Body>, ConnectError> {
        match &self.host {
            Host::Unix(path) => handshake(UnixStream::connect(path).await?).await,
            Host::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), *port)).await?;
                stream.set_nodelay(true)?;
                match &self.tls {
                    None => handshake(stream).await,
                    Some(tls) => handshake(tls.connect(host, stream).await?).await,
                }
            }
        }
    }

    fn keep(&self, sender: SendRequest<Body>) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
    }

    /// A connection for a request.
    async fn sender(&self) -> Outcome<SendRequest<Body>> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut sender) = idle
            && sender.ready().await.is_ok()
        {
            return Ok(sender);
        }
        self.open().await.map_err(|error| error.into_failure(&self.host))
    }

    fn build(&self, request: Request, upgrade: bool) -> Outcome<hyper::Request<Body>> {
        let uri = format!("/v{}.{}{}", self.version.0, self.version.1, request.target.as_str());
        let mut builder = hyper::Request::builder()
            .method(request.method.clone())
            .uri(uri)
            .header(header::HOST, self.host.header())
            .header(header::USER_AGENT, user_agent());
        if upgrade {
            builder = builder.header(header::CONNECTION, "Upgrade").header(header::UPGRADE, "tcp");
        }
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        if request.body.is_none() && (request.method == Method::POST || request.method == Method::PUT) {
            builder = builder.header(header::CONTENT_LENGTH, "0");
        }
        builder.body(request.body.unwrap_or_else(empty)).map_err(Failure::from)
    }

    async fn send(&self, request: Request, upgrade: bool) -> Outcome<(Response<Incoming>, SendRequest<Body>)> {
        let request = self.build(request, upgrade)?;
        let mut sender = self.sender().await?;
        let answer = sender.send_request(request).await.map_err(|error| lost(&self.host, &error))?;
        Ok((answer, sender))
    }

    /// Asks, and gives the answer if it is good; its body may be long, and last.
    pub async fn call(&self, request: Request) -> Outcome<Response<Incoming>> {
        let (answer, _) = self.send(request, false).await?;
        good(answer).await
    }

    /// Asks, and gives the document that comes back; nothing, if none does.
    pub async fn json(&self, request: Request) -> Outcome<Value> {
        let bytes = self.bytes(request).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&bytes)
            .map_err(|error| Failure::new(format!("the daemon's answer is not JSON: {error}")))
    }

    /// Asks, and gives what comes back.
    pub async fn bytes(&self, request: Request) -> Outcome<Bytes> {
        let (answer, sender) = self.send(request, false).await?;
        let answer = good(answer).await?;
        let bytes = Limited::new(answer.into_body(), MAX_DOCUMENT).collect().await.map_err(|error| {
            if error.downcast_ref::<LengthLimitError>().is_some() {
                return Failure::new(format!("the daemon's answer has more than {MAX_DOCUMENT} bytes"));
            }
            Failure::new(format!("the daemon's answer was cut off: {error}"))
        })?;
        self.keep(sender);
        Ok(bytes.to_bytes())
    }

    /// Asks, and takes the connection over.
    pub async fn hijack(&self, request: Request) -> Outcome<Hijacked> {
        let (answer, sender) = self.send(request, true).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            good(answer).await?;
            return Err(Failure::new("the daemon did not hand over the connection, as Docker's does since 1.22"));
        }
        let framed = answer
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok())
            .map(|kind| kind == "application/vnd.docker.multiplexed-stream");
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| lost(&self.host, &error))?;
        drop(sender);
        Ok(Hijacked::new(upgraded, framed))
    }
}

/// Speaks HTTP over a stream.
async fn handshake<S>(stream: S) -> Result<SendRequest<Body>, ConnectError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| ConnectError::Other(error.to_string(), None))?;
    // Whoever sent the request learns how the connection fails.
    tokio::spawn(async { drop(connection.with_upgrades().await) });
    Ok(sender)
}

fn lost(host: &Host, error: &hyper::Error) -> Failure {
    let failure = Failure::new(format!("the daemon at {host} did not answer: {error}"));
    failure.hint("it may have ended; its log says why")
}

/// The answer, unless it is an error.
async fn good(answer: Response<Incoming>) -> Outcome<Response<Incoming>> {
    let status = answer.status();
    if status.is_success() || status.is_informational() || status == StatusCode::NOT_MODIFIED {
        return Ok(answer);
    }
    let body = Limited::new(answer.into_body(), MAX_ERROR).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let said = serde_json::from_slice::<Value>(&body).ok();
    let message = match said.as_ref().and_then(|said| said.get("message")) {
        Some(Value::Text(text)) => text.trim().to_owned(),
        _ => String::from_utf8_lossy(&body).trim().to_owned(),
    };
    let message = if message.is_empty() { format!("status {status}") } else { message };
    Err(Failure::Daemon { status: status.as_u16(), message })
}

fn empty() -> Body {
    Full::new(Bytes::new()).map_err(|never| match never {}).boxed_unsync()
}

const fn user_agent() -> &'static str {
    concat!("gantry/", env!("CARGO_PKG_VERSION"))
}

/// `1.45` as numbers.
fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
