//! The directories of volumes. What lies on the disk is the truth.
//!
//! `NAME/_data` is what containers see, `NAME/record.json` what is known of it. Names that begin with a dot are no volumes:
//! what is being made, and what is being removed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FileType, statat};

use super::{CreateVolume, Volume, fill, options};
use crate::engine::make_dir;
use crate::error::{Context, Error, Result};
use crate::files::tree;
use crate::names;
use crate::table::lock;

const DATA: &str = "_data";
const RECORD: &str = "record.json";
/// A record that takes the place of another.
const NEW_RECORD: &str = "record.new";
/// What names of what is no volume begin with.
const HIDDEN: char = '.';
/// The longest record that is read.
const MOST: u64 = 4 << 20;

/// All volumes.
#[derive(Debug)]
pub(crate) struct Volumes {
    dir: PathBuf,
    /// The same, open.
    at: File,
    table: Mutex<BTreeMap<String, Arc<Volume>>>,
    /// Held by who makes one or takes one away.
    changing: Mutex<()>,
    /// The containers that have a volume mounted, by id; those of before this engine was started are not among them.
    uses: Mutex<BTreeMap<String, BTreeSet<String>>>,
}

impl Volumes {
    /// Reads what is there, and removes what is half.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        make_dir(dir)?;
        let what = || format!("read {}", dir.display());
        let at = File::open(dir).context(what)?;
        let mut table = BTreeMap::new();
        for entry in std::fs::read_dir(dir).context(what)? {
            let entry = entry.context(what)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            if name.starts_with(HIDDEN) {
                discard(&at, &name);
                continue;
            }
            let data = entry.path().join(DATA);
            let kind = statat(&at, format!("{name}/{DATA}"), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
                .map(|stat| FileType::from_raw_mode(stat.st_mode));
            if kind != Ok(FileType::Directory) || super::check_name(&name).is_err() {
                tracing::warn!("{} is no volume: it is left alone", entry.path().display());
                continue;
            }
            let record = match read(&entry.path().join(RECORD)) {
                Ok(record) => record,
                Err(cause) => {
                    // Its data is worth more than its labels.
                    tracing::warn!("the record of volume {name} is damaged: {cause}");
                    Volume { damaged: true, ..Volume::default() }
                }
            };
            let volume = Volume { name: name.clone(), mountpoint: data.display().to_string(), ..record };
            table.insert(name, Arc::new(volume));
        }
        let (changing, uses) = (Mutex::default(), Mutex::default());
        Ok(Self { dir: dir.to_owned(), at, table: Mutex::new(table), changing, uses })
    }

    /// A volume, if it is there.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Volume>> {
        lock(&self.table).get(name).cloned()
    }

    /// All of them, by name.
    pub(super) fn all(&self) -> Vec<Arc<Volume>> {
        lock(&self.table).values().cloned().collect()
    }

    pub(super) fn make(&self, asked: CreateVolume, now: i64) -> Result<Arc<Volume>> {
        let _changing = lock(&self.changing);
        if let Some(there) = self.get(&asked.name) {
            return Ok(there);
        }
        let volume = Volume {
            mountpoint: self.dir.join(&asked.name).join(DATA).display().to_string(),
            name: asked.name,
            created: now,
            labels: asked.labels,
            owner: asked.owner,
            options: asked.options,
            damaged: false,
        };
        let fresh = format!(".new-{}", names::hex(&names::random::<8>()?));
        if let Err(error) = self.write_new(&volume, &fresh) {
            discard(&self.at, &fresh);
            return Err(error).context(|| format!("make volume {}", volume.name));
        }
        let volume = Arc::new(volume);
        lock(&self.table).insert(volume.name.clone(), Arc::clone(&volume));
        Ok(volume)
    }

    /// Makes the directory of a volume: whole, or not at all.
    fn write_new(&self, volume: &Volume, fresh: &str) -> std::io::Result<()> {
        let dir = self.dir.join(fresh);
        DirBuilder::new().mode(0o700).create(&dir)?;
        std::fs::create_dir(dir.join(DATA))?;
        // Whatever the mask of this process is.
        std::fs::set_permissions(dir.join(DATA), std::fs::Permissions::from_mode(0o755))?;
        write(&dir.join(RECORD), volume)?;
        // One that was made for a container is worth no wait for the disk: it has no name, and stands for nothing else.
        let lasting = volume.owner.is_empty();
        if lasting {
            File::open(dir.join(RECORD))?.sync_all()?;
            File::open(&dir)?.sync_all()?;
        }
        std::fs::rename(&dir, self.dir.join(&volume.name))?;
        if lasting { self.at.sync_all() } else { Ok(()) }
    }

    /// Leaves a volume that was made for a container to whoever wants it: it does not go when the container is gone.
    pub(crate) fn disown(&self, name: &str) -> Result<()> {
        let _changing = lock(&self.changing);
        let Some(volume) = self.get(name).filter(|volume| !volume.owner.is_empty()) else { return Ok(()) };
        let volume = Volume { owner: String::new(), ..(*volume).clone() };
        let (path, fresh) = (self.dir.join(name).join(RECORD), self.dir.join(name).join(NEW_RECORD));
        let written = write(&fresh, &volume)
            .and_then(|()| File::open(&fresh)?.sync_all())
            .and_then(|()| std::fs::rename(&fresh, &path));
        written.context(|| format!("write {}", path.display()))?;
        lock(&self.table).insert(name.to_owned(), Arc::new(volume));
        Ok(())
    }

    /// Removes volumes that were made for containers that are not there: their making, or their removal, was cut off.
    pub(crate) fn clear_up(&self, is_there: impl Fn(&str) -> bool) {
        for volume in self.all().iter().filter(|volume| !volume.owner.is_empty() && !is_there(&volume.owner)) {
            if let Err(error) = self.take_away(&volume.name) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Takes a volume away: it is out of sight at once. What is left of it then goes now, or with the next start.
    pub(crate) fn take_away(&self, name: &str) -> Result<()> {
        let Some(volume) = self.get(name) else { return Err(Error::NoVolume(name.to_owned())) };
        let trash = format!(".gone-{}", names::hex(&names::random::<8>()?));
        {
            let _changing = lock(&self.changing);
            options::unmount_it(&volume)?;
            let renamed = std::fs::rename(self.dir.join(name), self.dir.join(&trash));
            renamed.context(|| format!("remove volume {name}"))?;
            lock(&self.table).remove(name);
        }
        discard(&self.at, &trash);
        Ok(())
    }

    /// Mounts what a volume stands for, if anything, for a container that starts.
    pub(crate) fn hold(&self, volume: &Volume, container: &str) -> Result<()> {
        if options::is_plain(volume) {
            return Ok(());
        }
        let _turn = fill::turn(volume)?;
        options::mount(volume)?;
        lock(&self.uses).entry(volume.name.clone()).or_default().insert(container.to_owned());
        Ok(())
    }

    /// Unmounts it again when the last container lets go of it. `used` tells of those that this engine did not start.
    pub(crate) fn let_go(&self, volume: &Volume, container: &str, used: bool) -> Result<()> {
        if options::is_plain(volume) {
            return Ok(());
        }
        let _turn = fill::turn(volume)?;
        let mut uses = lock(&self.uses);
        if let Some(users) = uses.get_mut(&volume.name) {
            users.remove(container);
            if !users.is_empty() {
                return Ok(());
            }
            uses.remove(&volume.name);
        }
        drop(uses);
        if used { Ok(()) } else { options::unmount_it(volume) }
    }
}

/// Removes what nobody sees any more. What cannot be is told, and tried again when the engine starts.
fn discard(at: &File, name: &str) {
    if let Err(errno) = tree::remove(at.as_fd(), OsStr::new(name)) {
        tracing::warn!("remove {name} of a volume: {errno}");
    }
}

fn read(path: &Path) -> Result<Volume, String> {
    use std::io::Read as _;
    let mut text = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MOST).read_to_end(&mut text).map_err(|error| error.to_string())?;
    serde_json::from_slice(&text).map_err(|error| error.to_string())
}

fn write(path: &Path, volume: &Volume) -> std::io::Result<()> {
    std::fs::write(path, serde_json::to_vec(volume)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that goes with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("gantry-volumes-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn asked(name: &str) -> CreateVolume {
        let labels = [("a".to_owned(), "b".to_owned())].into();
        CreateVolume { name: name.to_owned(), labels, ..CreateVolume::default() }
    }

    #[test]
    fn what_is_on_the_disk_is_the_truth() {
        let scratch = Scratch::new("disk");
        let volumes = Volumes::open(&scratch.0).unwrap();
        let made = volumes.make(asked("one"), 7).unwrap();
        assert_eq!(volumes.make(CreateVolume { name: "one".to_owned(), ..CreateVolume::default() }, 8).unwrap(), made);
        std::fs::write(Path::new(&made.mountpoint).join("file"), "kept").unwrap();
        // A making and a removal that were cut off, and what is no volume.
        for path in [".new-x/_data", ".gone-y/_data/d", "no-data", "-no name/_data", "damaged/_data"] {
            std::fs::create_dir_all(scratch.0.join(path)).unwrap();
        }
        std::fs::write(scratch.0.join("file"), "").unwrap();
        std::fs::write(scratch.0.join("damaged/record.json"), "{\"labels").unwrap();
        let volumes = Volumes::open(&scratch.0).unwrap();
        let names: Vec<(String, bool)> = volumes.all().iter().map(|one| (one.name.clone(), one.damaged)).collect();
        assert_eq!(names, [("damaged".to_owned(), true), ("one".to_owned(), false)]);
        assert_eq!(volumes.get("one").unwrap(), made);
        assert!(!scratch.0.join(".new-x").exists() && !scratch.0.join(".gone-y").exists());
        assert!(scratch.0.join("no-data").exists(), "what is not ours is left alone");
        volumes.take_away("one").unwrap();
        assert!(volumes.get("one").is_none() && volumes.take_away("one").unwrap_err().is_missing());
        assert_eq!(Volumes::open(&scratch.0).unwrap().all().len(), 1);
    }

    #[test]
    fn volumes_of_containers_that_are_not_there() {
        let scratch = Scratch::new("owners");
        let volumes = Volumes::open(&scratch.0).unwrap();
        for (name, owner) in [("gone", "g"), ("kept", "k"), ("left", "g"), ("named", "")] {
            volumes.make(CreateVolume { owner: owner.to_owned(), ..asked(name) }, 1).unwrap();
        }
        volumes.disown("left").unwrap();
        let volumes = Volumes::open(&scratch.0).unwrap();
        volumes.clear_up(|id| id == "k");
        let names: Vec<String> = volumes.all().iter().map(|one| one.name.clone()).collect();
        assert_eq!(names, ["kept", "left", "named"]);
    }

    /// One that a container made as deep as it could goes as well, and does not take the engine's stack.
    #[test]
    fn deep_volumes_are_removed() {
        use rustix::fs::{Mode, OFlags, mkdirat, openat};
        let scratch = Scratch::new("deep");
        let volumes = Volumes::open(&scratch.0).unwrap();
        let made = volumes.make(asked("deep"), 7).unwrap();
        let mut at = crate::rootfs::open(Path::new(&made.mountpoint)).unwrap();
        for _ in 0..5000 {
            mkdirat(&at, "d", Mode::RWXU).unwrap();
            mkdirat(&at, ".deep-1", Mode::RWXU).unwrap();
            at = openat(&at, "d", OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        drop(at);
        assert_eq!(tree::size(Path::new(&made.mountpoint)).unwrap(), 0);
        volumes.take_away("deep").unwrap();
        assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
    }

    /// Volumes that containers begin to use while others stop to.
    #[test]
    fn what_is_in_use_stays_mounted() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: it needs root");
            return;
        }
        let scratch = Scratch::new("uses");
        let test = || {
            use rustix::mount::{MountPropagationFlags, mount_change};
            gantry_sys::ns::unshare(0x2_0000).unwrap();
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            let volumes = Volumes::open(&scratch.0).unwrap();
            let options = [("type", "tmpfs"), ("device", "tmpfs"), ("o", "size=1m")];
            let options = options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            let volume = volumes.make(CreateVolume { options, ..asked("memory") }, 1).unwrap();
            let file = Path::new(&volume.mountpoint).join("file");
            volumes.hold(&volume, "a").unwrap();
            std::fs::write(&file, "").unwrap();
            volumes.hold(&volume, "b").unwrap();
            volumes.let_go(&volume, "a", false).unwrap();
            assert!(file.exists());
            volumes.let_go(&volume, "a", false).unwrap();
            assert!(file.exists(), "letting go twice is once");
            volumes.let_go(&volume, "b", true).unwrap();
            assert!(file.exists());
            volumes.let_go(&volume, "c", false).unwrap();
            assert!(!file.exists());
            volumes.hold(&volume, "d").unwrap();
            volumes.take_away("memory").unwrap();
            assert_eq!(std::fs::read_dir(&scratch.0).unwrap().count(), 0);
        };
        std::thread::scope(|scope| scope.spawn(test).join()).unwrap();
    }
}
