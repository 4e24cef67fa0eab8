//! Images.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use gantry_distribution::{Credential, Credentials};
use gantry_engine::events::Subject;
use gantry_images::{
    ContainerUse, Format, Images, ImportOptions, ListOptions, LoadOptions, Progress, PruneOptions, PullOptions,
    PushOptions, RemoveOptions, Removed, Reporter, SaveOptions,
};
use gantry_model::image::Compression;
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::pipe;
use super::progress::{Way, lines, reporter};
use crate::error::{Failure, Outcome, no_name};
use crate::reply::{Reply, empty, json as reply_json, ok, stream};
use crate::request::{Request, Version, parse};
use crate::server::Api;
use crate::types::commit::changes_of;

/// The containers that there are, as far as images go.
pub(crate) fn uses(api: &Api) -> Vec<ContainerUse> {
    let all = api.engine.containers().into_iter();
    let uses = all.filter_map(|view| {
        let image = view.record.image.as_ref()?.id.clone();
        Some(ContainerUse { id: view.record.id.clone(), image, running: view.state.status.is_running() })
    });
    uses.collect()
}

fn platform(text: &str) -> Outcome<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    // Newer clients send it as a document.
    let text = match serde_json::from_str::<Value>(text) {
        Ok(Value::Object(parts)) => {
            let part = |name: &str| parts.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            let whole = [part("os"), part("architecture"), part("variant")];
            whole.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
        }
        _ => text.to_owned(),
    };
    text.parse().map(Some).map_err(|error| Failure::invalid(format!("invalid platform {text:?}: {error}")))
}

fn reference(text: &str) -> Outcome<Reference> {
    text.parse().map_err(|error: gantry_model::reference::InvalidReference| Failure::invalid(error.to_string()))
}

/// A repository with a tag.
fn named(repository: &str, tag: &str) -> Outcome<Reference> {
    let mut name = reference(repository)?;
    if !tag.is_empty() {
        name = reference(&format!("{repository}:{tag}")).map_err(|_| Failure::invalid("invalid tag format"))?;
    }
    Ok(name.with_default_tag())
}

/// The same, where no name may be said.
fn maybe_named(repository: &str, tag: &str) -> Outcome<Option<Reference>> {
    if repository.is_empty() { Ok(None) } else { named(repository, tag).map(Some) }
}

/// `GET /images/json`.
pub(crate) async fn list(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    filters.flag("dangling")?;
    let options = ListOptions { filters: filters.0, shared_size: request.flag("shared-size"), containers: None };
    let mut list = json!(api.engine.images().list(options).await?);
    for one in list.as_array_mut().into_iter().flatten() {
        for_version(one, request.version);
    }
    Ok(ok(&list))
}

/// `GET /images/NAME/json`.
pub(crate) async fn inspect(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let found = api.engine.images().inspect(name, platform(request.get("platform"))?).await;
    let mut document = json!(found.map_err(|error| no_image(name, error))?);
    for_version(&mut document, request.version);
    Ok(ok(&document))
}

/// A name that cannot be one is not looked for.
pub(crate) fn no_image(name: &str, error: impl Into<Failure>) -> Failure {
    let is_id = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match reference(name) {
        Err(failure) if !is_id(name.strip_prefix("sha256:").unwrap_or(name)) => failure,
        _ => error.into(),
    }
}

/// Puts into a document of an image what older clients look for, and leaves out what they do not know.
fn for_version(document: &mut Value, version: Version) {
    let Some(object) = document.as_object_mut() else { return };
    if version < Version(1, 48) {
        object.remove("Descriptor");
    }
    if let (true, Some(size)) = (version < Version(1, 44), object.get("Size").cloned()) {
        object.insert("VirtualSize".to_owned(), size);
    }
    if version < Version(1, 44) && object.get("RepoDigests") == Some(&json!([])) && object.contains_key("ParentId") {
        object.insert("RepoDigests".to_owned(), Value::Null);
    }
}

/// `GET /images/NAME/history`.
pub(crate) async fn history(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let platform = platform(request.get("platform"))?;
    Ok(ok(&api.engine.images().history(name, platform).await.map_err(|error| no_image(name, error))?))
}

/// `GET /images/search`: the one that was asked for is the index of Docker Hub, which is no registry.
pub(crate) fn search(request: &Request) -> Outcome<Failure> {
    let limit: i64 = request.number("limit")?.unwrap_or(25);
    if !(0..=100).contains(&limit) {
        return Err(Failure::invalid(format!("limit {limit} is outside the range of [1, 100]")));
    }
    let words = "searching is not part of this engine: registries tell of their repositories at /v2/_catalog";
    Ok(Failure::new(StatusCode::NOT_IMPLEMENTED, words))
}

/// `POST /images/NAME/tag`.
pub(crate) async fn tag(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let target = named(repository, tag)?;
    api.engine.images().tag(name, &target).await?;
    let id = api.engine.images().find(name).await?.image.id().to_string();
    api.engine.tell(Subject::Image, "tag", &id, [("name".to_owned(), target.familiar())]);
    Ok(empty(StatusCode::CREATED))
}

/// `DELETE /images/NAME`.
pub(crate) async fn remove(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let options = RemoveOptions { force: request.flag("force"), containers: uses(api) };
    let id = api.engine.images().find(name).await?.image.id().to_string();
    let removed = api.engine.images().remove(name, options).await?;
    tell_removed(api, &id, &removed);
    Ok(ok(&removed))
}

fn tell_removed(api: &Api, id: &str, removed: &[Removed]) {
    for one in removed {
        match one {
            Removed::Untagged(_) => {
                api.engine.tell(Subject::Image, "untag", id, [("name".to_owned(), id.to_owned())]);
            }
            Removed::Deleted(digest) if digest == id => {
                api.engine.tell(Subject::Image, "delete", id, [("name".to_owned(), id.to_owned())]);
            }
            Removed::Deleted(_) => {}
        }
    }
}

/// `POST /images/prune`.
pub(crate) async fn prune(api: &Api, request: &Request) -> Outcome<Reply> {
    // An extension: to tell what would go, and leave it.
    let dry_run = request.flag("dry-run");
    let filters = request.filters()?;
    filters.only(&["dangling", "label", "label!", "until"])?;
    filters.flag("dangling")?;
    let options = PruneOptions { filters: filters.0, dry_run, containers: uses(api) };
    let pruned = api.engine.images().prune(options).await?;
    let removed = if pruned.removed.is_empty() { Value::Null } else { json!(pruned.removed) };
    Ok(ok(&json!({"ImagesDeleted": removed, "SpaceReclaimed": pruned.bytes})))
}

/// A login that came with a request.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Login {
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
    pub(crate) serveraddress: String,
}

impl Login {
    /// As the client of registries has it.
    pub(crate) fn credential(&self) -> Option<Credential> {
        if !self.identitytoken.is_empty() {
            return Some(Credential::Identity { username: self.username.clone(), token: self.identitytoken.clone() });
        }
        if !self.registrytoken.is_empty() {
            return Some(Credential::Bearer(self.registrytoken.clone()));
        }
        (!self.username.is_empty()).then(|| Credential::password(&self.username, &self.password))
    }
}

/// One login for whatever registry is asked.
struct Given(Option<Credential>);

impl Credentials for Given {
    fn get(&self, _registry: &str) -> gantry_distribution::Result<Option<Credential>> {
        Ok(self.0.clone())
    }
}

/// The images, with the login that came along.
fn with_login(api: &Api, request: &Request) -> Outcome<Images> {
    let header = request.headers.get("X-Registry-Auth").and_then(|header| header.to_str().ok()).unwrap_or_default();
    if header.is_empty() {
        return Ok(api.engine.images().clone());
    }
    let decoded = [&URL_SAFE, &URL_SAFE_NO_PAD, &STANDARD].iter().find_map(|engine| engine.decode(header).ok());
    let decoded = decoded.ok_or_else(|| Failure::invalid("invalid X-Registry-Auth header: it is no base64"))?;
    let login: Login = if decoded.is_empty() { Login::default() } else { serde_json::from_slice(&decoded)? };
    let images = api.engine.images();
    Ok(images.with_client(images.client().with_credentials(Arc::new(Given(login.credential())))))
}

/// `POST /images/create`: a pull, or an import.
pub(crate) async fn create(api: &Api, request: Request) -> Outcome<Reply> {
    let (from, source) = (request.get("fromImage").to_owned(), request.get("fromSrc").to_owned());
    if from.is_empty() {
        return import(api, request, &source).await;
    }
    let tag = request.get("tag");
    let name = match tag {
        "" => from.clone(),
        digest if digest.contains(':') => format!("{from}@{digest}"),
        tag => format!("{from}:{tag}"),
    };
    let name = reference(&name)?.with_default_tag();
    let options =
        PullOptions { platform: platform(request.get("platform"))?, all_platforms: request.flag("all-platforms") };
    let (images, api) = (with_login(api, &request)?, api.clone());
    lines(|lines| async move {
        let progress = reporter(&lines, Way::Pull);
        let (first, tag) = (lines.clone(), name.tag().map_or_else(|| name.familiar(), str::to_owned));
        let from = format!("Pulling from {}", name.familiar_name());
        let progress: Reporter = Arc::new(move |event| match event {
            Progress::Resolved { .. } => first.say(&json!({"status": from, "id": tag})),
            event => progress(event),
        });
        let pulled = images.pull(&name, options, progress).await.map_err(|error| not_pulled(&name, error))?;
        lines.status(format!("Digest: {}", pulled.target.digest));
        let what = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
        lines.status(format!("Status: {what} {}", name.familiar()));
        let attributes = [("name".to_owned(), name.familiar_name().to_owned())];
        api.engine.tell(Subject::Image, "pull", &name.familiar(), attributes);
        Ok(())
    })
    .await
}

/// What is said of an image that could not be had.
fn not_pulled(name: &Reference, error: gantry_images::Error) -> Failure {
    use gantry_distribution::Error as Registry;
    match &error {
        gantry_images::Error::Registry(Registry::Status { status: 404, code, message, .. }) => {
            let message = if message.is_empty() { "not found" } else { message };
            if code == "NAME_UNKNOWN" {
                return Failure::missing(format!("repository {} not found: {message}", name.familiar_name()));
            }
            Failure::missing(format!("manifest for {} not found: manifest unknown: {message}", name.familiar()))
        }
        gantry_images::Error::Registry(Registry::Denied { message, .. }) => {
            let (name, why) = (name.familiar_name(), if message.is_empty() { "denied" } else { message });
            let words = "repository does not exist or may require 'docker login'";
            Failure::missing(format!("pull access denied for {name}, {words}: {why}"))
        }
        gantry_images::Error::NoPlatform { .. } => Failure::missing(error.to_string()),
        _ => unreachable(error.into()),
    }
}

/// A registry that is not reached is a failure of the engine to its clients: of theirs, they would try again.
fn unreachable(failure: Failure) -> Failure {
    match failure.status {
        StatusCode::SERVICE_UNAVAILABLE => Failure { status: StatusCode::INTERNAL_SERVER_ERROR, ..failure },
        _ => failure,
    }
}

/// What is noted of an image that came as an archive, if nothing is said.
const IMPORTED: &str = "Imported from -";

async fn import(api: &Api, request: Request, source: &str) -> Outcome<Reply> {
    if source != "-" {
        return Err(Failure::invalid(
            "an image is imported from the body (fromSrc=-): this engine fetches no addresses",
        ));
    }
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let name = maybe_named(repository, tag)?;
    let options = ImportOptions {
        name,
        changes: changes(&request),
        message: Some(request.get("message")).map(|text| if text.is_empty() { IMPORTED } else { text }.to_owned()),
        platform: platform(request.get("platform"))?,
    };
    let images = api.engine.images().clone();
    let id = images.import(pipe::reader(request.body), options).await?;
    api.engine.tell(Subject::Image, "import", &id.to_string(), [("name".to_owned(), id.to_string())]);
    Ok(ok(&json!({"status": id.to_string()})))
}

/// How an image is pushed. `compression` and `compression-level` are extensions.
fn push_options(request: &Request) -> Outcome<PushOptions> {
    let compression = match request.get("compression") {
        "" => None,
        "gzip" => Some(Compression::Gzip),
        "zstd" => Some(Compression::Zstd),
        other => return Err(Failure::invalid(format!("invalid compression {other:?}: it is gzip or zstd"))),
    };
    let level: Option<u32> = request.number("compression-level")?;
    let most = if compression == Some(Compression::Zstd) { 19 } else { 9 };
    if let Some(level) = level.filter(|level| !(1..=most).contains(level)) {
        return Err(Failure::invalid(format!("invalid compression-level {level}: it is 1 to {most}")));
    }
    let platform = platform(request.get("platform"))?;
    Ok(PushOptions { platform, compression, level, recompress: compression.is_some() })
}

/// `POST /images/NAME/push`.
pub(crate) async fn push(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let tag = request.get("tag");
    let name = if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") };
    let name = reference(&name)?.with_default_tag();
    let options = push_options(request)?;
    let (images, api) = (with_login(api, request)?, api.clone());
    lines(|lines| async move {
        lines.status(format!("The push refers to repository [{}]", name.name()));
        let pushed = images.push(&name, options, reporter(&lines, Way::Push)).await?;
        let (tag, digest, size) = (name.tag().unwrap_or_default(), pushed.target.digest, pushed.target.size);
        lines.status(format!("{tag}: digest: {digest} size: {size}"));
        lines.say(&json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}));
        let attributes = [("name".to_owned(), name.familiar_name().to_owned())];
        api.engine.tell(Subject::Image, "push", &name.familiar(), attributes);
        Ok(())
    })
    .await
}

/// `GET /images/get` and `GET /images/NAME/get`. `format` is an extension.
pub(crate) async fn save(api: &Api, names: Vec<String>, request: &Request) -> Outcome<Reply> {
    let format = match request.get("format") {
        "" | "docker-archive" => Format::DockerArchive,
        "oci-archive" => Format::OciArchive,
        other => {
            return Err(Failure::invalid(format!("invalid format {other:?}: it is docker-archive or oci-archive")));
        }
    };
    let options = SaveOptions { format, platform: platform(request.get("platform"))? };
    for name in &names {
        api.engine.images().find(name).await?;
    }
    let (images, (writer, failer, pieces)) = (api.engine.images().clone(), pipe::writer());
    tokio::spawn(async move {
        // What was begun ends with an error that the client sees as a cut-off answer.
        if let Err(error) = images.save(&names, writer, options).await {
            tracing::warn!("save {}: {error}", names.join(", "));
            failer.fail(error).await;
        }
    });
    Ok(stream("application/x-tar", pieces))
}

/// `POST /images/load`.
pub(crate) async fn load(api: &Api, request: Request) -> Outcome<Reply> {
    let options = LoadOptions { platform: platform(request.get("platform"))? };
    let images = api.engine.images().clone();
    let (body, api) = (pipe::reader(request.body), api.clone());
    lines(|lines| async move {
        let loaded = match images.load(body, options, gantry_images::silent()).await {
            Ok(loaded) => loaded,
            // The head has gone by then, at Docker.
            Err(error) => {
                lines.failed(&error.to_string());
                return Ok(());
            }
        };
        for one in loaded {
            let id = one.id.to_string();
            if one.names.is_empty() {
                lines.say(&json!({"stream": format!("Loaded image ID: {id}\n")}));
            }
            for name in &one.names {
                lines.say(&json!({"stream": format!("Loaded image: {}\n", name.familiar())}));
            }
            api.engine.tell(Subject::Image, "load", &id, [("name".to_owned(), id.clone())]);
        }
        Ok(())
    })
    .await
}

/// Changes of a configuration: each may be of several lines.
fn changes(request: &Request) -> Vec<String> {
    let lines = request.all("changes").into_iter().flat_map(str::lines);
    lines.filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// `POST /commit`.
pub(crate) async fn commit(api: &Api, mut request: Request) -> Outcome<Reply> {
    let body = request.document().await?;
    let config: Value = if body.is_empty() { Value::Null } else { parse(&body)? };
    if request.get("container").is_empty() {
        return Err(no_name());
    }
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let name = maybe_named(repository, tag)?;
    let asked = gantry_engine::Commit {
        name,
        author: request.get("author").to_owned(),
        message: request.get("comment").to_owned(),
        changes: changes_of(&config).into_iter().chain(changes(&request)).collect(),
        pause: request.flag_or("pause", true),
    };
    let id = api.engine.commit(request.get("container"), asked).await?;
    Ok(reply_json(StatusCode::CREATED, &json!({"Id": id.to_string()})))
}

/// `GET /distribution/NAME/json`.
pub(crate) async fn distribution(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let images = with_login(api, request)?;
    let name = reference(name)?.with_default_tag();
    let fail = |error: gantry_distribution::Error| Failure::from(gantry_images::Error::from(error));
    let fetched = images.client().manifest(&name).await.map_err(fail)?;
    let descriptor = &fetched.descriptor;
    let document = gantry_model::image::Document::parse(&fetched.bytes, &descriptor.media_type);
    let mut platforms = Vec::new();
    match document {
        Ok(gantry_model::image::Document::Index(index)) => {
            platforms.extend(index.manifests.iter().filter_map(|one| one.platform.clone()));
        }
        Ok(gantry_model::image::Document::Manifest(manifest)) => {
            let limit = gantry_model::image::MAX_CONFIG;
            let bytes = images.client().blob_bytes(&name, &manifest.config, limit).await.map_err(fail)?;
            platforms.extend(gantry_model::image::ImageConfig::parse(&bytes).ok().map(|config| config.platform));
        }
        Err(error) => return Err(Failure::internal(error.to_string())),
    }
    Ok(ok(&json!({
        "Descriptor": {"mediaType": descriptor.media_type, "digest": descriptor.digest, "size": descriptor.size},
        "Platforms": platforms,
    })))
}
