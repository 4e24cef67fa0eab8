//! Layers: unpacked beside each other, committed in order, once.

use std::sync::atomic::{AtomicUsize, Ordering};

use gantry_store::{LayerClaim, chain_id};

use crate::kit::{HOUR, Place, each_form, image, sha256, tar, unpack};

each_form!(
    layers_are_unpacked_in_parallel_and_committed_in_order,
    a_layer_is_unpacked_once,
    layers_are_packed_again,
    a_broken_archive_leaves_nothing,
    layers_of_another_boot_that_were_not_synced_are_unpacked_again,
    rows_are_made_again_from_what_lies_on_disk,
);

fn layers_are_unpacked_in_parallel_and_committed_in_order(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let tars: Vec<Vec<u8>> = (0..6).map(|n| tar(&[("d/", None), (&format!("d/f{n}"), Some(b"x"))])).collect();
    let pending: Vec<_> = std::thread::scope(|scope| {
        let (store, lease) = (&store, &lease);
        let unpack = |tar: &'_ Vec<u8>| store.unpack_layer(lease, &mut tar.as_slice(), &|_| {}).unwrap();
        let threads: Vec<_> = tars.iter().map(|tar| scope.spawn(move || unpack(tar))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let mut parent = None;
    for (tar, pending) in tars.iter().zip(pending) {
        assert_eq!(*pending.diff_id(), sha256(tar));
        let chain = store.commit_layer(&lease, parent.as_ref(), pending).unwrap();
        assert_eq!(chain, chain_id(parent.as_ref(), &sha256(tar)));
        assert_eq!(store.layer(&chain).unwrap().unwrap().parent, parent);
        parent = Some(chain);
    }
    // Once more: what is here stays, and the second is dropped.
    let again = store.unpack_layer(&lease, &mut &*tars[0], &|_| {}).unwrap();
    store.commit_layer(&lease, None, again).unwrap();
    assert_eq!(store.layers().unwrap().len(), 6);
    // On top of nothing.
    let stray = store.unpack_layer(&lease, &mut &*tars[1], &|_| {}).unwrap();
    assert!(store.commit_layer(&lease, Some(&sha256(b"none")), stray).unwrap_err().is_missing());
    assert_eq!(store.check().unwrap().faults, []);
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0);
    drop((lease, store));
    let store = place.open();
    assert_eq!(store.layers().unwrap().len(), 6);
}

fn a_layer_is_unpacked_once(place: &Place) {
    let store = place.open();
    let made = image(2);
    let unpacked = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                let lease = store.lease("test", HOUR).unwrap();
                let chain = sha256(&made.tars[0]);
                if let LayerClaim::Mine(_guard) = store.claim_layer(&lease, &chain).unwrap() {
                    unpacked.fetch_add(1, Ordering::Relaxed);
                    let pending = store.unpack_layer(&lease, &mut &*made.tars[0], &|_| {}).unwrap();
                    store.commit_layer(&lease, None, pending).unwrap();
                }
                assert!(store.layer(&chain).unwrap().is_some());
            });
        }
    });
    assert_eq!(unpacked.load(Ordering::Relaxed), 1);
}

fn layers_are_packed_again(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let chain = unpack(&store, &lease, None, &image(5).tars[0]).unwrap();
    let (mut one, mut two) = (Vec::new(), Vec::new());
    let packed = store.diff_layer(&chain, &mut one).unwrap();
    assert_eq!(packed, (sha256(&one), one.len() as u64));
    // Packed, unpacked and packed it is the same to the byte.
    let copy = unpack(&store, &lease, None, &one).unwrap();
    store.diff_layer(&copy, &mut two).unwrap();
    assert!(one == two);
}

fn a_broken_archive_leaves_nothing(place: &Place) {
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let mut bytes = image(1).tars[0].clone();
    bytes.truncate(700);
    assert!(store.unpack_layer(&lease, &mut &*bytes, &|_| {}).is_err());
    assert_eq!(std::fs::read_dir(place.path("tmp")).unwrap().count(), 0);
}

fn layers_of_another_boot_that_were_not_synced_are_unpacked_again(place: &Place) {
    let store = place.open();
    let made = crate::kit::pull(&store, 1, "a").unwrap();
    let number = std::fs::read_dir(place.path("layers")).unwrap().next().unwrap().unwrap().file_name();
    drop(store);
    // Rows are lost with the database, and records are of another boot: so after a loss of power.
    std::fs::remove_file(place.path("store.redb")).unwrap();
    for entry in std::fs::read_dir(place.path("layers")).unwrap() {
        let record = entry.unwrap().path().join("record");
        let mut row: serde_json::Value = serde_json::from_slice(&std::fs::read(&record).unwrap()).unwrap();
        row["boot"] = "another".into();
        std::fs::write(&record, serde_json::to_vec(&row).unwrap()).unwrap();
    }
    let store = place.open();
    assert_eq!(store.layers().unwrap(), []);
    assert!(!place.path("layers").join(number).exists());
    // Blobs were whole, and are here again without their rows.
    assert!(store.blob_size(&made.target.digest).unwrap().is_some());
    assert_eq!(store.check().unwrap().faults, []);
}

fn rows_are_made_again_from_what_lies_on_disk(place: &Place) {
    let store = place.open();
    let made = crate::kit::pull(&store, 2, "a").unwrap();
    let layers = store.layers().unwrap().len();
    drop(store);
    std::fs::remove_file(place.path("store.redb")).unwrap();
    // One blob was not whole.
    let config = place.path("content/blobs/sha256").join(sha256(&made.config).hex());
    std::fs::write(config, b"{").unwrap();
    let store = place.open();
    assert_eq!(store.layers().unwrap().len(), layers);
    assert!(store.blob_size(&made.target.digest).unwrap().is_some());
    assert!(store.blob_size(&sha256(&made.config)).unwrap().is_none());
    assert_eq!(store.check().unwrap().faults, []);
}
