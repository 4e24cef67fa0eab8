//! Collection of what nothing refers to.
//!
//! It never blocks a pull. What is needed is found out without any lock, from a view of the database. Then small batches of
//! the rest are removed: under the lock of the state, for a moment, each thing is looked at once more, and claimed, which
//! makes whoever wants it wait for its end. A thing is safe if a lease holds it, if a snapshot stands on it, or if a name
//! came to need it since the beginning: those names are noted while a collection runs, and followed before each batch.
//! Whoever uses a thing first holds it and then looks whether it is there, and gives up his lease only after the name is
//! written; so there is no gap between the two.
//!
//! A crash in the middle leaves rows without files or files without rows, which the next start puts in order.

mod mark;
mod policy;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use gantry_model::digest::Digest;
use gantry_model::image::Descriptor;
use gantry_model::reference::Reference;

use crate::erofs;
use crate::error::{Error, Result};
use crate::images::parse;
use crate::index;
use crate::rows::{BLOBS, BlobRow, DIFFS, LAYERS, LayerRow, NAMES, TARGETS, TargetRow};
use crate::store::{Claimed, Inner, State, Store};
pub(crate) use mark::{Needs, needs};
use policy::Candidate;
pub use policy::{Filter, Policy};

/// How much is removed at a time.
const BATCH: usize = 64;

/// What came to be referenced while a collection runs.
#[derive(Clone, Debug)]
pub(crate) enum Root {
    /// A manifest or index has a name.
    Target(Box<Descriptor>),
    /// A layer, with those below it, is in use.
    Layer(Digest),
}

/// What a collection removed, or would remove.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Images, each with the names that it had.
    pub images: Vec<(Digest, Vec<Reference>)>,
    /// Blobs with their sizes.
    pub blobs: Vec<(Digest, u64)>,
    /// Chain ids of layers with their sizes.
    pub layers: Vec<(Digest, u64)>,
    /// Beginnings of blobs that nobody went on with.
    pub partials: u64,
    /// All bytes of it.
    pub bytes: u64,
}

impl Store {
    /// Removes what nothing refers to, and images by the policy; with `dry_run` only says what it would. `now` is in
    /// nanoseconds since 1970. It does not block those who pull.
    pub fn collect(&self, policy: &Policy, now: i64, dry_run: bool) -> Result<Collected> {
        let collected = run(self.inner(), policy, now, dry_run)?;
        self.0.keeper.work();
        Ok(collected)
    }
}

/// See [`Store::collect`].
pub(crate) fn run(inner: &Inner, policy: &Policy, now: i64, dry_run: bool) -> Result<Collected> {
    let _one = inner.collecting.lock().unwrap_or_else(PoisonError::into_inner);
    if !dry_run {
        inner.state().new_roots = Some(Vec::new());
        // What stays mounted takes its room until it is not.
        erofs::forget_unused(inner);
    }
    let collected = collect(inner, policy, now, dry_run);
    inner.state().new_roots = None;
    collected
}

fn collect(inner: &Inner, policy: &Policy, now: i64, dry_run: bool) -> Result<Collected> {
    let view = View::read(inner)?;
    let doomed = view.doomed(policy, now);
    let mut collected = Collected::default();
    for image in doomed {
        let candidate = &view.images[image].candidate;
        if dry_run || remove_image(inner, candidate)? {
            collected.images.push((candidate.target.digest.clone(), candidate.names.clone()));
        }
    }
    if !dry_run && !collected.images.is_empty() {
        index::write(inner)?;
    }
    let gone: HashSet<&Digest> = collected.images.iter().map(|(digest, _)| digest).collect();
    let live = view.live(|image| !gone.contains(&image.target.digest));
    let (mut blobs, mut layers) = view.garbage(&live);
    let old = |created: i64| policy.min_age.is_none_or(|min| i128::from(now) - i128::from(created) >= nanos(min));
    blobs.retain(|(_, row)| old(row.created));
    layers.retain(|row| old(row.created));
    let blobs: Vec<(Digest, u64)> = blobs.into_iter().map(|(digest, row)| (digest, row.size)).collect();
    if dry_run {
        let state = inner.state();
        collected.blobs = blobs.into_iter().filter(|(digest, _)| !state.holds_blob(digest)).collect();
        let held = |row: &LayerRow| state.holds_layer(&row.chain);
        collected.layers =
            layers.into_iter().filter(|row| !held(row)).map(|row| (row.chain.clone(), row.size)).collect();
        collected.bytes = collected.blobs.iter().chain(&collected.layers).map(|(_, size)| size).sum();
        return Ok(collected);
    }
    sweep(inner, live, &blobs, &layers, &mut collected)?;
    collected.bytes = collected.blobs.iter().chain(&collected.layers).map(|(_, size)| size).sum();
    let expired = Store::expire_partials(inner, now)?;
    collected.partials = expired.count;
    collected.bytes += expired.bytes;
    Ok(collected)
}

struct Node {
    candidate: Candidate,
    needs: Needs,
}

/// What there was when a collection began.
struct View {
    images: Vec<Node>,
    blobs: BTreeMap<Digest, BlobRow>,
    layers: HashMap<Digest, LayerRow>,
    /// Layers that snapshots stand on, and those below.
    pinned: HashSet<Digest>,
}

impl View {
    fn read(inner: &Inner) -> Result<Self> {
        // Layers and snapshots first: what comes later is held by a lease, or noted.
        let (layers, snapshots): (_, Vec<Digest>) = {
            let state = inner.state();
            (state.layers.clone(), state.snapshots.values().filter_map(|row| row.chain.clone()).collect())
        };
        let (targets, names, blobs) = inner.db.read("look through the store", |tx| {
            let targets = tx.list::<TargetRow>(TARGETS, "")?;
            Ok((targets, tx.list::<String>(NAMES, "")?, tx.list::<BlobRow>(BLOBS, "")?))
        })?;
        let mut by_target: HashMap<String, Vec<Reference>> = HashMap::new();
        for (name, target) in names {
            by_target.entry(target).or_default().push(parse(&name)?);
        }
        let mut pinned = HashSet::new();
        for chain in &snapshots {
            add_chain(&layers, chain, &mut pinned);
        }
        let mut images = Vec::new();
        for (key, row) in targets {
            let needs = needs(inner, &row.descriptor, &mut |_| {})?;
            // An image is in use if a snapshot stands on its top layer, or on one that was built on it.
            let in_use = needs.tops.iter().any(|top| pinned.contains(top));
            let used = needs.tops.iter().filter_map(|top| layers.get(top)).map(|layer| layer.used).max();
            let used = used.unwrap_or(row.tagged).max(row.tagged);
            let names = by_target.remove(&key).unwrap_or_default();
            let candidate = Candidate { target: row.descriptor, names, used, labels: needs.labels.clone(), in_use };
            images.push(Node { candidate, needs });
        }
        let digest = |(key, row): (String, BlobRow)| match key.parse::<Digest>() {
            Ok(digest) => Ok((digest, row)),
            Err(error) => Err(Error::corrupt("a blob's row", error.to_string())),
        };
        Ok(Self { images, blobs: blobs.into_iter().map(digest).collect::<Result<_>>()?, layers, pinned })
    }

    /// The images that a policy lets go: for their age and kind, then for the size of it all.
    fn doomed(&self, policy: &Policy, now: i64) -> Vec<usize> {
        let mut doomed: Vec<usize> = Vec::new();
        let mut rest: Vec<usize> = Vec::new();
        for (index, node) in self.images.iter().enumerate() {
            let list = if policy.removes(&node.candidate, now) { &mut doomed } else { &mut rest };
            list.push(index);
        }
        let Some(max) = policy.max_bytes else { return doomed };
        rest.sort_by_key(|index| self.images[*index].candidate.used);
        let mut uses: HashMap<&Digest, u64> = HashMap::new();
        for needs in rest.iter().map(|index| &self.images[*index].needs) {
            needs.blobs.iter().chain(&needs.layers).for_each(|digest| *uses.entry(digest).or_default() += 1);
        }
        self.pinned.iter().for_each(|chain| *uses.entry(chain).or_default() += 1);
        // A chain id may be the digest of a blob too (the lowest layer, uncompressed): then both count.
        let size = |digest: &Digest| {
            self.blobs.get(digest).map_or(0, |blob| blob.size) + self.layers.get(digest).map_or(0, |layer| layer.size)
        };
        let mut total: u64 = uses.keys().map(|digest| size(digest)).sum();
        for index in rest {
            if total <= max {
                break;
            }
            if !policy.may_remove(&self.images[index].candidate) {
                continue;
            }
            let needs = &self.images[index].needs;
            for digest in needs.blobs.iter().chain(&needs.layers) {
                if let Some(count) = uses.get_mut(digest) {
                    *count -= 1;
                    total -= if *count == 0 { size(digest) } else { 0 };
                }
            }
            doomed.push(index);
        }
        doomed
    }

    /// What is needed by the images that stay, and by snapshots.
    fn live(&self, stays: impl Fn(&Candidate) -> bool) -> Live {
        let mut live = Live { blobs: HashSet::new(), layers: self.pinned.clone() };
        for node in self.images.iter().filter(|node| stays(&node.candidate)) {
            live.blobs.extend(node.needs.blobs.iter().cloned());
            live.layers.extend(node.needs.layers.iter().cloned());
        }
        live
    }

    /// What is not needed: blobs, and layers with those before their parents that stand on them.
    fn garbage(&self, live: &Live) -> (Vec<(Digest, BlobRow)>, Vec<LayerRow>) {
        let blobs = self.blobs.iter().filter(|(digest, _)| !live.blobs.contains(digest));
        let mut layers: Vec<(usize, LayerRow)> = Vec::new();
        for row in self.layers.values().filter(|row| !live.layers.contains(&row.chain)) {
            let mut above = HashSet::new();
            add_chain(&self.layers, &row.chain, &mut above);
            layers.push((above.len(), row.clone()));
        }
        layers.sort_by_key(|(depth, _)| std::cmp::Reverse(*depth));
        let blobs = blobs.map(|(digest, row)| (digest.clone(), row.clone())).collect();
        (blobs, layers.into_iter().map(|(_, row)| row).collect())
    }
}

fn nanos(duration: std::time::Duration) -> i128 {
    i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX)
}

/// What must stay.
struct Live {
    blobs: HashSet<Digest>,
    layers: HashSet<Digest>,
}

/// Adds a layer and those below it.
fn add_chain(layers: &HashMap<Digest, LayerRow>, chain: &Digest, set: &mut HashSet<Digest>) {
    let mut next = Some(chain);
    while let Some(chain) = next {
        if !set.insert(chain.clone()) {
            break;
        }
        next = layers.get(chain).and_then(|row| row.parent.as_ref());
    }
}

/// Removes an image, unless it got or lost a name, is held, or is in use by now.
fn remove_image(inner: &Inner, image: &Candidate) -> Result<bool> {
    if inner.state().holds_blob(&image.target.digest) {
        return Ok(false);
    }
    let key = image.target.digest.to_string();
    let expect: HashSet<String> = image.names.iter().map(ToString::to_string).collect();
    inner.write("remove an image", true, |tx| {
        let names = tx.list::<String>(NAMES)?.into_iter().filter(|(_, target)| *target == key);
        let names: HashSet<String> = names.map(|(name, _)| name).collect();
        if names != expect {
            return Ok(false);
        }
        names.iter().try_for_each(|name| tx.remove(NAMES, name).map(|_| ()))?;
        tx.remove(TARGETS, &key)
    })
}

fn sweep(
    inner: &Inner,
    mut live: Live,
    blobs: &[(Digest, u64)],
    layers: &[LayerRow],
    collected: &mut Collected,
) -> Result<()> {
    for batch in layers.chunks(BATCH) {
        let rows = claim(inner, &mut live, |state, live| {
            let mut taken: Vec<LayerRow> = Vec::new();
            for row in batch {
                let claim = Claimed::Layer(row.chain.clone());
                let same = state.layers.get(&row.chain).is_some_and(|there| there.number == row.number);
                let safe = live.layers.contains(&row.chain) || state.holds_layer(&row.chain);
                // Those above went before it, in this batch or an earlier one; one that stayed keeps it.
                let stood_on = state.layers.values().any(|other| other.parent.as_ref() == Some(&row.chain));
                if same && !safe && !stood_on && !state.claims.contains_key(&claim) {
                    state.claims.insert(claim, 0);
                    state.layers.remove(&row.chain);
                    taken.push(row.clone());
                }
            }
            taken
        })?;
        let removed = remove_layers(inner, &rows);
        if removed.is_err() {
            let mut state = inner.state();
            state.layers.extend(rows.iter().map(|row| (row.chain.clone(), row.clone())));
        }
        inner.release(rows.iter().map(|row| Claimed::Layer(row.chain.clone())));
        removed?;
        collected.layers.extend(rows.into_iter().map(|row| (row.chain, row.size)));
    }
    for batch in blobs.chunks(BATCH) {
        let taken = claim(inner, &mut live, |state, live| {
            let mut taken = Vec::new();
            for (digest, size) in batch {
                let claim = Claimed::Blob(digest.clone());
                let safe = live.blobs.contains(digest) || state.holds_blob(digest);
                if !safe && !state.claims.contains_key(&claim) {
                    state.claims.insert(claim, 0);
                    taken.push((digest.clone(), *size));
                }
            }
            taken
        })?;
        let removed = remove_blobs(inner, &taken);
        inner.release(taken.iter().map(|(digest, _)| Claimed::Blob(digest.clone())));
        removed?;
        collected.blobs.extend(taken);
    }
    Ok(())
}

/// Follows what came to be referenced since the last look, until there is nothing more, and then lets `take` claim under
/// the same lock.
fn claim<T>(inner: &Inner, live: &mut Live, take: impl FnOnce(&mut State, &Live) -> T) -> Result<T> {
    loop {
        let mut state = inner.state();
        let roots = std::mem::take(state.new_roots.get_or_insert_default());
        for root in &roots {
            if let Root::Layer(chain) = root {
                add_chain(&state.layers, chain, &mut live.layers);
            }
        }
        let chains: Vec<Digest> = state.snapshots.values().filter_map(|row| row.chain.clone()).collect();
        for chain in &chains {
            add_chain(&state.layers, chain, &mut live.layers);
        }
        if roots.iter().all(|root| matches!(root, Root::Layer(_))) {
            return Ok(take(&mut state, live));
        }
        drop(state);
        for root in roots {
            if let Root::Target(target) = root {
                let needs = needs(inner, &target, &mut |_| {})?;
                live.blobs.extend(needs.blobs);
                live.layers.extend(needs.layers);
            }
        }
    }
}

/// Rows first: a row without a file is what nobody may see.
fn remove_layers(inner: &Inner, rows: &[LayerRow]) -> Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    inner.write("remove layers", false, |tx| {
        rows.iter().try_for_each(|row| tx.remove(LAYERS, &row.chain.to_string()).map(|_| ()))
    })?;
    for row in rows {
        inner.count(0, row.size);
        if let Err(error) = inner.dirs.discard(&inner.dirs.layer(row.number)) {
            tracing::warn!(%error, "a layer's tree stays until the store is opened again");
        }
    }
    Ok(())
}

fn remove_blobs(inner: &Inner, blobs: &[(Digest, u64)]) -> Result<()> {
    if blobs.is_empty() {
        return Ok(());
    }
    let keys: HashSet<String> = blobs.iter().map(|(digest, _)| digest.to_string()).collect();
    inner.write("remove blobs", false, |tx| {
        keys.iter().try_for_each(|key| tx.remove(BLOBS, key).map(|_| ()))?;
        for (key, _) in tx.list::<Descriptor>(DIFFS)? {
            if key.split(' ').nth(1).is_some_and(|blob| keys.contains(blob)) {
                tx.remove(DIFFS, &key)?;
            }
        }
        Ok(())
    })?;
    for (digest, size) in blobs {
        inner.count(0, *size);
        if let Err(error) = std::fs::remove_file(inner.dirs.blob(digest)) {
            tracing::warn!(%digest, %error, "a blob's file stays until the store is opened again");
        }
    }
    Ok(())
}
