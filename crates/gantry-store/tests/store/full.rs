//! A full disk: an error that says so, and a store that can be used afterwards.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;

use gantry_store::{Claim, Error, Expect, Policy, Store};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen};

use crate::kit::{HOUR, options, pull, sha256};

/// A small file system that is mounted nowhere, and goes with its descriptor.
struct Small(OwnedFd);

impl Small {
    fn new(size: &str) -> Self {
        let fs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
        fsconfig_set_string(&fs, "size", size).unwrap();
        fsconfig_create(&fs).unwrap();
        Self(fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty()).unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }

    fn open(&self) -> Store {
        Store::open(&self.path("s"), options()).unwrap()
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::fstatvfs(&self.0).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Leaves only so many bytes free.
    fn fill(&self, left: u64) {
        let file = std::fs::File::create(self.path("filler")).unwrap();
        let size = self.free().saturating_sub(left);
        if size > 0 {
            fallocate(&file, FallocateFlags::empty(), 0, size).unwrap();
        }
    }
}

#[test]
fn a_full_disk_is_told() {
    let small = Small::new("8m");
    let store = small.open();
    let lease = store.lease("test", HOUR).unwrap();
    let expect = Expect::Known { digest: sha256(b"x"), size: Some(64 << 20) };
    match store.ingest(&lease, expect) {
        Err(error @ Error::Full { needed: Some(0x400_0000), .. }) => {
            assert!(error.to_string().contains("the disk is full"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    let Claim::Mine(mut ingest) = store.ingest(&lease, Expect::Unknown).unwrap() else { panic!("it is unknown") };
    let error = (0..64).find_map(|_| ingest.write_all(&vec![1; 1 << 20]).err()).unwrap();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    drop(ingest);
    pull(&store, 1, "a").unwrap();
    assert_eq!(store.check().unwrap().faults, []);
}

/// An image is pulled with ever more space left: it comes in whole or fails for want of space, and what was here stays.
#[test]
fn any_lack_of_space_is_survived() {
    let small = Small::new("12m");
    let mut store = small.open();
    pull(&store, 1, "old").unwrap();
    // The keeper sets space aside after a while; here it does not get the time.
    std::fs::File::create(small.path("s/reserve")).unwrap().set_len(1).unwrap();
    let (mut failed, mut pulled) = (0, 0);
    for left in (0..40).map(|step| step * 16_384) {
        small.fill(left);
        match pull(&store, 5, "new") {
            Ok(_) => pulled += 1,
            Err(error) if error.is_full() => failed += 1,
            Err(error) => panic!("{left} bytes left: {error}"),
        }
        std::fs::remove_file(small.path("filler")).unwrap();
        assert_eq!(store.check().unwrap().faults, [], "{left} bytes left");
        assert!(store.image(&"old".parse().unwrap()).unwrap().is_some());
        if left % 65_536 == 0 {
            drop(store);
            store = small.open();
            assert_eq!(store.check().unwrap().faults, [], "{left} bytes left, opened again");
        }
        if let Some(target) = store.image(&"new".parse().unwrap()).unwrap() {
            store.remove_target(&target.digest).unwrap();
        }
        store.collect(&Policy::dangling(), store.now(), false).unwrap();
    }
    assert!(failed > 2 && pulled > 2, "{failed} failed, {pulled} pulled");
    pull(&store, 5, "new").unwrap();
}

#[test]
fn images_can_be_removed_from_a_full_disk() {
    let small = Small::new("12m");
    let store = small.open();
    for number in 0..8 {
        pull(&store, number, &format!("i{number}")).unwrap();
    }
    let reserve = std::fs::File::create(small.path("s/reserve")).unwrap();
    fallocate(&reserve, FallocateFlags::empty(), 0, 1 << 20).unwrap();
    drop(reserve);
    small.fill(0);
    for image in store.images().unwrap() {
        store.remove_target(&image.target.digest).unwrap();
    }
    let collected = store.collect(&Policy::unreferenced(), store.now(), false).unwrap();
    assert!(collected.bytes > 0);
    assert_eq!(store.usage().unwrap().blobs.count, 0);
    assert_eq!(store.check().unwrap().faults, []);
    pull(&store, 1, "again").unwrap();
}
