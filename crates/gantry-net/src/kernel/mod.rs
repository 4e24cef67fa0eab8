//! Plans carried out, by netlink.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::EndpointPlan;
use crate::{Cidr, Names, NetworkSpec, PortMapping};

/// How an engine uses the kernel's networks.
#[derive(Clone, Debug)]
pub struct Options {
    /// How it names what it makes.
    pub names: Names,
}

/// The networks of the host, in the network namespace of the thread that opened this. Threads may share it.
#[derive(Debug)]
pub struct Net {
    options: Options,
}

/// A network namespace of a sandbox.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// All that there is to be: what else an engine finds of its own is removed.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Networks.
    pub networks: Vec<NetworkSpec>,
    /// Ids of the endpoints of containers that run.
    pub endpoints: Vec<String>,
    /// Ports of containers that run.
    pub ports: Vec<PortMapping>,
}

/// What [`Net::sync`] changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Bridges removed.
    pub bridges: Vec<String>,
    /// Devices of endpoints removed.
    pub veths: Vec<String>,
    /// Endpoints whose device is not there, or belongs to no bridge.
    pub missing: Vec<String>,
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

fn not_yet<T>() -> Result<T> {
    Err(Error::invalid("network", "", "skeleton"))
}

/// Makes a network namespace that lasts as long as its mount at `path`, an empty file that is made too. Its loopback
/// device is up; everybody in it may bind low ports and send pings.
pub fn create_netns(_path: &Path) -> Result<Netns> {
    not_yet()
}

/// Opens the namespace that is mounted at `path`.
pub fn open_netns(_path: &Path) -> Result<Netns> {
    not_yet()
}

/// Takes the mount and its file away; the namespace ends with its last process and descriptor, and with it its devices.
/// Nothing there is no error.
pub fn remove_netns(_path: &Path) -> Result<()> {
    not_yet()
}

impl Net {
    /// Changes nothing.
    pub fn open(options: Options) -> Result<Self> {
        Ok(Self { options })
    }

    /// How it names what it makes.
    pub fn names(&self) -> &Names {
        &self.options.names
    }

    /// What the host has of networks without the engine's.
    pub fn host(&self) -> Result<HostNetworks> {
        not_yet()
    }

    /// Makes a network's bridge and rules, or brings those there are to what they should be.
    pub fn ensure_bridge(&self, _network: &NetworkSpec) -> Result<()> {
        not_yet()
    }

    /// Removes a network's bridge and rules. Nothing there is no error.
    pub fn remove_bridge(&self, _network: &NetworkSpec) -> Result<()> {
        not_yet()
    }

    /// Gives a namespace its devices. If one fails, none is left.
    pub fn attach(&self, _netns: &Netns, _endpoints: &[EndpointPlan]) -> Result<()> {
        not_yet()
    }

    /// Takes one device from a namespace that goes on. Nothing there is no error. It waits for the kernel some 20 ms:
    /// when a namespace ends, [`remove_netns`] is enough.
    pub fn detach(&self, _endpoint: &EndpointPlan) -> Result<()> {
        not_yet()
    }

    /// Publishes ports, all or none.
    pub fn publish(&self, _ports: &[PortMapping]) -> Result<()> {
        not_yet()
    }

    /// Takes published ports back. Those that are not there are no error.
    pub fn unpublish(&self, _ports: &[PortMapping]) -> Result<()> {
        not_yet()
    }

    /// Makes everything as it should be, once, when the engine starts: rules in one transaction, bridges; removes what
    /// is left of an engine that ended, and leaves what is right untouched.
    pub fn sync(&self, _desired: &Desired) -> Result<Synced> {
        not_yet()
    }
}
