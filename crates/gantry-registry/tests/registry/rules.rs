//! Rules of the house: retention, immutable tags, quotas.

use crate::kit::{MANIFEST, RUNTIME, Server, noise};

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
        let digest = crate::kit::digest_of(gantry_model::digest::Algorithm::Sha256, bytes);
        server.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}")).body(bytes).send()
    };
    let reply = push("small/a", &noise(2, 2000)).refused(403, "DENIED");
    assert!(reply.text().contains("10000"), "{}", reply.text());
    push("small/b", &noise(2, 2000)).expect(201);
    push("other", &noise(3, 20_000)).expect(201);
    // Neither a mount nor a stream gets around it.
    let digest = crate::kit::digest_of(gantry_model::digest::Algorithm::Sha256, &noise(2, 2000));
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
    let big = crate::kit::digest_of(gantry_model::digest::Algorithm::Sha256, &noise(1, 9000));
    server.call("DELETE", &format!("/v2/small/a/blobs/{big}")).send().expect(202);
    push("small/a", &noise(2, 2000)).expect(201);
}
