//! Images by the daemon: what is pulled for a container that is to run.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use gantry_distribution::{Credential, Credentials};
use gantry_model::reference::Reference;
use serde_json::json;

use crate::client::lines::Lines;
use crate::client::{Client, Request, Target};
use crate::context;
use crate::failure::{Failure, Outcome};
use crate::stream::Stream;

/// A name as it is told, with the usual tag if it has none.
pub fn tagged(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.with_default_tag().familiar())
}

/// Pulls an image, and shows how unless it is to be quiet.
pub async fn for_container(client: &Client, name: &str, platform: Option<&str>, quiet: bool) -> Outcome {
    let reference: Reference = name.parse().map_err(|error| Failure::new(format!("{name}: {error}")))?;
    pull(client, &reference, platform, &mut Stream::new(quiet)).await
}

/// The request that pulls an image.
pub fn request(reference: &Reference, platform: Option<&str>) -> Outcome<Request> {
    let name = reference.familiar();
    let (repository, version) = match name.split_once('@') {
        Some((repository, digest)) => (repository.to_owned(), digest.to_owned()),
        None => match crate::commands::containers::split_tag(&name) {
            (repository, Some(tag)) => (repository.to_owned(), tag.to_owned()),
            (repository, None) => (repository.to_owned(), "latest".to_owned()),
        },
    };
    let target = Target::new(&["images", "create"])
        .with("fromImage", &repository)
        .with("tag", &version)
        .maybe("platform", platform);
    Ok(with_login(Request::post(target), reference))
}

/// Pulls an image, and shows what the daemon tells of it.
pub async fn pull(client: &Client, reference: &Reference, platform: Option<&str>, shown: &mut Stream) -> Outcome {
    let mut lines = Lines::of(client.call(request(reference, platform)?).await?);
    while let Some(line) = lines.next().await? {
        shown.show(&line)?;
    }
    Ok(())
}

/// The same request with the login of the image's registry, if there is one.
pub fn with_login(request: Request, reference: &Reference) -> Request {
    let registry = reference.registry();
    // Where no login is kept, everybody may have what everybody may have.
    let kept = context::credentials().ok().and_then(|kept| kept.get(registry).ok().flatten());
    let document = kept.map_or_else(|| json!({}), |kept| credential(&kept, registry));
    request.header("x-registry-auth", URL_SAFE.encode(document.to_string()))
}

fn credential(kept: &Credential, registry: &str) -> serde_json::Value {
    match kept {
        Credential::Password { username, password } => {
            json!({"username": username, "password": password, "serveraddress": registry})
        }
        Credential::Identity { username, token } => {
            json!({"username": username, "identitytoken": token, "serveraddress": registry})
        }
        Credential::Bearer(token) => json!({"registrytoken": token, "serveraddress": registry}),
    }
}
