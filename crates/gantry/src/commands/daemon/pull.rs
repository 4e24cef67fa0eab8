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
    let request = request(&reference.with_default_tag(), false, platform, false);
    let mut lines = Lines::of(client.call(request).await?);
    let mut shown = Stream::new(quiet);
    while let Some(line) = lines.next().await? {
        shown.show(&line)?;
    }
    Ok(())
}

/// The request that pulls an image, or every tag of its repository.
pub fn request(reference: &Reference, every_tag: bool, platform: Option<&str>, every_platform: bool) -> Request {
    let version = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(str::to_owned));
    let version = version.filter(|_| !every_tag);
    let target = Target::new(&["images", "create"])
        .with("fromImage", &reference.name())
        .maybe("tag", version.as_deref())
        .maybe("platform", platform)
        .flag("all-platforms", every_platform);
    with_login(Request::post(target), reference)
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
