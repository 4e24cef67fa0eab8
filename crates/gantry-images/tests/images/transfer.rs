//! Pulling and pushing, against a real registry on loopback.

use std::sync::atomic::Ordering;
use std::time::Duration;

use gantry_images::{Error, PullOptions, PushOptions, Step, silent};
use gantry_model::image::{Compression, Index, media};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;

use crate::kit::{
    Place, Told, Wire, client, compressed, content, described, image, name, publish, push_blob, sha256, simple, tar,
};

const NONE: PullOptions = PullOptions { platform: None, all_platforms: false };

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pulled_is_pushed_unchanged() {
    let place = Place::new();
    let registry = place.registry().await;
    let layer = |seed: u64, how| (tar(&[("d/", b""), ("d/f", &content(seed, 300_000))]), how);
    let oci = [layer(1, Compression::Gzip), layer(2, Compression::Zstd), layer(3, Compression::Gzip)];
    let cases = [
        ("oci", image(&oci, false, |_| {})),
        ("docker", image(&[layer(4, Compression::Gzip), layer(1, Compression::Gzip)], true, |_| {})),
        ("empty", image(&[], false, |_| {})),
    ];
    for (repository, made) in cases {
        let (from, to) =
            (name(registry.address(), repository), name(registry.address(), &format!("copy/{repository}:x")));
        publish(&from, &made).await;
        let images = place.images(repository);
        let told = Told::default();
        let pulled = images.pull(&from, NONE, told.reporter()).await.unwrap();
        assert_eq!((&pulled.target.digest, &pulled.id, pulled.changed), (&made.target.digest, &made.id(), true));
        assert_eq!(told.count(|step| *step == Step::Pulled), made.blobs.len(), "{repository}");
        let again = images.pull(&from, NONE, silent()).await.unwrap();
        assert!(!again.changed);
        images.tag(&from.to_string(), &to).await.unwrap();
        let pushed = images.push(&to, PushOptions::default(), silent()).await.unwrap();
        assert_eq!(pushed.target.digest, made.target.digest);
        assert_eq!(client().manifest(&to).await.unwrap().bytes, made.manifest);
        let inspect = images.inspect(&from.familiar(), None).await.unwrap();
        assert_eq!(inspect.id, made.id());
        assert_eq!(inspect.repo_digests.len(), 2);
        drop(images);
        assert_eq!(place.entries(&format!("{repository}/leases")), Vec::<String>::new());
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_image_brings_only_what_is_new() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    let images = place.images("store");
    let (first, second) = (simple(&[1, 2]), simple(&[1, 2, 3]));
    publish(&name(registry.address(), "a"), &first).await;
    publish(&name(registry.address(), "b"), &second).await;
    images.pull(&name(wire.address, "a"), NONE, silent()).await.unwrap();
    wire.forget();
    let told = Told::default();
    images.pull(&name(wire.address, "b"), NONE, told.reporter()).await.unwrap();
    assert_eq!(told.count(|step| *step == Step::Exists), 2);
    for (index, blob) in second.blobs.iter().enumerate() {
        let asked = wire.asked(&format!("GET /v2/b/blobs/{}", sha256(blob)));
        assert_eq!(asked, usize::from(index == 2), "layer {index}");
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pulls_download_each_blob_once() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    let images = place.images("store");
    // The same layer twice in one image too.
    let made = simple(&[1, 2, 1, 3, 4]);
    let from = name(wire.address, "a");
    publish(&name(registry.address(), "a"), &made).await;
    let pulls: Vec<_> = (0..4)
        .map(|_| {
            let (images, from) = (images.clone(), from.clone());
            tokio::spawn(async move { images.pull(&from, NONE, silent()).await })
        })
        .collect();
    for pull in pulls {
        assert_eq!(pull.await.unwrap().unwrap().target.digest, made.target.digest);
    }
    for blob in &made.blobs {
        assert_eq!(wire.asked(&format!("GET /v2/a/blobs/{}", sha256(blob))), 1);
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_connection_is_no_harm() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    let images = place.images("store");
    let made = image(&[(tar(&[("f", &content(9, 4_000_000))]), Compression::Gzip)], false, |_| {});
    publish(&name(registry.address(), "a"), &made).await;
    wire.shared.cut.store(1_000_000, Ordering::SeqCst);
    let pulled = images.pull(&name(wire.address, "a"), NONE, silent()).await.unwrap();
    assert_eq!(pulled.target.digest, made.target.digest);
    assert_eq!(wire.asked("range: bytes="), 1);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_given_up_is_gone_on_with() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    let images = place.images("store");
    let made = image(&[(tar(&[("f", &content(9, 4_000_000))]), Compression::Gzip)], false, |_| {});
    publish(&name(registry.address(), "a"), &made).await;
    let from = name(wire.address, "a");
    wire.shared.stop.store(1_000_000, Ordering::SeqCst);
    tokio::select! {
        _ = images.pull(&from, NONE, silent()) => panic!("the answer was stopped"),
        () = async {
            wire.shared.stopped.notified().await;
            place.partial(500_000).await;
        } => {}
    }
    for _ in 0..500 {
        if place.entries("store/leases").is_empty() && place.entries("store/ingest").len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(place.entries("store/leases"), Vec::<String>::new());
    assert!(images.store().images().unwrap().is_empty());
    assert!(images.store().layers().unwrap().is_empty());
    wire.shared.stop.store(-1, Ordering::SeqCst);
    images.pull(&from, NONE, silent()).await.unwrap();
    assert_eq!(wire.asked("range: bytes="), 1);
    assert_eq!(images.store().layers().unwrap().len(), 1);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_images_are_refused_and_leave_nothing() {
    let place = Place::new();
    let registry = place.registry().await;
    let good = (tar(&[("f", b"x")]), Compression::Gzip);
    let forged = image(std::slice::from_ref(&good), false, |config| config.rootfs.diff_ids = vec![sha256(b"another")]);
    let missing = image(std::slice::from_ref(&good), false, |config| config.rootfs.diff_ids.clear());
    let escaping = image(&[(tar(&[("../f", b"x")]), Compression::Gzip)], false, |_| {});
    let no_archive = image(&[(b"this is no archive".repeat(100), Compression::Gzip)], false, |_| {});
    let cases = [
        ("forged", forged, "has the diff id"),
        ("missing", missing, "1 layers, its configuration 0"),
        ("escaping", escaping, "../f"),
        ("garbage", no_archive, "no tar archive"),
    ];
    let images = place.images("store");
    for (repository, made, why) in cases {
        let from = name(registry.address(), repository);
        publish(&from, &made).await;
        let error = images.pull(&from, NONE, silent()).await.unwrap_err().to_string();
        assert!(error.contains(why), "{repository}: {error}");
    }
    let error = images.pull(&name(registry.address(), "nothing"), NONE, silent()).await.unwrap_err();
    assert!(matches!(error, Error::Registry(_)), "{error}");
    assert!(images.store().images().unwrap().is_empty());
    assert!(images.store().layers().unwrap().is_empty());
    assert_eq!(place.entries("store/leases"), Vec::<String>::new());
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn platforms() {
    let place = Place::new();
    let registry = place.registry().await;
    let to = name(registry.address(), "many:latest");
    let mut index = Index {
        schema_version: 2,
        media_type: Some(media::OCI_INDEX.to_owned()),
        artifact_type: None,
        manifests: vec![],
        subject: None,
        annotations: std::collections::BTreeMap::new(),
    };
    let mut made = Vec::new();
    for (seed, platform) in [(1, "linux/amd64"), (2, "linux/arm64"), (3, "linux/s390x")] {
        let platform: Platform = platform.parse().unwrap();
        let layers = [(tar(&[("f", &content(seed, 1000))]), Compression::Gzip)];
        let one = image(&layers, false, |config| config.platform = platform.clone());
        publish(&to.at(one.target.digest.clone()), &one).await;
        let mut entry = one.target.clone();
        entry.platform = Some(platform);
        index.manifests.push(entry);
        made.push(one);
    }
    // An attestation is no image.
    let attestation = image(&[], false, |_| {});
    publish(&to.at(attestation.target.digest.clone()), &attestation).await;
    let mut entry = attestation.target.clone();
    entry.platform = Some(Platform { os: "unknown".into(), architecture: "unknown".into(), ..Platform::default() });
    entry.annotations.insert("vnd.docker.reference.digest".into(), made[0].target.digest.to_string());
    index.manifests.push(entry);
    let bytes = serde_json::to_vec(&index).unwrap();
    let digest = client().push_manifest(&to, media::OCI_INDEX, bytes.into()).await.unwrap();

    let images = place.images("one");
    let wanted = |text: &str| PullOptions { platform: Some(text.parse().unwrap()), all_platforms: false };
    let error = images.pull(&to, wanted("linux/riscv64"), silent()).await.unwrap_err().to_string();
    assert!(error.contains("there is linux/amd64, linux/arm64, linux/s390x"), "{error}");
    let pulled = images.pull(&to, wanted("linux/s390x"), silent()).await.unwrap();
    assert_eq!((&pulled.target.digest, &pulled.id), (&digest, &made[2].id()));
    assert_eq!(images.inspect(&to.to_string(), None).await.unwrap().architecture, "s390x");
    images.pull(&to, wanted("linux/arm64"), silent()).await.unwrap();
    let arm = images.inspect(&to.to_string(), Some("linux/arm64".parse().unwrap())).await.unwrap();
    assert_eq!(arm.id, made[1].id());
    assert!(images.inspect(&to.to_string(), Some("linux/386".parse().unwrap())).await.is_err());
    // Not all of it is here, so only one platform goes.
    let copy = name(registry.address(), "copy");
    images.tag(&to.to_string(), &copy).await.unwrap();
    let options = PushOptions { platform: Some("linux/arm64".parse().unwrap()), ..PushOptions::default() };
    assert_eq!(images.push(&copy, options, silent()).await.unwrap().target.digest, made[1].target.digest);

    let images = place.images("all");
    images.pull(&to, PullOptions { platform: None, all_platforms: true }, silent()).await.unwrap();
    images.tag(&to.to_string(), &copy).await.unwrap();
    let pushed = images.push(&copy, PushOptions::default(), silent()).await.unwrap();
    assert_eq!(pushed.target.digest, digest);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_compressed_on_the_way_and_mounted() {
    let place = Place::new();
    let registry = place.registry().await;
    let wire = Wire::to(registry.address()).await;
    for (how, layer_type) in [(Compression::Gzip, media::OCI_LAYER_GZIP), (Compression::Zstd, media::OCI_LAYER_ZSTD)] {
        let store = layer_type.rsplit('+').next().unwrap();
        let images = place.images(store);
        let first = tar(&[("f", &content(5, 3_000_000))]);
        let made =
            image(&[(first.clone(), Compression::None), (tar(&[("g", b"g")]), Compression::None)], false, |_| {});
        let from = name(registry.address(), &format!("plain-{store}"));
        publish(&from, &made).await;
        images.pull(&from, NONE, silent()).await.unwrap();
        let to = name(wire.address, &format!("packed-{store}:1"));
        images.tag(&from.to_string(), &to).await.unwrap();
        let options = PushOptions { compression: Some(how), ..PushOptions::default() };
        let pushed = images.push(&to, options.clone(), silent()).await.unwrap();
        assert_ne!(pushed.target.digest, made.target.digest);
        // The name points to what was pushed; the other one stays where it was.
        let points = |to: &Reference| images.store().image(&to.clone().with_default_tag()).unwrap().unwrap().digest;
        assert_eq!((points(&to), points(&from)), (pushed.target.digest.clone(), made.target.digest.clone()));
        assert_eq!(images.inspect(&from.to_string(), None).await.unwrap().id, made.id());
        assert_eq!(images.inspect(&to.to_string(), None).await.unwrap().id, made.id());
        let other = place.images(&format!("{store}-2"));
        let pulled = other.pull(&to, NONE, silent()).await.unwrap();
        assert_eq!(pulled.id, made.id());
        // A second push sends nothing, and one elsewhere takes the blobs from here.
        let told = Told::default();
        images.push(&to, options.clone(), told.reporter()).await.unwrap();
        assert_eq!(told.count(|step| *step == Step::Exists), 2);
        let elsewhere = name(wire.address, &format!("elsewhere-{store}:1"));
        images.tag(&to.to_string(), &elsewhere).await.unwrap();
        let told = Told::default();
        let again = images.push(&elsewhere, options.clone(), told.reporter()).await.unwrap();
        assert_eq!(again.target.digest, pushed.target.digest);
        assert_eq!(told.count(|step| *step == Step::Mounted), 2);
        assert!(wire.asked("mount=sha256") >= 2);
        // What is not compressed stays for the name that points to it, and is collected when that moves too.
        let collect = || images.store().collect(&gantry_store::Policy::unreferenced(), images.store().now(), false);
        collect().unwrap();
        assert!(images.store().blob_size(&sha256(&first)).unwrap().is_some());
        let last = images.push(&from, options, silent()).await.unwrap();
        assert_eq!(points(&from), last.target.digest);
        assert_eq!(images.store().images().unwrap().len(), 1, "the image without a name is gone");
        collect().unwrap();
        assert_eq!(images.store().blob_size(&sha256(&first)).unwrap(), None);
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_layer_whose_blob_is_not_here_is_pushed() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    // The second image has the first's layer in another compression, which is not downloaded.
    let layer = tar(&[("f", &content(7, 100_000))]);
    let gzip = image(&[(layer.clone(), Compression::Gzip)], false, |_| {});
    let zstd = image(&[(layer.clone(), Compression::Zstd)], false, |_| {});
    publish(&name(registry.address(), "gzip"), &gzip).await;
    publish(&name(registry.address(), "zstd"), &zstd).await;
    images.pull(&name(registry.address(), "gzip"), NONE, silent()).await.unwrap();
    images.pull(&name(registry.address(), "zstd"), NONE, silent()).await.unwrap();
    assert_eq!(images.store().blob_size(&sha256(&compressed(Compression::Zstd, &layer))).unwrap(), None);
    // The registry has it, so it is taken from there.
    let to = name(registry.address(), "copy");
    images.tag(&name(registry.address(), "zstd").to_string(), &to).await.unwrap();
    let pushed = images.push(&to, PushOptions::default(), silent()).await.unwrap();
    assert_eq!(pushed.target.digest, zstd.target.digest);
    // Another registry has it nowhere, so it gets the layer as it is here.
    let other_place = Place::new();
    let other = other_place.registry().await;
    let to = name(other.address(), "copy");
    images.tag(&name(registry.address(), "zstd").to_string(), &to).await.unwrap();
    let pushed = images.push(&to, PushOptions::default(), silent()).await.unwrap();
    assert_ne!(pushed.target.digest, zstd.target.digest);
    // So its manifest is another, and of all the names only the pushed one points there.
    let point = |registry: &gantry_registry::Registry, text: &str| {
        let name = name(registry.address(), text).with_default_tag();
        images.store().image(&name).unwrap().unwrap().digest
    };
    assert_eq!(point(&other, "copy"), pushed.target.digest);
    let here = ["gzip", "zstd", "copy"].map(|text| point(&registry, text));
    assert_eq!(here, [&gzip, &zstd, &zstd].map(|made| made.target.digest.clone()));
    let third = other_place.images("store");
    assert_eq!(third.pull(&to, NONE, silent()).await.unwrap().id, zstd.id());
    other.stop().await;
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn by_digest_and_missing_names() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let made = simple(&[1]);
    publish(&name(registry.address(), "a"), &made).await;
    let by_digest = name(registry.address(), "a").at(made.target.digest.clone());
    assert_eq!(images.pull(&by_digest, NONE, silent()).await.unwrap().name, by_digest);
    let inspect = images.inspect(&by_digest.to_string(), None).await.unwrap();
    assert_eq!((inspect.repo_tags, inspect.repo_digests), (vec![], vec![by_digest.to_string()]));
    let wrong = name(registry.address(), "a").at(sha256(b"x"));
    assert!(images.pull(&wrong, NONE, silent()).await.is_err());
    let error = images.push(&name(registry.address(), "b"), PushOptions::default(), silent()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("An image does not exist locally with the tag: {}/b:latest", registry.address())
    );
    push_blob(&name(registry.address(), "b"), b"x").await;
    let artifact = image(&[], false, |_| {});
    let mut manifest: serde_json::Value = serde_json::from_slice(&artifact.manifest).unwrap();
    manifest["layers"] = serde_json::json!([described("application/x", b"x")]);
    let manifest = serde_json::to_vec(&manifest).unwrap();
    push_blob(&name(registry.address(), "b"), &artifact.config).await;
    client().push_manifest(&name(registry.address(), "b:latest"), media::OCI_MANIFEST, manifest.into()).await.unwrap();
    let error = images.pull(&name(registry.address(), "b"), NONE, silent()).await.unwrap_err().to_string();
    assert!(error.contains("1 layers, its configuration 0"), "{error}");
    registry.stop().await;
}
