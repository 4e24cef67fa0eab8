//! Device files: type letters, mode and number (mknod(2); config-linux.md, Devices).

use super::NameError;
use crate::oci::linux::Device;

/// Mode of a device whose configuration names none.
const DEFAULT_MODE: u32 = 0o666;
/// The permission bits of a mode; the others are the file's type.
const PERMISSIONS: u32 = 0o7777;

/// What a device file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// Character device, letters `c` and `u`.
    Character,
    /// Block device, letter `b`.
    Block,
    /// Named pipe, letter `p`.
    Fifo,
}

impl DeviceKind {
    /// The kind by its letter.
    pub fn from_letter(letter: &str) -> Result<Self, NameError> {
        match letter {
            "c" | "u" => Ok(Self::Character),
            "b" => Ok(Self::Block),
            "p" => Ok(Self::Fifo),
            other => Err(NameError::unknown("device type", other, "c, u, b or p is meant")),
        }
    }

    /// The kind's bits in a mode (`S_IFCHR` and so on).
    pub fn mode_bits(self) -> u32 {
        match self {
            Self::Character => 0o020_000,
            Self::Block => 0o060_000,
            Self::Fifo => 0o010_000,
        }
    }
}

/// What mknod(2) is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// What the file is.
    pub kind: DeviceKind,
    /// Type and permission bits.
    pub mode: u32,
    /// Device number as stat(2) reports it; 0 for a named pipe.
    pub rdev: u64,
    /// Owner inside the container.
    pub uid: u32,
    /// Group inside the container.
    pub gid: u32,
}

/// Translates a device. Its path is checked where paths are resolved.
pub fn node(device: &Device) -> Result<Node, NameError> {
    let kind = DeviceKind::from_letter(&device.kind)?;
    let rdev = if kind == DeviceKind::Fifo { 0 } else { number(device.major, device.minor)? };
    let mode = kind.mode_bits() | device.file_mode.unwrap_or(DEFAULT_MODE) & PERMISSIONS;
    Ok(Node { kind, mode, rdev, uid: device.uid.unwrap_or(0), gid: device.gid.unwrap_or(0) })
}

/// A device number as makedev(3) builds it. The kernel has 12 bits for the major and 20 for the minor number; a greater
/// one would silently name another device.
pub fn number(major: i64, minor: i64) -> Result<u64, NameError> {
    let part = |what, value: i64, bits: u32| {
        u64::try_from(value).ok().filter(|&n| n < 1 << bits).ok_or_else(|| {
            NameError::invalid(what, &value.to_string(), format!("a number from 0 to {} is meant", (1 << bits) - 1))
        })
    };
    let major = part("major device number", major, 12)?;
    let minor = part("minor device number", minor, 20)?;
    Ok((minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes() {
        let check = |kind: &str, major, minor, file_mode, expect: Option<(u32, u64)>| {
            let device = Device { kind: kind.to_owned(), major, minor, file_mode, ..Device::default() };
            assert_eq!(node(&device).ok().map(|n| (n.mode, n.rdev)), expect, "{device:?}");
        };
        check("c", 1, 3, None, Some((0o020_666, 0x103)));
        check("u", 1, 3, Some(0o600), Some((0o020_600, 0x103)));
        check("b", 8, 0, Some(0o060_660), Some((0o060_660, 0x800)));
        check("p", -1, i64::MAX, Some(0o4755), Some((0o014_755, 0)));
        check("c", 0, 0, Some(u32::MAX), Some((0o027_777, 0)));
        check("c", 4095, 1_048_575, None, Some((0o020_666, 0xffff_ffff)));
        check("b", 259, 257, None, Some((0o060_666, 0x11_0301)));
        for (major, minor) in [(-1, 0), (0, -1), (4096, 0), (0, 1 << 20), (i64::MAX, 0), (0, i64::MIN)] {
            check("c", major, minor, None, None);
        }
        for kind in ["", "a", "C", "cc", "c\0", "s"] {
            check(kind, 1, 3, None, None);
        }
    }
}
