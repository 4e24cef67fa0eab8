//! Mount options: `ro`, `rbind`, `rnosuid`, `size=64k` (mount(8), mount_setattr(2); config.md, Linux mount options).
//!
//! One list of words means five things: attributes of the mount point, attributes of the mounts below it, propagation,
//! flags of the file system, and data for the file system. They are told apart here, each as the system call that
//! carries it out takes it.

mod data;
mod table;

pub use data::{DataOption, FsConfigFlags};
use table::Meaning;
pub use table::{attr, ms};

use super::NameError;

/// The most options a mount may have; a real one has a dozen, an overlay some hundred layers in one option.
const MAX_OPTIONS: usize = 4096;
/// The most ranges of an id mapping within an option: what the kernel takes.
const MAX_RANGES: usize = 340;

/// Bits to set and bits to clear, as mount_setattr(2) takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttrChange {
    /// `MOUNT_ATTR_*` bits to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` bits to clear. Where an access time attribute is chosen, this has all of
    /// [`attr::ATIME`], as the system call demands.
    pub clear: u64,
}

impl AttrChange {
    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// A change of mount propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Propagation {
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, as mount_setattr(2) and mount(2) take it.
    pub kind: u64,
    /// Whether the mounts below change too.
    pub recursive: bool,
}

impl Propagation {
    /// The change by its name, as `rslave`; also for `rootfsPropagation`.
    pub fn from_name(name: &str) -> Result<Self, NameError> {
        match table::find(name) {
            Some(Meaning::Propagation { kind, recursive }) => Ok(Self { kind, recursive }),
            _ => Err(NameError::unknown(
                "propagation",
                name,
                "[r]shared, [r]slave, [r]private or [r]unbindable is meant",
            )),
        }
    }

    /// The flags for mount(2).
    pub fn ms_flags(self) -> u64 {
        self.kind | if self.recursive { ms::REC } else { 0 }
    }
}

/// A range of an id mapping that stands in the option itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionRange {
    /// First id in the file system.
    pub from: u32,
    /// First id outside, or inside the container's user namespace if `relative`.
    pub to: u32,
    /// How many.
    pub size: u32,
    /// Whether `to` is an id of the container's user namespace.
    pub relative: bool,
}

/// The options `idmap` and `ridmap`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdmapOption {
    /// Whether the mounts below are mapped too.
    pub recursive: bool,
    /// User ids named in the option (`idmap=uids=0-1000-1;gids=...`); empty leaves them to the mount's own mappings or
    /// the container's.
    pub uids: Vec<OptionRange>,
    /// Group ids named in the option.
    pub gids: Vec<OptionRange>,
}

/// What the options of one mount ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    /// Whether the source is bound rather than a file system mounted; true with `rbind` as well.
    pub bind: bool,
    /// Whether the mounts below the source are bound with it.
    pub recursive_bind: bool,
    /// Whether an existing mount is changed.
    pub remount: bool,
    /// `MS_*` flags of mount(2) that are set, without those for bind, remount and propagation.
    pub flags: u64,
    /// `MS_*` flags that are asked to be clear.
    pub cleared_flags: u64,
    /// Attributes of the mount and of those below it.
    pub recursive: AttrChange,
    /// Changes of propagation, in order.
    pub propagation: Vec<Propagation>,
    /// Options for the file system, each as given.
    pub data: Vec<String>,
    /// Whether what lies under a tmpfs is copied into it.
    pub tmpcopyup: bool,
    /// Whether a source that is a symbolic link is made anew rather than bound.
    pub copy_symlink: bool,
    /// Whether a source that is a symbolic link is bound itself.
    pub src_nofollow: bool,
    /// Whether a destination that is a symbolic link is mounted upon itself.
    pub dest_nofollow: bool,
    /// Whether the mount's ids are mapped.
    pub idmap: Option<IdmapOption>,
}

impl MountOptions {
    /// Sorts the options of a mount. Of options that contradict each other the later wins; a word that is not known is
    /// data for the file system. Beside a bind, for which mount(2) drops all data, a value is kept and without effect; a
    /// word alone is refused, for it is a flag that somebody relies on and nobody knows.
    pub fn parse(options: &[String]) -> Result<Self, NameError> {
        if options.len() > MAX_OPTIONS {
            let value = format!("{} of them", options.len());
            return Err(NameError::invalid("mount options", &value, format!("at most {MAX_OPTIONS} are read")));
        }
        let mut parsed = Self::default();
        for option in options {
            if option.contains('\0') {
                return Err(NameError::invalid("mount option", option, "it has a NUL character"));
            }
            parsed.take(option)?;
        }
        parsed.check()?;
        Ok(parsed)
    }

    fn take(&mut self, option: &str) -> Result<(), NameError> {
        match table::find(option) {
            Some(Meaning::Nothing) => {}
            Some(Meaning::Bind { recursive }) => {
                self.bind = true;
                self.recursive_bind |= recursive;
            }
            Some(Meaning::Remount) => self.remount = true,
            Some(Meaning::Set(flag)) => {
                self.flags |= flag;
                self.cleared_flags &= !flag;
            }
            Some(Meaning::Clear(flag)) => {
                self.flags &= !flag;
                self.cleared_flags |= flag;
            }
            Some(Meaning::RecursiveSet(bits)) => {
                self.recursive.set |= bits;
                self.recursive.clear &= !bits;
            }
            Some(Meaning::RecursiveClear(bits)) => {
                self.recursive.set &= !bits;
                self.recursive.clear |= bits;
            }
            // The access time attributes are one field of several bits: it is cleared whole, and the last choice set.
            Some(Meaning::RecursiveAtime(choice)) => {
                self.recursive.set = self.recursive.set & !attr::ATIME | choice;
                self.recursive.clear |= attr::ATIME;
            }
            Some(Meaning::Propagation { kind, recursive }) => self.propagation.push(Propagation { kind, recursive }),
            Some(Meaning::TmpCopyUp) => self.tmpcopyup = true,
            Some(Meaning::CopySymlink) => self.copy_symlink = true,
            Some(Meaning::SourceNoFollow) => self.src_nofollow = true,
            Some(Meaning::DestinationNoFollow) => self.dest_nofollow = true,
            Some(Meaning::Idmap { recursive }) => {
                self.idmap = Some(IdmapOption { recursive, ..IdmapOption::default() });
            }
            None => match option.split_once('=') {
                Some((name @ ("idmap" | "ridmap"), ranges)) => {
                    self.idmap = Some(parse_idmap(name == "ridmap", option, ranges)?);
                }
                _ => self.data.push(option.to_owned()),
            },
        }
        Ok(())
    }

    fn check(&self) -> Result<(), NameError> {
        let word = |data: &&String| !data.is_empty() && !data.contains('=');
        if let (true, Some(data)) = (self.bind, self.data.iter().find(word)) {
            return Err(NameError::invalid("mount option", data, "it is no option of a bind mount"));
        }
        if self.copy_symlink && (self.src_nofollow || self.dest_nofollow) {
            let why = "it excludes src-nofollow and dest-nofollow: choose one of them";
            return Err(NameError::invalid("mount option", "copy-symlink", why));
        }
        Ok(())
    }

    /// The attributes of a mount that is made new, for fsmount(2): what is not asked for is the kernel's default.
    pub fn new_mount_attributes(&self) -> u64 {
        self.attributes().set
    }

    /// The change that brings a bind mount from its source's attributes to those asked for, for mount_setattr(2)
    /// without `AT_RECURSIVE`. What no option speaks of stays as it is at the source.
    pub fn attributes(&self) -> AttrChange {
        let mut change = AttrChange::default();
        for (flag, bit) in table::PLAIN_ATTRIBUTES {
            if self.flags & flag != 0 {
                change.set |= bit;
            } else if self.cleared_flags & flag != 0 {
                change.clear |= bit;
            }
        }
        // As mount(2) weighs them: strictatime over noatime over relatime, and that is also where one ends who only
        // takes one of the others away.
        if self.flags & ms::STRICTATIME != 0 {
            change.set |= attr::STRICTATIME;
            change.clear |= attr::ATIME;
        } else if self.flags & ms::NOATIME != 0 {
            change.set |= attr::NOATIME;
            change.clear |= attr::ATIME;
        } else if self.flags & ms::RELATIME != 0 || self.cleared_flags & (ms::NOATIME | ms::STRICTATIME) != 0 {
            change.clear |= attr::ATIME;
        }
        change
    }

    /// Whether the mount is asked to be read-only.
    pub fn is_read_only(&self) -> bool {
        self.flags & ms::RDONLY != 0
    }

    /// All flags for mount(2), but those of propagation, which go with calls of their own.
    pub fn mount_flags(&self) -> u64 {
        let mut flags = self.flags;
        for (asked, flag) in
            [(self.bind, ms::BIND), (self.recursive_bind, ms::BIND | ms::REC), (self.remount, ms::REMOUNT)]
        {
            flags |= if asked { flag } else { 0 };
        }
        flags
    }
}

/// Reads `uids=0-1000-1#1-100000-10;gids=@0-0-1`: ranges of first id in the file system, first id outside, and size.
fn parse_idmap(recursive: bool, option: &str, ranges: &str) -> Result<IdmapOption, NameError> {
    let invalid = |why: &str| NameError::invalid("mount option", option, why);
    let mut idmap = IdmapOption { recursive, ..IdmapOption::default() };
    for part in ranges.split(';').filter(|part| !part.is_empty()) {
        let (ids, text) = match part.split_once('=') {
            Some(("uids", text)) => (&mut idmap.uids, text),
            Some(("gids", text)) => (&mut idmap.gids, text),
            _ => return Err(invalid("uids=... and gids=..., separated by semicolons, are meant")),
        };
        for range in text.split('#').filter(|range| !range.is_empty()) {
            let range = parse_range(range)
                .ok_or_else(|| invalid("a range is from-to-size, three numbers, with @ before it if relative"))?;
            ids.push(range);
            if ids.len() > MAX_RANGES {
                return Err(invalid("it has more than 340 ranges"));
            }
        }
    }
    if idmap.uids.is_empty() || idmap.gids.is_empty() {
        return Err(invalid("both uids and gids need a range"));
    }
    Ok(idmap)
}

fn parse_range(text: &str) -> Option<OptionRange> {
    let (relative, text) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let mut numbers = text.splitn(3, '-').map(|n| super::decimal(n).and_then(|n| u32::try_from(n).ok()));
    let (from, to, size) = (numbers.next()??, numbers.next()??, numbers.next()??);
    Some(OptionRange { from, to, size, relative })
}

/// The names of all options with a meaning of their own, sorted, for the features document.
pub fn known_options() -> Vec<&'static str> {
    let mut names: Vec<_> = table::OPTIONS.iter().map(|&(name, _)| name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests;
