//! Images mounted by the kernel, straight from their files, as a container's layers would be.
//!
//! Each test mounts in a mount namespace of its own, which goes away with its thread, and everything in it too.

use crate::model::{Step, Tree, View, What, build, compare, expect};
use crate::sample;
use gantry_erofs::{Attributes, Options};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

/// A directory that is removed at the end of its test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gantry-erofs-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn directory(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn image(&self, name: &str, steps: &[Step]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, build(steps, Options::default()).unwrap().0).unwrap();
        path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed has its mounts still: those of its thread, which is not this one any more.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Runs a test in a mount namespace of its own, if this can be, and says so if not.
fn alone(name: &'static str, test: fn(&Place)) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED {name}: it mounts, and needs root");
        return;
    }
    let place = Place::new(name);
    let inside = Place(place.0.clone());
    let thread = std::thread::spawn(move || {
        gantry_sys::ns::unshare(libc::CLONE_NEWNS).unwrap();
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
        // The mounts go before the directory does: it is removed by the thread that waits.
        let inside = std::mem::ManuallyDrop::new(inside);
        let probe = inside.image("probe", &[]);
        match erofs(&probe, &inside.directory("probe.d")) {
            Ok(()) => test(&inside),
            Err(errno @ (Errno::NODEV | Errno::NOTBLK)) => {
                eprintln!("SKIPPED {name}: this kernel does not mount EROFS from a file: {errno}");
            }
            Err(errno) => panic!("mount an empty image: {errno}"),
        }
    });
    let ended = thread.join();
    drop(place);
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Mounts an image from its file.
fn erofs(image: &Path, target: &Path) -> Result<(), Errno> {
    mount("erofs", &[("source", image)], target)
}

fn mount(kind: &str, options: &[(&str, &Path)], target: &Path) -> Result<(), Errno> {
    let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (name, value) in options {
        rustix::mount::fsconfig_set_string(context.as_fd(), *name, *value)?;
    }
    rustix::mount::fsconfig_create(context.as_fd())?;
    let mount = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
    rustix::mount::move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
}

/// What is mounted somewhere, with all that the kernel says of it.
fn walk(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut first: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut ahead = vec![(Vec::new(), open(CWD, root.as_os_str().as_bytes()))];
    // Relative to open directories: the paths are longer than the kernel takes.
    while let Some((path, directory)) = ahead.pop() {
        tree.insert(path.clone(), view(&directory, b"", &path, &mut first));
        let mut list = rustix::fs::Dir::read_from(&directory).unwrap();
        while let Some(entry) = list.read() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let below = [&path[..], slash, name].concat();
            if entry.file_type() == FileType::Directory {
                ahead.push((below, open(&directory, name)));
            } else {
                let view = view(&directory, name, &below, &mut first);
                assert_eq!(entry.file_type(), type_of(&view.what), "{}", below.escape_ascii());
                tree.insert(below, view);
            }
        }
    }
    let mut names: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    for (path, view) in &tree {
        names.entry(view.first.clone()).or_insert_with(|| path.clone());
    }
    for view in tree.values_mut() {
        view.first = names[&view.first].clone();
    }
    tree
}

fn open(at: impl std::os::fd::AsFd, name: &[u8]) -> OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty()).unwrap()
}

fn type_of(what: &What) -> FileType {
    match what {
        What::File(_) => FileType::RegularFile,
        What::Directory => FileType::Directory,
        What::Symlink(_) => FileType::Symlink,
        What::Char(..) => FileType::CharacterDevice,
        What::Block(..) => FileType::BlockDevice,
        What::Fifo => FileType::Fifo,
        What::Socket => FileType::Socket,
    }
}

/// One thing, by its name in an open directory, or that directory itself.
fn view(directory: &OwnedFd, name: &[u8], path: &[u8], first: &mut BTreeMap<u64, Vec<u8>>) -> View {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::EMPTY_PATH;
    let stat = rustix::fs::statat(directory, name, flags).unwrap();
    let numbers = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            let file = rustix::fs::openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
            let mut data = Vec::new();
            std::io::Read::read_to_end(&mut fs::File::from(file), &mut data).unwrap();
            assert_eq!(data.len() as i64, stat.st_size);
            What::File(data)
        }
        FileType::Directory => What::Directory,
        FileType::Symlink => What::Symlink(rustix::fs::readlinkat(directory, name, Vec::new()).unwrap().into_bytes()),
        FileType::CharacterDevice => What::Char(numbers.0, numbers.1),
        FileType::BlockDevice => What::Block(numbers.0, numbers.1),
        FileType::Fifo => What::Fifo,
        FileType::Socket => What::Socket,
        FileType::Unknown => panic!("{}: unknown type", path.escape_ascii()),
    };
    View {
        what,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        xattrs: xattrs(directory, name),
        links: stat.st_nlink as u32,
        first: first.entry(stat.st_ino).or_insert_with(|| path.to_vec()).clone(),
    }
}

fn xattrs(directory: &OwnedFd, name: &[u8]) -> BTreeMap<Vec<u8>, Vec<u8>> {
    use std::os::fd::AsRawFd as _;
    let base = PathBuf::from(format!("/proc/self/fd/{}", directory.as_raw_fd()));
    // The directory itself is what its magic link leads to; its members are not followed.
    let path = if name.is_empty() { base.join(".") } else { base.join(std::ffi::OsStr::from_bytes(name)) };
    let mut names = vec![0; 65_536];
    let length = rustix::fs::llistxattr(&path, &mut names).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let value = |name: &[u8]| {
        let mut value = vec![0; 65_536];
        let length = rustix::fs::lgetxattr(&path, name, &mut value).unwrap();
        value.truncate(length);
        value
    };
    names.map(|name| (name.to_vec(), value(name))).collect()
}

#[test]
fn the_kernel_sees_everything() {
    alone("everything", |place| {
        let steps = sample::everything();
        let target = place.directory("target");
        erofs(&place.image("image", &steps), &target).unwrap();
        compare(&walk(&target), &expect(&steps), "mounted");
        // Names are found by bisecting, which listing does not show.
        for path in expect(&steps).keys().filter(|path| path.len() < 3000) {
            let path = target.join(std::ffi::OsStr::from_bytes(path));
            fs::symlink_metadata(&path).unwrap();
            let missing = [path.as_os_str().as_bytes(), b"\x01"].concat();
            let missing = std::ffi::OsString::from_vec(missing);
            assert!(fs::symlink_metadata(&missing).is_err(), "{missing:?}");
        }
    });
}

#[test]
fn the_kernel_sees_random_images() {
    alone("random", |place| {
        #[allow(clippy::disallowed_methods)] // a new seed each time, and printed
        let seed = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64;
        println!("seed {seed}");
        let mut random = sample::Random(seed);
        for round in 0..10 {
            let steps = sample::random(&mut random, 80);
            let target = place.directory(&format!("target{round}"));
            erofs(&place.image(&format!("image{round}"), &steps), &target).unwrap();
            compare(&walk(&target), &expect(&steps), &format!("seed {seed}, round {round}"));
        }
    });
}

#[test]
fn half_an_image_does_not_mount() {
    alone("half", |place| {
        let image = place.image("image", &sample::everything());
        let mut bytes = fs::read(&image).unwrap();
        bytes[..4096].fill(0);
        fs::write(&image, &bytes).unwrap();
        assert_eq!(erofs(&image, &place.directory("target")), Err(Errno::INVAL));
    });
}

fn file(path: &str, text: &str) -> Step {
    let attributes = Attributes { mode: 0o644, ..Attributes::default() };
    Step::Add(path.into(), What::File(text.into()), attributes)
}

#[test]
fn layers_of_an_overlay() {
    alone("overlay", |place| {
        let below = [file("kept", "kept"), file("gone", "gone"), file("changed", "old"), file("d/old", "old")];
        let opaque = Attributes {
            mode: 0o755,
            xattrs: vec![(b"trusted.overlay.opaque".to_vec(), b"y".to_vec())],
            ..Attributes::default()
        };
        let above = [
            Step::Add(b"gone".to_vec(), What::Char(0, 0), Attributes::default()),
            file("changed", "new"),
            Step::Add(b"d".to_vec(), What::Directory, opaque),
            file("d/new", "new"),
        ];
        let (lower, upper, target) = (place.directory("l"), place.directory("u"), place.directory("target"));
        erofs(&place.image("below", &below), &lower).unwrap();
        erofs(&place.image("above", &above), &upper).unwrap();
        let memory = place.directory("memory");
        mount("tmpfs", &[("mode", Path::new("755"))], &memory).unwrap();
        let (changes, work) = (place.directory("memory/changes"), place.directory("memory/work"));
        let options: [(&str, &Path); 4] =
            [("lowerdir+", &upper), ("lowerdir+", &lower), ("upperdir", &changes), ("workdir", &work)];
        mount("overlay", &options, &target).unwrap();
        let read = |name: &str| fs::read_to_string(target.join(name)).map_err(|error| error.kind());
        let names = |directory: &str| {
            let list = fs::read_dir(target.join(directory)).unwrap();
            let mut names: Vec<String> = list.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names.sort();
            names
        };
        assert_eq!(names("."), ["changed", "d", "kept"]);
        assert_eq!(names("d"), ["new"]);
        assert_eq!(read("kept").as_deref(), Ok("kept"));
        assert_eq!(read("changed").as_deref(), Ok("new"));
        assert_eq!(read("gone"), Err(std::io::ErrorKind::NotFound));
        // Written to, removed and renamed as a container does.
        fs::write(target.join("kept"), "mine").unwrap();
        fs::remove_file(target.join("d/new")).unwrap();
        fs::rename(target.join("changed"), target.join("moved")).unwrap();
        assert_eq!((names("."), names("d").len()), (vec!["d".into(), "kept".into(), "moved".into()], 0));
        assert_eq!((read("kept").as_deref(), read("moved").as_deref()), (Ok("mine"), Ok("new")));
    });
}
