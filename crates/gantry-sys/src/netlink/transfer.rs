//! Moving a network device from one namespace to another (runtime specification, Network Devices).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gantry_model::names::netdevice::is_valid;

use super::{Address, Error, IFA_F_PERMANENT, Link, Refusal, Socket};

/// Moves a device of the calling thread's network namespace to the one that `target` is open on, gives it the name
/// `new_name` there unless that is empty (`%d` within it becomes a number that makes it unique), gives it its global,
/// permanent addresses again, which the kernel takes from it on the way, and brings it up. Returns the device as it is
/// there. What the kernel would refuse after the device has left, a name that is taken or that is none, is refused
/// before; if something else fails there, the device is brought back.
pub fn move_link(name: &str, target: BorrowedFd<'_>, new_name: &str) -> Result<Link, Error> {
    let mut transfer = Transfer::prepare(name, target, new_name)?;
    let result = transfer.carry_out(target);
    if result.is_err() {
        transfer.undo();
    }
    result
}

/// A device on its way from one network namespace to another.
struct Transfer {
    here: Socket,
    there: Socket,
    /// The calling thread's namespace.
    home: OwnedFd,
    link: Link,
    addresses: Vec<Address>,
    new_name: String,
    /// The device's number there. It is chosen before, since the name may be one that the kernel finds.
    new_index: i32,
}

impl Transfer {
    /// Looks up all that is needed, and changes nothing.
    fn prepare(name: &str, target: BorrowedFd<'_>, new_name: &str) -> Result<Self, Error> {
        let refuse = |errno: i32, detail: Option<String>| {
            let source = io::Error::from_raw_os_error(errno);
            Refusal { source, detail }.of("move", name)
        };
        let new_name = if new_name.is_empty() { name } else { new_name };
        if !is_valid(new_name, true) {
            return Err(refuse(libc::EINVAL, Some(format!("{new_name:?} is no name for a network device"))));
        }
        let open = |error: io::Error| Refusal::from(error).of("open netlink to move", name);
        let home = std::fs::File::open("/proc/thread-self/ns/net").map_err(open)?.into();
        let mut here = Socket::new().map_err(open)?;
        let mut there = Socket::in_namespace(target).map_err(open)?;
        let link = here.link(name)?;
        if !new_name.contains('%') && there.find(new_name)?.is_some() {
            let detail = format!("the container's network namespace has a device {new_name} already");
            return Err(refuse(libc::EEXIST, Some(detail)));
        }
        let addresses = here.addresses(&link)?;
        let new_index = there.free_index(&link)?;
        Ok(Self { here, there, home, link, addresses, new_name: new_name.to_owned(), new_index })
    }

    fn carry_out(&mut self, target: BorrowedFd<'_>) -> Result<Link, Error> {
        self.here.move_to(&self.link, target, &self.new_name, self.new_index)?;
        // Before Linux 5.13 the number is the kernel's choice, but a plain name finds the device too.
        let moved = if self.new_name.contains('%') {
            self.there.link_by_index(self.new_index, &self.new_name)?
        } else {
            self.there.link(&self.new_name)?
        };
        for address in self.addresses.iter().filter(|address| address.is_global_and_permanent()) {
            self.there.add_address(&moved, address)?;
        }
        self.there.set_up(&moved)?;
        Ok(Link { flags: moved.flags | libc::IFF_UP as u32, ..moved })
    }

    /// Brings a device that has left back to what it was, as far as that goes: the error that led here is the one to
    /// tell.
    fn undo(&mut self) {
        if matches!(self.here.find(&self.link.name), Ok(Some(_)) | Err(_)) {
            return;
        }
        let Ok(there) = self.there.link_by_index(self.new_index, &self.link.name) else { return };
        if there.address != self.link.address
            || self.there.move_to(&there, self.home.as_fd(), &self.link.name, self.link.index).is_err()
        {
            return;
        }
        let Ok(back) = self.here.link(&self.link.name) else { return };
        for address in self.addresses.iter().filter(|address| address.flags & IFA_F_PERMANENT != 0) {
            // An address that the kernel gives by itself is there already.
            let _ = self.here.add_address(&back, address);
        }
        if self.link.is_up() {
            let _ = self.here.set_up(&back);
        }
    }
}
