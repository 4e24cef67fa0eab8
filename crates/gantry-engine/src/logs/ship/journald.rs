//! Messages of the native protocol of systemd's journal, and how they get there.
//!
//! A message is a packet of fields. One that is too big for a packet goes as a sealed file in memory, whose descriptor is
//! sent in an empty packet.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, IoSlice, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use gantry_model::logrecord::Stream;
use gantry_model::time::Moment;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::{Driver, Part};
use crate::logs::{Entry, Identity};

/// Where the journal listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";

pub(in crate::logs) fn plan() -> Driver {
    Driver::Journald
}

/// What every message of a container says.
pub(super) fn fields(identity: &Identity, tag: &str, extra: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut fields: BTreeMap<String, String> =
        extra.iter().map(|(name, value)| (name_of(name), value.clone())).filter(|(name, _)| !name.is_empty()).collect();
    for (name, value) in [
        ("CONTAINER_ID", identity.id.chars().take(12).collect()),
        ("CONTAINER_ID_FULL", identity.id.clone()),
        ("CONTAINER_NAME", identity.name.clone()),
        ("CONTAINER_TAG", tag.to_owned()),
        ("IMAGE_NAME", identity.image_name.clone()),
        ("SYSLOG_IDENTIFIER", tag.to_owned()),
    ] {
        fields.insert(name.to_owned(), value);
    }
    fields
}

/// A name of a field: capital letters, digits and underscores, of which it does not begin with one.
fn name_of(text: &str) -> String {
    let name: String =
        text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
    name.trim_start_matches('_').chars().take(64).collect()
}

/// A message.
pub(super) fn encode(entry: &Entry, part: Option<Part>, fields: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    let priority: &[u8] = if entry.stream == Stream::Stderr { b"3" } else { b"6" };
    field(&mut out, "MESSAGE", entry.bare());
    field(&mut out, "PRIORITY", priority);
    field(&mut out, "SYSLOG_TIMESTAMP", Moment::new(entry.time).rfc3339(9).as_bytes());
    for (name, value) in fields {
        field(&mut out, name, value.as_bytes());
    }
    if let Some(part) = part {
        for (name, value) in part.fields() {
            // That a line goes on is not said of its last part.
            if name != "message" {
                field(&mut out, &format!("CONTAINER_PARTIAL_{}", name.to_ascii_uppercase()), value.as_bytes());
            } else if !part.last {
                field(&mut out, "CONTAINER_PARTIAL_MESSAGE", b"true");
            }
        }
    }
    out
}

fn field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.push(b'\n');
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        out.push(b'=');
    }
    out.extend_from_slice(value);
    out.push(b'\n');
}

/// A connection to the journal.
#[derive(Debug)]
pub(super) struct Journal {
    socket: OwnedFd,
}

impl Journal {
    pub(super) fn connect(path: &Path) -> io::Result<Self> {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
        // A journal that hangs is tried again later.
        rustix::net::sockopt::set_socket_timeout(
            &socket,
            rustix::net::sockopt::Timeout::Send,
            Some(std::time::Duration::from_secs(5)),
        )?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        Ok(Self { socket })
    }

    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        match rustix::net::send(&self.socket, message, SendFlags::NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_file(message),
            Err(error) => Err(error.into()),
        }
    }

    fn send_file(&self, message: &[u8]) -> io::Result<()> {
        let mut file = File::from(memfd_create("gantry-journal", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
        file.write_all(message)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
        let descriptors = [file.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        rustix::net::sendmsg(&self.socket, &[IoSlice::new(&[])], &mut ancillary, SendFlags::NOSIGNAL)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages() {
        let extra = BTreeMap::from([
            ("com.x/a".to_owned(), "one\ntwo".to_owned()),
            ("__".to_owned(), "none".to_owned()),
            ("container_name".to_owned(), "false".to_owned()),
        ]);
        let identity = Identity { id: "0123456789abcdef".to_owned(), name: "web".to_owned(), ..Identity::default() };
        let fields = fields(&identity, "tag", &extra);
        let entry = Entry { time: 86_401_500_000_000, stream: Stream::Stderr, text: b"a b".to_vec() };
        let found = encode(&entry, Some(Part { id: 1, ordinal: 1, last: false }), &fields);
        let expect = "MESSAGE=a b\nPRIORITY=3\nSYSLOG_TIMESTAMP=1970-01-02T00:00:01.500000000Z\n\
                      COM_X_A\n\x07\0\0\0\0\0\0\0one\ntwo\nCONTAINER_ID=0123456789ab\n\
                      CONTAINER_ID_FULL=0123456789abcdef\nCONTAINER_NAME=web\nCONTAINER_TAG=tag\nIMAGE_NAME=\n\
                      SYSLOG_IDENTIFIER=tag\nCONTAINER_PARTIAL_MESSAGE=true\n\
                      CONTAINER_PARTIAL_ID=0000000000000001\nCONTAINER_PARTIAL_ORDINAL=1\n\
                      CONTAINER_PARTIAL_LAST=false\n";
        assert_eq!(String::from_utf8(found).unwrap(), expect);
        let last = encode(&entry, Some(Part { id: 1, ordinal: 2, last: true }), &fields);
        assert!(!String::from_utf8(last).unwrap().contains("PARTIAL_MESSAGE"));
    }
}
