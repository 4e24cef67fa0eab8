//! Names of images, and what they point to.
//!
//! A name points to a manifest or an index. When it moves, the old target stays as an image without a name until it is
//! pruned. A name becomes durable before the call returns, with all that it refers to.

use std::collections::HashMap;

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use gantry_model::reference::Reference;

use crate::collect::Root;
use crate::error::{Error, Result};
use crate::index;
use crate::lease::Lease;
use crate::rows::{BLOBS, BlobRow, NAMES, TARGETS, TargetRow};
use crate::store::Store;

/// An image: what some names, or none any more, point to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The manifest or index.
    pub target: Descriptor,
    /// Its names, in order.
    pub names: Vec<Reference>,
    /// When it came here, in nanoseconds since 1970.
    pub created: i64,
}

impl Store {
    /// All images, the newest first.
    pub fn images(&self) -> Result<Vec<Image>> {
        let (targets, names) = self
            .inner()
            .db
            .read("list images", |tx| Ok((tx.list::<TargetRow>(TARGETS, "")?, tx.list::<String>(NAMES, "")?)))?;
        let mut by_target: HashMap<String, Vec<Reference>> = HashMap::new();
        for (name, target) in names {
            by_target.entry(target).or_default().push(parse(&name)?);
        }
        let mut images = Vec::with_capacity(targets.len());
        for (key, row) in targets {
            let names = by_target.remove(&key).unwrap_or_default();
            images.push(Image { target: row.descriptor, names, created: row.created });
        }
        images.sort_by(|a, b| b.created.cmp(&a.created).then_with(|| a.target.digest.cmp(&b.target.digest)));
        Ok(images)
    }

    /// What a name points to.
    pub fn image(&self, name: &Reference) -> Result<Option<Descriptor>> {
        self.inner().db.read("look up an image", |tx| {
            let Some(target) = tx.get::<String>(NAMES, &name.to_string())? else { return Ok(None) };
            Ok(tx.get::<TargetRow>(TARGETS, &target)?.map(|row| row.descriptor))
        })
    }

    /// Lets a name point to a manifest or index, which is here and together with what it refers to and is
    /// here held by the lease. Returns what the name pointed to before.
    pub fn tag(&self, lease: &Lease, name: &Reference, target: &Descriptor) -> Result<Option<Descriptor>> {
        lease.hold_target(target)?;
        let inner = self.inner();
        let (key, now) = (target.digest.to_string(), inner.now());
        let old = inner.write("name an image", true, |tx| {
            if tx.get::<BlobRow>(BLOBS, &key)?.is_none() {
                return Err(Error::missing("the manifest", &key));
            }
            let old = tx.get::<String>(NAMES, &name.to_string())?;
            let old = old.map(|old| tx.get::<TargetRow>(TARGETS, &old)).transpose()?.flatten();
            let created = tx.get::<TargetRow>(TARGETS, &key)?.map_or(now, |row| row.created);
            tx.put(TARGETS, &key, &TargetRow { descriptor: target.clone(), created, tagged: now })?;
            tx.put(NAMES, &name.to_string(), &key)?;
            Ok(old)
        })?;
        // After the row and before the lease can end: a collection that began before the row was there hears of it.
        self.root_added(Root::Target(Box::new(target.clone())));
        index::write(inner)?;
        Ok(old.map(|row| row.descriptor))
    }

    /// Keeps a manifest or index without a name, as an image that is dangling.
    pub fn keep_target(&self, lease: &Lease, target: &Descriptor) -> Result<()> {
        lease.hold_target(target)?;
        let inner = self.inner();
        let (key, now) = (target.digest.to_string(), inner.now());
        inner.write("keep an image", true, |tx| {
            let created = tx.get::<TargetRow>(TARGETS, &key)?.map_or(now, |row| row.created);
            tx.put(TARGETS, &key, &TargetRow { descriptor: target.clone(), created, tagged: now })
        })?;
        self.root_added(Root::Target(Box::new(target.clone())));
        index::write(inner)
    }

    /// Takes a name away. What it pointed to stays, and is returned.
    pub fn untag(&self, name: &Reference) -> Result<Option<Descriptor>> {
        let inner = self.inner();
        let key = name.to_string();
        if self.image(name)?.is_none() {
            return Ok(None);
        }
        let old = inner.write("take a name away", true, |tx| {
            let Some(target) = tx.get::<String>(NAMES, &key)? else { return Ok(None) };
            tx.remove(NAMES, &key)?;
            tx.get::<TargetRow>(TARGETS, &target)
        })?;
        index::write(inner)?;
        self.0.keeper.removed();
        Ok(old.map(|row| row.descriptor))
    }

    /// Removes an image with all its names, which are returned. Its content goes with the next collection.
    pub fn remove_target(&self, target: &Digest) -> Result<Vec<Reference>> {
        let inner = self.inner();
        let key = target.to_string();
        let names = inner.write("remove an image", true, |tx| {
            let mut names = Vec::new();
            for (name, to) in tx.list::<String>(NAMES)? {
                if to == key {
                    tx.remove(NAMES, &name)?;
                    names.push(name);
                }
            }
            if tx.remove(TARGETS, &key)? { Ok(names) } else { Err(Error::missing("image", target)) }
        })?;
        index::write(inner)?;
        self.0.keeper.removed();
        names.iter().map(|name| parse(name)).collect()
    }

    /// Tells a running collection of something that came to be referenced.
    pub(crate) fn root_added(&self, root: Root) {
        if let Some(roots) = &mut self.inner().state().new_roots {
            roots.push(root);
        }
    }
}

/// A name from the database.
pub(crate) fn parse(name: &str) -> Result<Reference> {
    name.parse().map_err(|error| Error::corrupt(format!("the name {name:?} in the database"), format!("{error}")))
}
