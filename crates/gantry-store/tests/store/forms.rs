//! What the two forms of layers cost beside each other: the table in ARCHITECTURE.md.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gantry_store::{LayerForm, Store};
use gantry_tar::{Entry, Kind, Writer};

use crate::kit::{HOUR, Place, tar, unpack};

const ROUNDS: usize = 3;

/// A layer like those of distributions: 14,000 files, most of them small, 230 MB.
fn archive() -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    let data: Vec<u8> = (0..4 << 20).map(|at: u32| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for directory in 0..700_usize {
        let path = format!("d{}/d{directory}/", directory % 30).into_bytes();
        writer.append(&Entry { path, kind: Kind::Directory, mode: 0o755, ..Entry::default() }, b"").unwrap();
        for file in 0..20 {
            let size = if file == 0 && directory % 20 == 0 { 2 << 20 } else { 700 * (file + directory % 20) };
            let path = format!("d{}/d{directory}/f{file}", directory % 30).into_bytes();
            let entry = Entry { path, mode: 0o644, size: size as u64, ..Entry::default() };
            writer.append(&entry, &data[..size]).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// What one round found.
#[derive(Debug)]
struct Found {
    write: Duration,
    bytes: u64,
    cold: Duration,
    warm: Duration,
    cached: u64,
    mount: Duration,
}

fn sync(place: &Path) {
    rustix::fs::syncfs(File::open(place).unwrap()).unwrap();
}

/// Bytes of the page cache of the whole machine.
fn page_cache() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Cached:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

fn read_all(directory: &Path) {
    let mut buffer = vec![0; 1 << 20];
    for item in fs::read_dir(directory).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            read_all(&path);
        } else {
            let mut file = File::open(path).unwrap();
            while file.read(&mut buffer).unwrap() > 0 {}
        }
    }
}

fn on_disk(path: &Path) -> u64 {
    let data = fs::symlink_metadata(path).unwrap();
    let below = |path: &Path| fs::read_dir(path).unwrap().map(|item| on_disk(&item.unwrap().path())).sum::<u64>();
    data.blocks() * 512 + if data.is_dir() { below(path) } else { 0 }
}

fn path_of(mount: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}/.", mount.as_raw_fd()).into()
}

fn round(place: &Place, archive: &[u8]) -> Found {
    let store = place.open();
    let lease = store.lease("measure", HOUR).unwrap();
    sync(&place.0);
    let begun = Instant::now();
    let top = unpack(&store, &lease, None, archive).unwrap();
    sync(&place.0);
    let write = begun.elapsed();
    let bytes = on_disk(&place.path("layers"));
    let view = store.view("view", Some(&top)).unwrap().mount().unwrap();
    // Of the whole machine: what was written is on the disk already.
    fs::write("/proc/sys/vm/drop_caches", "3").unwrap();
    let (before, begun) = (page_cache(), Instant::now());
    read_all(&path_of(&view));
    let (cold, cached) = (begun.elapsed(), page_cache().saturating_sub(before));
    let begun = Instant::now();
    read_all(&path_of(&view));
    let warm = begun.elapsed();
    drop(view);
    Found { write, bytes, cold, warm, cached, mount: mount_of_many(&store) }
}

/// An overlay over 12 layers that nothing was mounted of before.
fn mount_of_many(store: &Store) -> Duration {
    let lease = store.lease("measure", HOUR).unwrap();
    let mut chain = None;
    for number in 0..12 {
        let name = format!("f{number}");
        chain = Some(unpack(store, &lease, chain.as_ref(), &tar(&[(&name, Some(b"x"))])).unwrap());
    }
    let snapshot = store.prepare("many", chain.as_ref()).unwrap();
    let begun = Instant::now();
    let mount = snapshot.mount().unwrap();
    let took = begun.elapsed();
    drop(mount);
    took
}

#[test]
#[ignore = "a measurement, which empties the page cache of the machine: run it alone, as root, with --nocapture"]
fn what_the_forms_of_layers_cost() {
    let archive = archive();
    println!("a layer of {} MB, the median of {ROUNDS} rounds, in turns", archive.len() / 1_000_000);
    let mut all: [Vec<Found>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        for (found, form) in all.iter_mut().zip([LayerForm::Directories, LayerForm::Erofs]) {
            let place = if form == LayerForm::Erofs { Place::of_images() } else { Some(Place::new()) };
            let Some(place) = place else { return };
            found.push(round(&place, &archive));
        }
    }
    let row = |what: &str, value: &dyn Fn(&Found) -> f64, unit: &str| {
        let median = |found: &[Found]| {
            let mut values: Vec<f64> = found.iter().map(value).collect();
            values.sort_by(f64::total_cmp);
            values[values.len() / 2]
        };
        println!("| {what} | {:.2} {unit} | {:.2} {unit} |", median(&all[0]), median(&all[1]));
    };
    #[allow(clippy::cast_precision_loss, reason = "far below 2^52")]
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!("| | directories | EROFS image |\n|---|---|---|");
    row("write, with sync", &|found| found.write.as_secs_f64(), "s");
    row("space", &|found| megabytes(found.bytes), "MB");
    row("read all through an overlay, cold", &|found| found.cold.as_secs_f64(), "s");
    row("the same, warm", &|found| found.warm.as_secs_f64(), "s");
    row("page cache after the cold read", &|found| megabytes(found.cached), "MB");
    row("overlay over 12 new layers", &|found| found.mount.as_secs_f64() * 1e3, "ms");
}
