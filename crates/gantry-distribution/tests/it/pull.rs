//! Manifests, blobs and lists, and what can happen to them.

use gantry_distribution::{Blob, Client, Config, Error};
use gantry_model::Digest;
use gantry_model::digest::Algorithm;
use gantry_model::image::{Descriptor, media};
use sha2::Digest as _;

use crate::fake::{Fake, Fault, noise, sha256};
use crate::{client, config, reference, run};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{}}"#;

async fn drain(mut blob: Blob) -> Result<Vec<u8>, Error> {
    let mut all = vec![];
    while let Some(piece) = blob.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}

async fn read(client: &Client, address: &str, digest: &Digest, size: usize, offset: u64) -> Result<Vec<u8>, Error> {
    let descriptor = Descriptor::new("x", digest.clone(), size as u64);
    drain(client.blob(&reference(address, "a/b"), &descriptor, offset).await?).await
}

#[test]
fn manifests_come_in_one_request() {
    run(async {
        let fake = Fake::new().start().await;
        let digest = fake.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        let client = client();
        let tagged = reference(&fake.address, "a/b:1");
        let fetched = client.manifest(&tagged).await.unwrap();
        assert_eq!(fetched.bytes, MANIFEST);
        assert_eq!(fetched.descriptor, Descriptor::new(media::OCI_MANIFEST, digest.clone(), MANIFEST.len() as u64));
        assert_eq!(fake.seen().len(), 1);
        assert_eq!(client.resolve(&tagged).await.unwrap(), fetched.descriptor);
        assert_eq!(fake.lines("HEAD").len(), 1);
        assert_eq!(client.manifest(&tagged.at(digest)).await.unwrap().bytes, MANIFEST);
        // A HEAD that tells nothing is followed by a GET.
        fake.fault("HEAD", Fault::Status(405, vec![]));
        assert_eq!(client.resolve(&tagged).await.unwrap(), fetched.descriptor);
        let error = client.manifest(&reference(&fake.address, "a/b:2")).await.unwrap_err();
        assert!(error.is_not_found() && error.to_string().contains("manifest unknown"), "{error}");
    });
}

#[test]
fn manifests_are_verified() {
    run(async {
        let fake = Fake::new().start().await;
        let digest = fake.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        let client = client();
        let tagged = reference(&fake.address, "a/b:1");
        let other = sha256(b"other").to_string();
        fake.fault("GET", Fault::Headers(vec![("docker-content-digest", other)]));
        assert!(matches!(client.manifest(&tagged).await, Err(Error::Digest { .. })));
        fake.fault("GET", Fault::Headers(vec![("docker-content-digest", "nonsense".into())]));
        assert!(matches!(client.manifest(&tagged).await, Err(Error::Protocol { .. })));
        fake.fault("GET", Fault::Content(b"{}".to_vec()));
        assert!(matches!(client.manifest(&tagged.at(digest)).await, Err(Error::Digest { .. })));
        fake.fault("GET", Fault::Headers(vec![("content-length", (1_u64 << 40).to_string())]));
        let huge = client.manifest(&tagged).await;
        assert!(matches!(huge, Err(Error::TooLarge { .. })), "{huge:?}");
        fake.fault("GET", Fault::Content(vec![b' '; (8 << 20) + 1]));
        assert!(matches!(client.manifest(&tagged).await, Err(Error::TooLarge { .. })));
        // By the other algorithm.
        let long = Digest::from_bytes(Algorithm::Sha512, &sha2::Sha512::digest(MANIFEST)).unwrap();
        fake.put_manifest("a/b", &long.to_string(), media::OCI_MANIFEST, MANIFEST);
        assert_eq!(client.manifest(&tagged.at(long.clone())).await.unwrap().descriptor.digest, long);
        // A type that says nothing is looked for in the document.
        let own = br#"{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}"#;
        fake.put_manifest("a/b", "own", "application/json", own);
        let fetched = client.manifest(&reference(&fake.address, "a/b:own")).await.unwrap();
        assert_eq!(fetched.descriptor.media_type, media::OCI_INDEX);
    });
}

#[test]
fn faults_that_pass_are_tried_again() {
    run(async {
        let fake = Fake::new().start().await;
        fake.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        let client = client();
        let tagged = reference(&fake.address, "a/b:1");
        let check = async |faults: Vec<Fault>, expect: &str| {
            let before = fake.seen().len();
            for fault in &faults {
                fake.fault("GET", fault.clone());
            }
            let found = client.manifest(&tagged).await.map_or_else(|error| error.to_string(), |_| "good".to_owned());
            assert!(found.contains(expect), "{faults:?}: {found}");
            fake.seen().len() - before
        };
        let status = |status| Fault::Status(status, vec![]);
        let after = |seconds: &str| Fault::Status(429, vec![("retry-after", seconds.to_owned())]);
        assert_eq!(check(vec![status(500), status(503), status(502)], "good").await, 4);
        assert_eq!(check(vec![Fault::NoAnswer, Fault::Cut(3)], "good").await, 3);
        assert_eq!(check(vec![status(500); 4], "500: as told").await, 4);
        assert_eq!(check(vec![status(400)], "400").await, 1);
        assert_eq!(check(vec![status(429)], "good").await, 2);
        let start = std::time::Instant::now();
        assert_eq!(check(vec![after("1")], "good").await, 2);
        assert!(start.elapsed().as_millis() >= 1000);
        // A pause that is too long is not made, and told.
        assert_eq!(check(vec![after("3600")], "wait for 3600 s").await, 1);
    });
}

#[test]
fn blobs_go_on_after_cuts() {
    run(async {
        let bytes = noise(3_000_000, 1);
        for ranges in [true, false] {
            let fake = Fake { ranges, ..Fake::new() }.start().await;
            let digest = fake.put_blob("a/b", &bytes);
            let client = client();
            let check = async |faults: Vec<Fault>, offset: u64| {
                let text = format!("{faults:?}");
                for fault in faults {
                    fake.fault("GET", fault);
                }
                let found = read(&client, &fake.address, &digest, bytes.len(), offset).await;
                assert!(
                    found.as_ref().is_ok_and(|found| found[..] == bytes[offset as usize..]),
                    "{text}: {:?}",
                    found.err()
                );
            };
            check(vec![], 0).await;
            assert_eq!(fake.seen().len(), 1);
            check(vec![], 1_000_001).await;
            check(vec![], bytes.len() as u64).await;
            check(vec![Fault::Cut(0), Fault::Cut(1_500_000), Fault::Cut(10)], 0).await;
            check(vec![Fault::Stall(1000)], 5).await;
            check(vec![Fault::Status(503, vec![]), Fault::Cut(700_000), Fault::NoAnswer], 0).await;
            let asked = fake.seen().iter().filter(|seen| seen.headers.contains_key("range")).count();
            assert!(asked >= 5, "{asked}");
            // One that never goes on ends.
            for _ in 0..10 {
                fake.fault("GET", Fault::Cut(100));
            }
            let error = read(&client, &fake.address, &digest, bytes.len(), 0).await.unwrap_err();
            assert!(matches!(error, Error::Unreachable { .. }), "{error}");
        }
    });
}

#[test]
fn blobs_of_the_wrong_size_or_digest_are_refused() {
    run(async {
        let fake = Fake::new().start().await;
        let bytes = noise(100_000, 2);
        let digest = fake.put_blob("a/b", &bytes);
        let client = client();
        let check = async |fault: Option<Fault>, size: usize, offset: u64, expect: &str| {
            fault.clone().into_iter().for_each(|fault| fake.fault("GET", fault));
            let found = read(&client, &fake.address, &digest, size, offset).await;
            let found = found.map_or_else(|error| error.to_string(), |all| format!("good {}", all.len()));
            assert!(found.contains(expect), "{fault:?} {size}: {found}");
        };
        check(None, 100_000, 0, "good 100000").await;
        check(None, 99_999, 0, "has 100000 bytes and not 99999").await;
        check(None, 100_001, 0, "has 100000 bytes and not 100001").await;
        check(None, 99_999, 5, "has 100000 bytes and not 99999").await;
        // Without a length the excess is found as it comes.
        check(Some(Fault::Content(vec![0; 100_001])), 100_000, 0, "has 100001 bytes and not 100000").await;
        let other = sha256(b"other").to_string();
        check(Some(Fault::Headers(vec![("docker-content-digest", other)])), 100_000, 0, "has the digest").await;
        let range = |text: &str| Some(Fault::Headers(vec![("content-range", text.to_owned())]));
        check(range("bytes 6-99999/100000"), 100_000, 5, "begins after").await;
        check(range("nonsense"), 100_000, 5, "Content-Range").await;
        check(None, 100_000, 100_001, "after the end").await;
        // What is small is verified as a whole.
        let small = Descriptor::new("x", digest.clone(), 100_000);
        let tagged = reference(&fake.address, "a/b");
        assert_eq!(client.blob_bytes(&tagged, &small, 1 << 20).await.unwrap(), bytes);
        fake.fault("GET", Fault::Content(vec![0; 100_000]));
        assert!(matches!(client.blob_bytes(&tagged, &small, 1 << 20).await, Err(Error::Digest { .. })));
        assert!(matches!(client.blob_bytes(&tagged, &small, 10).await, Err(Error::TooLarge { .. })));
        let empty = fake.put_blob("a/b", b"");
        assert_eq!(client.blob_bytes(&tagged, &Descriptor::new("x", empty, 0), 10).await.unwrap().len(), 0);
    });
}

fn with_mirrors(address: &str, mirrors: &[String]) -> Client {
    let list: Vec<_> = mirrors.iter().map(|mirror| format!("\"{mirror}\"")).collect();
    let text = format!("[registry.\"{address}\"]\nmirrors = [{}]", list.join(", "));
    let config = Config { registry: Config::from_toml(&text).unwrap().registry, ..config() };
    Client::new(config, std::sync::Arc::new(gantry_distribution::Anonymous)).unwrap()
}

#[test]
fn mirrors_are_asked_first() {
    run(async {
        let (origin, mirror) = (Fake::new().start().await, Fake::new().start().await);
        let bytes = noise(50_000, 3);
        let tagged = reference(&origin.address, "a/b:1");
        origin.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        let digest = origin.put_blob("a/b", &bytes);
        mirror.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        // Nobody listens on the first.
        let down = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let client =
            with_mirrors(&origin.address, &[format!("http://{down}"), format!("http://{}/sub", mirror.address)]);
        assert_eq!(client.manifest(&tagged).await.unwrap().bytes, MANIFEST);
        assert_eq!(origin.seen().len(), 0);
        let line = &mirror.seen()[0].line;
        assert!(line.starts_with("GET /sub/v2/a/b/manifests/1?ns=127.0.0.1%3A"), "{line}");
        // What it does not have comes from the registry.
        assert_eq!(read(&client, &origin.address, &digest, bytes.len(), 0).await.unwrap(), bytes);
        assert_eq!(origin.lines("GET /v2/a/b/blobs").len(), 1);
        // A blob that is cut off at the mirror goes on at the registry.
        mirror.put_blob("a/b", &bytes);
        for _ in 0..8 {
            mirror.fault("GET /sub/v2/a/b/blobs", Fault::Cut(1000));
        }
        assert_eq!(read(&client, &origin.address, &digest, bytes.len(), 0).await.unwrap(), bytes);
        let last = origin.seen().last().unwrap().clone();
        assert!(last.headers.contains_key("range"), "{last:?}");
        // It is left out for a while then; a wrong manifest is passed over too.
        mirror.put_manifest("a/b", "1", media::OCI_MANIFEST, b"wrong");
        let client = with_mirrors(&origin.address, &[format!("http://{}/sub", mirror.address)]);
        let fetched = client.manifest(&tagged.at(sha256(MANIFEST))).await.unwrap();
        assert_eq!(fetched.bytes, MANIFEST);
    });
}

#[test]
fn a_mirror_with_wrong_content_can_be_rejected() {
    run(async {
        let (origin, mirror) = (Fake::new().start().await, Fake::new().start().await);
        let bytes = noise(5000, 4);
        let digest = origin.put_blob("a/b", &bytes);
        mirror.put_blob("a/b", &bytes);
        let descriptor = Descriptor::new("x", digest, 5000);
        let client = with_mirrors(&origin.address, &[format!("http://{}", mirror.address)]);
        let tagged = reference(&origin.address, "a/b");
        let blob = client.blob(&tagged, &descriptor, 0).await.unwrap();
        assert_eq!(blob.source(), mirror.address);
        assert!(blob.reject());
        let blob = client.blob(&tagged, &descriptor, 0).await.unwrap();
        assert_eq!(blob.source(), origin.address);
        assert!(!blob.reject());
    });
}

#[test]
fn lists_have_pages() {
    run(async {
        let fake = Fake { page: 2, ..Fake::new() }.start().await;
        for tag in ["c", "a", "b", "e", "d"] {
            fake.put_manifest("a/b", tag, media::OCI_MANIFEST, MANIFEST);
        }
        let client = client();
        let tagged = reference(&fake.address, "a/b");
        assert_eq!(client.tags(&tagged).await.unwrap(), ["a", "b", "c", "d", "e"]);
        assert_eq!(fake.seen().len(), 3);
        assert_eq!(client.catalog(&fake.address).await.unwrap(), ["a", "b/c"]);
        let link = |to: &str| Fault::Headers(vec![("link", format!("<{to}>; rel=\"next\""))]);
        fake.fault("GET", link("http://127.0.0.1:1/v2/a/b/tags/list"));
        let error = client.tags(&tagged).await.unwrap_err().to_string();
        assert!(error.contains("at another host"), "{error}");
        for _ in 0..3 {
            fake.fault("GET", link("/v2/a/b/tags/list"));
        }
        let error = client.tags(&tagged).await.unwrap_err().to_string();
        assert!(error.contains("for ever"), "{error}");
    });
}

#[test]
fn localhost_needs_no_name_server() {
    run(async {
        let fake = Fake::new().start().await;
        let port = fake.address.rsplit(':').next().unwrap();
        client().ping(&format!("localhost:{port}")).await.unwrap();
        assert_eq!(fake.lines("GET /v2/").len(), 1);
    });
}
