//! Uploads that are cut off, come in the wrong order, meet each other, or are left.

use std::io::Write as _;
use std::time::{Duration, Instant};

use gantry_model::digest::Algorithm;

use crate::kit::{Server, digest_of, noise};

fn begin(server: &Server, repository: &str) -> String {
    let reply = server.call("POST", &format!("/v2/{repository}/blobs/uploads/")).send().expect(202);
    reply.header("location").unwrap().to_owned()
}

fn offset(server: &Server, place: &str) -> usize {
    let reply = server.get(place).expect(204);
    let last: usize = reply.header("range").unwrap().strip_prefix("0-").unwrap().parse().unwrap();
    if last == 0 { 0 } else { last + 1 }
}

#[test]
fn a_cut_upload_goes_on_where_it_ended() {
    let mut server = Server::start("");
    let bytes = noise(11, 5 << 20);
    let digest = digest_of(Algorithm::Sha256, &bytes);
    let place = begin(&server, "cut");
    // Promise all of it, send some, and hang up.
    let call = server.call("PATCH", &place).header("Content-Length", &bytes.len().to_string());
    let mut stream = call.begin();
    stream.write_all(&bytes[..3 << 20]).unwrap();
    drop(stream);
    let begun = Instant::now();
    let mut came = offset(&server, &place);
    while came < 3 << 20 && begun.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(10));
        came = offset(&server, &place);
    }
    assert_eq!(came, 3 << 20);
    // A new server knows it as well, and the hash comes out right.
    server.restart();
    assert_eq!(offset(&server, &place), came);
    let range = format!("{came}-{}", bytes.len() - 1);
    server.call("PATCH", &place).header("Content-Range", &range).body(&bytes[came..]).send().expect(202);
    server.call("PUT", &format!("{place}?digest={digest}")).send().expect(201);
    assert!(server.get(&format!("/v2/cut/blobs/{digest}")).expect(200).body == bytes);
    server.get(&place).refused(404, "BLOB_UPLOAD_UNKNOWN");
}

#[test]
fn parts_come_in_order() {
    let server = Server::start("");
    let bytes = noise(12, 3000);
    let digest = digest_of(Algorithm::Sha256, &bytes);
    let place = begin(&server, "order");
    let patch =
        |range: &str, body: &[u8]| server.call("PATCH", &place).header("Content-Range", range).body(body).send();
    patch("1000-1999", &bytes[1000..2000]).refused(416, "BLOB_UPLOAD_INVALID");
    patch("0-999", &bytes[..1000]).expect(202);
    for range in ["0-999", "500-1499", "2000-2999"] {
        let reply = patch(range, &bytes[..1000]).refused(416, "BLOB_UPLOAD_INVALID");
        assert_eq!(reply.header("range"), Some("0-999"));
        assert_eq!(reply.header("location"), Some(place.as_str()));
    }
    patch("1000-1998", &bytes[1000..2000]).expect(416);
    patch("x", &bytes[1000..2000]).refused(400, "BLOB_UPLOAD_INVALID");
    patch("1000-1999", &bytes[1000..2000]).expect(202);
    let put = format!("{place}?digest={digest}");
    server.call("PUT", &put).header("Content-Range", "0-999").body(&bytes[2000..]).send().expect(416);
    server.call("PUT", &place).body(&[]).send().refused(400, "DIGEST_INVALID");
    server.call("PUT", &put).header("Content-Range", "2000-2999").body(&bytes[2000..]).send().expect(201);
    assert!(server.get(&format!("/v2/order/blobs/{digest}")).body == bytes);
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let server = Server::start("[limits]\nblob = '1MiB'");
    let wrong = digest_of(Algorithm::Sha256, b"other");
    let place = begin(&server, "w");
    server.call("PUT", &format!("{place}?digest={wrong}")).body(b"this").send().refused(400, "DIGEST_INVALID");
    server.get(&place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.get(&format!("/v2/w/blobs/{wrong}")).refused(404, "BLOB_UNKNOWN");
    // Another repository's upload is none of this one's.
    let place = begin(&server, "w");
    server.get(&place.replace("/w/", "/v/")).refused(404, "BLOB_UPLOAD_UNKNOWN");
    server.call("DELETE", &place).send().expect(204);
    server.get(&place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    let place = begin(&server, "w");
    server.call("PATCH", &place).body(&noise(1, (1 << 20) + 1)).send().refused(413, "SIZE_INVALID");
}

#[test]
fn what_is_left_expires() {
    let server = Server::start("[limits]\nupload_ttl = '1h'\nuploads = 3");
    let places: Vec<String> = (0..3).map(|_| begin(&server, "left")).collect();
    server.call("POST", "/v2/left/blobs/uploads/").send().refused(429, "TOOMANYREQUESTS");
    server.pass(3000);
    server.call("PATCH", &places[0]).body(b"still here").send().expect(202);
    server.pass(1000);
    server.registry().expire();
    server.get(&places[0]).expect(204);
    for place in &places[1..] {
        server.get(place).refused(404, "BLOB_UPLOAD_UNKNOWN");
    }
    let left = std::fs::read_dir(server.directory.path().join("store/uploads")).unwrap().count();
    assert_eq!(left, 2, "the bytes and the head of one");
}

#[test]
fn two_who_push_the_same_blob_both_succeed() {
    let server = Server::start("");
    let bytes = noise(13, 1 << 20);
    let digest = digest_of(Algorithm::Sha256, &bytes);
    std::thread::scope(|scope| {
        for n in 0..8 {
            let (server, bytes) = (&server, &bytes);
            scope.spawn(move || server.push_blob(&format!("same/{}", n % 3), bytes));
        }
    });
    for n in 0..3 {
        assert!(server.get(&format!("/v2/same/{n}/blobs/{digest}")).expect(200).body == bytes);
    }
}
