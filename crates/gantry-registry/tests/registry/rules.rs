//! Rules of the house: retention, immutable tags, quotas.

use gantry_model::digest::Algorithm;

use crate::kit::{MANIFEST, OPERATED, RUNTIME, Server, digest_of, manifest, noise};

fn tags(server: &Server, repository: &str) -> Vec<String> {
    let list = server.get(&format!("/v2/{repository}/tags/list")).json();
    list["tags"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect()
}

#[test]
fn retention() {
    let mut server = Server::start(
        "[[retention.rules]]\ntags = ['v*']\ncount = 2\n[[retention.rules]]\ntags = ['pr-*']\nage = '1d'\n\
         [[retention.rules]]\nuntagged = true\nage = '1h'\n",
    );
    for (n, tag) in ["v1", "v2", "v3", "pr-1", "main"].into_iter().enumerate() {
        server.push_image("keep", tag, &[&[n as u8; 10]]);
        server.pass(60);
    }
    let retain = |server: &Server, dry_run: bool| {
        let removed = RUNTIME.block_on(server.registry().retain(dry_run)).unwrap();
        let mut names: Vec<String> =
            removed.into_iter().map(|r| r.tag.unwrap_or_else(|| "untagged".to_owned())).collect();
        names.sort();
        names
    };
    assert_eq!(retain(&server, true), ["v1"]);
    assert_eq!(tags(&server, "keep"), ["main", "pr-1", "v1", "v2", "v3"]);
    assert_eq!(retain(&server, false), ["v1"]);
    assert_eq!(tags(&server, "keep"), ["main", "pr-1", "v2", "v3"]);
    server.pass(86_400);
    server.restart();
    assert_eq!(retain(&server, false), ["pr-1", "untagged"]);
    assert_eq!(retain(&server, false), ["untagged"]);
    assert_eq!(tags(&server, "keep"), ["main", "v2", "v3"]);
    assert!(retain(&server, false).is_empty());
    for tag in ["main", "v2", "v3"] {
        server.get(&format!("/v2/keep/manifests/{tag}")).expect(200);
    }
}

#[test]
fn rules_and_collections_are_applied_by_themselves() {
    let start = |dry_run: bool| {
        let server = Server::start(&format!(
            "{OPERATED}[gc]\ninterval = 1\ngrace = '1h'\n[retention]\ninterval = 1\ndry_run = {dry_run}\n\
             [[retention.rules]]\ntags = ['old-*']\nage = '1d'"
        ));
        server.push_image("app", "old-1", &[b"layer"]);
        server.push_image("app", "new-1", &[b"layer"]);
        server.pass(86_400);
        server
    };
    for (server, expect) in [(start(true), &["new-1", "old-1"][..]), (start(false), &["new-1"])] {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while server.metric("gc_runs_total") < 2 {
            assert!(std::time::Instant::now() < end, "nothing was collected");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(tags(&server, "app"), expect);
        assert_eq!(server.metric("retention_removed_total"), 2 - expect.len() as u64);
    }
}

/// Many at once; how many may succeed is known, which of them is not.
#[test]
fn rules_hold_against_races() {
    let server = Server::start("[[immutable]]\ntags = ['v*']\n[[quota]]\nrepositories = ['small']\nbytes = 10000");
    let race = |push: &(dyn Fn(u64) -> u16 + Sync)| {
        std::thread::scope(|scope| {
            let pushers: Vec<_> = (0..8).map(|n| scope.spawn(move || push(n))).collect();
            let mut statuses: Vec<u16> = pushers.into_iter().map(|pusher| pusher.join().unwrap()).collect();
            statuses.sort_unstable();
            statuses
        })
    };
    let push_blob = |repository: &str, bytes: &[u8]| {
        let path = format!("/v2/{repository}/blobs/uploads/?digest={}", digest_of(Algorithm::Sha256, bytes));
        server.call("POST", &path).body(bytes).send().status
    };
    assert_eq!(race(&|n| push_blob("small", &noise(2 * n, 3000))), [201, 201, 201, 403, 403, 403, 403, 403]);
    server.push_blob("app", b"{}");
    let image = |n| manifest(b"{}", &[], &format!(",\"n\":{n}"));
    let statuses = race(&|n| server.push_manifest("app", "v1", MANIFEST, &image(n)).status);
    assert_eq!(statuses, [201, 403, 403, 403, 403, 403, 403, 403]);
    let won = server.get("/v2/app/manifests/v1").expect(200).text();
    server.push_manifest("app", "v1", MANIFEST, &won).expect(201);
}

#[test]
fn immutable_tags() {
    let server = Server::start("[[immutable]]\nrepositories = ['prod/*']\ntags = ['v*']");
    let digest = server.push_image("prod/app", "v1", &[b"one"]);
    let first = server.get("/v2/prod/app/manifests/v1").text();
    // The same again is no move.
    server.push_manifest("prod/app", "v1", MANIFEST, &first).expect(201);
    server.push_image("prod/app", "latest", &[b"two"]);
    let second = server.get("/v2/prod/app/manifests/latest").text();
    let reply = server.push_manifest("prod/app", "v1", MANIFEST, &second).refused(403, "DENIED");
    assert!(reply.text().contains("immutable"));
    // Neither does a push by digest move it.
    let by_digest = format!("{}?tag=v1", digest_of(Algorithm::Sha256, second.as_bytes()));
    server.push_manifest("prod/app", &by_digest, MANIFEST, &second).refused(403, "DENIED");
    server.push_manifest("prod/app", "latest", MANIFEST, &first).expect(201);
    server.push_manifest("prod/app", "v2", MANIFEST, &second).expect(201);
    server.call("DELETE", "/v2/prod/app/manifests/v1").send().refused(403, "DENIED");
    server.call("DELETE", &format!("/v2/prod/app/manifests/{digest}")).send().refused(403, "DENIED");
    server.call("DELETE", "/v2/prod/app/manifests/latest").send().expect(202);
    assert_eq!(server.get("/v2/prod/app/manifests/v1").text(), first);
    server.push_image("test/app", "v1", &[b"one"]);
    server.push_image("test/app", "v1", &[b"two"]);
}

#[test]
fn quotas() {
    let server = Server::start("[[quota]]\nrepositories = ['small/*']\nbytes = 10000");
    server.push_blob("small/a", &noise(1, 9000));
    let push = |repository: &str, bytes: &[u8]| {
        let digest = digest_of(Algorithm::Sha256, bytes);
        server.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}")).body(bytes).send()
    };
    let reply = push("small/a", &noise(2, 2000)).refused(403, "DENIED");
    assert!(reply.text().contains("10000"), "{}", reply.text());
    push("small/b", &noise(2, 2000)).expect(201);
    push("other", &noise(3, 20_000)).expect(201);
    // Neither a mount nor a stream gets around it.
    let digest = digest_of(Algorithm::Sha256, &noise(2, 2000));
    let mount = format!("/v2/small/a/blobs/uploads/?mount={digest}&from=small/b");
    server.call("POST", &mount).send().refused(403, "DENIED");
    let place = server.call("POST", "/v2/small/a/blobs/uploads/").send().expect(202);
    let place = place.header("location").unwrap();
    let parts: Vec<u16> =
        noise(2, 2000).chunks(900).map(|part| server.call("PATCH", place).body(part).send().status).collect();
    assert!(parts.contains(&403), "{parts:?}");
    // What had no room is missing from it.
    server.call("PUT", &format!("{place}?digest={digest}")).send().refused(400, "DIGEST_INVALID");
    server.get(&format!("/v2/small/a/blobs/{digest}")).expect(404);
    // What is deleted counts no more.
    let big = digest_of(Algorithm::Sha256, &noise(1, 9000));
    server.call("DELETE", &format!("/v2/small/a/blobs/{big}")).send().expect(202);
    push("small/a", &noise(2, 2000)).expect(201);
}
