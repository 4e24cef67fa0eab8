//! Uploads: whole, cut off, in chunks, as a stream; manifests and referrers.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _};
use gantry_distribution::{Client, Error, Open, Pushed, Upload};
use gantry_model::image::media;
use tokio::sync::mpsc;

use crate::fake::{Fake, Fault, noise, sha256};
use crate::{client, reference, run};

/// Opens bytes in pieces of 64 KiB.
pub fn open(bytes: &Bytes) -> Open {
    let bytes = bytes.clone();
    Arc::new(move |offset| {
        let rest = bytes.slice(offset as usize..);
        let pieces: Vec<_> =
            (0..rest.len()).step_by(65536).map(|at| Ok(rest.slice(at..rest.len().min(at + 65536)))).collect();
        async move { Ok(futures_util::stream::iter(pieces).boxed()) }.boxed()
    })
}

async fn push(client: &Client, fake: &Fake, bytes: &Bytes) -> Result<Pushed, Error> {
    let upload = Upload::Known { digest: sha256(bytes), size: bytes.len() as u64, open: open(bytes) };
    client.push_blob(&reference(&fake.address, "a/b"), upload).await
}

#[test]
fn blobs_are_pushed_once() {
    run(async {
        let fake = Fake::new().start().await;
        let client = client();
        for size in [0, 1, 3_000_000] {
            let bytes = Bytes::from(noise(size, 5));
            assert!(!push(&client, &fake, &bytes).await.unwrap().existed);
            assert_eq!(fake.blob("a/b", &sha256(&bytes)).unwrap(), bytes);
            assert!(push(&client, &fake, &bytes).await.unwrap().existed);
        }
        // One request each, of the size that it says.
        assert_eq!(fake.lines("PUT").len(), 3);
        assert_eq!(fake.lines("PATCH").len(), 0);
        let put = fake.seen().into_iter().rfind(|seen| seen.line.starts_with("PUT")).unwrap();
        assert_eq!(put.headers["content-length"], "3000000");
    });
}

#[test]
fn uploads_go_on_after_cuts() {
    run(async {
        let bytes = Bytes::from(noise(2_000_000, 6));
        let check = async |faults: &[(&str, Fault)], expect: &str, sent: &str| {
            let fake = Fake::new().start().await;
            for (line, fault) in faults {
                fake.fault(line, fault.clone());
            }
            let found = push(&client(), &fake, &bytes).await.map_or_else(|e| e.to_string(), |_| "good".to_owned());
            assert!(found.contains(expect), "{faults:?}: {found}");
            let methods = ["POST", "PUT", "PATCH"];
            let lines: Vec<_> = fake.seen().into_iter().map(|seen| seen.line).collect();
            let lines =
                lines.iter().filter_map(|line| line.split(' ').next()).filter(|method| methods.contains(method));
            assert_eq!(lines.collect::<Vec<_>>().join(" "), sent, "{faults:?}");
            if expect == "good" {
                assert_eq!(fake.blob("a/b", &sha256(&bytes)).unwrap(), bytes);
            }
        };
        let status = |status| Fault::Status(status, vec![]);
        check(&[], "good", "POST PUT").await;
        check(&[("PUT", Fault::CutRequest(700_000))], "good", "POST PUT PATCH PUT").await;
        let twice = [("PUT", Fault::CutRequest(700_000)), ("PATCH", Fault::CutRequest(500_000))];
        check(&twice, "good", "POST PUT PATCH PATCH PUT").await;
        // The registry forgot the upload.
        check(&[("PUT", Fault::CutRequest(700_000)), ("GET", status(404))], "good", "POST PUT POST PUT").await;
        // It was done, and the answer got lost.
        check(&[("PUT", Fault::NoAnswer)], "good", "POST PUT").await;
        check(&[("POST", status(503)), ("PUT", status(500))], "good", "POST POST PUT PUT").await;
        // Too large in one piece for something on the way.
        check(&[("PUT", status(413))], "good", "POST PUT POST PATCH PUT").await;
        check(&[("PUT", status(413)), ("PATCH", status(416))], "good", "POST PUT POST PATCH PATCH PUT").await;
        check(&[("PUT", status(403))], "403", "POST PUT").await;
        check(&[("POST", status(400))], "400", "POST").await;
        let lost = Fault::Headers(vec![("docker-content-digest", sha256(b"other").to_string())]);
        check(&[("PUT", lost)], "has the digest", "POST PUT").await;
    });
}

#[test]
fn an_upload_that_nobody_takes_is_given_up_and_made_again() {
    run(async {
        let fake = Fake::new().start().await;
        fake.fault("PUT", Fault::Deaf);
        // More than the buffers of a connection hold.
        let bytes = Bytes::from(noise(32 << 20, 12));
        push(&client(), &fake, &bytes).await.unwrap();
        assert_eq!(fake.lines("PUT").len(), 2);
        assert_eq!(fake.blob("a/b", &sha256(&bytes)).unwrap(), bytes);
    });
}

#[test]
fn chunks_are_as_long_as_the_registry_wants() {
    run(async {
        let least = 17 << 20;
        let fake = Fake { min_chunk: Some(least), ..Fake::new() }.start().await;
        let bytes = Bytes::from(noise(18 << 20, 7));
        fake.fault("PUT", Fault::Status(413, vec![]));
        push(&client(), &fake, &bytes).await.unwrap();
        let sent: Vec<_> = fake.seen().into_iter().filter(|seen| seen.line.starts_with("PATCH")).collect();
        let lengths: Vec<_> = sent.iter().map(|seen| seen.headers["content-length"].to_str().unwrap()).collect();
        assert_eq!(lengths, [least.to_string(), (1 << 20).to_string()]);
        assert_eq!(sent[1].headers["content-range"], format!("{least}-{}", (18 << 20) - 1));
        assert_eq!(fake.blob("a/b", &sha256(&bytes)).unwrap(), bytes);
    });
}

#[test]
fn a_source_that_fails_is_told_from_a_network_that_does() {
    run(async {
        let fake = Fake::new().start().await;
        let tagged = reference(&fake.address, "a/b");
        let client = client();
        let failing: Open = Arc::new(|_| {
            let pieces = [Ok(Bytes::from_static(b"abc")), Err(io::Error::other("disk gone"))];
            async move { Ok(futures_util::stream::iter(pieces).boxed()) }.boxed()
        });
        let upload = Upload::Known { digest: sha256(b"abcdef"), size: 6, open: failing };
        let error = client.push_blob(&tagged, upload).await.unwrap_err();
        assert!(matches!(&error, Error::Source(_)) && error.to_string().contains("disk gone"), "{error}");
        let short = Upload::Known { digest: sha256(b"abcdef"), size: 6, open: open(&Bytes::from_static(b"abc")) };
        let error = client.push_blob(&tagged, short).await.unwrap_err();
        assert!(error.to_string().contains("3 bytes instead of 6"), "{error}");
        // What lies about its digest is refused by the registry.
        let wrong = Upload::Known { digest: sha256(b"other"), size: 3, open: open(&Bytes::from_static(b"abc")) };
        let error = client.push_blob(&tagged, wrong).await.unwrap_err();
        assert!(error.to_string().contains("another digest"), "{error}");
        assert_eq!(fake.uploads(), 0);
    });
}

/// Pushes a stream of pieces of 256 KiB.
async fn stream(fake: &Fake, bytes: &Bytes, done: io::Result<()>) -> Result<Pushed, Error> {
    let (sender, chunks) = mpsc::channel(2);
    let (whole, known) = (bytes.clone(), (sha256(bytes), bytes.len() as u64));
    tokio::spawn(async move {
        for at in (0..whole.len()).step_by(1 << 18) {
            if sender.send(whole.slice(at..whole.len().min(at + (1 << 18)))).await.is_err() {
                break;
            }
        }
    });
    let upload = Upload::Stream { chunks, done: async move { done.map(|()| known) }.boxed() };
    client().push_blob(&reference(&fake.address, "a/b"), upload).await
}

#[test]
fn streams_are_pushed_while_they_are_made() {
    run(async {
        let fake = Fake::new().start().await;
        let bytes = Bytes::from(noise(6 << 20, 8));
        let pushed = stream(&fake, &bytes, Ok(())).await.unwrap();
        assert_eq!((pushed.digest.clone(), pushed.size), (sha256(&bytes), bytes.len() as u64));
        assert_eq!(fake.blob("a/b", &pushed.digest).unwrap(), bytes);
        assert_eq!(fake.lines("PATCH").len(), 1);
        assert_eq!(stream(&fake, &Bytes::new(), Ok(())).await.unwrap().size, 0);
        // A cut that lost little is mended, by what was kept.
        let other = Bytes::from(noise(6 << 20, 9));
        fake.fault("PATCH", Fault::CutRequest(5 << 20));
        stream(&fake, &other, Ok(())).await.unwrap();
        assert_eq!(fake.blob("a/b", &sha256(&other)).unwrap(), other);
        // One that lost more is not.
        let large = Bytes::from(noise(24 << 20, 10));
        fake.fault("PATCH", Fault::NoAnswer);
        fake.fault("GET", Fault::Headers(vec![("range", "0-0".into())]));
        let error = stream(&fake, &large, Ok(())).await.unwrap_err();
        assert!(matches!(error, Error::Interrupted { .. }), "{error}");
        // Nothing is left of one whose making failed.
        let error = stream(&fake, &bytes, Err(io::Error::other("no space"))).await.unwrap_err();
        assert!(matches!(&error, Error::Source(_)), "{error}");
        assert_eq!(fake.uploads(), 0);
        // The end is tried again.
        fake.fault("PUT", Fault::Status(503, vec![]));
        let third = Bytes::from(noise(1 << 20, 11));
        stream(&fake, &third, Ok(())).await.unwrap();
        assert_eq!(fake.blob("a/b", &sha256(&third)).unwrap(), third);
    });
}

#[test]
fn blobs_are_mounted() {
    run(async {
        let fake = Fake::new().start().await;
        let digest = fake.put_blob("base", b"layer");
        let tagged = reference(&fake.address, "a/b");
        let client = client();
        assert!(client.mount_blob(&tagged, &digest, "base").await.unwrap());
        assert!(client.has_blob(&tagged, &digest).await.unwrap());
        assert!(!client.mount_blob(&tagged, &sha256(b"x"), "base").await.unwrap());
        assert_eq!(fake.uploads(), 0);
        fake.fault("POST", Fault::Status(403, vec![]));
        assert!(!client.mount_blob(&tagged, &digest, "secret").await.unwrap());
        assert!(client.mount_blob(&tagged, &digest, "../x").await.is_err());
        client.delete_blob(&tagged, &digest).await.unwrap();
        assert!(!client.has_blob(&tagged, &digest).await.unwrap());
    });
}

#[test]
fn manifests_and_referrers() {
    run(async {
        for referrers in [true, false] {
            let fake = Fake { referrers, ..Fake::new() }.start().await;
            let client = client();
            let tagged = reference(&fake.address, "a/b:1");
            let image = br#"{"schemaVersion":2,"config":{}}"#;
            let digest = client.push_manifest(&tagged, media::OCI_MANIFEST, image.as_slice().into()).await.unwrap();
            assert_eq!(digest, sha256(image));
            assert_eq!(fake.manifest("a/b", "1").unwrap(), image.as_slice());
            let subject = tagged.at(digest.clone());
            assert_eq!(client.referrers(&subject, None).await.unwrap(), []);
            for (kind, n) in [("text/a", 1), ("text/b", 2), ("text/b", 2)] {
                let text = format!(
                    r#"{{"schemaVersion":2,"artifactType":"{kind}","annotations":{{"n":"{n}"}},"subject":{{"mediaType":"x","digest":"{digest}","size":31}}}}"#
                );
                let own = tagged.at(sha256(text.as_bytes()));
                client.push_manifest(&own, media::OCI_MANIFEST, text.into()).await.unwrap();
            }
            assert_eq!(client.referrers(&subject, None).await.unwrap().len(), 2);
            let one = client.referrers(&subject, Some("text/b")).await.unwrap();
            assert_eq!(one.len(), 1);
            assert_eq!(one[0].artifact_type.as_deref(), Some("text/b"));
            let list = fake.manifest("a/b", &format!("sha256-{}", digest.hex()));
            assert_eq!(list.is_some(), !referrers);
            assert!(client.referrers(&tagged, None).await.is_err());
            // A digest that is not the bytes' own is not sent at all.
            let wrong = client.push_manifest(&tagged.at(sha256(b"x")), media::OCI_MANIFEST, Bytes::new()).await;
            assert!(matches!(wrong, Err(Error::Digest { .. })));
            client.delete_manifest(&subject).await.unwrap();
            assert!(client.manifest(&subject).await.unwrap_err().is_not_found());
        }
    });
}
