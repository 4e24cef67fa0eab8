//! Lists that come in pages: tags, repositories.

use std::collections::HashSet;

use bytes::Bytes;
use gantry_model::Reference;
use http::{HeaderMap, Method};
use reqwest::Url;
use serde::Deserialize;

use crate::client::{Client, pull_scope};
use crate::config::Endpoint;
use crate::error::{Error, Result};
use crate::exchange::{Ask, Core, Target, same_origin};
use crate::header::next_link;

/// Entries asked for at a time.
const PAGE: &str = "1000";
/// The most bytes of one page.
const MAX_PAGE: u64 = 8 << 20;
/// The most pages, and the most entries of all.
const MAX_PAGES: usize = 2000;
pub(crate) const MAX_ENTRIES: usize = 500_000;

/// The pages of a list, one after the other.
pub(crate) struct Pages<'a> {
    client: &'a Client,
    endpoint: Endpoint,
    next: Option<Ask>,
    seen: HashSet<String>,
}

impl<'a> Pages<'a> {
    pub(crate) fn new(client: &'a Client, endpoint: Endpoint, first: Ask) -> Self {
        Self { client, endpoint, next: Some(first), seen: HashSet::new() }
    }

    /// The next page and its headers; none after the last.
    pub(crate) async fn next(&mut self) -> Result<Option<(HeaderMap, Bytes)>> {
        let Some(ask) = self.next.take() else { return Ok(None) };
        let (headers, bytes) = self.client.fetch(&self.endpoint, &ask, MAX_PAGE, "a list").await?;
        let bad = |why: &str| Error::protocol(&self.endpoint.name, format!("{}: {why}", ask.what()));
        if let Some(link) = next_link(&headers) {
            if !self.seen.insert(link.clone()) || self.seen.len() > MAX_PAGES {
                return Err(bad("its pages go on for ever"));
            }
            let url = self.resolve(&ask, &link).ok_or_else(|| bad("its next page is at another host"))?;
            let mut follow = ask.clone();
            follow.target = Target::Url(url);
            follow.query.clear();
            self.next = Some(follow);
        }
        Ok(Some((headers, bytes)))
    }

    /// A link is relative to the page that it is on, and stays at its host.
    fn resolve(&self, ask: &Ask, link: &str) -> Option<Url> {
        let base = Core::base(&self.endpoint, self.client.core.speaks(&self.endpoint).unwrap_or(false));
        let here = match &ask.target {
            Target::Url(url) => url.clone(),
            Target::Path(path) => base.join(path).ok()?,
        };
        here.join(link).ok().filter(|url| same_origin(url, &base))
    }
}

impl Client {
    /// The tags of a repository, in the registry's order. Mirrors are not asked: they know only what went through them.
    pub async fn tags(&self, reference: &Reference) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            tags: Option<Vec<String>>,
        }
        let endpoint = self.core.config.origin(reference.registry())?;
        let path = format!("{}/tags/list", reference.repository());
        let ask = Ask::new(Method::GET, path, &pull_scope(reference)).query("n", PAGE);
        self.collect(endpoint, ask, |bytes| Ok(serde_json::from_slice::<Page>(bytes)?.tags.unwrap_or_default())).await
    }

    /// The repositories of a registry, in its order. Many registries do not tell.
    pub async fn catalog(&self, registry: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        struct Page {
            repositories: Option<Vec<String>>,
        }
        let endpoint = self.core.config.origin(registry)?;
        let ask = Ask::new(Method::GET, "_catalog", "registry:catalog:*").query("n", PAGE);
        let read = |bytes: &[u8]| Ok(serde_json::from_slice::<Page>(bytes)?.repositories.unwrap_or_default());
        self.collect(endpoint, ask, read).await
    }

    async fn collect(
        &self,
        endpoint: Endpoint,
        ask: Ask,
        read: fn(&[u8]) -> Result<Vec<String>, serde_json::Error>,
    ) -> Result<Vec<String>> {
        let (host, what) = (endpoint.name.clone(), ask.what());
        let mut pages = Pages::new(self, endpoint, ask);
        let mut all = vec![];
        while let Some((_, bytes)) = pages.next().await? {
            let page = read(&bytes).map_err(|error| Error::protocol(&host, format!("{what}: {error}")))?;
            if all.len() + page.len() > MAX_ENTRIES {
                return Err(Error::protocol(&host, format!("{what}: more than {MAX_ENTRIES} entries")));
            }
            // Names from outside end up on terminals and in paths.
            let fit = |name: &String| name.len() <= 255 && name.bytes().all(|c| c.is_ascii_graphic());
            all.extend(page.into_iter().filter(fit));
        }
        Ok(all)
    }
}
