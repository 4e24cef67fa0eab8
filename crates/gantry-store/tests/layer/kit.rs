//! What the tests of layers share: a directory, archives, and trees written down so that they can be compared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use gantry_store::layer::{self, LayerError, Options, Pending, Unpacked};
use gantry_tar::{Entry, Kind, Time, Writer};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

/// A directory that goes with the test.
pub struct Place(PathBuf);

impl Place {
    /// A new one; `None`, with a line that says so, where the test cannot run.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            // The harness would hide what is printed by a test that passes.
            let _ =
                writeln!(std::io::stderr(), "SKIPPED {}: it needs root", std::thread::current().name().unwrap_or("?"));
            return None;
        }
        let name = format!("gantry-layer-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).unwrap();
        Some(Self(path))
    }

    /// A new directory in it.
    pub fn dir(&self, name: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir(&path).unwrap();
        path
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            let _ = writeln!(std::io::stderr(), "{}: {error}", self.0.display());
        }
    }
}

pub fn unpack(archive: &[u8], into: &Path) -> Result<Unpacked, LayerError> {
    unpack_with(archive, into, &Options::default())
}

/// Unpacks into a directory, and makes an image beside, which must show the same or be refused too.
pub fn unpack_with(archive: &[u8], into: &Path, options: &Options) -> Result<Unpacked, LayerError> {
    let fresh = fs::read_dir(into).unwrap().next().is_none();
    let unpacked = layer::unpack(&mut &*archive, File::open(into).unwrap().as_fd(), options, &|_| ());
    match (image_of(archive, &[], options), &unpacked) {
        // What needs the layers below is compared when they are there.
        (Ok(_) | Err(LayerError::Dangling { .. }), _) if !fresh => {}
        (Err(LayerError::Dangling { .. }), Ok(_)) => {}
        (Ok(image), Ok(unpacked)) => {
            assert_eq!((&image.diff_id, image.entries), (&unpacked.diff_id, unpacked.entries));
            image.shows(into, archive);
        }
        // An image holds other things in memory than the writer of a directory.
        (Ok(_), Err(_)) if options.limits.names < 1 << 20 => {}
        (image, Err(_)) => assert!(image.is_err(), "what is refused as a directory is an image"),
        (Err(error), Ok(_)) => panic!("no image of what is a directory: {error}"),
    }
    UNPACKED.with_borrow_mut(|all| all.insert(into.to_owned(), archive.to_vec()));
    unpacked
}

thread_local! {
    /// What was unpacked where, until it is settled.
    static UNPACKED: RefCell<BTreeMap<PathBuf, Vec<u8>>> = const { RefCell::new(BTreeMap::new()) };
}

/// An image of a layer, whole.
struct Imaged {
    file: PathBuf,
    diff_id: gantry_model::digest::Digest,
    entries: u64,
}

impl Drop for Imaged {
    fn drop(&mut self) {
        fs::remove_file(&self.file).unwrap();
    }
}

impl Imaged {
    /// Mounts it, and asserts that it shows what a directory has.
    fn shows(&self, directory: &Path, archive: &[u8]) {
        let mount = match mount(&self.file) {
            Ok(mount) => mount,
            Err(errno @ (Errno::NODEV | Errno::NOTBLK | Errno::OPNOTSUPP)) => {
                let name = std::thread::current().name().unwrap_or("?").to_owned();
                let _ = writeln!(std::io::stderr(), "SKIPPED the image of {name}: {errno}");
                return;
            }
            Err(errno) => panic!("mount an image of {} bytes: {errno}", archive.len()),
        };
        let root = PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd()));
        same(&describe(&root), &describe(directory), "the image (ours) and the directory (theirs)");
        // Both are packed to the same bytes; but an image does not tell of its holes, and those may be large.
        if sparse(directory) {
            return;
        }
        let packed = |root: &Path| layer::diff(File::open(root).unwrap().as_fd(), &mut std::io::sink(), DIFF);
        assert_eq!(packed(&root).unwrap(), packed(directory).unwrap());
    }
}

/// Whether some file has a hole that an archive would tell of.
fn sparse(directory: &Path) -> bool {
    fs::read_dir(directory).unwrap().any(|item| {
        let path = item.unwrap().path();
        let data = fs::symlink_metadata(&path).unwrap();
        if data.is_dir() { sparse(&path) } else { data.is_file() && data.len() >= data.blocks() * 512 + (1 << 20) }
    })
}

const DIFF: layer::DiffOptions = layer::DiffOptions { root: true, places: &[] };

fn mount(image: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
    let context = rustix::mount::fsopen("erofs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    rustix::mount::fsconfig_set_string(&context, "source", image)?;
    rustix::mount::fsconfig_create(&context)?;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())
}

fn image_of(mut archive: &[u8], lowers: &[&Path], options: &Options) -> Result<Imaged, LayerError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("gantry-image-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let file = File::create_new(&path).unwrap();
    let made = layer::image(&mut archive, file, options, &|_| ()).and_then(|mut image| {
        let lowers: Vec<File> = lowers.iter().map(|path| File::open(path).unwrap()).collect();
        let lowers: Vec<_> = lowers.iter().map(File::as_fd).collect();
        image.finish(&lowers)?;
        Ok(Imaged { file: path.clone(), diff_id: image.diff_id().clone(), entries: image.entries() })
    });
    if made.is_err() {
        fs::remove_file(&path).unwrap();
    }
    made
}

pub fn settle(into: &Path, pending: &Pending, lowers: &[&Path]) -> Result<(), LayerError> {
    let archive = UNPACKED.with_borrow_mut(|all| all.remove(into)).expect("it was unpacked");
    let image = image_of(&archive, lowers, &Options::default());
    let opened: Vec<File> = lowers.iter().map(|path| File::open(path).unwrap()).collect();
    let opened: Vec<_> = opened.iter().map(File::as_fd).collect();
    let settled = layer::settle(File::open(into).unwrap().as_fd(), pending, &opened);
    match (image, &settled) {
        (Ok(image), Ok(())) => image.shows(into, &archive),
        (Err(_), Err(_)) => {}
        (image, settled) => panic!("image: {:?}, directory: {settled:?}", image.map(|_| ())),
    }
    settled
}

pub fn diff(from: &Path) -> Result<Vec<u8>, LayerError> {
    let mut archive = Vec::new();
    let (digest, size) = layer::diff(File::open(from).unwrap().as_fd(), &mut archive, layer::DiffOptions::default())?;
    assert_eq!(digest.to_string(), sha256(&archive));
    assert_eq!(size, archive.len() as u64);
    Ok(archive)
}

pub fn sha256(bytes: &[u8]) -> String {
    let mut text = String::from("sha256:");
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

/// An archive from one line for each entry: `NAME/` is a directory, `NAME -> TARGET` a symbolic link, `NAME = TARGET` a hard
/// link, `NAME c 1 3` and `NAME b 7 0` devices, `NAME p` a pipe, `NAME: TEXT` a file with a text, `NAME` an empty one.
pub fn archive(lines: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for line in lines {
        let (entry, data) = entry(line);
        writer.append(&entry, data.as_bytes()).unwrap();
    }
    writer.finish().unwrap()
}

pub fn entry(line: &str) -> (Entry, String) {
    let mut entry = Entry { mode: 0o644, mtime: Time { seconds: 1_500_000_000, nanos: 0 }, ..Entry::default() };
    let words: Vec<&str> = line.split(' ').collect();
    let mut data = "";
    let name = match words.as_slice() {
        [name, "->", target] => {
            (entry.kind, entry.link, entry.mode) = (Kind::Symlink, target.as_bytes().to_vec(), 0o777);
            name
        }
        [name, "=", target] => {
            (entry.kind, entry.link) = (Kind::Link, target.as_bytes().to_vec());
            name
        }
        [name, kind @ ("c" | "b"), major, minor] => {
            entry.kind = if *kind == "c" { Kind::Char } else { Kind::Block };
            (entry.major, entry.minor) = (major.parse().unwrap(), minor.parse().unwrap());
            name
        }
        [name, "p"] => {
            entry.kind = Kind::Fifo;
            name
        }
        [name, text] if name.ends_with(':') => {
            data = text;
            entry.size = text.len() as u64;
            name.strip_suffix(':').unwrap()
        }
        [name] => {
            if name.ends_with('/') {
                (entry.kind, entry.mode) = (Kind::Directory, 0o755);
            }
            name
        }
        _ => panic!("{line:?} is no entry"),
    };
    entry.path = name.as_bytes().to_vec();
    (entry, data.into())
}

/// A tree, one line for each file: everything that a layer keeps of it.
pub fn describe(root: &Path) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    walk(root, Path::new("."), &mut all, &mut inodes);
    all
}

fn walk(root: &Path, path: &Path, all: &mut BTreeMap<String, String>, inodes: &mut BTreeMap<u64, String>) {
    let full = root.join(path);
    let data = fs::symlink_metadata(&full).unwrap();
    let name = path.as_os_str().as_bytes().escape_ascii().to_string();
    let kind = data.file_type();
    if kind.is_char_device() && data.rdev() == 0 {
        // Nobody ever sees more of one.
        all.insert(name, "whiteout".into());
        return;
    }
    let mut text = format!("{:o} {}:{} {}.{:09}", data.mode(), data.uid(), data.gid(), data.mtime(), data.mtime_nsec());
    if kind.is_symlink() {
        write!(text, " -> {}", fs::read_link(&full).unwrap().as_os_str().as_bytes().escape_ascii()).unwrap();
    } else if kind.is_file() {
        write!(text, " {} {}", data.len(), content(&full)).unwrap();
    } else if kind.is_char_device() || kind.is_block_device() {
        write!(text, " device {:x}", data.rdev()).unwrap();
    }
    for (key, value) in xattrs(&full) {
        write!(text, " {key}={value}").unwrap();
    }
    if !kind.is_dir() && data.nlink() > 1 {
        let first = inodes.entry(data.ino()).or_insert_with(|| name.clone());
        write!(text, " same as {first}").unwrap();
    }
    all.insert(name, text);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(&full).unwrap().map(|item| item.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            walk(root, &path.join(name), all, inodes);
        }
    }
}

/// The digest of a file; of a huge one, whose rest is a hole, the size and the first bytes have to do.
fn content(path: &Path) -> String {
    let mut data = Vec::new();
    File::open(path).unwrap().take(64 << 20).read_to_end(&mut data).unwrap();
    sha256(&data)[7..23].to_owned()
}

fn xattrs(path: &Path) -> Vec<(String, String)> {
    let mut list = vec![0; 65536];
    let size = rustix::fs::llistxattr(path, list.as_mut_slice()).unwrap();
    let mut all = Vec::new();
    for name in list[..size].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; 65536];
        let size = rustix::fs::lgetxattr(path, name, value.as_mut_slice()).unwrap();
        all.push((name.escape_ascii().to_string(), value[..size].escape_ascii().to_string()));
    }
    all.sort();
    all
}

/// Asserts that two trees are the same, and says where they differ.
#[track_caller]
pub fn same(ours: &BTreeMap<String, String>, theirs: &BTreeMap<String, String>, what: &str) {
    let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let mut differences = String::new();
    for name in names {
        let (ours, theirs) = (ours.get(name), theirs.get(name));
        if ours != theirs {
            writeln!(differences, "{name}\n  ours   {ours:?}\n  theirs {theirs:?}").unwrap();
        }
    }
    assert!(differences.is_empty(), "{what}:\n{differences}");
}

/// Runs a command, which must end well.
#[track_caller]
pub fn run(program: &str, args: &[&OsStr], directory: &Path) -> String {
    let output = Command::new(program).args(args).current_dir(directory).env("LC_ALL", "C").output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}
