//! Snapshots: made, mounted, written to, packed, removed.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::time::Instant;

use gantry_model::digest::Digest;
use gantry_store::{MAX_LAYERS, MountOptions};
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::kit::{HOUR, Place, each_form, pull, tar, unpack};

each_form!(
    containers_write_to_snapshots,
    an_empty_beginning_is_a_snapshot_too,
    the_root_is_as_in_the_image,
    hundreds_of_layers_are_mounted,
    a_snapshot_costs_little,
);

fn read(mount: &OwnedFd, path: &str) -> Result<Vec<u8>, Errno> {
    let fd = openat(mount, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    std::fs::File::from(fd).read_to_end(&mut bytes).unwrap();
    Ok(bytes)
}

fn write(mount: &OwnedFd, path: &str, bytes: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
    let fd = openat(mount, path, flags, Mode::from_raw_mode(0o644))?;
    std::fs::File::from(fd).write_all(bytes).unwrap();
    Ok(())
}

fn containers_write_to_snapshots(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let lower = unpack(&store, &lease, None, &tar(&[("a", Some(b"1")), ("b", Some(b"1")), ("c", Some(b"1"))])).unwrap();
    let top = unpack(&store, &lease, Some(&lower), &tar(&[("a", Some(b"2")), (".wh.b", Some(b""))])).unwrap();

    let snapshot = store.prepare("one", Some(&top)).unwrap();
    assert!(store.prepare("one", Some(&top)).is_err());
    let mount = snapshot.mount().unwrap();
    assert_eq!(read(&mount, "a").unwrap(), b"2");
    assert_eq!(read(&mount, "b").unwrap_err(), Errno::NOENT);
    assert_eq!(read(&mount, "c").unwrap(), b"1");
    write(&mount, "new", b"hello").unwrap();
    rustix::fs::unlinkat(&mount, "c", rustix::fs::AtFlags::empty()).unwrap();
    drop(mount);
    assert!(store.usage_of("one").unwrap().inodes >= 2);

    // What was written becomes a layer, and that one shows the same.
    let mut packed = Vec::new();
    store.diff_snapshot("one", &mut packed).unwrap();
    let chain = unpack(&store, &lease, Some(&top), &packed).unwrap();
    let view = store.view("two", Some(&chain)).unwrap().mount().unwrap();
    assert_eq!(read(&view, "new").unwrap(), b"hello");
    assert_eq!(read(&view, "c").unwrap_err(), Errno::NOENT);
    assert_eq!(write(&view, "x", b"").unwrap_err(), Errno::ROFS);
    // A view of a single layer hides its whiteouts too.
    let single = store.view("three", Some(&lower)).unwrap().mount().unwrap();
    assert_eq!(read(&single, "b").unwrap(), b"1");
    drop((view, single));

    // Snapshots outlive the process; volatile ones can be mounted again.
    let keys = |store: &gantry_store::Store| -> Vec<String> {
        store.snapshots().unwrap().iter().map(|one| one.key().to_owned()).collect()
    };
    drop(snapshot);
    drop((lease, store));
    let store = place.open();
    assert_eq!(keys(&store), ["one", "three", "two"]);
    let again = store.snapshot("one").unwrap().unwrap();
    for _ in 0..2 {
        let mount = again.mount_with(MountOptions { volatile: true, read_only: false }).unwrap();
        assert_eq!(read(&mount, "new").unwrap(), b"hello");
    }
    let mount = again.mount_with(MountOptions { volatile: false, read_only: true }).unwrap();
    assert_eq!(write(&mount, "x", b"").unwrap_err(), Errno::ROFS);
    drop(mount);
    store.remove_snapshot("one").unwrap();
    assert!(store.remove_snapshot("one").unwrap_err().is_missing());
    assert_eq!(keys(&store), ["three", "two"]);
    assert_eq!(store.check().unwrap().faults, []);
}

fn an_empty_beginning_is_a_snapshot_too(place: &Place) {
    let store = place.open();
    let mount = store.prepare("scratch", None).unwrap().mount().unwrap();
    write(&mount, "a", b"1").unwrap();
    let view = store.view("view", None).unwrap().mount().unwrap();
    assert_eq!(write(&view, "a", b"1").unwrap_err(), Errno::ROFS);
    for key in ["", "a\nb", &"x".repeat(201)] {
        assert!(store.prepare(key, None).is_err(), "{key:?}");
    }
}

fn the_root_is_as_in_the_image(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let mut root = tar(&[("./", None)]);
    root[100..108].copy_from_slice(b"0001777\0");
    root[108..116].copy_from_slice(b"0000144\0");
    root[148..156].copy_from_slice(b"        ");
    let sum: u32 = root[..512].iter().map(|byte| u32::from(*byte)).sum();
    root[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let chain = unpack(&store, &lease, None, &root).unwrap();
    let chain = unpack(&store, &lease, Some(&chain), &tar(&[("f", Some(b""))])).unwrap();
    let mount = store.prepare("one", Some(&chain)).unwrap().mount().unwrap();
    let stat = std::fs::File::from(mount).metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid()), (0o1777, 100));
}

fn hundreds_of_layers_are_mounted(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let mut chain: Option<Digest> = None;
    for number in 0..MAX_LAYERS {
        let name = format!("f{number}");
        chain = Some(unpack(&store, &lease, chain.as_ref(), &tar(&[(&name, Some(b"x"))])).unwrap());
    }
    let mount = store.prepare("many", chain.as_ref()).unwrap().mount().unwrap();
    for number in [0, 250, MAX_LAYERS - 1] {
        assert_eq!(read(&mount, &format!("f{number}")).unwrap(), b"x");
    }
    let over = unpack(&store, &lease, chain.as_ref(), &tar(&[("over", Some(b"x"))])).unwrap();
    assert!(store.prepare("over", Some(&over)).unwrap_err().to_string().contains("500 layers"));
}

/// A start of a container waits for this. The bound is far above what is measured, for a busy machine; what was measured
/// is printed.
fn a_snapshot_costs_little(place: &Place) {
    let store = place.open();
    let made = pull(&store, 2, "a").unwrap();
    let mut times = Vec::new();
    for number in 0..50 {
        let start = Instant::now();
        let snapshot = store.prepare(&format!("s{number}"), Some(&made.top)).unwrap();
        let prepared = start.elapsed();
        let mount = snapshot.mount().unwrap();
        times.push((start.elapsed(), prepared));
        drop(mount);
    }
    times.sort();
    println!("prepare and mount: median {:?}, of it prepare {:?}", times[25].0, times[25].1);
    assert!(times[25].0.as_millis() < 20, "{times:?}");
}
