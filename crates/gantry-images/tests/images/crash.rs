//! What crashes leave: a process that is killed in the middle of a pull, and a power loss that takes layers.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use gantry_images::{Error, Format, Images, PullOptions, SaveOptions, silent};
use gantry_model::image::Compression;

use crate::archives::{Shelf, files};
use crate::kit::{Place, Wire, compressed, content, image, name, publish, sha256, simple, tar};

const PLACE: &str = "GANTRY_IMAGES_TEST_PLACE";
const IMAGE: &str = "GANTRY_IMAGES_TEST_IMAGE";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_pull_is_gone_on_with() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    let layers = [(tar(&[("f", &content(1, 6_000_000))]), Compression::Gzip), (tar(&[("g", b"g")]), Compression::Gzip)];
    let made = image(&layers, false, |_| {});
    publish(&name(registry.address(), "a"), &made).await;
    wire.shared.stop.store(2_000_000, Ordering::SeqCst);
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::the_process_that_is_killed", "--ignored", "--nocapture"])
        .env(PLACE, place.0.join("store"))
        .env(IMAGE, name(wire.address, "a").to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let written = tokio::time::timeout(std::time::Duration::from_secs(30), async {
        wire.shared.stopped.notified().await;
        place.partial(1_000_000).await;
    });
    let written = written.await;
    child.kill().unwrap();
    child.wait().unwrap();
    written.unwrap();
    wire.shared.stop.store(-1, Ordering::SeqCst);
    wire.forget();
    let images = place.images("store");
    assert!(images.store().images().unwrap().is_empty());
    let pulled = images.pull(&name(wire.address, "a"), PullOptions::default(), silent()).await.unwrap();
    assert_eq!(pulled.id, made.id());
    assert_eq!(wire.asked("range: bytes="), 1, "the large layer is gone on with");
    assert_eq!(images.store().layers().unwrap().len(), 2);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test above, in a process of its own"]
async fn the_process_that_is_killed() {
    let place = std::env::var(PLACE).unwrap();
    let image = std::env::var(IMAGE).unwrap();
    let store = gantry_store::Store::open(place.as_ref(), gantry_store::Options::default()).unwrap();
    let images = Images::new(store, crate::kit::client());
    images.pull(&image.parse().unwrap(), PullOptions::default(), silent()).await.unwrap();
}

/// Closes a store, takes layers as a power loss does (of all, those whose places in the order of their coming are given), and
/// opens it again.
fn lose(place: &Place, images: Images, lost: &[usize]) -> Images {
    drop(images);
    let mut numbers: Vec<u64> = place.entries("store/layers").iter().map(|name| name.parse().unwrap()).collect();
    numbers.sort_unstable();
    for index in lost {
        std::fs::remove_dir_all(place.0.join("store/layers").join(numbers[*index].to_string())).unwrap();
    }
    place.images("store")
}

/// The names and contents of an exported image.
async fn exported(images: &Images, name: &str) -> Vec<(String, Vec<u8>)> {
    let shelf = Shelf::default();
    images.export_image(name, None, shelf.clone()).await.unwrap();
    files(&shelf.take())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_a_power_loss_took_are_unpacked_again() {
    let place = Place::new();
    let registry = place.registry().await;
    let (one, two) = (name(registry.address(), "one"), name(registry.address(), "two"));
    let (first, second) = (simple(&[1, 2, 3]), simple(&[1, 4]));
    publish(&one, &first).await;
    publish(&two, &second).await;
    let mut images = place.images("store");
    for from in [&one, &two] {
        images.pull(from, PullOptions::default(), silent()).await.unwrap();
    }
    // From here on everything comes from the disk.
    registry.stop().await;
    let (one, two) = (one.to_string(), two.to_string());
    let whole = exported(&images, &one).await;
    assert_eq!(whole.len(), 1 + 3, "the root and three files");
    let differ = images.diff(&one, &two, None).await.unwrap();
    assert_eq!(differ.len(), 3);
    for lost in [&[0][..], &[1], &[0, 1, 2, 3]] {
        images = lose(&place, images, lost);
        let left = images.store().layers().unwrap().len();
        assert!(left < 4, "{lost:?}: {left}");
        assert!(exported(&images, &one).await == whole, "{lost:?}");
        assert_eq!(images.diff(&one, &two, None).await.unwrap(), differ, "{lost:?}");
        assert_eq!(images.store().layers().unwrap().len(), 4, "{lost:?}");

        images = lose(&place, images, &[0, 1, 2, 3]);
        for format in [Format::DockerArchive, Format::OciArchive] {
            let options = SaveOptions { format, platform: None };
            images.save(std::slice::from_ref(&one), std::io::sink(), options).await.unwrap();
        }
        for made in [&first, &second] {
            let unpacked = images.ensure_unpacked(&made.target).await.unwrap();
            assert_eq!((unpacked.image.id(), unpacked.chain.as_ref()), (&made.id(), unpacked.image.top().as_ref()));
            images.store().view("view", unpacked.chain.as_ref()).unwrap().mount().unwrap();
            images.store().remove_snapshot("view").unwrap();
        }
        assert_eq!(images.store().layers().unwrap().len(), 4, "{lost:?}");
    }
    // Without its blob it cannot be had, and nothing half is left.
    let blob = images.store().layout().join("blobs/sha256").join(sha256(&first.blobs[2]).hex());
    images = lose(&place, images, &[0, 1, 2, 3]);
    drop(images);
    std::fs::remove_file(blob).unwrap();
    let images = place.images("store");
    let error = images.ensure_unpacked(&first.target).await.unwrap_err();
    assert!(matches!(error, Error::LayerGone(_)), "{error}");
    assert!(error.to_string().ends_with("pull or load the image again"), "{error}");
    assert_eq!(place.entries("store/layers"), Vec::<String>::new());
    images.ensure_unpacked(&second.target).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_layer_comes_from_another_images_blob() {
    let place = Place::new();
    let registry = place.registry().await;
    let layer = tar(&[("f", &content(7, 100_000))]);
    let mut images = place.images("store");
    let made = [Compression::Gzip, Compression::Zstd].map(|how| image(&[(layer.clone(), how)], false, |_| {}));
    for (from, made) in ["gzip", "zstd"].iter().zip(&made) {
        publish(&name(registry.address(), from), made).await;
        images.pull(&name(registry.address(), from), PullOptions::default(), silent()).await.unwrap();
    }
    registry.stop().await;
    let zstd = sha256(&compressed(Compression::Zstd, &layer));
    assert_eq!(images.store().blob_size(&zstd).unwrap(), None);
    images = lose(&place, images, &[0]);
    assert!(images.store().layers().unwrap().is_empty());
    let unpacked = images.ensure_unpacked(&made[1].target).await.unwrap();
    assert_eq!(images.store().layers().unwrap()[0].diff_id, sha256(&layer));
    assert_eq!(unpacked.image.descriptor.digest, made[1].target.digest);
}
