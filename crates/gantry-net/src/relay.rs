//! Published ports that the kernel cannot lead to a container: from one family of addresses to the other, and from `::1`.
//!
//! A task of the engine listens at the port and passes on what comes, by connections of its own. So the container sees
//! the host's address. When the engine ends, its connections end with it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::spec::Protocol;

/// Connections that wait to be accepted, at most.
const BACKLOG: i32 = 512;
/// Connections, or clients that send datagrams, of one port at a time. Further connections wait; datagrams are dropped.
const MOST: usize = 1024;
/// Bytes that are on their way in a connection, each way.
const BUFFER: usize = 32 * 1024;
/// Bytes of datagrams that wait, as the kernel has it for sockets that do not say.
const WAITING: usize = 208 * 1024;
/// The longest datagram.
const LONGEST: usize = 65535;
/// How long a container has to take a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// After which silence it is asked whether a peer is there still.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// After which silence a client that sent datagrams is forgotten.
const SILENCE: Duration = Duration::from_secs(90);
/// How long nothing is taken after the kernel refused to give.
const PAUSE: Duration = Duration::from_millis(50);
/// How long the end of a relay is waited for.
const END: Duration = Duration::from_secs(1);

/// A port that is passed on, until this is dropped.
#[derive(Debug)]
pub struct Relay {
    task: AbortHandle,
    target: Arc<Target>,
    /// Its other end goes when the port is closed.
    gone: Receiver<()>,
}

/// Where what comes goes to.
#[derive(Debug)]
struct Target(Mutex<SocketAddr>);

/// A socket, and who is told after it is closed: the order of the fields is that in which they go. All that uses the
/// socket holds all of it.
struct Port<T> {
    socket: T,
    target: Arc<Target>,
    _last: Sender<()>,
}

/// A client that sends datagrams.
struct Client {
    /// A socket that is its own, so that answers can be told apart.
    socket: Arc<tokio::net::UdpSocket>,
    /// Whether it sent something since that was last asked.
    sent: Arc<AtomicBool>,
    answers: AbortHandle,
}

impl Relay {
    /// Passes on what comes to a socket that holds a port.
    pub fn start(socket: OwnedFd, protocol: Protocol, target: SocketAddr) -> io::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().map_err(io::Error::other)?;
        let _context = runtime.enter();
        let (last, gone) = channel();
        let target = Arc::new(Target(Mutex::new(target)));
        let task = match protocol {
            Protocol::Tcp => {
                rustix::net::listen(&socket, BACKLOG)?;
                let socket = TcpListener::from(socket);
                socket.set_nonblocking(true)?;
                let socket = tokio::net::TcpListener::from_std(socket)?;
                runtime.spawn(streams(Port { socket, target: Arc::clone(&target), _last: last }))
            }
            Protocol::Udp => {
                sockopt::set_socket_recv_buffer_size(&socket, WAITING)?;
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(true)?;
                let socket = tokio::net::UdpSocket::from_std(socket)?;
                runtime.spawn(datagrams(Port { socket, target: Arc::clone(&target), _last: last }))
            }
        };
        Ok(Self { task: task.abort_handle(), target, gone })
    }

    /// Changes where new connections go.
    pub fn set_target(&self, target: SocketAddr) {
        *self.target.0.lock().unwrap_or_else(PoisonError::into_inner) = target;
    }

    /// Ends it, and waits until the port is closed.
    pub fn end(self) {
        self.task.abort();
        // Nothing is sent: the wait ends when the other end goes.
        let _ = self.gone.recv_timeout(END);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Target {
    fn get(&self) -> SocketAddr {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Passes connections on, for good. Those that there are end with it.
async fn streams(port: Port<tokio::net::TcpListener>) {
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        if open.len() >= MOST {
            open.join_next().await;
            continue;
        }
        match port.socket.accept().await {
            Ok((client, _)) => drop(open.spawn(pass(client, port.target.get()))),
            Err(error) => {
                tracing::debug!(%error, "a connection to a published port did not come through");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Passes one connection on, each way until that way ends.
async fn pass(mut client: TcpStream, target: SocketAddr) {
    let Ok(Ok(mut server)) = timeout(CONNECT, TcpStream::connect(target)).await else { return };
    for stream in [&client, &server] {
        // What cannot be set makes it slower, or longer to find that a peer is gone.
        let _ = stream.set_nodelay(true);
        let _ = sockopt::set_socket_keepalive(stream, true);
        let _ = sockopt::set_tcp_keepidle(stream, KEEPALIVE);
    }
    let _ = tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await;
}

/// Passes datagrams on, for good.
async fn datagrams(port: Port<tokio::net::UdpSocket>) {
    let port = Arc::new(port);
    let mut clients: HashMap<SocketAddr, Client> = HashMap::new();
    let mut open = JoinSet::new();
    let mut buffer = vec![0; LONGEST];
    loop {
        while let Some(ended) = open.try_join_next() {
            // Its address may be another's by now.
            let ended = ended.ok().filter(|address| clients.get(address).is_some_and(|it| it.answers.is_finished()));
            ended.map(|address| clients.remove(&address));
        }
        let (length, from) = match port.socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "a datagram to a published port did not come through");
                sleep(PAUSE).await;
                continue;
            }
        };
        if clients.get(&from).is_none_or(|client| client.answers.is_finished()) {
            if clients.len() >= MOST {
                continue;
            }
            let Ok(client) = Client::new(&port, from, &mut open) else { continue };
            clients.insert(from, client);
        }
        let Some(client) = clients.get(&from) else { continue };
        client.sent.store(true, Ordering::Relaxed);
        // One that is lost is what datagrams are ready for.
        let _ = client.socket.send(buffer.get(..length).unwrap_or_default()).await;
    }
}

impl Client {
    fn new(
        port: &Arc<Port<tokio::net::UdpSocket>>,
        address: SocketAddr,
        open: &mut JoinSet<SocketAddr>,
    ) -> io::Result<Self> {
        let target = port.target.get();
        let any: IpAddr = if target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let socket = UdpSocket::bind(SocketAddr::new(any, 0))?;
        socket.connect(target)?;
        socket.set_nonblocking(true)?;
        let socket = Arc::new(tokio::net::UdpSocket::from_std(socket)?);
        let sent = Arc::new(AtomicBool::new(true));
        let back = answers(Arc::clone(&socket), Arc::clone(port), address, Arc::clone(&sent));
        Ok(Self { socket, sent, answers: open.spawn(back) })
    }
}

/// Passes answers back to a client, until neither side says anything any more.
async fn answers(
    from: Arc<tokio::net::UdpSocket>,
    port: Arc<Port<tokio::net::UdpSocket>>,
    client: SocketAddr,
    sent: Arc<AtomicBool>,
) -> SocketAddr {
    let mut buffer = vec![0; LONGEST];
    loop {
        match timeout(SILENCE, from.recv(&mut buffer)).await {
            Ok(Ok(length)) => drop(port.socket.send_to(buffer.get(..length).unwrap_or_default(), client).await),
            // Nobody is there in the container yet, or any more; each datagram is told of once.
            Ok(Err(_)) => {}
            Err(_) if sent.swap(false, Ordering::Relaxed) => {}
            Err(_) => return client,
        }
    }
}
