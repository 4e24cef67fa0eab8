//! Netlink. [`Socket`] is what a runtime needs: bringing links up, and moving one into another network namespace with
//! what belongs to it (rtnetlink(7); runtime specification, Network Devices). It asks one question at a time, and the
//! answer is waited for. [`Channel`] is what an engine needs: many messages at once, for routes and for netfilter; and
//! [`Listener`], to hear of what others change.
//!
//! Every length that comes from the kernel is checked before it is believed.

mod batch;
mod channel;
mod listen;
mod message;
mod transfer;

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use message::{Attributes, Request, number};
use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

use crate::ns;

pub use batch::{Batch, Body};
pub use channel::{Channel, Refused, Subsystem, attributes};
pub use listen::Listener;
pub use transfer::move_link;

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_NEW_IFINDEX: u16 = 49;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;
const IFA_FLAGS: u16 = 8;
const IFA_RT_PRIORITY: u16 = 9;

/// The address does not run out.
const IFA_F_PERMANENT: u32 = 0x80;
/// Flags that were set by whoever gave the address, rather than by the kernel: NODAD, HOMEADDRESS, MANAGETEMPADDR,
/// NOPREFIXROUTE, MCAUTOJOIN.
const IFA_F_GIVEN: u32 = 0x02 | 0x10 | 0x100 | 0x200 | 0x400;
/// Scope of an address that is valid everywhere.
const RT_SCOPE_UNIVERSE: u8 = 0;

/// Bytes received at once; the kernel's own bound for a part of a dump is half of it.
const BUFFER: usize = 64 * 1024;
/// The most messages in an answer; a dump that goes on and on is given up.
const MAX_MESSAGES: usize = 1 << 20;
/// How often a dump is begun anew because what it lists changed meanwhile.
const DUMP_ATTEMPTS: usize = 8;

/// Why something could not be done with a link.
#[derive(Debug)]
pub struct Error {
    /// What was to be done, as "move".
    pub action: &'static str,
    /// The link's name.
    pub link: String,
    /// The kernel's error.
    pub source: io::Error,
    /// The kernel's explanation, where it gives one.
    pub detail: Option<String>,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: ", self.action, self.link)?;
        match self.source.raw_os_error() {
            Some(errno) => f.write_str(&crate::misc::error_text(errno))?,
            None => self.source.fmt(f)?,
        }
        match &self.detail {
            Some(detail) => write!(f, " ({detail})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// The kernel's refusal, before it is known what was to be done.
#[derive(Debug)]
struct Refusal {
    source: io::Error,
    detail: Option<String>,
}

impl Refusal {
    fn of(self, action: &'static str, link: &str) -> Error {
        Error { action, link: link.to_owned(), source: self.source, detail: self.detail }
    }
}

impl<E: Into<io::Error>> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self { source: error.into(), detail: None }
    }
}

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Number of the device in its namespace.
    pub index: i32,
    /// Name.
    pub name: String,
    /// `IFF_*` bits.
    pub flags: u32,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Hardware address; empty where the device has none.
    pub address: Vec<u8>,
}

impl Link {
    /// Whether the device is up.
    pub fn is_up(&self) -> bool {
        self.flags & libc::IFF_UP as u32 != 0
    }
}

/// An address of a network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub local: IpAddr,
    /// The other end's on a point-to-point device, else the same.
    pub peer: IpAddr,
    /// Bits of the network's part.
    pub prefix: u8,
    /// `IFA_F_*` bits.
    pub flags: u32,
    /// Where the address is valid; 0 is everywhere.
    pub scope: u8,
    /// Broadcast address.
    pub broadcast: Option<IpAddr>,
    /// Metric of the route to the network.
    pub metric: Option<u32>,
}

impl Address {
    /// Whether the address is valid everywhere and does not run out, so that it goes with its device.
    pub fn is_global_and_permanent(&self) -> bool {
        self.scope == RT_SCOPE_UNIVERSE && self.flags & IFA_F_PERMANENT != 0
    }
}

/// Brings the loopback device of the calling thread's network namespace up: by ioctl, which takes half the system calls
/// that netlink does.
pub fn loopback_up() -> io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None).or_else(|_| {
            // A kernel without IPv4 still has a loopback device.
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)
        })?;
    // SAFETY: the structure consists of integers and a union of them, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: the request is a whole `ifreq` whose name ends in NUL, and is only read.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// A route netlink socket of one network namespace.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// A socket of the calling thread's network namespace.
    pub fn new() -> io::Result<Self> {
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        let fd = with_options(fd);
        Ok(Self { fd, sequence: 0, buffer: vec![0; BUFFER] })
    }

    /// A socket of the network namespace that `namespace` is open on. It is made by a thread that lives no longer, so
    /// that the calling thread's namespace never changes, whatever fails.
    pub fn in_namespace(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        in_thread(namespace, Self::new)
    }

    /// The device of a name.
    pub fn link(&mut self, name: &str) -> Result<Link, Error> {
        let missing = || Refusal::from(io::Error::from_raw_os_error(libc::ENODEV)).of("find network device", name);
        self.find(name)?.ok_or_else(missing)
    }

    /// The device of a name, if there is one.
    pub fn find(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let request = Request::new(RTM_GETLINK, &link_header(0, 0, 0)).attribute(IFLA_IFNAME, &with_nul(name));
        match self.get_link(request) {
            Ok(link) => Ok(link),
            Err(refusal) if refusal.source.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            Err(refusal) => Err(refusal.of("find network device", name)),
        }
    }

    /// The device of a number; `name` is for the error's text.
    pub fn link_by_index(&mut self, index: i32, name: &str) -> Result<Link, Error> {
        let missing = || Refusal::from(io::Error::from_raw_os_error(libc::ENODEV));
        let request = Request::new(RTM_GETLINK, &link_header(index, 0, 0));
        let link = self.get_link(request).and_then(|link| link.ok_or_else(missing));
        link.map_err(|refusal| refusal.of("find network device", name))
    }

    fn get_link(&mut self, request: Request) -> Result<Option<Link>, Refusal> {
        let mut found = None;
        self.ask(request, |kind, payload| {
            if kind == RTM_NEWLINK {
                found = parse_link(payload);
            }
        })?;
        Ok(found)
    }

    /// A number that no device has here: the link's present one, if it is free.
    fn free_index(&mut self, link: &Link) -> Result<i32, Error> {
        let mut indexes = Vec::new();
        let request = Request::new(RTM_GETLINK, &link_header(0, 0, 0));
        self.dump(&request, |kind, payload| {
            if kind == RTM_NEWLINK {
                indexes.extend(parse_link(payload).map(|link| link.index));
            }
        })
        .map_err(|refusal| refusal.of("find a free number for", &link.name))?;
        if indexes.contains(&link.index) {
            Ok(indexes.iter().max().and_then(|max| max.checked_add(1)).unwrap_or(link.index))
        } else {
            Ok(link.index)
        }
    }

    /// The addresses of a device, in the order in which they were given to it.
    pub fn addresses(&mut self, link: &Link) -> Result<Vec<Address>, Error> {
        let mut addresses = Vec::new();
        for attempt in 1.. {
            addresses.clear();
            let request = Request::new(RTM_GETADDR, &address_header(0, 0, 0, link.index));
            let whole = self.dump(&request, |kind, payload| {
                if kind == RTM_NEWADDR {
                    addresses.extend(parse_address(payload, link.index));
                }
            });
            match whole {
                Ok(true) => break,
                Ok(false) if attempt < DUMP_ATTEMPTS => {}
                Ok(false) => {
                    let source = io::Error::from_raw_os_error(libc::EAGAIN);
                    return Err(Refusal::from(source).of("read the addresses of", &link.name));
                }
                Err(refusal) => return Err(refusal.of("read the addresses of", &link.name)),
            }
        }
        Ok(addresses)
    }

    /// Gives a device an address.
    pub fn add_address(&mut self, link: &Link, address: &Address) -> Result<(), Error> {
        const NLM_F_CREATE_EXCL: u16 = 0x600;
        let family = if address.local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let header = address_header(family as u8, address.prefix, address.scope, link.index);
        let mut request = Request::new(RTM_NEWADDR, &header)
            .flags(NLM_F_CREATE_EXCL)
            .attribute(IFA_LOCAL, &octets(address.local))
            .attribute(IFA_ADDRESS, &octets(address.peer));
        let given = address.flags & IFA_F_GIVEN;
        if given != 0 {
            request = request.attribute(IFA_FLAGS, &given.to_ne_bytes());
        }
        if let Some(broadcast) = address.broadcast {
            request = request.attribute(IFA_BROADCAST, &octets(broadcast));
        }
        if let Some(metric) = address.metric {
            request = request.attribute(IFA_RT_PRIORITY, &metric.to_ne_bytes());
        }
        self.ask(request, |_, _| ()).map_err(|refusal| refusal.of("give its address to", &link.name))
    }

    /// Brings a device up.
    pub fn set_up(&mut self, link: &Link) -> Result<(), Error> {
        let up = libc::IFF_UP as u32;
        let request = Request::new(RTM_NEWLINK, &link_header(link.index, up, up));
        self.ask(request, |_, _| ()).map_err(|refusal| refusal.of("bring up", &link.name))
    }

    /// Moves a device to another network namespace and gives it a name and number there, in one step.
    fn move_to(&mut self, link: &Link, target: BorrowedFd<'_>, new_name: &str, new_index: i32) -> Result<(), Error> {
        let request = Request::new(RTM_NEWLINK, &link_header(link.index, 0, 0))
            .attribute(IFLA_NET_NS_FD, &target.as_raw_fd().to_ne_bytes())
            .attribute(IFLA_IFNAME, &with_nul(new_name))
            .attribute(IFLA_NEW_IFINDEX, &new_index.to_ne_bytes());
        self.ask(request, |_, _| ()).map_err(|refusal| refusal.of("move", &link.name))
    }

    /// Asks for one thing: each message of the answer goes to `take`, and the acknowledgement ends it.
    fn ask(&mut self, request: Request, take: impl FnMut(u16, &[u8])) -> Result<(), Refusal> {
        const NLM_F_ACK: u16 = 4;
        self.exchange(&request.flags(NLM_F_ACK), take).map(|_| ())
    }

    /// Asks for a list: each message goes to `take`. False if the list changed while it was read.
    fn dump(&mut self, request: &Request, take: impl FnMut(u16, &[u8])) -> Result<bool, Refusal> {
        const NLM_F_DUMP: u16 = 0x300;
        self.exchange(&request.clone().flags(NLM_F_DUMP), take)
    }

    fn exchange(&mut self, request: &Request, mut take: impl FnMut(u16, &[u8])) -> Result<bool, Refusal> {
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = request.finish(self.sequence).ok_or_else(|| io::Error::from_raw_os_error(libc::EMSGSIZE))?;
        rustix::io::retry_on_intr(|| rustix::net::send(self.fd.as_fd(), &bytes, SendFlags::empty()))?;
        let mut whole = true;
        let mut seen = 0;
        loop {
            let length = receive(self.fd.as_fd(), &mut self.buffer, RecvFlags::empty())?;
            let Some(received) = self.buffer.get(..length) else {
                return Err(io::Error::from_raw_os_error(libc::EMSGSIZE).into());
            };
            for message in message::messages(received) {
                let message = message.ok_or_else(|| io::Error::from_raw_os_error(libc::EBADMSG))?;
                seen += 1;
                if seen > MAX_MESSAGES {
                    return Err(io::Error::from_raw_os_error(libc::E2BIG).into());
                }
                if message.sequence != self.sequence {
                    continue;
                }
                whole &= !message.is_interrupted();
                match message.verdict() {
                    None => take(message.kind, message.payload),
                    Some(message::Verdict { errno: 0, .. }) => return Ok(whole),
                    Some(message::Verdict { errno, detail }) => {
                        return Err(Refusal { source: io::Error::from_raw_os_error(errno), detail });
                    }
                }
            }
        }
    }
}

/// Does something in another network namespace, in a thread of its own.
fn in_thread<T: Send>(namespace: BorrowedFd<'_>, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let make = || ns::setns(namespace, libc::CLONE_NEWNET).and_then(|()| make());
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, make)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread in the network namespace panicked")))
    })
}

/// Asks for explanations in answers, no copies of the question, and filters in dumps. Each is a convenience that old
/// kernels lack: without it answers are longer, and are read all the same.
fn with_options(fd: OwnedFd) -> OwnedFd {
    for option in [libc::NETLINK_EXT_ACK, libc::NETLINK_CAP_ACK, libc::NETLINK_GET_STRICT_CHK] {
        let on: libc::c_int = 1;
        let size = size_of_val(&on) as libc::socklen_t;
        // SAFETY: the value has the size given, and is only read.
        let _ = unsafe {
            libc::setsockopt(fd.as_raw_fd(), libc::SOL_NETLINK, option, (&raw const on).cast::<libc::c_void>(), size)
        };
    }
    fd
}

/// Receives a datagram of the kernel's into a buffer, and returns its length. Others may send to the socket too: what
/// they send is dropped.
fn receive(fd: BorrowedFd<'_>, buffer: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
    loop {
        let (_, length, sender) =
            rustix::io::retry_on_intr(|| rustix::net::recvfrom(fd, &mut *buffer, flags | RecvFlags::TRUNC))?;
        let kernel = sender.and_then(|sender| SocketAddrNetlink::try_from(sender).ok()).is_some_and(|a| a.pid() == 0);
        if !kernel {
            continue;
        }
        if length > buffer.len() {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        return Ok(length);
    }
}

/// `struct ifinfomsg`.
fn link_header(index: i32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// `struct ifaddrmsg`.
fn address_header(family: u8, prefix: u8, scope: u8, index: i32) -> [u8; 8] {
    let mut header = [family, prefix, 0, scope, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

fn with_nul(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address of 4 or 16 bytes, as its family has.
fn ip(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        libc::AF_INET6 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// A device of an `RTM_NEWLINK` message; `None` if the message is not whole.
fn parse_link(payload: &[u8]) -> Option<Link> {
    let (header, attributes) = payload.split_at_checked(16)?;
    let index = number(header.get(4..8)?)?.cast_signed();
    let mut link = Link { index, flags: number(header.get(8..12)?)?, ..Link::default() };
    for (kind, value) in Attributes(attributes) {
        match kind {
            IFLA_IFNAME => link.name = message::text(value),
            IFLA_MTU => link.mtu = number(value)?,
            IFLA_ADDRESS => link.address = value.to_vec(),
            _ => {}
        }
    }
    Some(link)
}

/// An address of an `RTM_NEWADDR` message; `None` if it is another device's, of a family that is not known, or if the
/// message is not whole.
fn parse_address(payload: &[u8], index: i32) -> Option<Address> {
    let (header, attributes) = payload.split_at_checked(8)?;
    let &[family, prefix, flags, scope, ..] = header else { return None };
    if number(header.get(4..8)?)?.cast_signed() != index {
        return None;
    }
    let (mut local, mut peer, mut broadcast) = (None, None, None);
    let (mut flags, mut metric) = (u32::from(flags), None);
    for (kind, value) in Attributes(attributes) {
        match kind {
            IFA_LOCAL => local = Some(ip(family, value)?),
            IFA_ADDRESS => peer = Some(ip(family, value)?),
            IFA_BROADCAST => broadcast = ip(family, value),
            IFA_FLAGS => flags = number(value)?,
            IFA_RT_PRIORITY => metric = Some(number(value)?),
            _ => {}
        }
    }
    let local = local.or(peer)?;
    Some(Address { local, peer: peer.unwrap_or(local), prefix, flags, scope, broadcast, metric })
}

#[cfg(test)]
mod tests;
