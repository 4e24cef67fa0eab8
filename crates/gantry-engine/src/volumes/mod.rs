//! Volumes of the driver `local`: directories that outlive the containers that use them.
//!
//! A volume is a directory with a record and its data, made under another name and renamed when it is whole; so what lies
//! on the disk is the truth, and nothing half is ever seen.

pub(crate) mod plan;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, UnmountFlags};
use serde::{Deserialize, Serialize};

use crate::container::Mount;
use crate::engine::{Engine, blocking, make_dir};
use crate::error::{Context, Error, Result};
use crate::events::Subject;
use crate::names;
use crate::request::MountKind;
use crate::table::lock;

/// The label of volumes that were made for one container without a name.
pub const ANONYMOUS: &str = "com.docker.volume.anonymous";
const DATA: &str = "_data";
const RECORD: &str = "record.json";
/// What names of what is no volume begin with.
const HIDDEN: char = '.';

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

/// All volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    table: Mutex<BTreeMap<String, Arc<Volume>>>,
}

impl Volumes {
    /// Reads what is there, and removes what is half.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        make_dir(dir)?;
        let what = || format!("read {}", dir.display());
        let mut table = BTreeMap::new();
        for entry in std::fs::read_dir(dir).context(what)? {
            let entry = entry.context(what)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with(HIDDEN) {
                if let Err(error) = std::fs::remove_dir_all(entry.path()) {
                    tracing::warn!("remove {}: {error}", entry.path().display());
                }
                continue;
            }
            let data = entry.path().join(DATA);
            let read = std::fs::read(entry.path().join(RECORD)).ok();
            let record = read.and_then(|text| serde_json::from_slice::<Volume>(&text).ok()).unwrap_or_default();
            let volume = Volume { name: name.clone(), mountpoint: data.display().to_string(), ..record };
            table.insert(name, Arc::new(volume));
        }
        Ok(Self { dir: dir.to_owned(), table: Mutex::new(table) })
    }

    /// A volume, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Volume>> {
        lock(&self.table).get(name).cloned()
    }

    fn make(&self, asked: CreateVolume, now: i64) -> Result<Arc<Volume>> {
        let mut table = lock(&self.table);
        if let Some(there) = table.get(&asked.name) {
            return Ok(Arc::clone(there));
        }
        let (at, fresh) = (self.dir.join(&asked.name), self.dir.join(format!(".new-{}", asked.name)));
        let data = at.join(DATA);
        let volume = Volume {
            name: asked.name,
            created: now,
            labels: asked.labels,
            owner: asked.owner,
            options: asked.options,
            mountpoint: data.display().to_string(),
        };
        let text = serde_json::to_vec(&volume).unwrap_or_default();
        let what = || format!("make volume {}", volume.name);
        make_dir(&fresh)?;
        std::fs::create_dir(fresh.join(DATA)).context(what)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(fresh.join(DATA), mode).context(what)?;
        std::fs::write(fresh.join(RECORD), text).context(what)?;
        std::fs::rename(&fresh, &at).context(what)?;
        let volume = Arc::new(volume);
        table.insert(volume.name.clone(), Arc::clone(&volume));
        Ok(volume)
    }

    /// Leaves a volume that was made for a container to whoever wants it: it does not go when the container is gone.
    pub(crate) fn disown(&self, name: &str) -> Result<()> {
        let mut table = lock(&self.table);
        let Some(volume) = table.get(name).filter(|volume| !volume.owner.is_empty()) else { return Ok(()) };
        let volume = Volume { owner: String::new(), ..(**volume).clone() };
        let (path, fresh) = (self.dir.join(name).join(RECORD), self.dir.join(name).join("record.new"));
        let text = serde_json::to_vec(&volume).unwrap_or_default();
        let written = std::fs::write(&fresh, text).and_then(|()| std::fs::rename(&fresh, &path));
        written.context(|| format!("write {}", path.display()))?;
        table.insert(name.to_owned(), Arc::new(volume));
        Ok(())
    }

    /// Removes volumes that were made for containers that are not there: their making, or their removal, was cut off.
    pub(crate) fn clear_up(&self, is_there: impl Fn(&str) -> bool) {
        let all: Vec<Arc<Volume>> = lock(&self.table).values().cloned().collect();
        for volume in all.iter().filter(|volume| !volume.owner.is_empty() && !is_there(&volume.owner)) {
            if let Err(error) = self.take_away(&volume.name) {
                tracing::warn!("{error}");
            }
        }
    }

    pub(crate) fn take_away(&self, name: &str) -> Result<()> {
        let trash = self.dir.join(format!(".gone-{}", names::hex(&names::random::<8>()?)));
        let what = || format!("remove volume {name}");
        {
            let mut table = lock(&self.table);
            std::fs::rename(self.dir.join(name), &trash).context(what)?;
            table.remove(name);
        }
        std::fs::remove_dir_all(&trash).context(what)
    }

    /// Mounts what a volume with options stands for, unless it is mounted.
    pub(crate) fn mount(volume: &Volume) -> Result<()> {
        let option = |name: &str| volume.options.get(name).map_or("", String::as_str);
        let (kind, device) = (option("type"), option("device"));
        if kind.is_empty() && device.is_empty() || is_mounted(&volume.mountpoint)? {
            return Ok(());
        }
        let (flags, data) = mount_options(option("o"));
        let data = std::ffi::CString::new(data).map_err(|_| Error::Invalid("a mount option has a NUL".to_owned()))?;
        let kind = if kind == "none" { "" } else { kind };
        let mounted = rustix::mount::mount(device, &volume.mountpoint, kind, flags, Some(data.as_c_str()));
        mounted.context(|| {
            let (name, at) = (&volume.name, &volume.mountpoint);
            format!("error while mounting volume '{at}': failed to mount local volume {name}: mount {device}:{at}")
        })
    }

    /// Unmounts what a volume stands for.
    pub(crate) fn unmount(volume: &Volume) -> Result<()> {
        if volume.options.is_empty() || !is_mounted(&volume.mountpoint)? {
            return Ok(());
        }
        let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
        rustix::mount::unmount(&volume.mountpoint, flags).context(|| format!("unmount volume {}", volume.name))
    }
}

fn is_mounted(path: &str) -> Result<bool> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").context(|| "read mountinfo".to_owned())?;
    Ok(text.lines().any(|line| line.split(' ').nth(4) == Some(path)))
}

/// Options of mount(8) as flags, and what is left for the file system.
fn mount_options(text: &str) -> (MountFlags, String) {
    let (mut flags, mut rest) = (MountFlags::empty(), Vec::new());
    for option in text.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => flags |= MountFlags::RDONLY,
            "rw" | "defaults" => {}
            "bind" => flags |= MountFlags::BIND,
            "rbind" => flags |= MountFlags::BIND | MountFlags::REC,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

impl Engine {
    /// Makes a volume; one of that name that is there is given back.
    pub async fn create_volume(&self, mut asked: CreateVolume) -> Result<Arc<Volume>> {
        if !matches!(asked.driver.as_str(), "" | "local") {
            let driver = &asked.driver;
            return Err(Error::NoSuch(
                "plugin",
                format!("error looking up volume plugin {driver}: plugin {driver:?} not found"),
            ));
        }
        for key in asked.options.keys() {
            if !["type", "device", "o", "size"].contains(&key.as_str()) {
                return Err(Error::Invalid(format!("create {}: invalid option: {key:?}", asked.name)));
            }
        }
        if asked.options.contains_key("size") {
            return Err(Error::Unsupported(format!(
                "create {}: quotas are not to be had: leave \"size\" out",
                asked.name
            )));
        }
        for key in ["type", "device"] {
            if asked.options.contains_key("o") && !asked.options.contains_key(key) {
                return Err(Error::Invalid(format!("create {}: missing required option: {key:?}", asked.name)));
            }
        }
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
        lock(&self.0.volumes.table).values().cloned().collect()
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
        blocking(move || {
            Volumes::unmount(&volume)?;
            engine.0.volumes.take_away(&volume.name)
        })
        .await?;
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
    names::check("volume", name).map_err(|_| {
        Error::Invalid(format!(
            "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are \
             allowed. If you intended to pass a host directory, use absolute path"
        ))
    })
}
