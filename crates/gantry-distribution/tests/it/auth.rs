//! Who gets credentials, and what for.

use gantry_distribution::{Anonymous, Client, Credential, Error, Fixed};
use gantry_model::image::{Descriptor, media};
use std::sync::Arc;

use crate::fake::{Fake, Fault, Guard, noise};
use crate::{client_as, config, reference, run};

const MANIFEST: &[u8] = br#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},"layers":[]}"#;
const BASIC: &str = "Basic bWU6c2VjcmV0";

fn me(fake: &Fake) -> Fixed {
    Fixed { registry: fake.address.clone(), credential: Credential::password("me", "secret") }
}

fn guard(fake: &Fake, guard: Guard) {
    *fake.guard.lock().unwrap() = guard;
}

fn token_server(fake: &Fake) -> Guard {
    Guard::Token(format!("http://{}/token", fake.address))
}

#[test]
fn a_password_is_sent_once_it_is_asked_for() {
    run(async {
        let fake = Fake::new().start().await;
        fake.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        guard(&fake, Guard::Basic(BASIC.into()));
        let name = reference(&fake.address, "a/b:1");
        let client = client_as(me(&fake));
        client.manifest(&name).await.unwrap();
        client.manifest(&name).await.unwrap();
        let sent: Vec<bool> = fake.seen().iter().map(|seen| seen.headers.contains_key("authorization")).collect();
        assert_eq!(sent, [false, true, true], "once known, the way is not asked for again");
        let error = crate::client().manifest(&name).await.unwrap_err();
        assert!(matches!(error, Error::Denied { .. }) && error.to_string().contains("gantry login"), "{error}");
    });
}

#[test]
fn a_token_is_fetched_once_for_what_it_is_good_for() {
    run(async {
        let fake = Fake::new().start().await;
        fake.put_manifest("a/b", "1", media::OCI_MANIFEST, MANIFEST);
        fake.put_manifest("c", "1", media::OCI_MANIFEST, MANIFEST);
        guard(&fake, token_server(&fake));
        let client = client_as(me(&fake));
        let name = reference(&fake.address, "a/b:1");
        let many: Vec<_> = (0..4).map(|_| client.manifest(&name)).collect();
        for result in futures_util::future::join_all(many).await {
            result.unwrap();
        }
        client.manifest(&name).await.unwrap();
        let tokens = fake.lines("GET /token");
        assert_eq!(tokens.len(), 1, "{tokens:?}");
        assert!(tokens[0].contains("repository%3Aa%2Fb%3Apull") && tokens[0].contains("account=me"), "{tokens:?}");
        client.manifest(&reference(&fake.address, "c:1")).await.unwrap();
        assert_eq!(fake.lines("GET /token").len(), 2, "another repository is another matter");
        client.push_manifest(&name, media::OCI_MANIFEST, MANIFEST.into()).await.unwrap();
        let tokens = fake.lines("GET /token");
        assert!(tokens.last().unwrap().contains("pull%2Cpush"), "{tokens:?}");
    });
}

#[test]
fn refresh_tokens_are_posted() {
    run(async {
        let fake = Fake::new().start().await;
        fake.put_manifest("a", "1", media::OCI_MANIFEST, MANIFEST);
        guard(&fake, token_server(&fake));
        let credential = Credential::Identity { username: "me".into(), token: "refresh".into() };
        let client = client_as(Fixed { registry: fake.address.clone(), credential });
        client.manifest(&reference(&fake.address, "a:1")).await.unwrap();
        assert_eq!((fake.lines("POST /token").len(), fake.lines("GET /token").len()), (1, 0));
        // A server that knows the form only gets the password by that.
        let fake = Fake { post_only: true, ..Fake::new() }.start().await;
        fake.put_manifest("a", "1", media::OCI_MANIFEST, MANIFEST);
        guard(&fake, token_server(&fake));
        client_as(me(&fake)).manifest(&reference(&fake.address, "a:1")).await.unwrap();
        assert_eq!(fake.lines("POST /token").len(), 1);
    });
}

#[test]
fn logins_are_verified() {
    run(async {
        for bearer in [false, true] {
            let fake = Fake::new().start().await;
            guard(&fake, if bearer { token_server(&fake) } else { Guard::Basic(BASIC.into()) });
            let login = async |name: &str, password: &str| {
                let client = Client::new(config(), Arc::new(Anonymous)).unwrap();
                client.login(&fake.address, &Credential::password(name, password)).await
            };
            let kept = login("me", "secret").await.unwrap();
            assert_eq!(matches!(kept, Credential::Identity { .. }), bearer, "{kept:?}");
            let error = login("me", "wrong").await.unwrap_err();
            assert!(matches!(error, Error::Denied { .. }) && !error.to_string().contains("wrong"), "{error}");
        }
    });
}

/// Registries send those who want blobs elsewhere, and elsewhere is somebody else.
#[test]
fn other_hosts_get_nothing() {
    run(async {
        let (fake, other) = (Fake::new().start().await, Fake::new().start().await);
        let bytes = noise(1000, 3);
        let digest = other.put_blob("a", &bytes);
        guard(&fake, Guard::Basic(BASIC.into()));
        let place = format!("http://{}/v2/a/blobs/{digest}", other.address);
        fake.fault("GET", Fault::Status(307, vec![("location", place)]));
        let client = client_as(me(&fake));
        let descriptor = Descriptor::new(media::OCI_LAYER, digest, bytes.len() as u64);
        let mut blob = client.blob(&reference(&fake.address, "a"), &descriptor, 0).await.unwrap();
        let mut read = vec![];
        while let Some(piece) = blob.next().await.unwrap() {
            read.extend_from_slice(&piece);
        }
        assert_eq!(read, bytes);
        assert!(fake.seen().iter().any(|seen| seen.headers.contains_key("authorization")));
        assert!(other.seen().iter().all(|seen| !seen.headers.contains_key("authorization")), "{:?}", other.seen());
        // Nor does its challenge get an answer.
        guard(&other, Guard::Basic(BASIC.into()));
        let place = format!("http://{}/v2/a/manifests/1", other.address);
        fake.fault("GET", Fault::Status(307, vec![("location", place)]));
        assert!(client.manifest(&reference(&fake.address, "a:1")).await.is_err());
        assert!(other.seen().iter().all(|seen| !seen.headers.contains_key("authorization")), "{:?}", other.seen());
        // A login stays at its registry, and is not verified by anybody else.
        let home = format!("http://{}/v2/", other.address);
        guard(&other, Guard::Open);
        fake.fault("GET /v2/", Fault::Status(307, vec![("location", home)]));
        let login = client.login(&fake.address, &Credential::password("me", "secret")).await;
        assert_eq!(login.unwrap_err().status(), Some(307));
        assert!(other.seen().iter().all(|seen| !seen.headers.contains_key("authorization")), "{:?}", other.seen());
    });
}
