//! Plans carried out, by netlink.

mod attach;
mod bridge;
mod conntrack;
mod links;
mod neighbours;
mod netns;
mod rules;
mod sync;
mod watch;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use gantry_sys::netlink::{Batch, Channel, Refused, Subsystem};
use rustix::io::Errno;

use conntrack::Forgetting;
pub use netns::{Netns, create_netns, enter, open_netns, remove_netns};
pub use sync::{Desired, Synced};
pub use watch::{Disturbance, Watch};

use crate::error::{Error, Result};
use crate::plan::Family;
use crate::{Cidr, Names};

/// How an engine uses the kernel's networks.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it names what it makes.
    pub names: Names,
}

/// The networks of the host, in the network namespace of the thread that opened this, which is that of all threads that
/// use it.
#[derive(Debug)]
pub struct Net {
    options: Options,
    route: Mutex<Channel>,
    filter: Mutex<Channel>,
    /// What is known of bridges, by name.
    bridges: Mutex<HashMap<String, Bridge>>,
    /// Families whose table is there.
    tables: Mutex<HashSet<Family>>,
    forgetting: Forgetting,
    /// The number of the next device.
    next_index: AtomicU32,
}

/// A bridge that is there.
#[derive(Clone, Copy, Debug)]
struct Bridge {
    index: u32,
    mtu: u32,
}

/// What the host has of networks without the engine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostNetworks {
    /// Blocks that it has addresses in or routes to, default routes left out: for [`crate::ipam::Pools::choose`].
    pub taken: Vec<Cidr>,
    /// Its addresses, loopback left out, those of the device with the default route first.
    pub addresses: Vec<IpAddr>,
    /// Largest packet of the device with the default route.
    pub mtu: Option<u32>,
}

impl Net {
    /// Opens the host's networks, and changes nothing.
    pub fn open(options: Options) -> Result<Self> {
        let channel = |subsystem| Channel::new(subsystem).map_err(|error| failed("open netlink", &error));
        Ok(Self {
            options,
            route: Mutex::new(channel(Subsystem::Route)?),
            filter: Mutex::new(channel(Subsystem::Netfilter)?),
            bridges: Mutex::default(),
            tables: Mutex::default(),
            forgetting: Forgetting::default(),
            next_index: AtomicU32::new(random_index()?),
        })
    }

    /// How it names what it makes.
    pub fn names(&self) -> &Names {
        &self.options.names
    }

    /// What the host has of networks without the engine's.
    pub fn host(&self) -> Result<HostNetworks> {
        let failed = |error: io::Error| failed("list the host's networks", &error);
        let mut route = self.route();
        let links = links::links(&mut route).map_err(failed)?;
        let addresses = links::addresses(&mut route).map_err(failed)?;
        let routes = links::routes(&mut route).map_err(failed)?;
        drop(route);
        let alias = self.names().alias_prefix();
        let ours: HashSet<u32> =
            links.iter().filter(|link| link.alias.starts_with(&alias)).map(|link| link.index).collect();
        let way_out = routes.iter().filter(|route| route.to.is_none()).min_by_key(|route| route.metric);
        let way_out = way_out.map(|route| route.index);
        let mut host = HostNetworks {
            mtu: links.iter().find(|link| Some(link.index) == way_out).map(|link| link.mtu),
            ..HostNetworks::default()
        };
        let mut theirs: Vec<_> = addresses.iter().filter(|address| !ours.contains(&address.index)).collect();
        theirs.sort_by_key(|address| Some(address.index) != way_out);
        host.taken.extend(theirs.iter().filter_map(|address| Cidr::new(address.ip, address.prefix)));
        host.taken.extend(routes.iter().filter(|route| !ours.contains(&route.index)).filter_map(|route| route.to));
        host.addresses.extend(theirs.iter().map(|address| address.ip).filter(|address| !address.is_loopback()));
        host.taken.sort_unstable();
        host.taken.dedup();
        Ok(host)
    }

    fn route(&self) -> MutexGuard<'_, Channel> {
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn filter(&self) -> MutexGuard<'_, Channel> {
        self.filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a batch carried out for routes, and returns what was refused.
    fn submit(&self, batch: &mut Batch, action: &str) -> Result<Vec<Refused>> {
        self.route().submit(batch).map_err(|error| failed(action, &error))
    }

    /// Two numbers for devices, of which the first is even. They are nobody's but by rare chance.
    fn indexes(&self) -> u32 {
        self.next_index.fetch_add(2, Ordering::Relaxed)
    }

    /// Chooses other numbers, after a chance that was rare.
    fn other_indexes(&self) -> Result<()> {
        self.next_index.store(random_index()?, Ordering::Relaxed);
        Ok(())
    }
}

/// An even number above those that the kernel gives to devices.
fn random_index() -> Result<u32> {
    let [a, b, c, _] = random()?;
    Ok((1 << 24) + (u32::from_ne_bytes([a, b, c, 0]) & !1))
}

/// Random bytes.
pub fn random() -> Result<[u8; 4]> {
    let mut bytes = [0; 4];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(|errno| Error::kernel("read random bytes", errno))?;
    Ok(bytes)
}

/// The error of something that the kernel did not do.
pub fn failed(action: &str, error: &io::Error) -> Error {
    Error::kernel(action, Errno::from_io_error(error).unwrap_or(Errno::IO))
}

/// The error of a message that the kernel refused.
fn refused(action: impl Into<String>, refused: &Refused) -> Error {
    Error::Kernel { action: action.into(), errno: refused.errno, detail: refused.detail.clone() }
}

/// Sets a kernel parameter of the calling thread's network namespace, by its path below `net`.
fn sysctl(name: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).map_err(|source| Error::File { action: "write", path: path.into(), source })
}

/// Whether bridges hand packets through the rules for IP themselves (br_netfilter), which can change at any time. They
/// then send what a container sends to its own published port back where it came from, which a device allows only if it
/// is told to.
fn bridges_are_filtered() -> bool {
    std::fs::read("/proc/sys/net/bridge/bridge-nf-call-iptables").is_ok_and(|value| value.starts_with(b"1"))
}

/// Does something in a thread of its own.
fn thread<T: Send>(act: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, act);
        let thread = thread.map_err(|error| failed("start a thread", &error))?;
        thread.join().unwrap_or_else(|_| Err(Error::kernel("wait for a thread", Errno::IO)))
    })
}
