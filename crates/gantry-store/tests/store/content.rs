//! Blobs and names.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gantry_model::digest::Digest;
use gantry_store::{Claim, Error, Expect, Options, Store};

use crate::kit::{HOUR, Place, image, known, options, pull, put, read_all, sha256};

#[test]
fn blobs_come_in_whole_or_not_at_all() {
    let place = Place::new();
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let bytes = vec![7_u8; 100_000];
    let digest = put(&store, &lease, &bytes).unwrap();
    assert_eq!(store.blob_size(&digest).unwrap(), Some(100_000));
    assert_eq!(read_all(store.open_blob(&digest).unwrap()), bytes);
    assert_eq!(store.read_blob(&digest, 100_000).unwrap(), bytes);
    assert!(matches!(store.read_blob(&digest, 99_999), Err(Error::TooLarge { .. })));
    assert!(matches!(store.ingest(&lease, known(&bytes)).unwrap(), Claim::Present(100_000)));

    // Of an unknown digest, and one that turns out to be here.
    for _ in 0..2 {
        let Claim::Mine(mut ingest) = store.ingest(&lease, Expect::Unknown).unwrap() else { panic!("it was unknown") };
        ingest.write_all(b"hello").unwrap();
        assert_eq!(ingest.commit().unwrap(), (sha256(b"hello"), 5));
    }

    // Sha512, and a digest that is not that of the bytes.
    let long: Digest = "sha512:9b71d224bd62f3785d96d46ad3ea3d73319bfbc2890caadae2dff72519673ca72323c3d99ba5c11d7c7acc6e14b8c5da0c4663475c2e5c3adef46f73bcdec043".parse().unwrap();
    let expect = Expect::Known { digest: long.clone(), size: None };
    for (bytes, right) in [(&b"hellO"[..], false), (b"hello", true)] {
        let Claim::Mine(mut ingest) = store.ingest(&lease, expect.clone()).unwrap() else { panic!("it is not here") };
        assert_eq!(ingest.offset(), 0, "what was wrong is not gone on from");
        ingest.write_all(bytes).unwrap();
        assert_eq!(ingest.commit().is_ok(), right);
        assert_eq!(store.blob_size(&long).unwrap().is_some(), right);
    }

    // Too short, too long.
    let Claim::Mine(mut ingest) = store.ingest(&lease, known(b"0123456789")).unwrap() else { panic!("it is not here") };
    assert!(ingest.write_all(b"0123456789x").is_err());
    ingest.restart().unwrap();
    ingest.write_all(b"012345678").unwrap();
    assert!(matches!(ingest.commit(), Err(Error::Size { expected: 10, found: 9, .. })));
    assert_eq!(store.check().unwrap().faults, []);
    assert!(matches!(store.open_blob(&sha256(b"x")), Err(Error::Missing { .. })));
}

/// The room of what was cut off is told of, and can be had at once.
#[test]
fn beginnings_are_told_of_and_forgotten() {
    let place = Place::new();
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let begin = |bytes: &[u8]| {
        let Claim::Mine(mut ingest) = store.ingest(&lease, known(bytes)).unwrap() else { panic!("it is not here") };
        ingest.write_all(&bytes[..bytes.len() / 2]).unwrap();
        ingest
    };
    let (cut, running) = (vec![1; 50_000], vec![2; 70_000]);
    drop(begin(&cut));
    let mut going = begin(&running);
    let partials = || store.usage().unwrap().partials;
    assert_eq!((partials().count, partials().bytes), (1, 25_000));
    assert_eq!(store.usage().unwrap().unreferenced, 25_000);
    let told = store.forget_partials(true).unwrap();
    assert_eq!((told, partials()), (partials(), told), "it only looked");
    assert_eq!(store.forget_partials(false).unwrap(), told);
    assert_eq!(partials().count, 0);
    assert_eq!(begin(&cut).offset(), 25_000, "it began anew");
    // What somebody downloads is left alone.
    going.write_all(&running[35_000..]).unwrap();
    going.commit().unwrap();
}

#[test]
fn a_download_that_was_cut_off_goes_on() {
    let place = Place::new();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n / 7) as u8).collect();
    for (round, (from, to)) in [(0, 1_000_000), (1_000_000, 1_000_001), (1_000_001, 3_000_000)].into_iter().enumerate()
    {
        // The store is opened anew for each, as after a crash.
        let store = place.open();
        let lease = store.lease("test", HOUR).unwrap();
        let Claim::Mine(mut ingest) = store.ingest(&lease, known(&bytes)).unwrap() else { panic!("round {round}") };
        assert_eq!(ingest.offset(), from as u64);
        ingest.write_all(&bytes[from..to]).unwrap();
        if to == bytes.len() {
            assert_eq!(ingest.commit().unwrap().1, bytes.len() as u64);
        }
    }
    // What was damaged while it lay there does not get in, and is not gone on from.
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let other = b"abcdef";
    let Claim::Mine(mut ingest) = store.ingest(&lease, known(other)).unwrap() else { panic!("it is not here") };
    ingest.write_all(b"abc").unwrap();
    drop(ingest);
    std::fs::write(place.path("ingest").join(sha256(other).to_string().replace(':', "-")), b"abX").unwrap();
    let Claim::Mine(mut ingest) = store.ingest(&lease, known(other)).unwrap() else { panic!("it is not here") };
    assert_eq!(ingest.offset(), 3);
    ingest.write_all(b"def").unwrap();
    assert!(matches!(ingest.commit(), Err(Error::Mismatch { .. })));
    put(&store, &lease, other).unwrap();
}

#[test]
fn one_download_serves_all() {
    let place = Place::new();
    let store = place.open();
    let written = Arc::new(AtomicUsize::new(0));
    let bytes = Arc::new(vec![1_u8; 50_000]);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (store, written, bytes) = (store.clone(), Arc::clone(&written), Arc::clone(&bytes));
            scope.spawn(move || {
                let lease = store.lease("test", HOUR).unwrap();
                let Claim::Mine(mut ingest) = store.ingest(&lease, known(&bytes)).unwrap() else { return };
                let from = usize::try_from(ingest.offset()).unwrap();
                written.fetch_add(bytes.len() - from, Ordering::Relaxed);
                ingest.write_all(&bytes[from..]).unwrap();
                std::thread::sleep(Duration::from_millis(10));
                // Some give up at the end, and another goes on from there.
                if thread % 2 == 0 {
                    ingest.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(written.load(Ordering::Relaxed), 50_000);
    assert_eq!(store.blob_size(&sha256(&bytes)).unwrap(), Some(50_000));
}

#[test]
fn one_process_owns_a_store() {
    let place = Place::new();
    let store = place.open();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let brief = Options {
        lock_wait: Duration::from_millis(150),
        on_wait: Some(Arc::new(move |_: &str| {
            count.fetch_add(1, Ordering::Relaxed);
        })),
        ..options()
    };
    let error = Store::open(&place.path(""), brief.clone()).unwrap_err();
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
    assert_eq!(told.load(Ordering::Relaxed), 1);
    // One that waits gets it when the other is done, and not before all that came from it is gone.
    let lease = store.lease("test", HOUR).unwrap();
    drop(store);
    let start = Instant::now();
    let waiting = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(200));
        drop(lease);
    });
    let store = Store::open(&place.path(""), options()).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
    waiting.join().unwrap();
    drop(store);
}

#[test]
fn names_move_and_the_layout_says_so() {
    let place = Place::new();
    let store = place.open();
    let name = "docker.io/library/a:1".parse().unwrap();
    let one = pull(&store, 1, "a:1").unwrap();
    let two = pull(&store, 2, "a:1").unwrap();
    pull(&store, 2, "b:2").unwrap();
    assert_eq!(store.image(&name).unwrap(), Some(two.target.clone()));
    let images = store.images().unwrap();
    let names = |digest: &Digest| images.iter().find(|image| image.target.digest == *digest).unwrap().names.len();
    assert_eq!((names(&one.target.digest), names(&two.target.digest)), (0, 2));

    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(store.layout().join("index.json")).unwrap()).unwrap();
    let named = |name: &str| {
        let fits = |one: &&serde_json::Value| one["annotations"]["org.opencontainers.image.ref.name"] == name;
        index["manifests"].as_array().unwrap().iter().find(fits).map(|one| one["digest"].to_string())
    };
    assert_eq!(named("docker.io/library/a:1"), Some(format!("\"{}\"", two.target.digest)));
    assert_eq!(named("docker.io/library/b:2"), Some(format!("\"{}\"", two.target.digest)));
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
    assert!(store.layout().join("oci-layout").exists());

    assert_eq!(store.untag(&name).unwrap(), Some(two.target.clone()));
    assert_eq!(store.untag(&name).unwrap(), None);
    assert_eq!(store.remove_target(&two.target.digest).unwrap(), ["b:2".parse().unwrap()]);
    assert!(store.remove_target(&two.target.digest).unwrap_err().is_missing());
    // A name for what is not here is refused.
    let lease = store.lease("test", HOUR).unwrap();
    assert!(store.tag(&lease, &name, &image(3).target).unwrap_err().is_missing());
    drop((lease, store));
    let store = place.open();
    assert_eq!(store.images().unwrap().len(), 1);
}

#[test]
fn blobs_of_a_layer_are_noted() {
    let place = Place::new();
    let store = place.open();
    let lease = store.lease("test", HOUR).unwrap();
    let made = image(1);
    let blob = gantry_model::image::Descriptor::new("t", put(&store, &lease, b"packed").unwrap(), 6);
    let diff_id = sha256(&made.tars[0]);
    store.note_blob(&diff_id, &blob).unwrap();
    store.note_blob(&diff_id, &made.target).unwrap();
    assert_eq!(store.blobs_of(&diff_id).unwrap(), std::slice::from_ref(&blob));
    assert_eq!(store.blobs_of(&blob.digest).unwrap(), []);
    drop(lease);
    store.collect(&gantry_store::Policy::unreferenced(), store.now(), false).unwrap();
    assert_eq!(store.blobs_of(&diff_id).unwrap(), []);
}
