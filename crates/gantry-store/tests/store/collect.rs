//! Collection: what it frees, what it leaves alone, and that nobody waits for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gantry_store::{Filter, Options, Policy, Store};

use crate::kit::{HOUR, Place, Random, fetch, image, options, pull, put, sha256};

fn empty(store: &Store) {
    let usage = store.usage().unwrap();
    assert_eq!((usage.blobs.count, usage.layers.count, usage.images), (0, 0, 0), "{usage:?}");
}

#[test]
fn what_nothing_needs_goes() {
    let place = Place::new();
    let store = place.open();
    let one = pull(&store, 1, "a").unwrap();
    pull(&store, 2, "b").unwrap();
    let lease = store.lease("test", HOUR).unwrap();
    let loose = put(&store, &lease, b"loose").unwrap();
    let collect = |policy: &Policy| store.collect(policy, store.now(), false).unwrap();
    assert_eq!(collect(&Policy::unreferenced()).bytes, 0, "a lease holds it");
    drop(lease);
    let told = store.collect(&Policy::unreferenced(), store.now(), true).unwrap();
    assert_eq!(told.blobs, [(loose.clone(), 5)]);
    assert_eq!(collect(&Policy::unreferenced()), told);
    assert!(store.blob_size(&loose).unwrap().is_none());

    // An image that a snapshot stands on stays; its name may go.
    store.prepare("s", Some(&one.top)).unwrap();
    store.untag(&"a".parse().unwrap()).unwrap();
    assert_eq!(collect(&Policy::unreferenced()).bytes, 0);
    assert_eq!(collect(&Policy::dangling()).images, []);
    assert_eq!(store.usage().unwrap().unused_images, 1);
    let gone = collect(&Policy::unused());
    assert_eq!(gone.images.len(), 1);
    assert!(store.layer(&one.top).unwrap().is_some());
    store.remove_snapshot("s").unwrap();
    let usage = store.usage().unwrap();
    assert_eq!(usage.reclaimable, usage.blobs.bytes + usage.layers.bytes);
    assert_eq!(collect(&Policy::dangling()).images.len(), 1);
    empty(&store);
    assert_eq!(store.check().unwrap().faults, []);
}

#[test]
fn policies_choose() {
    let place = Place::new();
    let store = place.open();
    for number in 0..6 {
        pull(&store, number, &format!("i{number}")).unwrap();
    }
    let names = |policy: &Policy, later: Duration| -> Vec<String> {
        let now = store.now() + later.as_nanos() as i64;
        let collected = store.collect(policy, now, true).unwrap();
        let mut names: Vec<String> = collected
            .images
            .iter()
            .flat_map(|(_, names)| names.iter().map(gantry_model::Reference::familiar))
            .collect();
        names.sort();
        names
    };
    let all = ["i0", "i1", "i2", "i3", "i4", "i5"];
    assert_eq!(names(&Policy::unused(), Duration::ZERO), all);
    assert_eq!(names(&Policy { max_age: Some(HOUR), ..Policy::unused() }, HOUR / 2), [""; 0]);
    assert_eq!(names(&Policy { max_age: Some(HOUR), ..Policy::unused() }, HOUR * 2), all);
    let keep = vec![
        Filter::Name("i[0-4]".into()),
        Filter::Name("i5*".into()),
        Filter::Label("number".into(), Some("0".into())),
    ];
    assert_eq!(names(&Policy { keep, ..Policy::unused() }, HOUR), all[1..5]);
    // By size the oldest go first, and no more than is needed.
    let usage = store.usage().unwrap();
    let total = usage.blobs.bytes + usage.layers.bytes;
    assert_eq!(names(&Policy { max_bytes: Some(total), ..Policy::default() }, HOUR), [""; 0]);
    assert_eq!(names(&Policy { max_bytes: Some(total - 1), ..Policy::default() }, HOUR), all[..1]);
    assert_eq!(names(&Policy { max_bytes: Some(0), ..Policy::default() }, HOUR), all);
}

#[test]
fn a_part_of_an_index_is_enough() {
    let place = Place::new();
    let store = place.open();
    let (here, absent) = (image(1), image(2));
    let lease = store.lease("test", HOUR).unwrap();
    fetch(&store, &lease, &here).unwrap();
    let index = serde_json::json!({ "schemaVersion": 2, "mediaType": gantry_model::image::media::OCI_INDEX,
        "manifests": [here.target, absent.target] });
    let index = serde_json::to_vec(&index).unwrap();
    let digest = store.put_blob(&lease, &index).unwrap();
    let kind = gantry_model::image::media::OCI_INDEX;
    let target = gantry_model::image::Descriptor::new(kind, digest, index.len() as u64);
    store.tag(&lease, &"a".parse().unwrap(), &target).unwrap();
    drop(lease);
    assert_eq!(store.collect(&Policy::unreferenced(), store.now(), false).unwrap().bytes, 0);
    assert!(store.layer(&here.top).unwrap().is_some());
}

#[test]
fn leases_outlive_a_crash_for_a_while() {
    let place = Place::new();
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    put(&store, &lease, b"kept").unwrap();
    // As after a crash: the lease's file is there again.
    let file = std::fs::read_dir(place.path("leases")).unwrap().next().unwrap().unwrap().path();
    let text = std::fs::read(&file).unwrap();
    drop(lease);
    drop(store);
    std::fs::write(&file, text).unwrap();
    let store = place.open();
    assert_eq!(store.collect(&Policy::unreferenced(), store.now(), false).unwrap().bytes, 0);
    drop(store);
    let later = std::sync::Arc::new(|| i64::MAX);
    let store = place.open_with(Options { clock: later, ..options() });
    assert_eq!(store.collect(&Policy::unreferenced(), store.now(), false).unwrap().bytes, 4);
    assert!(!file.exists());
}

#[test]
fn it_is_automatic() {
    let place = Place::new();
    let auto_collect = Some(Policy { min_age: None, max_bytes: Some(100_000_000), ..Policy::default() });
    let store = place.open_with(Options { auto_collect, ..options() });
    let made = pull(&store, 1, "a").unwrap();
    store.remove_target(&made.target.digest).unwrap();
    for _ in 0..200 {
        if store.usage().unwrap().blobs.count == 0 {
            return empty(&store);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("nothing was collected");
}

/// Pulls, removals and collections at the same time: what has a name is whole whenever it is looked at.
#[test]
fn nobody_is_harmed() {
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let place = Place::new();
    let store = place.open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                store.collect(&Policy::dangling(), store.now(), false).unwrap();
            }
        });
        let pullers: Vec<_> = (0..3_u64)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let mut random = Random(seed + thread);
                    for round in 0..25 {
                        // Each has images of its own, and shares their lowest layers.
                        let number = thread * 10 + random.next() % 5;
                        let name = format!("t{thread}");
                        let made = pull(store, number, &name).unwrap();
                        for bytes in made.tars.iter().chain([&made.config, &made.manifest]) {
                            let digest = sha256(bytes);
                            assert!(store.read_blob(&digest, 1 << 20).unwrap() == **bytes, "seed {seed} round {round}");
                        }
                        let key = format!("{thread}");
                        let snapshot = store.prepare(&key, Some(&made.top)).unwrap();
                        store.remove_target(&made.target.digest).ok();
                        drop(snapshot.mount().unwrap());
                        store.remove_snapshot(&key).unwrap();
                    }
                })
            })
            .collect();
        let ended: Vec<_> = pullers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        for ended in ended {
            ended.unwrap();
        }
    });
    assert_eq!(store.check().unwrap().faults, []);
    store.collect(&Policy::unused(), store.now(), false).unwrap();
    empty(&store);
}
