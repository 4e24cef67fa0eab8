//! The images that are pulled and pushed: files of the box in a mix that the same box gives again.

use anyhow::{Context, Result, ensure};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// An image: its name, its layers, and how many bytes of files each holds.
pub struct Image {
    pub name: &'static str,
    pub layers: usize,
    pub layer_bytes: u64,
}

/// One layer of 231 MB, and twelve of 500 MB in all.
pub const IMAGES: [Image; 2] = [
    Image { name: "one", layers: 1, layer_bytes: 231_000_000 },
    Image { name: "twelve", layers: 12, layer_bytes: 500_000_000 / 12 },
];

/// Where the files of a system lie.
const SOURCES: [&str; 2] = ["/usr", "/var/lib/dpkg"];

/// The images as an OCI layout, and their layers as plain archives beside it.
pub struct Data {
    dir: PathBuf,
}

impl Data {
    /// The images in a directory; made if they are not there.
    pub fn in_dir(dir: &Path, script: &Path) -> Result<Self> {
        let data = Self { dir: dir.join("data") };
        if !data.dir.is_dir() {
            let new = dir.join("data.new");
            if new.exists() {
                fs::remove_dir_all(&new).with_context(|| format!("remove {}", new.display()))?;
            }
            eprintln!("bench: making the images (about two minutes, once)");
            fs::create_dir_all(&new).with_context(|| format!("create {}", new.display()))?;
            for image in &IMAGES {
                make(image, &new, script).with_context(|| format!("make the image {}", image.name))?;
            }
            fs::rename(&new, &data.dir)?;
        }
        Ok(data)
    }

    /// The layout that holds both images.
    pub fn layout(&self) -> PathBuf {
        self.dir.join("oci")
    }

    /// The archive of a layer, without compression.
    pub fn archive(&self, image: &str, layer: usize) -> PathBuf {
        self.dir.join(format!("{image}-{layer}.tar"))
    }
}

struct Entry {
    path: PathBuf,
    size: u64,
}

/// Archives the layers of an image, and puts it into the layout.
fn make(image: &Image, dir: &Path, script: &Path) -> Result<()> {
    let mut entries = Vec::new();
    for source in SOURCES {
        walk(Path::new(source), &mut entries)?;
    }
    // In an order that has nothing to do with the names, so that any part of it is a mix of large and small.
    entries.sort_by_cached_key(|entry| (scattered(entry.path.as_os_str().as_bytes()), entry.path.clone()));
    let total: u64 = entries.iter().map(|entry| entry.size).sum();
    ensure!(total > image.layer_bytes, "the box holds only {total} bytes of files");
    let mut next = entries.iter().cycle();
    let mut tars = Vec::new();
    for layer in 0..image.layers {
        let (mut paths, mut bytes) = (BTreeSet::new(), 0);
        while bytes < image.layer_bytes {
            let Some(entry) = next.next() else { break };
            if paths.insert(entry.path.clone()) {
                bytes += entry.size;
                let parents = entry.path.ancestors().skip(1).filter(|path| path.parent().is_some());
                paths.extend(parents.map(Path::to_path_buf));
            }
        }
        let tar = dir.join(format!("{}-{layer}.tar", image.name));
        archive(&tar, &paths)?;
        tars.push(tar);
    }
    let mut command = Command::new("python3");
    command.arg(script).arg(dir.join("oci")).arg(image.name).args(tars);
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().context("start python3")?;
    ensure!(status.success(), "{}: {status}", script.display());
    Ok(())
}

/// Every file and link below a directory.
fn walk(dir: &Path, entries: &mut Vec<Entry>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let path = entry?.path();
        let metadata = fs::symlink_metadata(&path).with_context(|| format!("look at {}", path.display()))?;
        if metadata.is_dir() {
            walk(&path, entries)?;
        } else if metadata.is_file() || metadata.is_symlink() {
            // A file without content takes room in an archive, too.
            entries.push(Entry { path, size: metadata.size().next_multiple_of(512) + 512 });
        }
    }
    Ok(())
}

/// A number from a name (FNV-1a), the same each time.
fn scattered(name: &[u8]) -> u64 {
    name.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Archives files in the order of their names, with nothing else of the directories that they are in.
fn archive(tar: &Path, paths: &BTreeSet<PathBuf>) -> Result<()> {
    let list = tar.with_extension("list");
    let names: Vec<u8> = paths
        .iter()
        .flat_map(|path| path.strip_prefix("/").unwrap_or(path).as_os_str().as_bytes().iter().copied().chain([0]))
        .collect();
    fs::write(&list, names).with_context(|| format!("write {}", list.display()))?;
    let mut command = Command::new("tar");
    command.args(["-C", "/", "--null", "--no-recursion", "--numeric-owner", "-T"]).arg(&list).arg("-cf").arg(tar);
    let status = command.stdin(Stdio::null()).status().context("start tar")?;
    ensure!(status.success(), "tar: {status}");
    fs::remove_file(&list).with_context(|| format!("remove {}", list.display()))
}
