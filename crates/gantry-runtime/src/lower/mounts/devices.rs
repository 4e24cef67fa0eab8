//! Device files and links of a container's `/dev`.

use gantry_model::names::device::{self, DeviceKind};
use gantry_model::names::namespace::NamespaceKind;
use gantry_model::oci::linux::Device;
use gantry_model::oci::spec::{IdMapping, Mount};

use super::{Parsed, clean};
use crate::error::{Error, Result};
use crate::lower::{Builder, Context, Opened, field};
use crate::step::{Action, Slot};

/// Devices that every container has (config-linux.md, Default Devices).
const DEFAULT_DEVICES: [(&str, i64, i64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Links that every container has (config-linux.md, Dev symbolic links).
const DEFAULT_LINKS: [(&str, &str); 4] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

impl Context<'_> {
    /// Whether `/dev` is another's, in which nothing is made.
    fn has_foreign_devices(&self) -> bool {
        let bound = |mount: &Mount| mount.kind == "bind" || mount.options.iter().any(|o| o == "bind" || o == "rbind");
        self.input.spec.mounts.iter().any(|mount| clean(&mount.destination) == "/dev" && bound(mount))
    }

    /// Makes the listed devices for a user namespace of the container's own, in which none can be made; so they have the
    /// mode and owner that the configuration gives them, and need not be the host's under the same name.
    pub(in crate::lower) fn make_devices(&self, b: &mut Builder, opened: &mut Opened) -> Result<()> {
        let able = self.namespaces.makes(NamespaceKind::User) && self.input.host.privileged;
        if !able || !self.namespaces.has(NamespaceKind::Mount) || self.has_foreign_devices() {
            return Ok(());
        }
        for device in self.linux.devices.iter().filter(|device| kind_of(device) != DeviceKind::Fifo) {
            let path = clean(&device.path);
            let at = format!("linux.devices: {path}");
            let node = field(&at, device::node(device))?;
            let outside = |map: &[IdMapping], id: u32| {
                let unmapped = || Error::config(&at, format!("its owner {id} is not mapped in the container"));
                gantry_model::names::idmap::host_id(map, id).ok_or_else(unmapped)
            };
            let uid = outside(&self.linux.uid_mappings, node.uid)?;
            let gid = outside(&self.linux.gid_mappings, node.gid)?;
            let slot = b.slot();
            b.runtime(Action::MakeDeviceTree { path: path.clone(), node: device::Node { uid, gid, ..node }, slot });
            opened.devices.push((path, slot));
        }
        Ok(())
    }

    /// Device files and links, where `/dev` is the container's own.
    pub(in crate::lower) fn devices(
        &self,
        b: &mut Builder,
        root: Slot,
        mounts: &[Parsed<'_>],
        opened: &Opened,
    ) -> Result<()> {
        if self.has_foreign_devices() {
            return Ok(());
        }
        let bind = self.namespaces.has(NamespaceKind::User)
            || self.input.host.in_user_namespace
            || !self.input.host.privileged;
        let listed: Vec<String> = self.linux.devices.iter().map(|device| clean(&device.path)).collect();
        let defaults = DEFAULT_DEVICES.iter().filter(|(path, ..)| !listed.iter().any(|listed| listed == path)).map(
            |&(path, major, minor)| Device {
                path: path.to_owned(),
                kind: "c".to_owned(),
                major,
                minor,
                file_mode: Some(0o666),
                uid: None,
                gid: None,
            },
        );
        for device in defaults.chain(self.linux.devices.iter().cloned()) {
            let path = clean(&device.path);
            let node = field(&format!("linux.devices: {path}"), device::node(&device))?;
            if path == "/" || path.contains('\0') {
                return Err(Error::config("linux.devices", format!("{:?} is no path of a device", device.path)));
            }
            // The terminal multiplexer is the container's own, by the link below.
            if path == "/dev/ptmx" {
                continue;
            }
            b.init(if bind && DeviceKind::Fifo != kind_of(&device) {
                let made = opened.devices.iter().find(|(of, _)| *of == path).map(|&(_, slot)| slot);
                Action::BindDevice { root, source: path.clone(), path, made }
            } else {
                Action::MakeDevice { root, path, node }
            });
        }
        for (path, target) in DEFAULT_LINKS {
            b.init(Action::Symlink { root, path: path.to_owned(), target: target.to_owned(), replace: false });
        }
        if mounts.iter().any(|m| m.target == "/dev/pts" && m.mount.kind == "devpts") {
            let (path, target) = ("/dev/ptmx".to_owned(), "pts/ptmx".to_owned());
            b.init(Action::Symlink { root, path, target, replace: true });
        }
        Ok(())
    }
}

fn kind_of(device: &Device) -> DeviceKind {
    DeviceKind::from_letter(&device.kind).unwrap_or(DeviceKind::Character)
}
