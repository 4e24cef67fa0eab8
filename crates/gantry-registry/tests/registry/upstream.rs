//! A cache of another registry: what is fetched when, and what is served when the other is gone.

use gantry_model::digest::Algorithm;

use crate::kit::{Directory, INDEX, OPERATED, Server, digest_of, noise};

fn cache(of: &Server, more: &str) -> Server {
    let name = of.address;
    Server::start(&format!("{OPERATED}[[upstream]]\nname = '{name}'\nprefix = 'far'\nplain_http = true\n{more}"))
}

#[test]
fn what_is_asked_for_is_fetched_once_and_kept() {
    let mut origin = Server::start("");
    let layer = noise(7, 3_000_000);
    let digest = origin.push_image("team/web", "1", &[&layer]);
    let near = cache(&origin, "refresh = 60");
    let blob = format!("/v2/far/team/web/blobs/{}", digest_of(Algorithm::Sha256, &layer));
    near.get(&blob).refused(404, "BLOB_UNKNOWN");
    let manifest = near.get("/v2/far/team/web/manifests/1").expect(200);
    assert_eq!(manifest.header("docker-content-digest"), Some(digest.to_string().as_str()));
    let head = near.call("HEAD", &blob).send().expect(200);
    assert_eq!(head.header("content-length"), Some("3000000"));
    // Many at once are served, and whole.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(near.get(&blob).expect(200).body == layer));
        }
    });
    // The namespace of a mirror's client names the registry in place of the prefix.
    let by_namespace = format!("/v2/team/web/manifests/{digest}?ns={}", origin.address);
    let reply = near.get(&by_namespace).expect(200);
    assert_eq!(reply.header("oci-namespace"), Some(origin.address.to_string().as_str()));
    near.get(&format!("/v2/team/web/manifests/{digest}?ns=elsewhere.example.org")).refused(404, "NAME_UNKNOWN");
    near.call("POST", "/v2/far/team/web/blobs/uploads/").send().refused(403, "DENIED");
    near.get("/v2/far/team/web/manifests/none").refused(404, "MANIFEST_UNKNOWN");
    near.get("/v2/far/none/manifests/1").refused(404, "NAME_UNKNOWN");
    near.get("/v2/team/web/manifests/1").refused(404, "NAME_UNKNOWN");
    // Without the other, what is here is served, also when its tags are to be looked up again.
    origin.stop();
    near.pass(3600);
    assert!(near.get(&blob).expect(200).body == layer);
    near.get("/v2/far/team/web/manifests/1").expect(200);
    assert_eq!(near.get("/v2/far/team/web/manifests/2").status, 502);
    assert!(near.metric("cache_hits_total") > 0 && near.metric("cache_misses_total") > 0);
}

#[test]
fn what_is_damaged_there_does_not_come_here() {
    let origin = Server::start("");
    let layer = noise(9, 200_000);
    let digest = origin.push_image("app", "1", &[&layer]);
    let near = cache(&origin, "");
    let path = origin.blob_path(&digest_of(Algorithm::Sha256, &layer));
    let manifest = format!("store/repos/app/manifests/sha256-{}", digest.hex());
    let manifest = origin.directory.path().join(manifest);
    let whole = std::fs::read(&manifest).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() = b' ';
    std::fs::write(&manifest, damaged).unwrap();
    assert_eq!(near.get(&format!("/v2/far/app/manifests/{digest}")).status, 502);
    std::fs::write(&manifest, whole).unwrap();
    near.get(&format!("/v2/far/app/manifests/{digest}")).expect(200);
    let blob = format!("/v2/far/app/blobs/{}", digest_of(Algorithm::Sha256, &layer));
    std::fs::write(&path, vec![0; layer.len()]).unwrap();
    assert_eq!(near.get(&blob).status, 502);
    assert!(!near.blob_path(&digest_of(Algorithm::Sha256, &layer)).exists());
    std::fs::write(&path, &layer).unwrap();
    assert!(near.get(&blob).expect(200).body == layer);
}

#[test]
fn it_has_credentials_of_its_own() {
    let text = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    for scheme in ["basic", "token"] {
        let origin = crate::access::start(&format!("scheme = '{scheme}'"));
        let put = origin.call("PUT", "/v2/team/app/manifests/1").header("Content-Type", INDEX);
        put.basic("ann", "a").body(text.as_bytes()).send().expect(201);
        for (password, status) in [("a\n", 200), ("wrong", 502)] {
            let directory = Directory::new();
            std::fs::write(directory.path().join("password"), password).unwrap();
            let upstream = format!("[[upstream]]\nname = '{}'\nprefix = 'far'\nplain_http = true\n", origin.address);
            let near =
                Server::start_in(&format!("{upstream}username = 'ann'\npassword_file = '@/password'"), directory);
            assert_eq!(near.get("/v2/far/team/app/manifests/1").status, status, "{scheme} {password:?}");
        }
    }
}

#[test]
fn tags_are_looked_up_again() {
    let origin = Server::start("");
    let old = origin.push_image("app", "latest", &[b"old"]);
    let near = cache(&origin, "refresh = 60");
    let seen =
        || near.get("/v2/far/app/manifests/latest").expect(200).header("docker-content-digest").map(str::to_owned);
    assert_eq!(seen(), Some(old.to_string()));
    let new = origin.push_image("app", "latest", &[b"new"]);
    assert_eq!(seen(), Some(old.to_string()), "it is young");
    near.pass(61);
    assert_eq!(seen(), Some(new.to_string()));
    origin.call("DELETE", "/v2/app/manifests/latest").send().expect(202);
    near.pass(61);
    near.get("/v2/far/app/manifests/latest").refused(404, "MANIFEST_UNKNOWN");
}

#[test]
fn mirrors_copy_without_being_asked() {
    let mut origin = Server::start("");
    origin.push_image("app", "v1", &[b"one"]);
    origin.push_image("app", "v2", &[b"two"]);
    origin.push_image("app", "test", &[b"three"]);
    let near = cache(&origin, "mirror = ['app:v*']");
    let two = format!("/v2/far/app/blobs/{}", digest_of(Algorithm::Sha256, b"two"));
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    let tags = || near.get("/v2/far/app/tags/list").body;
    while !(String::from_utf8_lossy(&tags()).contains("v2") && near.get(&two).status == 200) {
        assert!(std::time::Instant::now() < end, "nothing was copied: {}", String::from_utf8_lossy(&tags()));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    origin.stop();
    near.get("/v2/far/app/manifests/v1").expect(200);
    assert_eq!(near.get("/v2/far/app/manifests/test").status, 502);
}
