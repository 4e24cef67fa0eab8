//! Names: a server in each container's network namespace, at port 53 of 127.0.0.11, as Docker has it.
//!
//! Its sockets have ports of the kernel's choice, and rules in the namespace send there what is for port 53: so a
//! container can have port 53 for itself. What is known is answered from memory, the rest is asked of at most three
//! servers from the host's namespace. Nothing that one client does keeps another waiting.

mod forward;
mod local;
mod serve;
mod wire;
mod zone;

use std::io;
use std::net::{TcpListener, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use gantry_sys::netlink::{Channel, Subsystem};
use rustix::io::Errno;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;

pub use zone::{Found, Member, View, Zone};

use crate::error::{Error, Result};
use crate::files::RESOLVER;
use crate::kernel;
use crate::nft::Transaction;
use crate::plan;

/// The most questions of all containers that others are asked at a time.
const FORWARDED: usize = 1024;

/// Answers in all namespaces of an engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Resolver {
    shared: Arc<Shared>,
}

/// What all servers have in common.
#[derive(Debug)]
struct Shared {
    zone: RwLock<Zone>,
    /// A permit for each question that is handed on.
    forwarded: Semaphore,
    /// Changes with each question.
    chance: AtomicU64,
}

/// The server in one namespace, until this is dropped. It keeps the namespace from ending.
#[derive(Debug)]
pub struct Listener {
    site: Arc<Site>,
    tasks: [AbortHandle; 2],
}

/// The place of one server.
#[derive(Debug)]
struct Site {
    shared: Arc<Shared>,
    view: RwLock<Arc<View>>,
}

impl Default for Resolver {
    fn default() -> Self {
        let chance = AtomicU64::new(0x9e37_79b9_7f4a_7c15);
        let (zone, forwarded) = (RwLock::default(), Semaphore::new(FORWARDED));
        Self { shared: Arc::new(Shared { zone, forwarded, chance }) }
    }
}

impl Resolver {
    /// A resolver that knows no name.
    pub fn new() -> Self {
        Self::default()
    }

    /// Changes the names; for moments only, since answers wait.
    pub fn change(&self, change: impl FnOnce(&mut Zone)) {
        change(&mut self.shared.zone.write().unwrap_or_else(PoisonError::into_inner));
    }

    /// Answers in a namespace. To be called within a tokio runtime; it waits a millisecond for the kernel. One server
    /// takes the place of another in the same namespace.
    pub fn listen(&self, netns: BorrowedFd<'_>, view: View) -> Result<Listener> {
        let failed = |error: io::Error| kernel::failed("serve names in a network namespace", &error);
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| Error::invalid("resolver", RESOLVER, "it needs a tokio runtime"))?;
        let (udp, tcp) = kernel::enter(netns, open)?;
        let _context = runtime.enter();
        let udp = tokio::net::UdpSocket::from_std(udp).map_err(failed)?;
        let tcp = tokio::net::TcpListener::from_std(tcp).map_err(failed)?;
        let site = Arc::new(Site { shared: Arc::clone(&self.shared), view: RwLock::new(Arc::new(view)) });
        let datagrams = runtime.spawn(serve::datagrams(Arc::clone(&site), udp));
        let streams = runtime.spawn(serve::streams(Arc::clone(&site), tcp));
        Ok(Listener { site, tasks: [datagrams.abort_handle(), streams.abort_handle()] })
    }
}

/// Opens the sockets in the calling thread's namespace, and makes the rules there that lead to them.
fn open() -> Result<(UdpSocket, TcpListener)> {
    let failed = |error: io::Error| kernel::failed("open the sockets of a resolver", &error);
    let udp = UdpSocket::bind((RESOLVER, 0)).map_err(failed)?;
    let tcp = TcpListener::bind((RESOLVER, 0)).map_err(failed)?;
    udp.set_nonblocking(true).map_err(failed)?;
    tcp.set_nonblocking(true).map_err(failed)?;
    let (udp_port, tcp_port) = (udp.local_addr().map_err(failed)?.port(), tcp.local_addr().map_err(failed)?.port());
    lead(&plan::redirect(RESOLVER, udp_port, tcp_port))?;
    Ok((udp, tcp))
}

/// Makes the rules in the calling thread's namespace, in place of those that may be there.
fn lead(rules: &plan::Ruleset) -> Result<()> {
    let failed = |error: io::Error| kernel::failed("make the rules of a resolver", &error);
    let mut channel = Channel::new(Subsystem::Netfilter).map_err(failed)?;
    let mut refused = Vec::new();
    // Where nothing is removed, the kernel has nothing to wait for when the channel is closed, which would be 15 ms.
    for change in [Transaction::create, Transaction::replace] {
        let mut transaction = Transaction::new();
        change(&mut transaction, rules);
        refused = transaction.commit(&mut channel).map_err(failed)?;
        if refused.first().is_none_or(|first| first.errno != Errno::EXIST) {
            break;
        }
    }
    refused.first().map_or(Ok(()), |first| Err(Error::kernel("make the rules of a resolver", first.errno)))
}

impl Listener {
    /// Changes what the container sees.
    pub fn set_view(&self, view: View) {
        *self.site.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Site {
    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shared {
    /// A number that is another each time.
    fn chance(&self) -> u64 {
        let step = self.chance.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        (step ^ step >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9)
    }
}
