//! Referrers: the manifests that are about another one (signatures, lists of parts), by the registry's own list or by
//! the fallback for registries that keep none (distribution-spec, Referrers Tag Schema).

use bytes::Bytes;
use gantry_model::image::{Descriptor, Index, MAX_MANIFESTS, media};
use gantry_model::{Digest, Reference};
use http::Method;
use serde::Deserialize;

use crate::client::{Client, pull_scope};
use crate::error::{Error, Result};
use crate::exchange::Ask;
use crate::header::text;
use crate::listing::Pages;

impl Client {
    /// The manifests whose subject is the reference's digest, of one artifact type if that is given.
    pub async fn referrers(&self, reference: &Reference, artifact_type: Option<&str>) -> Result<Vec<Descriptor>> {
        let Some(digest) = reference.digest() else {
            return Err(Error::Invalid(format!("{reference}: referrers are of a digest, not of a tag")));
        };
        let fits = |one: &Descriptor| artifact_type.is_none_or(|wanted| one.artifact_type.as_deref() == Some(wanted));
        let found = match self.referrers_by_list(reference, digest, artifact_type).await {
            Err(Error::Status { status: 400 | 404 | 405 | 501, .. }) => {
                self.referrers_by_tag(reference, digest).await?
            }
            result => result?,
        };
        Ok(found.into_iter().filter(fits).collect())
    }

    async fn referrers_by_list(
        &self,
        reference: &Reference,
        digest: &Digest,
        artifact_type: Option<&str>,
    ) -> Result<Vec<Descriptor>> {
        let endpoint = self.core.config.origin(reference.registry())?;
        let path = format!("{}/referrers/{digest}", reference.repository());
        let mut ask = Ask::new(Method::GET, path, &pull_scope(reference));
        if let Some(wanted) = artifact_type {
            ask = ask.query("artifactType", wanted);
        }
        let host = endpoint.name.clone();
        let mut pages = Pages::new(self, endpoint, ask);
        let mut all = vec![];
        while let Some((headers, bytes)) = pages.next().await? {
            if text(&headers, "content-type").is_some_and(|kind| kind.starts_with("text/html")) {
                // A registry of old behind a page that answers everything.
                return self.referrers_by_tag(reference, digest).await;
            }
            let page = read_index(&bytes, &host)?;
            if all.len() + page.manifests.len() > MAX_MANIFESTS {
                return Err(Error::protocol(&host, format!("{digest} has more than {MAX_MANIFESTS} referrers")));
            }
            all.extend(page.manifests);
        }
        Ok(all)
    }

    async fn referrers_by_tag(&self, reference: &Reference, digest: &Digest) -> Result<Vec<Descriptor>> {
        let endpoint = self.core.config.origin(reference.registry())?;
        match self.manifest_from(&endpoint, &fallback(reference, digest)?).await {
            Ok(fetched) => Ok(read_index(&fetched.bytes, &endpoint.name)?.manifests),
            Err(error) if error.is_not_found() => Ok(vec![]),
            Err(error) => Err(error),
        }
    }

    /// After a push to a registry that said nothing of a subject: adds the manifest to the fallback's list, if it has one.
    pub(crate) async fn note_referrer(
        &self,
        reference: &Reference,
        media_type: &str,
        digest: &Digest,
        bytes: &Bytes,
    ) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Head {
            subject: Option<Descriptor>,
            artifact_type: Option<String>,
            config: Option<Descriptor>,
            annotations: Option<std::collections::BTreeMap<String, String>>,
        }
        let Ok(Head { subject: Some(subject), artifact_type, config, annotations }) = serde_json::from_slice(bytes)
        else {
            return Ok(());
        };
        // The registry may well keep referrers, and only not say so.
        let listed = self.referrers_by_list(reference, &subject.digest, None).await;
        if listed.is_ok_and(|all| all.iter().any(|one| one.digest == *digest)) {
            return Ok(());
        }
        let mut all = self.referrers_by_tag(reference, &subject.digest).await?;
        if all.iter().any(|one| one.digest == *digest) {
            return Ok(());
        }
        let mut entry = Descriptor::new(media_type, digest.clone(), bytes.len() as u64);
        entry.artifact_type = artifact_type.or_else(|| config.map(|config| config.media_type));
        entry.annotations = annotations.unwrap_or_default();
        all.push(entry);
        let index = Index {
            schema_version: 2,
            media_type: Some(media::OCI_INDEX.to_owned()),
            artifact_type: None,
            manifests: all,
            subject: None,
            annotations: std::collections::BTreeMap::new(),
        };
        let text = serde_json::to_vec(&index).map_err(|error| Error::Invalid(error.to_string()))?;
        let list = fallback(reference, &subject.digest)?;
        // It has no subject, so this does not come here again.
        Box::pin(self.push_manifest(&list, media::OCI_INDEX, text.into())).await.map(drop)
    }
}

/// The tag that stands for a digest's referrers: `sha256-<digits>`, of at most 64 digits.
fn fallback(reference: &Reference, digest: &Digest) -> Result<Reference> {
    let hex: String = digest.hex().chars().take(64).collect();
    let tag = format!("{}-{hex}", digest.algorithm().as_str());
    let tagged = Reference::new(reference.registry(), reference.repository(), Some(&tag), None);
    tagged.map_err(|error| Error::Invalid(error.to_string()))
}

fn read_index(bytes: &[u8], host: &str) -> Result<Index> {
    let index: Index =
        serde_json::from_slice(bytes).map_err(|error| Error::protocol(host, format!("list of referrers: {error}")))?;
    if index.manifests.len() > MAX_MANIFESTS {
        return Err(Error::protocol(host, format!("list of referrers: more than {MAX_MANIFESTS}")));
    }
    Ok(index)
}
