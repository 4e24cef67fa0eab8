//! Registries that this one caches: which of its repositories stand for theirs, and what is fetched when.

use std::path::Path;
use std::sync::Arc;

use gantry_model::digest::Digest;

use crate::api::{Refusal, Response, Target};
use crate::config;
use crate::error::Result;
use crate::registry::Inner;
use crate::repo::Repo;

/// All of them.
pub(crate) struct Upstreams {
    list: Vec<config::Upstream>,
}

impl Upstreams {
    pub fn open(list: &[config::Upstream], _root: &Path) -> Result<Self> {
        Ok(Self { list: list.to_vec() })
    }

    /// The repository that a request is about, and whether `ns` decided that.
    pub fn place(&self, name: String, namespace: Option<&str>) -> (String, bool) {
        let Some(upstream) = namespace.and_then(|n| self.list.iter().find(|u| u.name == n)) else {
            return (name, false);
        };
        if upstream.prefix.is_empty() { (name, true) } else { (format!("{}/{name}", upstream.prefix), true) }
    }

    /// Whether a repository stands for one of another registry.
    pub fn owns(&self, _repository: &str) -> bool {
        false
    }

    pub async fn blob(&self, _: &Arc<Inner>, _: &str, _: &Digest, _: bool) -> Result<Option<Response>, Refusal> {
        Ok(None)
    }

    pub async fn refresh(&self, _: &Arc<Inner>, _: &Arc<Repo>, _: &Target) -> Result<(), Refusal> {
        Ok(())
    }
}
