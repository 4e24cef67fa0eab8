//! Devices by the Container Device Interface: what a vendor says must be done to a container that uses a device of its own,
//! such as a graphics processor. Specifications are read from directories of the host, JSON or YAML.

mod document;
mod edit;
mod request;
mod yaml;

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use document::Document;
use gantry_model::oci::linux::Device;

use crate::settings::Settings;

/// Where specifications are; a later directory wins.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Bytes of a specification.
const MAX_FILE: u64 = 4 << 20;
/// Files of a directory that are read.
const MAX_FILES: usize = 1024;

/// Why devices cannot be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No specification has them.
    #[error("CDI device injection failed: unresolvable CDI devices {0}")]
    Unknown(String),
    /// A name that is none.
    #[error("invalid device {0:?}: VENDOR/CLASS=NAME is meant")]
    Name(String),
    /// A device file of the host.
    #[error("failed to stat CDI host device {path:?}: {cause}")]
    Host {
        /// Its path.
        path: String,
        /// What is wrong.
        cause: String,
    },
    /// It is something else than it should be.
    #[error("CDI device ({inside:?}, {outside:?}), host type mismatch ({wanted}, {found})")]
    Kind {
        /// Path in the container.
        inside: String,
        /// Path on the host.
        outside: String,
        /// What was said.
        wanted: String,
        /// What is there.
        found: String,
    },
    /// Nothing here serves the request.
    #[error("could not select device driver {driver:?} with capabilities: {capabilities}")]
    Driver {
        /// The driver that was asked for.
        driver: String,
        /// What it must be able to do.
        capabilities: String,
    },
    /// A request that makes no sense.
    #[error("{0}")]
    Request(&'static str),
}

/// The devices that the host's specifications tell of.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    /// By full name: the specification, and which of its devices.
    devices: BTreeMap<String, (Arc<Document>, usize)>,
    problems: Vec<String>,
}

/// Where a specification was found.
struct Found {
    path: PathBuf,
    /// The place of its directory: a higher one wins.
    priority: usize,
}

impl Registry {
    /// Reads the specifications of directories. One that is not there has none; a file that is wrong is a problem, and no
    /// more.
    pub fn read(directories: &[PathBuf]) -> Self {
        let mut registry = Self::default();
        let mut found = Vec::new();
        for (priority, directory) in directories.iter().enumerate() {
            for path in files(directory) {
                match load(&path) {
                    Ok(document) => found.push((Found { path, priority }, Arc::new(document))),
                    Err(cause) => {
                        registry.problems.push(format!("failed to load CDI Spec {}: {cause}", path.display()));
                    }
                }
            }
        }
        registry.add(&found);
        registry
    }

    /// Adds the devices of specifications. Of two with one name in directories of the same rank neither counts.
    fn add(&mut self, found: &[(Found, Arc<Document>)]) {
        type Named<'a> = Vec<(&'a Found, &'a Arc<Document>, usize)>;
        let mut best: BTreeMap<String, Named<'_>> = BTreeMap::new();
        for (place, document) in found {
            for (index, device) in document.devices.iter().enumerate() {
                let named = best.entry(format!("{}={}", document.kind, device.name)).or_default();
                named.retain(|(other, ..)| other.priority >= place.priority);
                if named.first().is_none_or(|(other, ..)| other.priority == place.priority) {
                    named.push((place, document, index));
                }
            }
        }
        for (name, named) in best {
            if let [(_, document, index)] = named[..] {
                self.devices.insert(name, (Arc::clone(document), index));
                continue;
            }
            let paths: Vec<_> = named.iter().map(|(place, ..)| place.path.display().to_string()).collect();
            self.problems.push(format!("conflicting device {name:?} (specs {})", paths.join(", ")));
        }
    }

    /// The full names of all devices.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// What is wrong with specifications, for people.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Whether there is a device of a kind, `VENDOR/CLASS`.
    fn has_kind(&self, kind: &str) -> bool {
        self.devices.values().any(|(document, _)| document.kind == kind)
    }

    /// Gives devices to a container. Nothing is changed if one is unknown. What is said for all devices of a specification
    /// is done once. `look` looks at a device file of the host ([`host_device`]).
    ///
    /// # Errors
    /// A device is unknown, or a device file that it needs is not there.
    pub fn give(
        &self,
        names: &[String],
        settings: &mut Settings,
        look: &dyn Fn(&str) -> Result<Device, String>,
    ) -> Result<(), Error> {
        let mut unknown = Vec::new();
        let mut edits = Vec::new();
        let mut documents: Vec<&Arc<Document>> = Vec::new();
        for name in names {
            if !document::is_full_name(name) {
                return Err(Error::Name(name.clone()));
            }
            let Some((document, index)) = self.devices.get(name) else {
                unknown.push(name.as_str());
                continue;
            };
            if !documents.iter().any(|known| Arc::ptr_eq(known, document)) {
                documents.push(document);
                edits.push(&document.container_edits);
            }
            edits.push(&document.devices[*index].container_edits);
        }
        if !unknown.is_empty() {
            return Err(Error::Unknown(unknown.join(", ")));
        }
        let mut changed = settings.clone();
        for edit in edits {
            edit::apply(edit, &mut changed, look)?;
        }
        *settings = changed;
        Ok(())
    }
}

/// A device file of the host as it is there; links are not followed.
///
/// # Errors
/// There is none.
pub fn host_device(path: &str) -> Result<Device, String> {
    use rustix::fs::{FileType, lstat, major, minor};
    let found = lstat(path).map_err(|errno| errno.to_string())?;
    let kind = match FileType::from_raw_mode(found.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        FileType::Fifo => "p",
        _ => return Err("not a device node".to_owned()),
    };
    Ok(Device {
        path: path.to_owned(),
        kind: kind.to_owned(),
        major: i64::from(major(found.st_rdev)),
        minor: i64::from(minor(found.st_rdev)),
        file_mode: Some(found.st_mode & 0o7777),
        uid: Some(found.st_uid),
        gid: Some(found.st_gid),
    })
}

/// The specifications of a directory, by name.
fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else { return vec![] };
    let wanted = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "json" || ext == "yaml");
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).collect();
    paths.sort_unstable();
    paths.truncate(MAX_FILES);
    paths
}

fn load(path: &Path) -> Result<Document, String> {
    // A named pipe would be waited for.
    if !fs::metadata(path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_FILE + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_FILE {
        return Err(format!("it has more than {MAX_FILE} bytes"));
    }
    let is_json = path.extension().is_some_and(|ext| ext == "json");
    document::parse(&text, is_json)
}

#[cfg(test)]
mod tests;
