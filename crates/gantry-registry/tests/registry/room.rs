//! Quotas of a cache: what goes to make room, what passes without being kept, and that nobody is refused.

use std::io::Read as _;
use std::time::{Duration, Instant};

use gantry_model::digest::{Algorithm, Digest};

use crate::kit::{INDEX, OPERATED, RUNTIME, Server, digest_of, noise};

/// A cache of `of` that may hold so many bytes a repository.
fn cache(of: &Server, bytes: u64, more: &str) -> Server {
    let quota = format!("[[quota]]\nrepositories = ['far/**']\nbytes = {bytes}\n");
    let name = of.address;
    Server::start(&format!("{OPERATED}{quota}[[upstream]]\nname = '{name}'\nprefix = 'far'\nplain_http = true\n{more}"))
}

fn digest(bytes: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, bytes)
}

fn place(bytes: &[u8]) -> String {
    format!("/v2/far/app/blobs/{}", digest(bytes))
}

fn collect(server: &Server) -> u64 {
    RUNTIME.block_on(server.registry().collect(false)).unwrap().removed
}

#[test]
fn what_nobody_asked_for_the_longest_makes_room() {
    let mut origin = Server::start("");
    let layers: Vec<Vec<u8>> = (1..5).map(|n| noise(2 * n + 1, 3000)).collect();
    let [a, b, c, d] = &layers[..] else { panic!("four layers") };
    origin.push_image("app", "1", &[a, b, c, d]);
    // Three layers, and the manifest.
    let near = cache(&origin, 10_500, "");
    near.get("/v2/far/app/manifests/1").expect(200);
    for layer in [a, b, c, a, d] {
        assert!(near.get(&place(layer)).expect(200).body == *layer);
        near.pass(61);
    }
    assert_eq!((near.metric("cache_evicted_total"), near.metric("cache_passed_total")), (1, 0));
    // It leaves the disk with the next collection, however long others are kept.
    assert!(near.blob_path(&digest(b)).exists());
    assert_eq!(collect(&near), 1);
    assert!(!near.blob_path(&digest(b)).exists());
    // What went is still known, and comes again when it is asked for.
    assert_eq!(near.call("HEAD", &place(b)).send().expect(200).header("content-length"), Some("3000"));
    assert!(near.get(&place(b)).expect(200).body == *b);
    assert_eq!(near.metric("cache_evicted_total"), 2);
    origin.stop();
    for (layer, status) in [(a, 200), (b, 200), (c, 502), (d, 200)] {
        assert_eq!(near.get(&place(layer)).status, status);
    }
}

#[test]
fn what_is_larger_than_the_quota_passes_through() {
    let mut origin = Server::start("");
    let (small, large) = (noise(1, 1000), noise(3, 3_000_000));
    origin.push_image("app", "1", &[&small, &large]);
    let mut near = cache(&origin, 100_000, "");
    near.get("/v2/far/app/manifests/1").expect(200);
    for _ in 0..2 {
        for layer in [&small, &large] {
            let reply = near.get(&place(layer)).expect(200);
            assert!(reply.body == *layer);
            assert_eq!(reply.header("docker-content-digest"), Some(digest(layer).to_string().as_str()));
        }
    }
    let part = near.call("GET", &place(&large)).header("Range", "bytes=1000000-2000000").send().expect(206);
    assert!(part.body == large[1_000_000..=2_000_000]);
    assert_eq!(part.header("content-range"), Some("bytes 1000000-2000000/3000000"));
    assert_eq!((near.metric("cache_evicted_total"), near.metric("cache_passed_total")), (0, 3));
    assert!(near.blob_path(&digest(&small)).exists() && !near.blob_path(&digest(&large)).exists());
    assert_eq!(near.metric("uploads"), 0);
    // What is damaged there does not come whole.
    std::fs::write(origin.blob_path(&digest(&large)), vec![0; large.len()]).unwrap();
    let mut got = vec![];
    let _ = near.call("GET", &place(&large)).begin().read_to_end(&mut got);
    let head = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert!(got.starts_with(b"HTTP/1.1 200") && got.len() - head < large.len(), "{}", got.len());
    origin.stop();
    assert_eq!(near.get(&place(&large)).status, 502);
    near.restart();
    near.get(&place(&small)).expect(200);
}

#[test]
fn manifests_make_room_for_manifests() {
    let origin = Server::start("");
    let push = |tag: &str, more: usize| {
        let text = format!(
            r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[],"annotations":{{"x":"{tag}{}"}}}}"#,
            "x".repeat(more)
        );
        origin.push_manifest("app", tag, INDEX, &text).expect(201);
    };
    for n in 0..6 {
        push(&format!("v{n}"), 800);
    }
    push("huge", 9000);
    let near = cache(&origin, 3000, "");
    for n in 0..6 {
        near.get(&format!("/v2/far/app/manifests/v{n}")).expect(200);
        near.pass(1);
    }
    let tags = near.get("/v2/far/app/tags/list").json();
    assert_eq!(tags["tags"], serde_json::json!(["v3", "v4", "v5"]));
    let reply = near.get("/v2/far/app/manifests/huge").refused(403, "DENIED");
    assert!(reply.text().contains("far/app may hold 3000 bytes"), "{}", reply.text());
    near.get("/v2/far/app/manifests/v0").expect(200);
}

/// Those who ask at the same time stay within the quota together, and all get what they asked for.
#[test]
fn many_at_once_stay_within_the_quota() {
    let origin = Server::start("");
    let layers: Vec<Vec<u8>> = (1..9).map(|n| noise(2 * n + 1, 300_000)).collect();
    let slices: Vec<&[u8]> = layers.iter().map(Vec::as_slice).collect();
    origin.push_image("app", "1", &slices);
    let near = cache(&origin, 700_000, "");
    near.get("/v2/far/app/manifests/1").expect(200);
    std::thread::scope(|scope| {
        for n in 0..16 {
            let (near, layer) = (&near, &layers[n % 8]);
            scope.spawn(move || assert!(near.get(&place(layer)).expect(200).body == *layer));
        }
    });
    collect(&near);
    let kept = layers.iter().filter(|layer| near.blob_path(&digest(layer)).exists()).count();
    assert!((1..=2).contains(&kept), "{kept} of 300 kB are kept of 700 kB");
}

/// What is copied without being asked for is held to the quota: nothing goes for it.
#[test]
fn mirrors_stop_at_the_quota() {
    let origin = Server::start("");
    let (one, two) = (noise(1, 3000), noise(3, 3000));
    origin.push_image("app", "v1", &[&one]);
    origin.push_image("app", "v2", &[&two]);
    let near = cache(&origin, 5000, "mirror = ['app:v*']");
    let end = Instant::now() + Duration::from_secs(10);
    while !near.get("/v2/far/app/tags/list").text().contains("v2") {
        assert!(Instant::now() < end, "nothing was copied");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(near.blob_path(&digest(&one)).exists() && !near.blob_path(&digest(&two)).exists());
    assert_eq!(near.metric("cache_evicted_total"), 0);
    // Who asks for it gets it, in place of the other.
    assert!(near.get(&place(&two)).expect(200).body == two);
    assert_eq!(near.metric("cache_evicted_total"), 1);
}
