//! A process that is killed in the middle of a pull.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;

use gantry_images::{PullOptions, silent};
use gantry_model::image::Compression;

use crate::kit::{Place, Wire, content, image, name, publish, tar};

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
    let images = gantry_images::Images::new(store, crate::kit::client());
    images.pull(&image.parse().unwrap(), PullOptions::default(), silent()).await.unwrap();
}
