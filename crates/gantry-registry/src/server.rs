//! The server: it listens, bounds what connections may cost, works by itself from time to time, and stops in good order.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::admin;
use crate::api;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::gc::Collected;
use crate::registry::{Clock, Inner};
use crate::retention::Removed;
use crate::tls::{self, Certificate};

/// How often certificates and uploads are looked at.
const LOOK: Duration = Duration::from_secs(10);
/// What a connection holds of a body that its client does not take.
const WRITE_BUFFER: usize = 256 << 10;
/// How long the first request of a connection is waited for when the end begins: its client is about to send it.
const FIRST: Duration = Duration::from_millis(500);

/// A registry that runs. Dropping it stops it at once; [`Registry::stop`] lets transfers end.
pub struct Registry {
    inner: Arc<Inner>,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    certificate: Option<Arc<Certificate>>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

/// Serves until `shutdown` is done and transfers have ended. SIGHUP reads certificates again.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<()> {
    let registry = Registry::start(config).await?;
    tracing::info!(address = %registry.address(), "registry listens");
    let mut hangup = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        .map_err(|e| Error::io("watch for signals in", Path::new("/"), e))?;
    let mut shutdown = pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            _ = hangup.recv() => match registry.reload() {
                Ok(()) => tracing::info!("certificates were read again"),
                Err(error) => tracing::error!(%error, "certificates cannot be read again, the old ones stay in force"),
            },
        }
    }
    registry.stop().await;
    Ok(())
}

impl Registry {
    /// Opens the storage, listens, and returns at once.
    pub async fn start(config: Config) -> Result<Self> {
        Self::start_at(config, system_clock()).await
    }

    /// The same with a clock.
    pub async fn start_at(config: Config, clock: Clock) -> Result<Self> {
        let sockets = Sockets::listen(&config).await?;
        Self::start_with(config, clock, sockets).await
    }

    /// The same on sockets that listen already, as [`Sockets`] of this configuration do.
    pub async fn start_on(config: Config, sockets: Sockets) -> Result<Self> {
        Self::start_with(config, system_clock(), sockets).await
    }

    async fn start_with(config: Config, clock: Clock, sockets: Sockets) -> Result<Self> {
        config.check()?;
        let certificate = config.tls.as_ref().map(Certificate::open).transpose()?.map(Arc::new);
        let acceptor = certificate.clone().map(tls::server).transpose()?.map(TlsAcceptor::from);
        let listener = taken(sockets.main)?;
        let admin = sockets.admin.map(taken).transpose()?;
        let local =
            |listener: &TcpListener| listener.local_addr().map_err(|e| Error::io("listen on", Path::new(""), e));
        let address = local(&listener)?;
        let admin_address = admin.as_ref().map(local).transpose()?;
        let inner = Arc::new(Inner::open(config, clock).await?);
        let (stop, stopping) = watch::channel(false);
        let mut tasks = vec![tokio::spawn(accept(inner.clone(), listener, acceptor, stopping.clone(), false))];
        if let Some(listener) = admin {
            tasks.push(tokio::spawn(accept(inner.clone(), listener, None, stopping.clone(), true)));
        }
        tasks.push(tokio::spawn(housekeeping(inner.clone(), certificate.clone(), stopping.clone())));
        tasks.extend(schedules(&inner, &stopping));
        Ok(Self { inner, address, admin: admin_address, certificate, stop, tasks })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where operators reach it.
    pub const fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// Reads certificates again.
    pub fn reload(&self) -> Result<()> {
        self.certificate.as_ref().map_or(Ok(()), |certificate| certificate.reload(true).map(drop))
    }

    /// Removes content that nothing needs, or says what would go.
    pub async fn collect(&self, dry_run: bool) -> Result<Collected> {
        self.inner.collect(dry_run).await
    }

    /// Applies the rules of retention, or says what would go.
    pub async fn retain(&self, dry_run: bool) -> Result<Vec<Removed>> {
        self.inner.retain(dry_run).await
    }

    /// Removes uploads that nobody went on with for the time that is configured. It is done by itself as well.
    pub fn expire(&self) {
        self.inner.expire();
    }

    /// Takes no new connections, lets transfers end for as long as is configured, and ends.
    pub async fn stop(mut self) {
        self.inner.stop();
        // Without receivers there is nobody to tell.
        let _ = self.stop.send(true);
        for task in std::mem::take(&mut self.tasks) {
            // A task that failed has said so.
            let _ = task.await;
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// The sockets of a registry. Who keeps a copy of them can hand them on, so that nobody is refused between one registry
/// and the next.
#[derive(Debug)]
pub struct Sockets {
    /// For clients.
    pub main: std::net::TcpListener,
    /// For operators, if there is one of their own.
    pub admin: Option<std::net::TcpListener>,
}

impl Sockets {
    /// Listens where a configuration says, which is checked before.
    ///
    /// # Errors
    /// The configuration is refused, or an address is taken or not of this machine.
    pub async fn listen(config: &Config) -> Result<Self> {
        config.check()?;
        let main = listen(config.listen).await?;
        let admin = match config.admin_listen {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        Ok(Self { main, admin })
    }
}

async fn listen(address: SocketAddr) -> Result<std::net::TcpListener> {
    let bound = TcpListener::bind(address).await.and_then(TcpListener::into_std);
    bound.map_err(|e| Error::io("listen on", Path::new(&address.to_string()), e))
}

/// A socket for the runtime of this program.
fn taken(listener: std::net::TcpListener) -> Result<TcpListener> {
    let taken = listener.set_nonblocking(true).and_then(|()| TcpListener::from_std(listener));
    taken.map_err(|e| Error::io("listen on", Path::new(""), e))
}

/// The edge: every time in the registry comes from here.
fn system_clock() -> Clock {
    #[allow(clippy::disallowed_methods)]
    Arc::new(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(0, |since| since.as_secs() as i64)
    })
}

/// Takes connections until it is told to stop, then waits for those that are at work.
async fn accept(
    registry: Arc<Inner>,
    listener: TcpListener,
    acceptor: Option<TlsAcceptor>,
    mut stopping: watch::Receiver<bool>,
    admin: bool,
) {
    let graceful = GracefulShutdown::new();
    let permits = Arc::new(Semaphore::new(registry.config.limits.connections));
    let mut connections = tokio::task::JoinSet::new();
    let silent = Silent::default();
    loop {
        let Ok(permit) = permits.clone().acquire_owned().await else { break };
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.changed() => break,
        };
        while connections.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: some will be given back.
                tracing::warn!(%error, "connection could not be taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let (registry, acceptor, watcher) = (registry.clone(), acceptor.clone(), graceful.watcher());
        let silent = silent.one();
        connections.spawn(async move {
            registry.metrics.connections.fetch_add(1, Ordering::Relaxed);
            connection(&registry, stream, acceptor, (watcher, silent), admin).await;
            registry.metrics.connections.fetch_sub(1, Ordering::Relaxed);
            drop(permit);
        });
    }
    drop(listener);
    silent.until_none(FIRST).await;
    let grace = registry.config.limits.shutdown.duration();
    if tokio::time::timeout(grace, graceful.shutdown()).await.is_err() {
        tracing::warn!("transfers did not end in time and are cut off");
    }
    connections.shutdown().await;
}

/// How many connections there are that have asked for nothing yet. Ended at once, their clients would get no answer to what
/// they are about to send.
#[derive(Clone)]
struct Silent(Arc<watch::Sender<usize>>);

impl Default for Silent {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Silent {
    /// One more, until it speaks or is gone.
    fn one(&self) -> OneSilent {
        self.0.send_modify(|count| *count += 1);
        OneSilent { all: self.clone(), spoke: AtomicBool::new(false) }
    }

    /// Waits until there is none, but not for long.
    async fn until_none(&self, patience: Duration) {
        // Who says nothing for longer has nothing to say.
        let _ = tokio::time::timeout(patience, self.0.subscribe().wait_for(|count| *count == 0)).await;
    }
}

/// One of them.
struct OneSilent {
    all: Silent,
    spoke: AtomicBool,
}

impl OneSilent {
    /// It asks for something.
    fn speaks(&self) {
        if !self.spoke.swap(true, Ordering::Relaxed) {
            self.all.0.send_modify(|count| *count -= 1);
        }
    }
}

impl Drop for OneSilent {
    fn drop(&mut self) {
        self.speaks();
    }
}

async fn connection(
    registry: &Arc<Inner>,
    stream: TcpStream,
    acceptor: Option<TlsAcceptor>,
    (watcher, silent): (Watcher, OneSilent),
    admin: bool,
) {
    // Answers are written whole; waiting for more to send with them only costs time.
    let _ = stream.set_nodelay(true);
    let Some(acceptor) = acceptor else { return http1(registry, stream, (watcher, silent), admin).await };
    let limit = registry.config.limits.header_timeout.duration();
    match tokio::time::timeout(limit, acceptor.accept(stream)).await {
        Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            http2(registry, stream, (watcher, silent)).await;
        }
        Ok(Ok(stream)) => http1(registry, stream, (watcher, silent), admin).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS connection"),
        Err(_) => tracing::debug!("no TLS connection in time"),
    }
}

async fn http1<S>(registry: &Arc<Inner>, stream: S, (watcher, silent): (Watcher, OneSilent), admin: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limit = registry.config.limits.header_timeout.duration();
    let stalled = registry.config.limits.idle_timeout.duration();
    let service = service_fn(|request| {
        silent.speaks();
        let registry = registry.clone();
        async move {
            Ok::<_, Infallible>(if admin {
                admin::answer(registry, request).await
            } else {
                api::answer(registry, request).await
            })
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limit).max_buf_size(WRITE_BUFFER).half_close(false);
    let stream = crate::stall::Stall::new(stream, stalled);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}

async fn http2<S>(registry: &Arc<Inner>, stream: S, (watcher, silent): (Watcher, OneSilent))
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stalled = registry.config.limits.idle_timeout.duration();
    let service = service_fn(|request| {
        silent.speaks();
        let registry = registry.clone();
        async move { Ok::<_, Infallible>(api::answer(registry, request).await) }
    });
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).keep_alive_interval(registry.config.limits.header_timeout.duration());
    builder.max_concurrent_streams(64).max_send_buf_size(WRITE_BUFFER).initial_stream_window_size(1 << 20);
    let stream = crate::stall::Stall::new(stream, stalled);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    if let Err(error) = watcher.watch(connection).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// Looks at certificates and uploads.
async fn housekeeping(
    registry: Arc<Inner>,
    certificate: Option<Arc<Certificate>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            _ = stopping.changed() => return,
        }
        registry.expire();
        match certificate.as_ref().map(|certificate| certificate.reload(false)) {
            Some(Ok(true)) => tracing::info!("certificates changed and were read again"),
            Some(Err(error)) => {
                tracing::error!(%error, "certificates cannot be read again, the old ones stay in force");
            }
            _ => {}
        }
    }
}

/// Starts what is done from time to time.
fn schedules(registry: &Arc<Inner>, stopping: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let config = &registry.config;
    let mut tasks = vec![];
    if config.retention.interval.0 > 0 && !config.retention.rules.is_empty() {
        let dry_run = config.retention.dry_run;
        tasks.push(every(registry, config.retention.interval.duration(), stopping, move |registry| async move {
            registry
                .retain(dry_run)
                .await
                .map(|removed| tracing::info!(removed = removed.len(), dry_run, "retention applied"))
        }));
    }
    for (index, upstream) in config.upstream.iter().enumerate().filter(|(_, upstream)| !upstream.mirror.is_empty()) {
        let interval = upstream.mirror_interval.duration();
        let first = registry.clone();
        tasks.push(tokio::spawn(async move { first.upstreams.mirror(&first, index).await }));
        tasks.push(every(registry, interval, stopping, move |registry| async move {
            registry.upstreams.mirror(&registry, index).await;
            Ok(())
        }));
    }
    if config.gc.interval.0 > 0 {
        tasks.push(every(registry, config.gc.interval.duration(), stopping, |registry| async move {
            registry.collect(false).await.map(|done| tracing::info!(?done, "collected"))
        }));
    }
    tasks
}

fn every<F, W>(registry: &Arc<Inner>, interval: Duration, stopping: &watch::Receiver<bool>, work: W) -> JoinHandle<()>
where
    W: Fn(Arc<Inner>) -> F + Send + 'static,
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (registry, mut stopping) = (registry.clone(), stopping.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = stopping.changed() => return,
            }
            // Each step leaves the storage whole, so stopping need not wait for the end.
            tokio::select! {
                done = work(registry.clone()) => if let Err(error) = done {
                    tracing::error!(%error, "regular work failed");
                },
                _ = stopping.changed() => return,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const INDEX: &str = r#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;

    /// The status of an answer.
    async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let kind = "application/vnd.oci.image.index.v1+json";
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Who writes to a repository keeps nobody waiting but others who write to it.
    #[tokio::test]
    async fn repositories_do_not_wait_for_each_other() {
        let root = std::env::temp_dir().join(format!("gantry-registry-turns-{}", std::process::id()));
        let mut config = Config::parse("listen = '127.0.0.1:0'\n[gc]\ninterval = 0\ngrace = 0").unwrap();
        config.storage.root.clone_from(&root);
        let registry = Registry::start(config).await.unwrap();
        let address = registry.address();
        assert_eq!(ask(address, "PUT", "/v2/one/manifests/1", INDEX).await, 201);
        let one = registry.inner.repos.get("one").await.unwrap();
        let turn = one.turn.lock().await;
        let patience = Duration::from_secs(20);
        for (method, path, status) in [
            ("GET", "/v2/one/manifests/1", 200),
            ("GET", "/v2/one/tags/list", 200),
            ("PUT", "/v2/two/manifests/1", 201),
            ("DELETE", "/v2/two/manifests/1", 202),
            ("GET", "/v2/_catalog", 200),
        ] {
            let asked = tokio::time::timeout(patience, ask(address, method, path, INDEX)).await;
            assert_eq!(asked.ok(), Some(status), "{method} {path}");
        }
        tokio::time::timeout(patience, registry.collect(false)).await.unwrap().unwrap();
        let waiting = tokio::spawn(ask(address, "PUT", "/v2/one/manifests/2", INDEX));
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!waiting.is_finished());
        drop(turn);
        assert_eq!(tokio::time::timeout(patience, waiting).await.unwrap().unwrap(), 201);
        registry.stop().await;
        std::fs::remove_dir_all(&root).unwrap();
    }
}
