//! Volumes of the driver `local`: directories that outlive the containers that use them.
//!
//! A volume is a directory with a record and its data, made under another name and renamed when it is whole; so what lies
//! on the disk is the truth, and nothing half is ever seen.

mod fill;
mod local;
mod options;
pub(crate) mod plan;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use fill::fill;
pub(crate) use local::Volumes;
pub(crate) use options::mount;

use crate::container::Mount;
use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::names;
use crate::request::MountKind;

/// The label of volumes that were made for one container without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
/// The longest name: that of a file, of most file systems.
const LONGEST: usize = 255;

/// A volume.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made, in nanoseconds since 1970.
    pub created: i64,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// The container that it was made for without a name, by id; empty once it is nobody's.
    pub owner: String,
    /// Options: none for a plain directory, or `type`, `device` and `o` for what is mounted on it while it is used.
    pub options: BTreeMap<String, String>,
    /// Path of its data.
    #[serde(skip)]
    pub mountpoint: String,
    /// Whether it is not known what it stands for, so that it cannot be used until it is made anew.
    #[serde(skip)]
    pub damaged: bool,
}

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateVolume {
    /// Its name; empty is made up.
    pub name: String,
    /// Its driver; empty is `local`.
    pub driver: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Options.
    pub options: BTreeMap<String, String>,
    /// The container that it is made for without a name, by id; empty for all others.
    pub owner: String,
}

impl Engine {
    /// Makes a volume; one of that name that is there is given back.
    pub async fn create_volume(&self, mut asked: CreateVolume) -> Result<Arc<Volume>> {
        if !matches!(asked.driver.as_str(), "" | "local") {
            let driver = &asked.driver;
            return Err(Error::NoDriver(format!(
                "create {}: error looking up volume plugin {driver}: plugin {driver:?} not found",
                asked.name
            )));
        }
        options::check(&asked.name, &asked.options)?;
        if asked.name.is_empty() {
            asked.name = names::id()?;
            asked.labels.insert(ANONYMOUS.to_owned(), String::new());
        }
        check_name(&asked.name)?;
        if let Some(there) = self.0.volumes.get(&asked.name) {
            if !asked.options.is_empty() && asked.options != there.options {
                let name = &asked.name;
                return Err(Error::Conflict(format!("volume {name} exists with other options")));
            }
            return Ok(there);
        }
        let (engine, now) = (self.clone(), self.now());
        let volume = blocking(move || engine.0.volumes.make(asked, now)).await?;
        self.tell(Subject::Volume, "create", &volume.name, [("driver".to_owned(), "local".to_owned())]);
        Ok(volume)
    }

    /// A volume.
    pub fn volume(&self, name: &str) -> Result<Arc<Volume>> {
        self.0.volumes.get(name).ok_or_else(|| Error::NoVolume(name.to_owned()))
    }

    /// All volumes, by name.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        self.0.volumes.all()
    }

    /// The containers that use a volume, by id.
    pub fn users_of_volume(&self, name: &str) -> Vec<String> {
        let uses = |mount: &Mount| mount.kind == MountKind::Volume && mount.name == name;
        let all = self.read().all();
        all.iter().filter(|one| one.record().mounts.iter().any(uses)).map(|one| one.id.clone()).collect()
    }

    /// Bytes that a volume takes on disk.
    pub async fn volume_size(&self, name: &str) -> Result<u64> {
        let volume = self.volume(name)?;
        blocking(move || crate::files::size(Path::new(&volume.mountpoint))).await
    }

    /// Removes a volume.
    ///
    /// # Errors
    /// A container uses it.
    pub async fn remove_volume(&self, name: &str, force: bool) -> Result<()> {
        let volume = match self.volume(name) {
            Err(error) if force && error.is_missing() => return Ok(()),
            found => found?,
        };
        // No container comes to use it meanwhile.
        let _using = self.0.using_volumes.lock().await;
        let users = self.users_of_volume(name);
        if !users.is_empty() {
            return Err(Error::Conflict(format!("remove {name}: volume is in use - [{}]", users.join(", "))));
        }
        let engine = self.clone();
        blocking(move || engine.0.volumes.take_away(&volume.name)).await?;
        self.tell(Subject::Volume, "destroy", name, [("driver".to_owned(), "local".to_owned())]);
        Ok(())
    }

    /// Removes the anonymous volumes of a container that is gone, unless another uses them.
    pub(crate) async fn remove_anonymous(&self, mounts: &[Mount]) {
        for mount in mounts.iter().filter(|mount| mount.kind == MountKind::Volume && mount.anonymous) {
            match self.remove_volume(&mount.name, true).await {
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(error) => tracing::warn!("remove volume {}: {error}", mount.name),
            }
        }
    }
}

/// Refuses what cannot be the name of a volume.
pub(crate) fn check_name(name: &str) -> Result<()> {
    if name.len() == 1 {
        let words = "volume name is too short, names should be at least two alphanumeric characters";
        return Err(Error::Invalid(format!("create {name}: {words}")));
    }
    if name.len() > LONGEST {
        return Err(Error::Invalid(format!("create {name}: a volume name has at most {LONGEST} characters")));
    }
    names::check("volume", name).map_err(|_| {
        Error::Invalid(format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ))
    })
}
