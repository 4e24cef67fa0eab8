//! The specification, as tables: each way of asking, over each kind of content.

use gantry_model::digest::{Algorithm, Digest};

use crate::kit::{INDEX, MANIFEST, Reply, Server, checked, descriptor, digest_of, manifest, noise};

const DOCKER: &str = "application/vnd.docker.distribution.manifest.v2+json";
const LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
// How many answers each test checks, at least: 1366 together, the pushes that prepare others among them. Each has its
// status verified, a refusal its code, and the others what the specification says of their headers and bodies.
const BLOBS: u64 = 1092;
const MANIFESTS: u64 = 165;
const DELETES: u64 = 15;
const LISTS: u64 = 40;
const TAGS_AS_PARAMETERS: u64 = 8;
const REFERRERS: u64 = 27;
const REFUSALS: u64 = 19;
const CONFIG: &[u8] = br#"{"architecture":"amd64","os":"linux"}"#;

/// One way of pushing a blob.
type Push = fn(&Server, &str, &Digest, &[u8]);

fn post(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest={digest}")).body(bytes).send();
    check_created(&reply.expect(201), repository, digest);
}

fn begin(server: &Server, repository: &str, digest: &Digest) -> String {
    let algorithm = digest.algorithm().as_str();
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/?digest-algorithm={algorithm}")).send();
    reply.expect(202).header("location").unwrap().to_owned()
}

fn check_created(reply: &Reply, repository: &str, digest: &Digest) {
    assert_eq!(reply.header("location"), Some(format!("/v2/{repository}/blobs/{digest}").as_str()));
    assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
}

fn post_put(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let place = begin(server, repository, digest);
    let reply = server.call("PUT", &format!("{place}?digest={digest}")).body(bytes).send();
    check_created(&reply.expect(201), repository, digest);
}

fn stream(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let place = begin(server, repository, digest);
    let reply = server.call("PATCH", &place).header("Content-Length", &bytes.len().to_string()).body(bytes).send();
    let place = reply.expect(202).header("location").unwrap().to_owned();
    let reply = server.call("PUT", &format!("{place}?digest={digest}")).send();
    check_created(&reply.expect(201), repository, digest);
}

fn chunks(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let mut place = begin(server, repository, digest);
    let size = bytes.len().div_ceil(3).max(1);
    let mut offset = 0;
    for chunk in bytes.chunks(size) {
        let end = offset + chunk.len() - 1;
        let reply = server.call("PATCH", &place).header("Content-Range", &format!("{offset}-{end}")).body(chunk).send();
        let reply = reply.expect(202);
        assert_eq!(reply.header("range"), Some(format!("0-{end}").as_str()));
        reply.header("location").unwrap().clone_into(&mut place);
        let status = server.get(&place).expect(204);
        assert_eq!(status.header("range"), Some(format!("0-{end}").as_str()));
        offset = end + 1;
    }
    let reply = server.call("PUT", &format!("{place}?digest={digest}")).send();
    check_created(&reply.expect(201), repository, digest);
}

fn last_chunk_in_put(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let place = begin(server, repository, digest);
    let (first, last) = bytes.split_at(bytes.len() / 2);
    if !first.is_empty() {
        let range = format!("0-{}", first.len() - 1);
        server.call("PATCH", &place).header("Content-Range", &range).body(first).send().expect(202);
    }
    let mut call = server.call("PUT", &format!("{place}?digest={digest}"));
    if !last.is_empty() {
        call = call.header("Content-Range", &format!("{}-{}", first.len(), bytes.len() - 1));
    }
    check_created(&call.body(last).send().expect(201), repository, digest);
}

fn mount(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    post(server, "source", digest, bytes);
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=source")).send();
    check_created(&reply.expect(201), repository, digest);
}

fn mount_of_nothing(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/?mount={digest}&from=nowhere")).send();
    let place = reply.expect(202).header("location").unwrap().to_owned();
    server.call("PUT", &format!("{place}?digest={digest}")).body(bytes).send().expect(201);
}

fn anonymous_mount(server: &Server, repository: &str, digest: &Digest, bytes: &[u8]) {
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/?mount={digest}")).send();
    let place = reply.expect(202).header("location").unwrap().to_owned();
    server.call("PUT", &format!("{place}?digest={digest}")).body(bytes).send().expect(201);
}

#[test]
fn blobs() {
    let server = Server::start("");
    let ways: [(&str, Push); 8] = [
        ("post", post),
        ("post-put", post_put),
        ("stream", stream),
        ("chunks", chunks),
        ("last-chunk", last_chunk_in_put),
        ("mount", mount),
        ("mount-nothing", mount_of_nothing),
        ("mount-anonymous", anonymous_mount),
    ];
    let contents = [vec![], b"{}".to_vec(), noise(1, 1000), noise(2, 1 << 20), noise(3, (3 << 20) + 1)];
    for (name, push) in ways {
        for algorithm in Algorithm::ALL {
            for bytes in &contents {
                let repository = format!("blobs/{name}");
                let digest = digest_of(algorithm, bytes);
                let path = format!("/v2/{repository}/blobs/{digest}");
                server.get(&path).refused(404, "BLOB_UNKNOWN");
                push(&server, &repository, &digest, bytes);
                pull(&server, &path, &digest, bytes);
                server.call("DELETE", &path).send().expect(202);
                server.get(&path).refused(404, "BLOB_UNKNOWN");
                server.call("DELETE", &path).send().refused(404, "BLOB_UNKNOWN");
                server.call("HEAD", &path).send().expect(404);
            }
        }
    }
    checked("blobs", BLOBS);
}

/// Reads a blob in each way.
fn pull(server: &Server, path: &str, digest: &Digest, bytes: &[u8]) {
    let head = server.call("HEAD", path).send().expect(200);
    let reply = server.get(path).expect(200);
    for reply in [&head, &reply] {
        assert_eq!(reply.header("content-length"), Some(bytes.len().to_string().as_str()));
        assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
    }
    assert!(reply.body == bytes, "{digest} came back changed");
    let size = bytes.len();
    let part = |range: &str, expect: Option<&[u8]>, status: u16| {
        let reply = server.call("GET", path).header("Range", range).send().expect(status);
        if let Some(expect) = expect {
            assert!(reply.body == expect, "{range}");
        }
        reply.header("content-range").map(str::to_owned)
    };
    if size < 10 {
        part("bytes=100-", None, 416);
        return;
    }
    assert_eq!(part("bytes=0-9", Some(&bytes[..10]), 206), Some(format!("bytes 0-9/{size}")));
    part("bytes=5-", Some(&bytes[5..]), 206);
    part("bytes=-7", Some(&bytes[size - 7..]), 206);
    assert_eq!(part(&format!("bytes={size}-"), None, 416), Some(format!("bytes */{size}")));
    part("bytes=9-3", Some(bytes), 200);
    part("bytes=0-1,3-4", Some(bytes), 200);
}

/// A manifest of so many bytes.
fn padded(size: usize) -> String {
    let pad = size - manifest(CONFIG, &[], ",\"annotations\":{\"pad\":\"\"}").len();
    manifest(CONFIG, &[], &format!(",\"annotations\":{{\"pad\":\"{}\"}}", "x".repeat(pad)))
}

#[test]
fn manifests() {
    let server = Server::start("");
    let layer = noise(4, 5000);
    for bytes in [CONFIG, &layer, b"{}"] {
        server.push_blob("m", bytes);
    }
    let image = manifest(CONFIG, &[&layer], "");
    let child = descriptor(MANIFEST, image.as_bytes());
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{child},{child}]}}"#);
    let nested = descriptor(INDEX, index.as_bytes());
    let elsewhere = digest_of(Algorithm::Sha256, b"elsewhere");
    let foreign = manifest(CONFIG, &[], "").replace(
        "\"layers\":[]",
        &format!(
            r#""layers":[{{"mediaType":"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip","digest":"{elsewhere}","size":9,"urls":["https://example.org/x"]}}]"#
        ),
    );
    let empty = descriptor("application/vnd.oci.empty.v1+json", b"{}");
    let missing = format!(",\"subject\":{}", descriptor(MANIFEST, b"none"));
    let kinds = [
        ("image", MANIFEST, image.clone()),
        ("spaced", MANIFEST, format!("  {}\n\n", image.replace(",\"layers\"", " ,\n\t\"layers\""))),
        ("untyped", MANIFEST, image.replace(&format!("\"mediaType\":\"{MANIFEST}\",\"config\""), "\"config\"")),
        ("no-layers", MANIFEST, manifest(CONFIG, &[], "")),
        ("custom", MANIFEST, manifest(CONFIG, &[], ",\"x\":{\"y\":[1,2.50]}")),
        (
            "artifact",
            MANIFEST,
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","artifactType":"a/b","config":{empty},"layers":[{empty}]}}"#
            ),
        ),
        ("docker", DOCKER, image.replace(MANIFEST, DOCKER)),
        ("foreign", MANIFEST, foreign),
        ("large", MANIFEST, padded(4 << 20)),
        ("index", INDEX, index.clone()),
        ("nested", INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{nested},{child}]}}"#)),
        ("docker-list", LIST, index.replace(INDEX, LIST)),
        ("artifact-index", INDEX, index.replace("\"manifests\"", "\"artifactType\":\"a/b\",\"manifests\"")),
        ("empty-index", INDEX, format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#)),
        ("missing-subject", MANIFEST, manifest(CONFIG, &[], &missing)),
    ];
    for (name, media_type, text) in &kinds {
        for algorithm in Algorithm::ALL {
            let digest = digest_of(algorithm, text.as_bytes());
            let target = if algorithm == Algorithm::Sha256 { (*name).to_owned() } else { digest.to_string() };
            let reply = server.push_manifest("m", &target, media_type, text).expect(201);
            assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
            for target in [target, digest.to_string()] {
                let path = format!("/v2/m/manifests/{target}");
                for method in ["GET", "HEAD"] {
                    let reply = server.call(method, &path).send().expect(200);
                    assert_eq!(reply.header("content-type"), Some(*media_type), "{name}");
                    assert_eq!(reply.header("docker-content-digest"), Some(digest.to_string().as_str()));
                    assert_eq!(reply.header("content-length"), Some(text.len().to_string().as_str()));
                    assert!(method == "HEAD" || reply.body == text.as_bytes(), "{name}");
                }
            }
        }
    }
    server.push_manifest("m", "huge", MANIFEST, &padded((4 << 20) + 1)).refused(413, "MANIFEST_INVALID");
    let refused = [
        ("no json", MANIFEST, 400, "MANIFEST_INVALID"),
        ("{\"schemaVersion\":1}", MANIFEST, 400, "MANIFEST_INVALID"),
        (&image, INDEX, 400, "MANIFEST_INVALID"),
        (&manifest(b"absent", &[], ""), MANIFEST, 400, "MANIFEST_BLOB_UNKNOWN"),
        (&manifest(CONFIG, &[b"absent"], ""), MANIFEST, 400, "MANIFEST_BLOB_UNKNOWN"),
    ];
    for (text, media_type, status, code) in refused {
        server.push_manifest("m", "refused", media_type, text).refused(status, code);
    }
    server.get("/v2/m/manifests/refused").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/none/manifests/refused").refused(404, "NAME_UNKNOWN");
    server
        .push_manifest("m", &digest_of(Algorithm::Sha256, b"x").to_string(), MANIFEST, &image)
        .refused(400, "DIGEST_INVALID");
    server.push_manifest("m", "sha256:bad", MANIFEST, &image).refused(400, "DIGEST_INVALID");
    for path in ["/v2/m/manifests/refused", "/v2/none/manifests/x"] {
        server.call("HEAD", path).send().expect(404);
    }
    checked("manifests", MANIFESTS);
}

#[test]
fn deletes() {
    let mut server = Server::start("");
    let digest = server.push_image("d", "one", &[b"layer"]);
    server.push_manifest("d", "two", MANIFEST, &server.get("/v2/d/manifests/one").text()).expect(201);
    let blob = digest_of(Algorithm::Sha256, b"layer");
    server.call("DELETE", &format!("/v2/d/blobs/{blob}")).send().refused(405, "DENIED");
    server.call("DELETE", "/v2/d/manifests/one").send().expect(202);
    server.get("/v2/d/manifests/one").refused(404, "MANIFEST_UNKNOWN");
    server.get("/v2/d/manifests/two").expect(200);
    server.call("DELETE", "/v2/d/manifests/one").send().refused(404, "MANIFEST_UNKNOWN");
    server.restart();
    server.get("/v2/d/manifests/one").refused(404, "MANIFEST_UNKNOWN");
    server.call("DELETE", &format!("/v2/d/manifests/{digest}")).send().expect(202);
    for target in ["two", &digest.to_string()] {
        server.get(&format!("/v2/d/manifests/{target}")).refused(404, "MANIFEST_UNKNOWN");
    }
    server.call("DELETE", &format!("/v2/d/blobs/{blob}")).send().expect(202);
    server.call("DELETE", "/v2/none/manifests/x").send().refused(404, "NAME_UNKNOWN");
    checked("deletes", DELETES);
}

#[test]
fn lists() {
    let mut server = Server::start("");
    let names = ["b", "a", "v10", "v2", "Z", "_x"];
    for name in names {
        server.push_image("l/tags", name, &[b"layer"]);
    }
    server.push_image("l", "x", &[b"layer"]);
    server.get("/v2/none/tags/list").refused(404, "NAME_UNKNOWN");
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let check = |query: &str, expect: &[&str], next: Option<&str>| {
            let reply = server.get(&format!("/v2/l/tags/tags/list{query}")).expect(200);
            assert_eq!(reply.json(), serde_json::json!({"name": "l/tags", "tags": expect}), "{query}");
            let next = next.map(|next| format!("</v2/l/tags/tags/list{next}>; rel=\"next\""));
            assert_eq!(reply.header("link"), next.as_deref(), "{query}");
        };
        check("", &["Z", "_x", "a", "b", "v10", "v2"], None);
        check("?n=2", &["Z", "_x"], Some("?n=2&last=_x"));
        check("?n=2&last=_x", &["a", "b"], Some("?n=2&last=b"));
        check("?n=2&last=b", &["v10", "v2"], None);
        check("?n=0", &[], None);
        check("?n=100&last=zzz", &[], None);
        check("?last=aa", &["b", "v10", "v2"], None);
        server.get("/v2/l/tags/tags/list?n=x").refused(400, "UNSUPPORTED");
        let catalog = server.get("/v2/_catalog?n=1").expect(200);
        assert_eq!(catalog.json(), serde_json::json!({"repositories": ["l"]}));
        assert_eq!(catalog.header("link"), Some("</v2/_catalog?n=1&last=l>; rel=\"next\""));
        assert_eq!(server.get("/v2/_catalog?last=l").json(), serde_json::json!({"repositories": ["l/tags"]}));
    }
    checked("lists", LISTS);
}

#[test]
fn tags_as_parameters() {
    let server = Server::start("");
    let digest = server.push_image("t", "x", &[b"layer"]);
    let text = server.get("/v2/t/manifests/x").text();
    let reply = server.push_manifest("t", &format!("{digest}?tag=a&tag=b"), MANIFEST, &text).expect(201);
    assert_eq!(reply.header("oci-tag"), Some("a"));
    for tag in ["a", "b"] {
        server.get(&format!("/v2/t/manifests/{tag}")).expect(200);
    }
    server.push_manifest("t", &format!("{digest}?tag=.bad"), MANIFEST, &text).refused(400, "TAG_INVALID");
    let many = (0..101).map(|n| format!("&tag=t{n}")).collect::<Vec<_>>().concat();
    server.push_manifest("t", &format!("{digest}?{}", &many[1..]), MANIFEST, &text).refused(414, "TAG_INVALID");
    checked("tags as parameters", TAGS_AS_PARAMETERS);
}

#[test]
fn referrers() {
    let mut server = Server::start("");
    let subject = server.push_image("r", "x", &[b"layer"]);
    let place = format!("/v2/r/referrers/{subject}");
    let empty = server.get(&format!("/v2/none/referrers/{subject}")).expect(200);
    assert_eq!(empty.json()["manifests"], serde_json::json!([]));
    assert_eq!(empty.header("content-type"), Some(INDEX));
    server.get("/v2/r/referrers/bad").refused(400, "DIGEST_INVALID");
    let about = format!(
        ",\"subject\":{{\"mediaType\":\"{MANIFEST}\",\"digest\":\"{subject}\",\"size\":1}},\"annotations\":{{\"k\":\"v\"}}"
    );
    for (number, kind) in ["a/sbom+json", "a/sbom+json", "a/sig", ""].into_iter().enumerate() {
        let kind = if kind.is_empty() { String::new() } else { format!(",\"artifactType\":\"{kind}\"") };
        let text = manifest(CONFIG, &[], &format!("{about}{kind},\"n\":{number}"));
        server.push_blob("r", CONFIG);
        let digest = digest_of(Algorithm::Sha256, text.as_bytes());
        let reply = server.push_manifest("r", &digest.to_string(), MANIFEST, &text).expect(201);
        assert_eq!(reply.header("oci-subject"), Some(subject.to_string().as_str()));
    }
    let index = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]{about}}}"#);
    server.push_manifest("r", "index", INDEX, &index).expect(201);
    for restarted in [false, true] {
        if restarted {
            server.restart();
        }
        let all = server.get(&place).expect(200);
        let list = all.json()["manifests"].as_array().unwrap().clone();
        assert_eq!((list.len(), all.header("oci-filters-applied")), (5, None));
        assert!(list.iter().all(|one| one["annotations"]["k"] == "v"));
        let kind = |one: &serde_json::Value| one["artifactType"].as_str().unwrap_or("none").to_owned();
        let mut kinds: Vec<String> = list.iter().map(kind).collect();
        kinds.sort();
        let config = "application/vnd.oci.image.config.v1+json";
        assert_eq!(kinds, ["a/sbom+json", "a/sbom+json", "a/sig", config, "none"]);
        for filter in ["a/sbom+json", "a/sbom%2Bjson"] {
            let some = server.get(&format!("{place}?artifactType={filter}")).expect(200);
            assert_eq!(some.json()["manifests"].as_array().unwrap().len(), 2);
            assert_eq!(some.header("oci-filters-applied"), Some("artifactType"));
        }
        assert_eq!(server.get(&format!("{place}?artifactType=none")).json()["manifests"], serde_json::json!([]));
        let (mut seen, mut next, mut pages) = (vec![], Some(format!("{place}?n=2")), 0);
        while let Some(path) = next {
            let page = server.get(&path).expect(200);
            seen.extend(page.json()["manifests"].as_array().unwrap().clone());
            next = page.header("link").and_then(|l| l.split(['<', '>']).nth(1)).map(str::to_owned);
            pages += 1;
        }
        assert_eq!((seen, pages), (list, 3));
    }
    let gone = server.get(&place).json()["manifests"][0]["digest"].as_str().unwrap().to_owned();
    server.call("DELETE", &format!("/v2/r/manifests/{gone}")).send().expect(202);
    assert_eq!(server.get(&place).json()["manifests"].as_array().unwrap().len(), 4);
    checked("referrers", REFERRERS);
}

#[test]
fn refusals() {
    let server = Server::start("");
    let digest = digest_of(Algorithm::Sha256, b"x");
    let check = |method: &str, path: &str, status: u16, code: &str| {
        server.call(method, path).send().refused(status, code);
    };
    check("GET", "/v2/UPPER/tags/list", 400, "NAME_INVALID");
    check("GET", "/v2/a/../b/tags/list", 400, "NAME_INVALID");
    check("POST", "/v2/-/blobs/uploads/", 400, "NAME_INVALID");
    check("GET", "/v2/a/blobs/sha256:xyz", 400, "DIGEST_INVALID");
    check("GET", "/v2/a/blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID");
    check("PUT", "/v2/a/manifests/.tag", 400, "TAG_INVALID");
    check("POST", "/v2/a/blobs/uploads/?digest-algorithm=md5", 400, "DIGEST_INVALID");
    check("POST", "/v2/a/blobs/uploads/?digest=nothing", 400, "DIGEST_INVALID");
    check("POST", &format!("/v2/a/blobs/uploads/?digest={digest}"), 400, "DIGEST_INVALID");
    check("POST", &format!("/v2/a/blobs/uploads/?mount={digest}&from=BAD"), 400, "NAME_INVALID");
    check("PATCH", "/v2/a/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN");
    check("GET", "/v2/a/blobs/uploads/none", 404, "BLOB_UPLOAD_UNKNOWN");
    check("POST", "/v2/a/tags/list", 405, "UNSUPPORTED");
    check("GET", "/v3/", 404, "UNSUPPORTED");
    let reply = server.get("/v2/").expect(200);
    assert_eq!(reply.header("docker-distribution-api-version"), Some("registry/2.0"));
    server.get("/healthz").expect(200);
    server.get("/readyz").expect(200);
    server.get("/token").refused(404, "UNSUPPORTED");
    server.get("/metrics").refused(404, "UNSUPPORTED");
    checked("refusals", REFUSALS);
}
