//! Layers that are EROFS images: mounted from their files, attached nowhere, for as long as somebody stands on them.
//!
//! A layer is mounted once, when the first snapshot on it is, and all snapshots share that mount, and with it what of it is
//! in memory. It goes when no snapshot stands on the layer any more. Overlays that were made of it hold what they need by
//! themselves, so nobody loses anything when it goes, or when this process does.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::dirs::{Dirs, open_dir};
use crate::error::{Error, Result};
use crate::layers::places;
use crate::mount::{Lower, detached};
use crate::rows::LayerKind;
use crate::store::Inner;

/// Name of an image beside the record of its layer.
pub(crate) const FILE: &str = "image";
/// Where an image says that it is one, and how.
const MAGIC: (u64, [u8; 4]) = (1024, 0xe0f5_e1e2_u32.to_le_bytes());

/// Layers that are mounted, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct Images(Mutex<HashMap<u64, OwnedFd>>);

impl Images {
    /// The root directory of a layer.
    pub(crate) fn open(&self, dirs: &Dirs, number: u64, file: &str) -> Result<OwnedFd> {
        let mut mounted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = dirs.layer(number).join(file);
        #[allow(clippy::map_entry)] // an entry cannot be made by what may fail
        if !mounted.contains_key(&number) {
            let mount = mount(&path).map_err(|errno| refused(dirs, &path, errno))?;
            mounted.insert(number, mount);
        }
        let root = mounted.get(&number).map(|mount| open_dir(mount.as_fd(), "."));
        let root = root.unwrap_or(Err(Errno::NOENT));
        root.map_err(|errno| dirs.error(format!("open {}", path.display()), errno))
    }
}

/// Unmounts the layers that no snapshot stands on.
pub(crate) fn forget_unused(inner: &Inner) {
    if inner.images.0.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        return;
    }
    let used: HashSet<u64> = {
        let state = inner.state();
        let tops: HashSet<_> = state.snapshots.values().filter_map(|row| row.chain.as_ref()).collect();
        tops.into_iter().flat_map(|top| places(&state, top).unwrap_or_default()).map(|place| place.number).collect()
    };
    inner.images.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|number, _| used.contains(number));
}

/// Mounts an image from its file, attached nowhere.
pub(crate) fn mount(image: &Path) -> Result<OwnedFd, Errno> {
    let fs = fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&fs, "source", image)?;
    fsconfig_create(&fs)?;
    fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Why an image cannot be mounted. What this kernel cannot do at all is told by name.
fn refused(dirs: &Dirs, image: &Path, errno: Errno) -> Error {
    match errno {
        // No such file system; only from block devices; a file of a file system that cannot serve.
        Errno::NODEV | Errno::NOTBLK | Errno::OPNOTSUPP => Error::Invalid {
            what: "EROFS layer",
            value: image.display().to_string(),
            why: format!(
                "this kernel cannot mount it from its file ({errno}), which needs Linux 6.12 with EROFS, and a file system \
                 of the store that allows it: let the layers be directories, and pull the image again"
            ),
        },
        errno => dirs.error(format!("mount {}", image.display()), errno),
    }
}

/// Finds out whether layers can be images here: one is made, mounted, and put below an overlay.
pub(crate) fn probe(dirs: &Dirs) -> Result<()> {
    let dir = dirs.tmp.join(format!("probe-{}", dirs.number()));
    let fail = |error| dirs.error(format!("try an EROFS image in {}", dir.display()), error);
    std::fs::create_dir(&dir).map_err(fail)?;
    let image = dir.join(FILE);
    let made = File::create(&image).map_err(fail).and_then(|file| {
        let builder = gantry_erofs::Builder::new(file, gantry_erofs::Options::default());
        let built = builder.and_then(gantry_erofs::Builder::finish);
        built.map_err(|error| fail(std::io::Error::other(error)))
    });
    let tried = made.and_then(|_| {
        // An overlay can be made of a mount only while that has its descriptor.
        let mount = mount(&image).map_err(|errno| refused(dirs, &image, errno))?;
        let root = open_dir(mount.as_fd(), ".").map_err(|errno| refused(dirs, &image, errno))?;
        let beside = open_dir(rustix::fs::CWD, &dir).map_err(|errno| fail(errno.into()))?;
        detached(&[Lower::Open(root), Lower::Open(beside)], None, false).map_err(|errno| Error::Invalid {
            what: "form of layers",
            value: "erofs".to_owned(),
            why: format!("this kernel cannot put an overlay on what is mounted nowhere ({errno}): use directories"),
        })
    });
    dirs.discard(&dir)?;
    tried.map(drop)
}

/// Whether an image is missing, or does not begin as one does.
pub(crate) fn is_broken(dir: &Path, kind: &LayerKind) -> bool {
    let LayerKind::Erofs { file } = kind else { return false };
    let mut found = [0; 4];
    let read = File::open(dir.join(file)).and_then(|mut file| {
        file.seek(SeekFrom::Start(MAGIC.0))?;
        file.read_exact(&mut found)
    });
    read.is_err() || found != MAGIC.1
}
