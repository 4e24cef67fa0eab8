//! Collection: what goes, what stays, and that pushes beside it lose nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use gantry_model::digest::Algorithm;

use crate::kit::{RUNTIME, Random, Server, digest_of, noise, seed};

fn collect(server: &Server, dry_run: bool) -> gantry_registry::Collected {
    RUNTIME.block_on(server.registry().collect(dry_run)).unwrap()
}

fn blobs(server: &Server) -> usize {
    fn count(path: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|e| if e.path().is_dir() { count(&e.path()) } else { 1 }).sum()
    }
    count(&server.directory.path().join("store/blobs"))
}

#[test]
fn what_nothing_needs_goes_after_the_grace_period() {
    let mut server = Server::start("[gc]\ngrace = '1h'");
    let digest = server.push_image("g", "x", &[b"layer one", b"layer two"]);
    server.push_blob("g", b"never used");
    assert_eq!(collect(&server, false).unlinked, 0);
    assert_eq!(blobs(&server), 4);
    server.pass(3600);
    // A client that asks for a blob relies on it.
    server.get(&format!("/v2/g/blobs/{}", digest_of(Algorithm::Sha256, b"never used"))).expect(200);
    assert_eq!(collect(&server, false).unlinked, 0);
    server.pass(3600);
    let dry = collect(&server, true);
    assert_eq!((dry.unlinked, dry.unlinked_bytes, blobs(&server)), (1, 10, 4));
    assert_eq!(collect(&server, false).unlinked, 1);
    server.get(&format!("/v2/g/blobs/{}", digest_of(Algorithm::Sha256, b"never used"))).expect(404);
    assert_eq!((collect(&server, false).removed, blobs(&server)), (0, 4));
    // How long it has waited is known after a restart.
    server.restart();
    server.pass(3600);
    assert_eq!((collect(&server, false).removed, blobs(&server)), (1, 3));
    server.call("DELETE", &format!("/v2/g/manifests/{digest}")).send().expect(202);
    assert_eq!(collect(&server, false).unlinked, 0);
    server.pass(3600);
    assert_eq!(collect(&server, false).unlinked, 3);
    server.pass(3600);
    assert_eq!((collect(&server, false).removed, blobs(&server)), (3, 0));
    assert_eq!(server.get("/v2/_catalog").json()["repositories"], serde_json::json!([]));
}

#[test]
fn what_another_repository_has_stays() {
    let server = Server::start("[gc]\ngrace = 0");
    server.push_image("one", "x", &[b"shared"]);
    server.push_image("two", "x", &[b"shared"]);
    let digest = server.get("/v2/one/manifests/x").header("docker-content-digest").unwrap().to_owned();
    server.call("DELETE", &format!("/v2/one/manifests/{digest}")).send().expect(202);
    let done = collect(&server, false);
    assert_eq!((done.unlinked, done.removed), (2, 0));
    server.get(&format!("/v2/two/blobs/{}", digest_of(Algorithm::Sha256, b"shared"))).expect(200);
}

/// Many push and delete the same few blobs while collections without any grace run. Whatever was accepted is whole.
#[test]
fn pushes_beside_collections_lose_nothing() {
    let seed = seed();
    let server = Server::start("[gc]\ngrace = 0");
    let done = AtomicBool::new(false);
    let layers: Vec<Vec<u8>> = (0..4).map(|n| noise(100 + n, 2000)).collect();
    let (mut pushed, mut refused, mut collections) = (0, 0, 0);
    std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut runs = 0;
            while !done.load(Ordering::Relaxed) {
                collect(&server, false);
                runs += 1;
            }
            runs
        });
        let pushers: Vec<_> = (0..4)
            .map(|n| {
                let (server, layers) = (&server, &layers);
                scope.spawn(move || push_and_check(server, layers, seed.wrapping_add(n), &format!("race/{}", n % 2)))
            })
            .collect();
        for pusher in pushers {
            let (good, bad) = pusher.join().unwrap();
            pushed += good;
            refused += bad;
        }
        done.store(true, Ordering::Relaxed);
        collections = collector.join().unwrap();
    });
    println!("{pushed} images pushed, {refused} refused since a blob was collected first, {collections} collections");
    assert!(pushed > 20 && collections > 2);
}

fn push_and_check(server: &Server, layers: &[Vec<u8>], seed: u64, repository: &str) -> (u32, u32) {
    let mut random = Random(seed | 1);
    let (mut good, mut bad) = (0, 0);
    let config = br#"{"os":"linux"}"#;
    for round in 0..30 {
        let layer = &layers[random.below(layers.len() as u64) as usize];
        server.push_blob(repository, config);
        server.push_blob(repository, layer);
        let manifest = crate::kit::manifest(config, &[layer], &format!(",\"round\":\"{seed} {round}\""));
        let reply = server.push_manifest(repository, &format!("t{seed}"), crate::kit::MANIFEST, &manifest);
        if reply.status == 400 {
            reply.refused(400, "MANIFEST_BLOB_UNKNOWN");
            bad += 1;
            continue;
        }
        reply.expect(201);
        let digest = digest_of(Algorithm::Sha256, layer);
        let blob = server.get(&format!("/v2/{repository}/blobs/{digest}")).expect(200);
        assert!(blob.body == *layer);
        good += 1;
        if random.below(2) == 0 {
            let digest = digest_of(Algorithm::Sha256, manifest.as_bytes());
            server.call("DELETE", &format!("/v2/{repository}/manifests/{digest}")).send().expect(202);
        }
    }
    (good, bad)
}
