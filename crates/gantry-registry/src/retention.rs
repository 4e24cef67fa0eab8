//! Removal of images by rules. What is to go is decided by a pure function; carrying it out looks once more at each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use gantry_model::digest::Digest;
use serde::Serialize;

use crate::config::RetentionRule;
use crate::error::Result;
use crate::registry::Inner;
use crate::repo::{Record, Repo, State, Tag};

/// What a rule removed, or would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// The repository.
    pub repository: String,
    /// The tag; none: a manifest without tags.
    pub tag: Option<String>,
    /// The manifest.
    pub digest: Digest,
    /// Which rule, counted from 0.
    pub rule: usize,
}

/// What is to go from a repository.
fn plan(name: &str, state: &State, rules: &[RetentionRule], now: i64) -> Vec<Removed> {
    let mut removed = vec![];
    let mut claimed: HashSet<&str> = HashSet::new();
    let about = |rule: &&RetentionRule| rule.repositories.iter().any(|p| p.matches(name));
    let rules: Vec<(usize, &RetentionRule)> = rules.iter().enumerate().filter(|(_, rule)| about(rule)).collect();
    for (index, rule) in rules.iter().filter(|(_, rule)| !rule.untagged) {
        let matching = state.tags.iter().filter(|(tag, _)| rule.tags.iter().any(|p| p.matches(tag)));
        let mut mine: Vec<(&String, &Tag)> = matching.filter(|(tag, _)| !claimed.contains(tag.as_str())).collect();
        claimed.extend(mine.iter().map(|(tag, _)| tag.as_str()));
        mine.sort_by(|a, b| b.1.pushed.cmp(&a.1.pushed).then_with(|| b.0.cmp(a.0)));
        let old = mine.into_iter().enumerate().filter(|(rank, (_, tag))| expired(rule, *rank, tag.pushed, now));
        removed.extend(old.map(|(_, (tag, at))| Removed {
            repository: name.to_owned(),
            tag: Some(tag.clone()),
            digest: at.digest.clone(),
            rule: *index,
        }));
    }
    let mut untagged = vec![];
    // A manifest whose tags go now is untagged from now on, and seen as such the next time.
    let kept = needed(state.tags.values(), &state.manifests);
    if let Some((index, rule)) = rules.iter().find(|(_, rule)| rule.untagged) {
        let mut mine: Vec<(&Digest, &Arc<Record>)> =
            state.manifests.iter().filter(|(d, _)| !kept.contains(*d)).collect();
        mine.sort_by(|a, b| b.1.pushed.cmp(&a.1.pushed).then_with(|| a.0.cmp(b.0)));
        let old = mine.into_iter().enumerate().filter(|(rank, (_, one))| expired(rule, *rank, one.pushed, now));
        untagged.extend(old.map(|(_, (digest, _))| Removed {
            repository: name.to_owned(),
            tag: None,
            digest: digest.clone(),
            rule: *index,
        }));
    }
    removed.extend(untagged);
    removed
}

/// Whether the rule lets go of the one that is `rank` places from the newest.
fn expired(rule: &RetentionRule, rank: usize, pushed: i64, now: i64) -> bool {
    let beyond = rule.count.is_none_or(|count| rank as u64 >= count);
    let old = rule.age.is_none_or(|age| now - pushed >= age.0 as i64);
    beyond && old
}

/// The manifests that tags need: those they point to, what these list, and what refers to any of them.
fn needed<'a>(tags: impl Iterator<Item = &'a Tag>, manifests: &'a HashMap<Digest, Arc<Record>>) -> HashSet<&'a Digest> {
    let mut referrers: BTreeMap<&Digest, Vec<&Digest>> = BTreeMap::new();
    for (digest, record) in manifests {
        if let Some(subject) = &record.subject {
            referrers.entry(subject).or_default().push(digest);
        }
    }
    let mut kept = HashSet::new();
    let mut open: Vec<&Digest> = tags.map(|tag| &tag.digest).collect();
    while let Some(digest) = open.pop() {
        if !kept.insert(digest) {
            continue;
        }
        open.extend(manifests.get(digest).into_iter().flat_map(|record| &record.manifests));
        open.extend(referrers.get(digest).into_iter().flatten());
    }
    kept
}

/// Applies the rules to all repositories.
pub(crate) async fn apply(registry: &Inner, dry_run: bool) -> Result<Vec<Removed>> {
    let rules = &registry.config.retention.rules;
    let mut all = vec![];
    if rules.is_empty() {
        return Ok(all);
    }
    for name in registry.repos.names().await? {
        let repo = registry.repos.get(&name).await?;
        let now = (registry.clock)();
        let planned = plan(&name, &repo.state(), rules, now);
        for one in planned {
            if dry_run || remove(&repo, &one, now).await? {
                tracing::info!(repository = one.repository, tag = one.tag, digest = %one.digest, dry_run, "retention");
                all.push(one);
            }
        }
    }
    if !dry_run {
        registry.metrics.retention_removed.fetch_add(all.len() as u64, Ordering::Relaxed);
    }
    Ok(all)
}

/// Removes one, unless it has changed since it was planned.
async fn remove(repo: &Repo, one: &Removed, now: i64) -> Result<bool> {
    let _turn = repo.turn.lock().await;
    if let Some(tag) = &one.tag {
        let same = repo.state().tags.get(tag).is_some_and(|t| t.digest == one.digest);
        if same {
            repo.remove_tag(tag).await?;
        }
        Ok(same)
    } else {
        let free = {
            let state = repo.state();
            state.manifests.contains_key(&one.digest)
                && !needed(state.tags.values(), &state.manifests).contains(&one.digest)
        };
        if free {
            repo.remove_manifest(&one.digest, now).await?;
        }
        Ok(free)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Config;

    const DAY: i64 = 86_400;

    fn digest(name: &str) -> Digest {
        crate::uploads::digest_of(gantry_model::digest::Algorithm::Sha256, name.as_bytes()).unwrap()
    }

    /// `tags`: name and age in days. `manifests`: name, age, what it lists, what it is about.
    fn state(tags: &[(&str, i64)], manifests: &[(&str, i64, &[&str], &str)]) -> State {
        let mut state = State::default();
        for (name, age) in tags {
            let tag = Tag { digest: digest(name), pushed: -age * DAY, checked: 0 };
            state.tags.insert((*name).to_owned(), tag);
        }
        for (name, age, lists, subject) in manifests {
            let text = r#"{"media_type":"m","size":1,"pushed":0}"#;
            let mut record: Record = serde_json::from_str(text).unwrap();
            record.pushed = -age * DAY;
            record.manifests = lists.iter().map(|n| digest(n)).collect();
            record.subject = Some(*subject).filter(|s| !s.is_empty()).map(digest);
            state.manifests.insert(digest(name), Arc::new(record));
        }
        state
    }

    #[test]
    fn rules() {
        let state = state(
            &[("v1", 40), ("v2", 30), ("v3", 20), ("pr-1", 9), ("pr-2", 2), ("keep", 400)],
            &[
                ("v1", 40, &["part"], ""),
                ("part", 40, &[], ""),
                ("signature", 39, &[], "v1"),
                ("lost", 8, &[], ""),
                ("new", 0, &[], ""),
                ("orphan", 8, &[], "absent"),
            ],
        );
        let names: HashMap<Digest, &str> =
            ["part", "signature", "lost", "new", "orphan"].map(|n| (digest(n), n)).into();
        let check = |rules: &str, expect: &str| {
            let config = Config::parse(rules).unwrap();
            let planned = plan("team/app", &state, &config.retention.rules, 0);
            let mut found: Vec<String> =
                planned.into_iter().map(|r| r.tag.unwrap_or_else(|| format!("@{}", names[&r.digest]))).collect();
            found.sort();
            assert_eq!(found.join(" "), expect, "{rules}");
        };
        check("[[retention.rules]]\ntags = ['v*']\ncount = 2", "v1");
        check("[[retention.rules]]\ntags = ['v*']\nage = '25d'", "v1 v2");
        check("[[retention.rules]]\ntags = ['v*']\nage = '25d'\ncount = 2", "v1");
        check("[[retention.rules]]\ntags = ['pr-*']\nage = '7d'", "pr-1");
        check("[[retention.rules]]\ntags = ['keep']\ncount = 1\n[[retention.rules]]\nage = '1d'", "pr-1 pr-2 v1 v2 v3");
        check("[[retention.rules]]\nuntagged = true\nage = '7d'", "@lost @orphan");
        check("[[retention.rules]]\nuntagged = true\nage = 0", "@lost @new @orphan");
        check("[[retention.rules]]\nuntagged = true\ncount = 1", "@lost @orphan");
        check("[[retention.rules]]\nrepositories = ['other/**']\ncount = 0", "");
        check("[[retention.rules]]\nrepositories = ['team/*']\ntags = ['v?']\ncount = 0", "v1 v2 v3");
    }
}
