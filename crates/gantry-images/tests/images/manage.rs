//! Listing, naming, removing, pruning and comparing.

use std::collections::BTreeMap;

use gantry_images::{
    Change, ChangeKind, ContainerUse, Filters, Images, ImportOptions, ListOptions, PruneOptions, PullOptions,
    RemoveOptions, Removed, silent,
};
use gantry_model::image::{Compression, History};
use gantry_model::reference::Reference;
use gantry_registry::Registry;

use crate::kit::{Made, Place, content, image, name, publish, sha256, simple, tar};

const PULL: PullOptions = PullOptions { platform: None, all_platforms: false };

/// Pulls an image, and gives it names.
async fn bring(images: &Images, registry: &Registry, made: &Made, names: &[&str]) {
    let from = name(registry.address(), "temporary");
    publish(&from, made).await;
    images.pull(&from, PULL, silent()).await.unwrap();
    for to in names {
        images.tag(&from.to_string(), &to.parse().unwrap()).await.unwrap();
    }
    images.store().untag(&from.with_default_tag()).unwrap();
}

fn filters(list: &[(&str, &str)]) -> Filters {
    let mut filters = BTreeMap::new();
    for (name, value) in list {
        filters.entry((*name).to_owned()).or_insert_with(Vec::new).push((*value).to_owned());
    }
    filters
}

fn dated(seed: u64, created: &str, label: &str) -> Made {
    let layers = [simple_layer(1), simple_layer(seed)];
    image(&layers, false, |config| {
        config.created = Some(created.to_owned());
        config.config.labels.insert("kind".into(), label.into());
        let step =
            |text: &str, empty_layer| History { created_by: Some(text.into()), empty_layer, ..History::default() };
        config.history = vec![step("ADD", false), step("ENV", true), step("RUN", false)];
    })
}

fn simple_layer(seed: u64) -> (Vec<u8>, Compression) {
    (tar(&[(&format!("f{seed}"), &content(seed, 5000))]), Compression::Gzip)
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_history() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let (old, new) = (dated(2, "2020-01-01T00:00:00Z", "a"), dated(3, "2021-01-01T00:00:00Z", "b"));
    bring(&images, &registry, &old, &["old:1", "x.io/app/old:2"]).await;
    bring(&images, &registry, &new, &["new"]).await;
    let nameless = simple(&[9]);
    bring(&images, &registry, &nameless, &[]).await;
    let check = async |list: &[(&str, &str)], expect: &[&Made]| {
        let options = ListOptions { filters: filters(list), ..ListOptions::default() };
        let found: Vec<_> = images.list(options).await.unwrap().into_iter().map(|one| one.id).collect();
        assert_eq!(found, expect.iter().map(|one| one.id()).collect::<Vec<_>>(), "{list:?}");
    };
    check(&[], &[&nameless, &new, &old]).await;
    check(&[("dangling", "true")], &[&nameless]).await;
    check(&[("dangling", "false")], &[&new, &old]).await;
    check(&[("label", "kind")], &[&new, &old]).await;
    check(&[("label", "kind=b")], &[&new]).await;
    check(&[("before", "new")], &[&old]).await;
    check(&[("since", "old:1")], &[&nameless, &new]).await;
    check(&[("until", "2020-06-01")], &[&old]).await;
    check(&[("reference", "x.io/*/old")], &[&old]).await;
    check(&[("reference", "n*")], &[&new]).await;
    let bad = ListOptions { filters: filters(&[("before", "absent")]), ..ListOptions::default() };
    assert_eq!(images.list(bad).await.unwrap_err().to_string(), "No such image: absent:latest");

    let containers = vec![ContainerUse { id: "c".into(), image: new.id(), running: true }];
    let usage = images.disk_usage(containers).await.unwrap();
    let one = usage.images.iter().find(|one| one.id == new.id()).unwrap();
    assert_eq!(one.containers, 1);
    assert!(one.shared_size > 0 && (one.shared_size as u64) < one.size, "{one:?}");
    assert_eq!(usage.images.iter().find(|one| one.id == nameless.id()).unwrap().shared_size, 0);
    let plain = images.list(ListOptions::default()).await.unwrap();
    assert_eq!((plain[1].shared_size, plain[1].containers), (-1, -1));
    let json = serde_json::to_value(&plain[1]).unwrap();
    assert_eq!(json["RepoTags"], serde_json::json!(["new:latest"]));
    assert_eq!(json["Created"], 1_609_459_200);
    assert_eq!(json["Labels"]["kind"], "b");

    let history = images.history(old.id().short(), None).await.unwrap();
    let steps: Vec<_> = history.iter().map(|one| (one.created_by.as_str(), one.size > 0)).collect();
    assert_eq!(steps, [("RUN", true), ("ENV", false), ("ADD", true)]);
    assert_eq!(history[0].tags.as_ref().unwrap().len(), 2);
    let inspect = serde_json::to_value(images.inspect("old:1", None).await.unwrap()).unwrap();
    assert_eq!(inspect["Created"], "2020-01-01T00:00:00Z");
    assert_eq!(inspect["RootFS"]["Layers"].as_array().unwrap().len(), 2);
    for text in ["absent", "absent:1", "ffff", "sha256:00"] {
        let error = images.inspect(text, None).await.unwrap_err();
        assert!(error.is_not_found() && error.to_string().starts_with("No such image: "), "{error}");
    }
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn removing() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let (one, two) = (simple(&[1, 2]), simple(&[1, 3]));
    bring(&images, &registry, &one, &["a:1", "a:2", "b:1"]).await;
    bring(&images, &registry, &two, &["c"]).await;
    let remove = async |text: &str, force: bool, containers: &[(&str, &Made, bool)]| {
        let users = containers.iter().map(|(id, made, running)| ContainerUse {
            id: (*id).to_owned(),
            image: made.id(),
            running: *running,
        });
        let result = images.remove(text, RemoveOptions { force, containers: users.collect() }).await;
        result.map_err(|error| error.to_string())
    };
    let untagged = |name: &str| Removed::Untagged(name.to_owned());
    let short = one.id().short().to_owned();
    let digest = &one.target.digest;
    // One of several names, which a container is no reason against.
    assert_eq!(remove("a:1", false, &[("cccc", &one, true)]).await.unwrap(), [untagged("a:1")]);
    // By its id, it has names in two repositories.
    let conflict =
        format!("conflict: unable to delete {short} (must be forced) - image is referenced in multiple repositories");
    assert_eq!(remove(&short, false, &[]).await.unwrap_err(), conflict);
    // The last name of a repository takes the digest along.
    assert_eq!(remove("a:2", false, &[]).await.unwrap(), [untagged("a:2"), untagged(&format!("a@{digest}"))]);
    let conflict = format!(
        "conflict: unable to remove repository reference \"b:1\" (must force) - container cccccccccccc is using its referenced image {short}"
    );
    let container = "c".repeat(64);
    assert_eq!(remove("b:1", false, &[(&container, &one, false)]).await.unwrap_err(), conflict);
    let conflict = format!(
        "conflict: unable to delete {short} (cannot be forced) - image is being used by running container cccccccccccc"
    );
    assert_eq!(remove(&short, true, &[(&container, &one, true)]).await.unwrap_err(), conflict);
    let conflict = format!(
        "conflict: unable to delete {short} (must be forced) - image is being used by stopped container cccccccccccc"
    );
    assert_eq!(remove(&short, false, &[(&container, &one, false)]).await.unwrap_err(), conflict);
    // By force the name goes, and the image stays for its container.
    let gone = remove("b:1", true, &[(&container, &one, true)]).await.unwrap();
    assert_eq!(gone, [untagged("b:1"), untagged(&format!("b@{digest}"))]);
    assert_eq!(images.find(&short).await.unwrap().names.len(), 0);
    // With the image go the layers that nobody else has.
    let gone = remove(&short, false, &[]).await.unwrap();
    assert_eq!(gone[0], Removed::Deleted(one.id().to_string()));
    assert_eq!(gone.len(), 2, "{gone:?}");
    let gone = remove("c", false, &[]).await.unwrap();
    assert_eq!(gone.len(), 2 + 1 + 2, "{gone:?}");
    assert!(images.store().images().unwrap().is_empty());
    // One that was made here and never pushed had no name by digest.
    let options = ImportOptions { name: Some("made:1".parse().unwrap()), ..ImportOptions::default() };
    images.import(std::io::Cursor::new(tar(&[("f", b"x")])), options).await.unwrap();
    assert_eq!(remove("made:1", false, &[]).await.unwrap()[0], untagged("made:1"));
    assert_eq!(remove("c", false, &[]).await.unwrap_err(), "No such image: c:latest");
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_leaves_the_disk() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let (one, two) = (simple(&[1, 2]), simple(&[1, 3]));
    bring(&images, &registry, &one, &["a:1", "a:2"]).await;
    bring(&images, &registry, &two, &["b"]).await;
    let store = images.store().clone();
    // Which blobs of an image are here: its layers from the lowest, its configuration, its manifest.
    let blobs = |made: &Made| {
        let digests = made.blobs.iter().chain([&made.config, &made.manifest]).map(|bytes| sha256(bytes));
        digests.map(|digest| store.blob_size(&digest).unwrap().is_some()).collect::<Vec<_>>()
    };
    // The bytes of all that is here.
    let total = || {
        let every = one.blobs.iter().chain(&two.blobs[1..]);
        let every = every.chain([&one.config, &one.manifest, &two.config, &two.manifest]);
        let blobs: u64 = every.filter_map(|bytes| store.blob_size(&sha256(bytes)).unwrap()).sum();
        blobs + store.layers().unwrap().iter().map(|layer| layer.size).sum::<u64>()
    };
    let check = async |text: &str, expect: [&[bool]; 2], layers: usize| {
        let before = total();
        let gone = images.remove_counted(text, RemoveOptions::default()).await.unwrap();
        assert_eq!(gone.bytes, before - total(), "{text}");
        assert_eq!([blobs(&one), blobs(&two)], expect, "{text}");
        assert_eq!(store.layers().unwrap().len(), layers, "{text}");
        assert_eq!(place.entries("store/layers").len(), layers, "{text}");
        gone.bytes
    };
    let (all, shared, none) = ([true; 4], [true, false, false, false], [false; 4]);
    assert_eq!(check("a:1", [&all, &all], 3).await, 0);
    // Its own blob and its own layer, of 50000 bytes unpacked.
    assert!(check("a:2", [&shared, &all], 2).await > 50_000);
    assert!(check("b", [&none, &none], 0).await > 100_000);
    assert_eq!(total(), 0);
    for _ in 0..1000 {
        if place.entries("store/trash").is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(place.entries("store/trash"), Vec::<String>::new());
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let (nameless, named, used) = (simple(&[1, 2]), dated(3, "2020-01-01T00:00:00Z", "keep"), simple(&[1, 4]));
    bring(&images, &registry, &nameless, &[]).await;
    bring(&images, &registry, &named, &["named"]).await;
    bring(&images, &registry, &used, &["used"]).await;
    let containers = vec![ContainerUse { id: "c".into(), image: used.id(), running: false }];
    let prune = async |list: &[(&str, &str)], dry_run: bool| {
        let options = PruneOptions { filters: filters(list), dry_run, containers: containers.clone() };
        images.prune(options).await.unwrap()
    };
    assert!(prune(&[("label", "kind")], false).await.removed.is_empty());
    let told = prune(&[], true).await;
    assert_eq!(images.list(ListOptions::default()).await.unwrap().len(), 3);
    let done = prune(&[], false).await;
    assert_eq!(told.removed, done.removed);
    assert_eq!(told.bytes, done.bytes, "what is told is what is freed");
    assert!(done.bytes > 50_000);
    // What it shared with another stays, what it had alone is gone from the disk.
    let here = |bytes: &[u8]| images.store().blob_size(&sha256(bytes)).unwrap().is_some();
    assert_eq!([here(&nameless.blobs[0]), here(&nameless.blobs[1])], [true, false]);
    assert_eq!(done.removed[0], Removed::Deleted(nameless.id().to_string()));
    assert!(prune(&[("dangling", "false"), ("label!", "kind=keep")], false).await.removed.is_empty());
    let done = prune(&[("dangling", "false"), ("until", "24h")], false).await;
    assert_eq!(done.removed[..2], [Removed::Untagged("named:latest".into()), Removed::Deleted(named.id().to_string())]);
    assert_eq!(images.list(ListOptions::default()).await.unwrap().len(), 1);
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn differences() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let base = (
        tar(&[("keep", b"k"), ("d/", b""), ("d/gone", b"12345"), ("d/grown", b"1"), ("same", b"xx")]),
        Compression::Gzip,
    );
    let top =
        (tar(&[("d/.wh.gone", b""), ("d/grown", b"123"), ("new", b"1234567"), ("same", b"xx")]), Compression::Gzip);
    bring(&images, &registry, &image(std::slice::from_ref(&base), false, |_| {}), &["one"]).await;
    bring(&images, &registry, &image(&[base, top], false, |_| {}), &["two"]).await;
    let change = |kind, path: &str, before, after| Change { kind, path: path.to_owned(), before, after };
    let expect = [
        change(ChangeKind::Removed, "/d/gone", 5, 0),
        change(ChangeKind::Changed, "/d/grown", 1, 3),
        change(ChangeKind::Added, "/new", 0, 7),
    ];
    assert_eq!(images.diff("one", "two", None).await.unwrap(), expect);
    assert_eq!(images.diff("two", "two", None).await.unwrap(), []);
    let back = images.diff("two", "one", None).await.unwrap();
    assert_eq!(
        back.iter().map(|one| one.kind).collect::<Vec<_>>(),
        [ChangeKind::Added, ChangeKind::Changed, ChangeKind::Removed]
    );
    assert!(images.store().snapshots().unwrap().is_empty());
    let missing: Reference = "other".parse().unwrap();
    assert!(images.diff("one", &missing.familiar(), None).await.is_err());
    registry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_move_and_ids_are_found() {
    let place = Place::new();
    let registry = place.registry().await;
    let images = place.images("store");
    let made: Vec<Made> =
        (1..40).map(|seed| image(&[], false, |config| config.author = Some(format!("a{seed}")))).collect();
    for one in &made {
        bring(&images, &registry, one, &["moving"]).await;
    }
    let last = made.last().unwrap();
    assert_eq!(images.inspect("moving", None).await.unwrap().id, last.id());
    for one in &made {
        let id = one.id();
        for text in [id.to_string(), id.hex().to_owned(), id.short().to_owned(), format!("sha256:{}", id.short())] {
            assert_eq!(images.inspect(&text, None).await.unwrap().id, id, "{text}");
        }
    }
    // Of 39 ids some begin with the same digit.
    let first = |one: &Made| one.id().hex()[..1].to_owned();
    let shared =
        made.iter().map(first).find(|digit| made.iter().filter(|one| first(one) == *digit).count() > 1).unwrap();
    let error = images.inspect(&shared, None).await.unwrap_err().to_string();
    assert!(error.contains("is the beginning of the ids of"), "{error}");
    registry.stop().await;
}
