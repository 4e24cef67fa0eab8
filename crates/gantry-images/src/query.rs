//! Looking at images: lists, inspection, history and what they take on disk.

use std::collections::{BTreeMap, HashMap};

use gantry_model::digest::Digest;
use gantry_model::image::{Compression, Descriptor};
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_store::{Store, Usage};

use crate::Images;
use crate::docs::{self, GraphDriver, HistoryEntry, Inspect, Metadata, RootFs, Summary};
use crate::error::Result;
use crate::filter::{Filter, Filters, Subject};
use crate::local::{self, Loaded, Local};
use crate::plan;
use crate::remove::ContainerUse;
use crate::time;

/// What is listed, and how.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Docker's filters.
    pub filters: Filters,
    /// Whether it is computed how much images share.
    pub shared_size: bool,
    /// The containers that there are, to count them; none leaves the count out.
    pub containers: Option<Vec<ContainerUse>>,
}

/// What everything takes.
#[derive(Clone, Debug)]
pub struct DiskUsage {
    /// Bytes of all layers.
    pub layers_size: u64,
    /// Images with what they share.
    pub images: Vec<Summary>,
    /// The store's own count, with what could be freed.
    pub store: Usage,
}

impl Images {
    /// The images that are here, the newest first.
    pub async fn list(&self, options: ListOptions) -> Result<Vec<Summary>> {
        self.blocking("list", move |store| list(store, &options)).await
    }

    /// Everything about one image, as Docker's API tells it. `platform` picks one of several.
    pub async fn inspect(&self, name: &str, platform: Option<Platform>) -> Result<Inspect> {
        let name = name.to_owned();
        self.blocking("inspect", move |store| inspect(store, &name, platform.as_ref())).await
    }

    /// How an image came to be, the newest step first.
    pub async fn history(&self, name: &str, platform: Option<Platform>) -> Result<Vec<HistoryEntry>> {
        let name = name.to_owned();
        self.blocking("history", move |store| {
            let (local, image) = pick(store, &name, platform.as_ref())?;
            let sizes = sizes(store, &image)?;
            Ok(docs::history(image.id(), docs::repo_tags(&local.references()), &image.config, &sizes))
        })
        .await
    }

    /// Finds an image by name, id, or the beginning of an id.
    pub async fn find(&self, name: &str) -> Result<Local> {
        let name = name.to_owned();
        self.blocking("find", move |store| Ok(local::find(store, &name)?.0)).await
    }

    /// The image to run for a name: that of the platform asked for, or of this host. A name that is here costs one look,
    /// however many images there are.
    pub async fn resolve(&self, name: &str, platform: Option<Platform>) -> Result<Loaded> {
        let name = name.to_owned();
        self.blocking("resolve", move |store| {
            if let Some((name, target)) = local::named(store, &name)? {
                return local::select(store, &name.familiar(), &target, platform.as_ref());
            }
            Ok(pick(store, &name, platform.as_ref())?.1)
        })
        .await
    }

    /// What images take on disk, and what could be freed.
    pub async fn disk_usage(&self, containers: Vec<ContainerUse>) -> Result<DiskUsage> {
        self.blocking("disk usage", move |store| {
            let options = ListOptions { shared_size: true, containers: Some(containers), ..ListOptions::default() };
            let store_usage = store.usage()?;
            Ok(DiskUsage { layers_size: store_usage.layers.bytes, images: list(store, &options)?, store: store_usage })
        })
        .await
    }
}

/// An image and that of its platforms that was asked for.
pub(crate) fn pick(store: &Store, name: &str, platform: Option<&Platform>) -> Result<(Local, Loaded)> {
    let (local, asked) = local::find(store, name)?;
    if platform.is_none() && asked == local::Asked::Id {
        let image = local.image.clone();
        return Ok((local, image));
    }
    let target = match &asked {
        local::Asked::Name(name) => local.names.iter().find(|(there, _)| there == name).map(|(_, target)| target),
        local::Asked::Id => None,
    };
    let target = target.or(local.targets.first());
    let image = match target {
        Some(target) => local::select(store, name, target, platform)?,
        None => local.image.clone(),
    };
    Ok((local, image))
}

/// The sizes of an image's layers on disk, the lowest first. Of one that is not unpacked it is that of its blob.
pub(crate) fn sizes(store: &Store, image: &Loaded) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    for (index, chain) in image.chains().iter().enumerate() {
        let blob = image.manifest.layers.get(index).map_or(0, |blob| blob.size);
        sizes.push(store.layer(chain)?.map_or(blob, |layer| layer.size));
    }
    Ok(sizes)
}

/// `name@digest` for each repository, if the image can be pushed as it is. One with uncompressed layers is compressed on
/// the way, so no registry has it by this digest.
pub(crate) fn repo_digests(image: &Loaded, names: &[(Reference, Descriptor)]) -> Vec<String> {
    let plain = |layer: &Descriptor| plan::compression(&layer.media_type) == Some(Compression::None);
    if image.manifest.layers.iter().any(plain) {
        return Vec::new();
    }
    docs::repo_digests(names.iter().map(|(name, target)| (name, &target.digest)))
}

fn inspect(store: &Store, name: &str, platform: Option<&Platform>) -> Result<Inspect> {
    let (local, image) = pick(store, name, platform)?;
    let config = &image.config;
    let references = local.references();
    let last = config.history.last();
    let text = |name: &str| config.other.get(name).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
    Ok(Inspect {
        id: image.id().clone(),
        repo_tags: docs::repo_tags(&references),
        repo_digests: repo_digests(&image, &local.names),
        parent: text("parent"),
        comment: last.and_then(|step| step.comment.clone()).unwrap_or_else(|| text("comment")),
        created: docs::created_text(config),
        docker_version: text("docker_version"),
        author: config.author.clone().unwrap_or_default(),
        config: docs::config(&config.config),
        architecture: config.platform.architecture.clone(),
        variant: config.platform.variant.clone().unwrap_or_default(),
        os: config.platform.os.clone(),
        os_version: config.platform.os_version.clone().unwrap_or_default(),
        size: sizes(store, &image)?.iter().sum(),
        graph_driver: GraphDriver { data: None, name: "overlayfs".to_owned() },
        root_fs: RootFs { kind: "layers".to_owned(), layers: config.rootfs.diff_ids.clone() },
        metadata: Metadata { last_tag_time: time::format(local.arrived) },
        descriptor: local.targets.first().cloned().unwrap_or_else(|| image.descriptor.clone()),
    })
}

fn list(store: &Store, options: &ListOptions) -> Result<Vec<Summary>> {
    let all = local::all(store)?;
    let created = |name: &str| Ok(docs::created(&local::find(store, name)?.0.image.config));
    let filter = Filter::of_list(&options.filters, store.now(), &created)?;
    let uses = uses(&all);
    let mut list = Vec::new();
    for one in &all {
        let names = one.references();
        let config = &one.image.config;
        let created = docs::created(config);
        if !filter.matches(Subject { names: &names, labels: &config.config.labels, created }) {
            continue;
        }
        let shown: Vec<Reference> = names.into_iter().filter(|name| filter.names(name)).collect();
        let sizes = sizes(store, &one.image)?;
        let chains = one.image.chains();
        let shared = chains.iter().zip(&sizes).filter(|(chain, _)| uses.get(chain).is_some_and(|n| *n > 1));
        let shared = shared.map(|(_, size)| *size as i64).sum();
        let count =
            |all: &Vec<ContainerUse>| all.iter().filter(|one_use| one_use.image == *one.image.id()).count() as i64;
        list.push(Summary {
            id: one.image.id().clone(),
            parent_id: String::new(),
            repo_tags: docs::repo_tags(&shown),
            repo_digests: repo_digests(&one.image, &one.names),
            created: created.div_euclid(1_000_000_000),
            size: sizes.iter().sum(),
            shared_size: if options.shared_size { shared } else { -1 },
            labels: labels(&config.config.labels),
            containers: options.containers.as_ref().map_or(-1, count),
        });
    }
    Ok(list)
}

fn labels(labels: &BTreeMap<String, String>) -> Option<BTreeMap<String, String>> {
    (!labels.is_empty()).then(|| labels.clone())
}

/// In how many images each layer is.
fn uses(all: &[Local]) -> HashMap<Digest, usize> {
    let mut uses = HashMap::new();
    for chain in all.iter().flat_map(|one| one.image.chains()) {
        *uses.entry(chain).or_insert(0) += 1;
    }
    uses
}
