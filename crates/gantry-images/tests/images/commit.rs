//! From snapshots to images, and what is on the path of every start of a container.

use std::time::Instant;

use gantry_images::{CommitOptions, Images, PullOptions, silent};
use gantry_model::image::{Compression, ContainerConfig};
use gantry_model::reference::Reference;
use serde_json::json;

use crate::kit::{Made, Place, content, image, name, publish, tar};

const PULL: PullOptions = PullOptions { platform: None, all_platforms: false };

async fn bring(place: &Place, images: &Images, made: &Made) -> Reference {
    let registry = place.registry().await;
    let from = name(registry.address(), "app");
    publish(&from, made).await;
    images.pull(&from, PULL, silent()).await.unwrap();
    from
}

fn base() -> Made {
    let layers = [
        (tar(&[("etc/", b""), ("etc/old", b"old"), ("etc/gone", b"gone")]), Compression::Gzip),
        (tar(&[("bin/", b""), ("bin/a", &content(1, 5000))]), Compression::Gzip),
    ];
    image(&layers, true, |config| {
        config.config.env = vec!["A=1".into()];
        config.config.cmd = Some(vec!["sh".into()]);
        config.author = Some("somebody".into());
        config.other.insert("docker_version".into(), json!("1.0"));
        config.other.insert("kept".into(), json!(7));
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_becomes_an_image() {
    let place = Place::new();
    let images = place.images("store");
    let from = bring(&place, &images, &base()).await;
    let found = images.resolve(&from.to_string(), None).await.unwrap();
    let unpacked = images.ensure_unpacked(&found.descriptor).await.unwrap();
    let store = images.store().clone();
    let snapshot = store.prepare("one", unpacked.chain.as_ref()).unwrap();
    std::fs::create_dir(snapshot.upper().join("etc")).unwrap();
    std::fs::write(snapshot.upper().join("etc/new"), "new").unwrap();
    let whiteout = snapshot.upper().join("etc/gone");
    rustix::fs::mknodat(rustix::fs::CWD, &whiteout, rustix::fs::FileType::CharacterDevice, 0.into(), 0).unwrap();
    let options = CommitOptions {
        changes: vec!["CMD [\"b\"]".into(), "ENV B=2".into(), "EXPOSE 80".into()],
        author: Some("me".into()),
        message: Some("why".into()),
        created_by: "touch".into(),
        name: Some("made:1".parse().unwrap()),
        ..CommitOptions::default()
    };
    let (below, config) = (Some(&found.descriptor), found.config.config.clone());
    let id = images.commit("one", below, config.clone(), options.clone()).await.unwrap();
    let made = images.resolve("made:1", None).await.unwrap();
    assert_eq!(*made.id(), id);
    assert_eq!(made.config.author.as_deref(), Some("me"));
    assert_eq!(
        serde_json::to_value(&made.config.config).unwrap(),
        json!({"Cmd": ["b"], "Env": ["A=1", "B=2"], "ExposedPorts": {"80/tcp": {}}})
    );
    assert_eq!(made.config.other.keys().collect::<Vec<_>>(), ["kept"]);
    let step = made.config.history.last().unwrap();
    assert_eq!((step.comment.as_deref(), step.created_by.as_deref()), (Some("why"), Some("touch")));
    assert_eq!(made.config.rootfs.diff_ids.len(), 3);
    // What its manifest lists are OCI's layers, though those below came as Docker's.
    assert!(made.manifest.layers.iter().all(|layer| layer.media_type.starts_with("application/vnd.oci.")));
    let changes = images.diff(&from.to_string(), "made:1", None).await.unwrap();
    let changes: Vec<String> = changes.iter().map(|one| format!("{:?} {}", one.kind, one.path)).collect();
    assert_eq!(changes, ["Removed /etc/gone", "Added /etc/new"]);

    // The same once more is the same layer; and one on top of it.
    let again =
        images.commit("one", below, config.clone(), CommitOptions { name: None, ..options.clone() }).await.unwrap();
    let again = images.resolve(&again.to_string(), None).await.unwrap();
    assert_eq!(again.top(), made.top());
    store.prepare("two", made.top().as_ref()).unwrap();
    let error = images.commit("two", below, config, options).await.unwrap_err().to_string();
    assert_eq!(error, r#"snapshot "two": it stands on other layers than the image that was given with it"#);
    let (below, config) = (Some(&made.descriptor), made.config.config.clone());
    let id = images.commit("two", below, config, CommitOptions::default()).await.unwrap();
    let top = images.resolve(&id.to_string(), None).await.unwrap();
    assert_eq!((top.config.rootfs.diff_ids.len(), &top.config.config), (4, &made.config.config));
    let error = images.commit("none", None, ContainerConfig::default(), CommitOptions::default()).await.unwrap_err();
    assert_eq!(error.to_string(), r#"snapshot "none": it is not in the store"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_beginning_becomes_an_image() {
    let place = Place::new();
    let images = place.images("store");
    let snapshot = images.store().prepare("one", None).unwrap();
    std::fs::write(snapshot.upper().join("file"), "data").unwrap();
    let bad = CommitOptions { changes: vec!["RUN x".into()], ..CommitOptions::default() };
    assert!(images.commit("one", None, ContainerConfig::default(), bad).await.is_err());
    let options = CommitOptions { changes: vec!["CMD x".into()], ..CommitOptions::default() };
    let id = images.commit("one", None, ContainerConfig::default(), options).await.unwrap();
    let made = images.resolve(&id.to_string(), None).await.unwrap();
    assert_eq!((made.manifest.layers.len(), made.config.rootfs.diff_ids.len()), (1, 1));
    assert!(images.commit("two", None, ContainerConfig::default(), CommitOptions::default()).await.is_err());
    // What could not be made left nothing.
    assert_eq!(images.store().images().unwrap().len(), 1);
    assert_eq!(place.entries("store/tmp"), Vec::<String>::new());
}

/// What a start of a container costs here. Prints microseconds; the bounds are wide, for machines that do other things.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: run it alone, with --nocapture"]
async fn what_a_start_costs() {
    let place = Place::new();
    let images = place.images("store");
    let layer = |seed| (tar(&[(&format!("f{seed}"), &content(seed, 5000))]), Compression::Gzip);
    let made = image(&(0..8).map(layer).collect::<Vec<_>>(), false, |_| {});
    let from = bring(&place, &images, &made).await.to_string();
    let store = images.store().clone();
    let mut costs: [Vec<u128>; 5] = Default::default();
    for round in 0..300 {
        let mut at = Instant::now();
        let mut lap = |step: usize| {
            costs[step].push(at.elapsed().as_micros());
            at = Instant::now();
        };
        let found = images.resolve(&from, None).await.unwrap();
        lap(0);
        let unpacked = images.ensure_unpacked(&found.descriptor).await.unwrap();
        lap(1);
        let key = format!("key-{round}");
        let snapshot = store.prepare(&key, unpacked.chain.as_ref()).unwrap();
        lap(2);
        let mount = snapshot.mount().unwrap();
        lap(3);
        drop(mount);
        store.remove_snapshot(&key).unwrap();
        lap(4);
    }
    for (name, mut list) in ["resolve", "ensure_unpacked", "prepare", "mount", "remove"].iter().zip(costs) {
        list.sort_unstable();
        println!("{name}: median {} us, 95 % {} us", list[list.len() / 2], list[list.len() * 95 / 100]);
        assert!(list[list.len() / 2] < 5000, "{name}");
    }
}
