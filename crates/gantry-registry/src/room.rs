//! Room in repositories that stand for those of another registry: what nobody asked for the longest goes first.
//!
//! What upstream has can be fetched again, so a quota refuses nobody here. Room is reserved before anything is fetched,
//! so that those who fetch at the same time stay within the quota together.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_model::digest::Digest;

use crate::error::Result;
use crate::registry::Inner;
use crate::repo::{Repo, Reservation, State};

/// What is fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Blobs make room for it.
    Blob,
    /// Blobs make room for it, and then manifests, which without their blobs are small.
    Manifest,
    /// Nothing makes room for it: it was not asked for.
    Copy,
}

/// What goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Victim {
    Blob(Digest),
    Manifest(Digest),
}

/// Reserves room in a repository; none if there cannot be so much.
pub(crate) async fn reserve(
    registry: &Inner,
    repo: &Arc<Repo>,
    size: u64,
    want: Want,
    now: i64,
) -> Result<Option<Reservation>> {
    let most = registry.quota(&repo.name).unwrap_or(u64::MAX);
    let reserved = repo.reserve(size, most);
    if reserved.is_some() || want == Want::Copy {
        return Ok(reserved);
    }
    let victims = plan(&repo.state(), size, most, want);
    for victim in victims {
        match victim {
            Victim::Blob(digest) => {
                let _gate = registry.repos.gate(&digest).write().await;
                let _turn = repo.turn.lock().await;
                let here = repo.state().blobs.contains_key(&digest);
                if here {
                    repo.remove_link(&digest).await?;
                    registry.gc.evicted(&digest);
                    registry.metrics.cache_evicted.fetch_add(1, Ordering::Relaxed);
                }
            }
            Victim::Manifest(digest) => {
                let _turn = repo.turn.lock().await;
                let tags: Vec<String> = {
                    let state = repo.state();
                    let of = state.tags.iter().filter(|(_, tag)| tag.digest == digest);
                    of.map(|(name, _)| name.clone()).collect()
                };
                for tag in tags {
                    repo.remove_tag(&tag).await?;
                }
                repo.remove_manifest(&digest, now).await?;
                registry.metrics.cache_evicted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    Ok(repo.reserve(size, most))
}

/// What goes so that there is room; nothing if that cannot be.
fn plan(state: &State, size: u64, most: u64, want: Want) -> Vec<Victim> {
    // Of those that were asked for at the same time the largest, so that few go.
    let mut blobs: Vec<_> = state.blobs.iter().map(|(digest, link)| (link.used, Reverse(link.size), digest)).collect();
    blobs.sort_unstable();
    let mut manifests: Vec<_> = match want {
        Want::Manifest => state.manifests.iter().map(|(digest, record)| (record.pushed, record.size, digest)).collect(),
        Want::Blob | Want::Copy => vec![],
    };
    manifests.sort_unstable();
    let blobs = blobs.into_iter().map(|(_, Reverse(size), digest)| (size, Victim::Blob(digest.clone())));
    let manifests = manifests.into_iter().map(|(_, size, digest)| (size, Victim::Manifest(digest.clone())));
    let mut held = state.bytes.saturating_add(state.reserved).saturating_add(size);
    let mut victims = vec![];
    for (size, victim) in blobs.chain(manifests) {
        if held <= most {
            break;
        }
        held = held.saturating_sub(size);
        victims.push(victim);
    }
    if held <= most { victims } else { vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::repo::{Link, Record};

    fn digest(name: &str) -> Digest {
        crate::uploads::digest_of(gantry_model::digest::Algorithm::Sha256, name.as_bytes()).unwrap()
    }

    #[test]
    fn plans() {
        let mut state = State { reserved: 10, ..State::default() };
        let names = ["old", "new", "older", "m1", "m2"];
        for (name, size, used) in [("old", 100, 5), ("new", 200, 9), ("older", 50, 4)] {
            state.blobs.insert(digest(name), Link { size, used });
            state.bytes += size;
        }
        for (name, size, pushed) in [("m1", 30, 2), ("m2", 30, 1)] {
            let text = format!(r#"{{"media_type":"m","size":{size},"pushed":{pushed}}}"#);
            let record: Record = serde_json::from_str(&text).unwrap();
            state.manifests.insert(digest(name), Arc::new(record));
            state.bytes += size;
        }
        let check = |size: u64, most: u64, want: Want, expect: &str| {
            let name = |victim: &Victim| {
                let (Victim::Blob(found) | Victim::Manifest(found)) = victim;
                *names.iter().find(|name| digest(name) == *found).unwrap()
            };
            let found: Vec<&str> = plan(&state, size, most, want).iter().map(name).collect();
            assert_eq!(found.join(" "), expect, "{size} of {most} for {want:?}");
        };
        // 410 bytes are held and 10 reserved.
        check(80, 500, Want::Blob, "");
        check(81, 500, Want::Blob, "older");
        check(130, 500, Want::Blob, "older");
        check(131, 500, Want::Blob, "older old");
        check(430, 500, Want::Blob, "older old new");
        // Nothing goes for nothing.
        check(431, 500, Want::Blob, "");
        check(431, 500, Want::Manifest, "older old new m2");
        check(490, 500, Want::Manifest, "older old new m2 m1");
        check(491, 500, Want::Manifest, "");
    }
}
