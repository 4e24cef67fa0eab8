//! Images.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use bytes::Bytes;
use gantry_distribution::{Credential, Credentials};
use gantry_engine::events::Subject;
use gantry_images::{
    ContainerUse, Format, Images, ImportOptions, ListOptions, LoadOptions, Progress, PruneOptions, PullOptions,
    PushOptions, RemoveOptions, Removed, Reporter, SaveOptions, Step,
};
use gantry_model::image::Compression;
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::pipe;
use crate::error::{Failure, Outcome};
use crate::reply::{Reply, empty, json as reply_json, ok, stream};
use crate::request::{Request, Version};
use crate::server::Api;

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

/// `GET /images/json`.
pub(crate) async fn list(api: &Api, request: &Request) -> Outcome<Reply> {
    let filters = request.filters()?;
    filters.only(&["before", "dangling", "label", "label!", "reference", "since", "until"])?;
    let options = ListOptions { filters: filters.0, shared_size: request.flag("shared-size"), containers: None };
    let mut documents = json!(api.engine.images().list(options).await?);
    for document in documents.as_array_mut().into_iter().flatten() {
        of_version(document, request.version);
    }
    Ok(ok(&documents))
}

/// `GET /images/NAME/json`.
pub(crate) async fn inspect(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let found = api.engine.images().inspect(name, platform(request.get("platform"))?).await;
    let mut document = match found {
        // What can be no image's name or id is not missing, but wrong.
        Err(error @ gantry_images::Error::NoSuchImage(_)) => {
            if !name.starts_with("sha256:") {
                reference(name)?;
            }
            return Err(error.into());
        }
        found => json!(found?),
    };
    of_version(&mut document, request.version);
    Ok(ok(&document))
}

/// Makes an image's document that of a version: fields that came or went since.
fn of_version(document: &mut Value, version: Version) {
    let Some(object) = document.as_object_mut() else { return };
    if version < Version(1, 44) {
        let size = object.get("Size").cloned().unwrap_or_default();
        object.insert("VirtualSize".to_owned(), size);
    }
    if version < Version(1, 48) {
        object.remove("Descriptor");
    }
}

/// `GET /images/NAME/history`.
pub(crate) async fn history(api: &Api, name: &str) -> Outcome<Reply> {
    Ok(ok(&api.engine.images().history(name, None).await?))
}

/// `POST /images/NAME/tag`.
pub(crate) async fn tag(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let target = if tag.is_empty() { repository.to_owned() } else { format!("{repository}:{tag}") };
    let target = reference(&target)?.with_default_tag();
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
            Removed::Untagged(name) => {
                api.engine.tell(Subject::Image, "untag", id, [("name".to_owned(), name.clone())]);
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
    let options = PruneOptions { filters: request.filters()?.0, dry_run, containers: uses(api) };
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

/// Lines of progress on their way to a client.
#[derive(Clone)]
struct Lines {
    sender: mpsc::UnboundedSender<std::io::Result<Bytes>>,
    /// Whether something was said.
    said: Arc<AtomicBool>,
}

impl Lines {
    fn new(sender: mpsc::UnboundedSender<std::io::Result<Bytes>>) -> Self {
        Self { sender, said: Arc::default() }
    }

    fn say(&self, line: &Value) {
        self.said.store(true, Ordering::Relaxed);
        // Nobody may listen.
        let _ = self.sender.send(Ok(format!("{line}\r\n").into()));
    }

    fn is_silent(&self) -> bool {
        !self.said.load(Ordering::Relaxed)
    }

    fn status(&self, text: impl Into<String>) {
        self.say(&json!({"status": text.into()}));
    }

    fn error(&self, error: &impl ToString) {
        let text = error.to_string();
        self.say(&json!({"errorDetail": {"message": text}, "error": text}));
    }
}

/// An answer of lines that work tells of itself. Clients end what they asked for by going away; what was downloaded by then
/// is kept for the next time.
fn lines<F: Future<Output = ()> + Send + 'static>(work: impl FnOnce(Lines) -> F) -> Reply {
    let (sender, receiver) = mpsc::unbounded_channel();
    let (client, work) = (sender.clone(), work(Lines::new(sender)));
    tokio::spawn(async move {
        tokio::select! {
            () = work => {}
            () = client.closed() => tracing::info!("a transfer is given up, since its client is gone"),
        }
    });
    let pieces = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let next = receiver.recv().await?;
        Some((next, receiver))
    });
    stream("application/json", pieces)
}

/// An answer of lines, or a failure where the work fails before its first line.
async fn lines_or_failure<F: Future<Output = Outcome<()>> + Send + 'static>(
    work: impl FnOnce(Lines) -> F,
) -> Outcome<Reply> {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let (failed, failure) = tokio::sync::oneshot::channel();
    let lines = Lines::new(sender);
    let (client, work) = (lines.sender.clone(), work(lines.clone()));
    tokio::spawn(async move {
        let done = tokio::select! {
            done = work => done,
            () = client.closed() => return tracing::info!("a transfer is given up, since its client is gone"),
        };
        match done {
            Err(error) if lines.is_silent() => drop(failed.send(error)),
            Err(error) => lines.error(&error.message),
            Ok(()) => {}
        }
    });
    let Some(first) = receiver.recv().await else {
        return Err(failure.await.unwrap_or_else(|_| Failure::internal("the work ended without a word")));
    };
    let pieces = futures_util::stream::unfold((Some(first), receiver), |(first, mut receiver)| async move {
        let next = match first {
            Some(first) => first,
            None => receiver.recv().await?,
        };
        Some((next, (None, receiver)))
    });
    Ok(stream("application/json", pieces))
}

/// Which way layers go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Pull,
    Push,
}

/// Progress of layers as lines.
fn reporter(lines: &Lines, way: Way, resolved: Option<Value>) -> Reporter {
    let lines = lines.clone();
    Arc::new(move |progress| match progress {
        Progress::Resolved { .. } => resolved.iter().for_each(|line| lines.say(line)),
        Progress::Note(text) => lines.status(text),
        Progress::Layer { digest, step } => {
            let id = digest.to_string();
            let id = id.split_once(':').map_or(id.as_str(), |(_, hex)| hex);
            let id = &id[..12.min(id.len())];
            let detail = |status: &str, done: u64, total: u64| {
                let detail = json!({"current": done, "total": total});
                json!({"status": status, "progressDetail": detail, "id": id})
            };
            let plain = |status: &str| json!({"status": status, "progressDetail": {}, "id": id});
            let line = match step {
                Step::Waiting { .. } => plain(if way == Way::Pull { "Pulling fs layer" } else { "Preparing" }),
                Step::Exists => plain(if way == Way::Pull { "Already exists" } else { "Layer already exists" }),
                Step::Mounted => plain("Mounted from another repository"),
                Step::Downloading { done, total } => detail("Downloading", done, total),
                Step::Downloaded => plain("Download complete"),
                Step::Extracting { done, total } => detail("Extracting", done, total),
                Step::Pulled => plain("Pull complete"),
                Step::Pushing { done, total } => detail("Pushing", done, total),
                Step::Pushed => plain("Pushed"),
            };
            lines.say(&line);
        }
    })
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
    lines_or_failure(|lines| async move {
        let tag = name.tag().map_or_else(|| name.familiar(), str::to_owned);
        let resolved = json!({"status": format!("Pulling from {}", name.familiar_name()), "id": tag});
        let pulled =
            images.pull(&name, options, reporter(&lines, Way::Pull, Some(resolved))).await.map_err(unreachable)?;
        lines.status(format!("Digest: {}", pulled.target.digest));
        let what = if pulled.changed { "Downloaded newer image for" } else { "Image is up to date for" };
        lines.status(format!("Status: {what} {}", name.familiar()));
        let attributes = [("name".to_owned(), name.familiar_name().to_owned())];
        api.engine.tell(Subject::Image, "pull", &name.familiar(), attributes);
        Ok(())
    })
    .await
}

/// A registry that is not reached is a failure of the engine to its clients: of theirs, they would try again.
fn unreachable(error: gantry_images::Error) -> Failure {
    let mut failure = Failure::from(error);
    if failure.status == StatusCode::SERVICE_UNAVAILABLE {
        failure.status = StatusCode::INTERNAL_SERVER_ERROR;
    }
    failure
}

async fn import(api: &Api, request: Request, source: &str) -> Outcome<Reply> {
    if source != "-" {
        return Err(Failure::invalid(
            "an image is imported from the body (fromSrc=-): this engine fetches no addresses",
        ));
    }
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let name = match (repository, tag) {
        ("", _) => None,
        (repository, "") => Some(reference(repository)?.with_default_tag()),
        (repository, tag) => Some(reference(&format!("{repository}:{tag}"))?),
    };
    let options = ImportOptions {
        name,
        changes: request.all("changes").into_iter().map(str::to_owned).collect(),
        message: Some(request.get("message").to_owned()).filter(|message| !message.is_empty()),
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
pub(crate) fn push(api: &Api, name: &str, request: &Request) -> Outcome<Reply> {
    let tag = request.get("tag");
    let name = if tag.is_empty() { name.to_owned() } else { format!("{name}:{tag}") };
    let name = reference(&name)?.with_default_tag();
    let options = push_options(request)?;
    let (images, api) = (with_login(api, request)?, api.clone());
    Ok(lines(|lines| async move {
        lines.status(format!("The push refers to repository [{}]", name.name()));
        match images.push(&name, options, reporter(&lines, Way::Push, None)).await {
            Ok(pushed) => {
                let (tag, digest, size) = (name.tag().unwrap_or_default(), pushed.target.digest, pushed.target.size);
                lines.status(format!("{tag}: digest: {digest} size: {size}"));
                lines.say(&json!({"progressDetail": {}, "aux": {"Tag": tag, "Digest": digest, "Size": size}}));
                api.engine.tell(
                    Subject::Image,
                    "push",
                    &name.familiar(),
                    [("name".to_owned(), name.familiar_name().to_owned())],
                );
            }
            Err(error) => lines.error(&error),
        }
    }))
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
pub(crate) fn load(api: &Api, request: Request) -> Outcome<Reply> {
    let options = LoadOptions { platform: platform(request.get("platform"))? };
    let images = api.engine.images().clone();
    let (body, api) = (pipe::reader(request.body), api.clone());
    Ok(lines(|lines| async move {
        match images.load(body, options, gantry_images::silent()).await {
            Ok(loaded) => {
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
            }
            Err(error) => lines.error(&error),
        }
    }))
}

/// `POST /commit`.
pub(crate) async fn commit(api: &Api, request: Request) -> Outcome<Reply> {
    let (repository, tag) = (request.get("repo"), request.get("tag"));
    let name = match (repository, tag) {
        ("", _) => None,
        (repository, "") => Some(reference(repository)?.with_default_tag()),
        (repository, tag) => Some(reference(&format!("{repository}:{tag}"))?),
    };
    let asked = gantry_engine::Commit {
        name,
        author: request.get("author").to_owned(),
        message: request.get("comment").to_owned(),
        changes: request.all("changes").into_iter().map(str::to_owned).collect(),
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
