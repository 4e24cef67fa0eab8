//! What is to be done for an image, told from its documents alone.

use gantry_model::digest::Digest;
use gantry_model::image::{Compression, Descriptor, ImageConfig, Index, Manifest, media};
use gantry_model::platform::Platform;
use gantry_store::chain_ids;

use crate::error::{Error, Result};
use crate::local::best;

/// A layer that an image needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerPlan {
    /// Its blob.
    pub blob: Descriptor,
    /// The digest of its uncompressed archive.
    pub diff_id: Digest,
    /// What it is in the store, together with those below it.
    pub chain: Digest,
}

/// The layers of an image, the lowest first.
pub fn layers(image: &str, manifest: &Manifest, config: &ImageConfig) -> Result<Vec<LayerPlan>> {
    let (blobs, diff_ids) = (&manifest.layers, &config.rootfs.diff_ids);
    if blobs.len() != diff_ids.len() {
        let why = format!("its manifest has {} layers, its configuration {}", blobs.len(), diff_ids.len());
        return Err(Error::document(image, why));
    }
    if let Some(odd) = blobs.iter().find(|blob| compression(&blob.media_type).is_none()) {
        let why = format!("a layer of media type {:?} cannot be unpacked: it is no container image", odd.media_type);
        return Err(Error::document(image, why));
    }
    let chains = chain_ids(diff_ids);
    let plan = |((blob, diff_id), chain): ((&Descriptor, &Digest), Digest)| LayerPlan {
        blob: blob.clone(),
        diff_id: diff_id.clone(),
        chain,
    };
    Ok(blobs.iter().zip(diff_ids).zip(chains).map(plan).collect())
}

/// How a layer of a media type is compressed. None if it is no layer.
pub fn compression(media_type: &str) -> Option<Compression> {
    match media_type {
        media::OCI_LAYER | media::DOCKER_LAYER | "application/vnd.oci.image.layer.nondistributable.v1.tar" => {
            Some(Compression::None)
        }
        media::OCI_LAYER_GZIP
        | media::DOCKER_LAYER_GZIP
        | media::DOCKER_FOREIGN_LAYER
        | "application/vnd.docker.image.rootfs.diff.tar.gz"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip" => Some(Compression::Gzip),
        media::OCI_LAYER_ZSTD
        | media::DOCKER_LAYER_ZSTD
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd" => Some(Compression::Zstd),
        _ => None,
    }
}

/// The media type of a layer in a manifest of the given type.
pub fn layer_type(manifest_type: &str, compression: Compression) -> &'static str {
    match (manifest_type == media::DOCKER_MANIFEST, compression) {
        (false, compression) => compression.layer_type(),
        (true, Compression::None) => media::DOCKER_LAYER,
        (true, Compression::Gzip) => media::DOCKER_LAYER_GZIP,
        (true, Compression::Zstd) => media::DOCKER_LAYER_ZSTD,
    }
}

/// Whether an entry of an index may be an image: attestations are not, and say so by a platform that is unknown.
pub fn is_image(descriptor: &Descriptor) -> bool {
    let unknown = descriptor.platform.as_ref().is_some_and(|one| one.os == "unknown" && one.architecture == "unknown");
    !unknown && !descriptor.annotations.contains_key("vnd.docker.reference.type")
}

/// The entry of an index for a platform, or for this host. An entry that names no platform fits any.
pub fn select<'a>(image: &str, index: &'a Index, platform: Option<&Platform>) -> Result<&'a Descriptor> {
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|one| is_image(one)).collect();
    let wanted = platform.cloned().unwrap_or_else(Platform::host);
    let named: Vec<&Descriptor> = images.iter().copied().filter(|one| one.platform.is_some()).collect();
    let found = best(named.iter().filter_map(|one| one.platform.as_ref()), &wanted).map(|index| named[index]);
    let any = || images.iter().copied().find(|one| one.platform.is_none());
    found.or_else(any).ok_or_else(|| {
        let mut there: Vec<String> = named.iter().filter_map(|one| Some(one.platform.as_ref()?.to_string())).collect();
        there.dedup();
        let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
        Error::NoPlatform { image: image.to_owned(), wanted: wanted.to_string(), there }
    })
}

/// Refuses an image of another platform than the one that was asked for by name: an image that has no index is not chosen by
/// its platform. One that does not say what it runs on is taken for right.
pub fn check_platform(image: &str, there: &Platform, wanted: Option<&Platform>) -> Result<()> {
    let Some(wanted) = wanted else { return Ok(()) };
    if there.os.is_empty() || there.architecture.is_empty() || there.rank(wanted).is_some() {
        return Ok(());
    }
    let (image, wanted, there) = (image.to_owned(), wanted.to_string(), there.to_string());
    Err(Error::NoPlatform { image, wanted, there })
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_model::image::Document;

    fn hex(digit: &str) -> String {
        format!("sha256:{}", digit.repeat(64))
    }

    fn index(entries: &[(&str, &str)]) -> Index {
        let entry = |(digit, rest): &(&str, &str)| {
            format!(r#"{{"mediaType":"{}","digest":"{}","size":1{rest}}}"#, media::OCI_MANIFEST, hex(digit))
        };
        let entries: Vec<String> = entries.iter().map(entry).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, entries.join(","));
        match Document::parse(text.as_bytes(), media::OCI_INDEX).unwrap() {
            Document::Index(index) => index,
            Document::Manifest(_) => panic!("{text}"),
        }
    }

    #[test]
    fn platforms_are_selected() {
        let index = index(&[
            ("a", r#","platform":{"os":"linux","architecture":"arm64"}"#),
            ("b", r#","platform":{"os":"linux","architecture":"amd64"}"#),
            ("c", r#","platform":{"os":"unknown","architecture":"unknown"}"#),
            (
                "d",
                r#","platform":{"os":"linux","architecture":"s390x"},"annotations":{"vnd.docker.reference.type":"x"}"#,
            ),
        ]);
        let check = |platform: &str, expect: &str| {
            let platform = platform.parse().unwrap();
            let found = match select("img", &index, Some(&platform)) {
                Ok(found) => found.digest.hex()[..1].to_owned(),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect);
        };
        check("linux/amd64", "b");
        check("linux/arm64", "a");
        check("linux/s390x", "img: no image for platform linux/s390x; there is linux/arm64, linux/amd64");
    }

    #[test]
    fn an_entry_without_a_platform_fits() {
        let empty = index(&[]);
        let index = index(&[("a", "")]);
        assert_eq!(select("img", &index, None).unwrap().digest.to_string(), hex("a"));
        assert!(select("img", &empty, None).is_err());
    }

    #[test]
    fn single_images_have_a_platform() {
        let check = |there: &str, wanted: Option<&str>, fits: bool| {
            let there = if there.is_empty() { Platform::default() } else { there.parse().unwrap() };
            let wanted: Option<Platform> = wanted.map(|wanted| wanted.parse().unwrap());
            assert_eq!(check_platform("img", &there, wanted.as_ref()).is_ok(), fits, "{there} {wanted:?}");
        };
        check("linux/arm64", None, true);
        check("linux/arm64", Some("linux/arm64"), true);
        check("linux/arm64", Some("linux/arm64/v8"), true);
        check("linux/amd64", Some("linux/arm64"), false);
        check("windows/amd64", Some("linux/amd64"), false);
        check("", Some("linux/arm64"), true);
    }

    #[test]
    fn layers_are_planned() {
        let check = |types: &[&str], diff_ids: usize, expect: Result<usize, &str>| {
            let layer = |kind: &&str| format!(r#"{{"mediaType":"{kind}","digest":"{}","size":1}}"#, hex("a"));
            let layers: Vec<String> = types.iter().map(layer).collect();
            let manifest = format!(
                r#"{{"schemaVersion":2,"config":{{"digest":"{}","size":1}},"layers":[{}]}}"#,
                hex("c"),
                layers.join(",")
            );
            let ids = vec![format!("{:?}", hex("b")); diff_ids].join(",");
            let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#);
            let manifest = serde_json::from_str(&manifest).unwrap();
            let found = layers_of(&manifest, &ImageConfig::parse(config.as_bytes()).unwrap());
            match (&found, expect) {
                (Ok(found), Ok(expect)) => assert_eq!(found.len(), expect),
                (Err(error), Err(expect)) => assert!(error.to_string().contains(expect), "{error}"),
                _ => panic!("{types:?}: {found:?}"),
            }
        };
        check(&[], 0, Ok(0));
        check(&[media::OCI_LAYER_GZIP, media::DOCKER_LAYER_GZIP], 2, Ok(2));
        check(&[media::OCI_LAYER_ZSTD], 2, Err("1 layers, its configuration 2"));
        check(&["application/x"], 1, Err("it is no container image"));
    }

    fn layers_of(manifest: &Manifest, config: &ImageConfig) -> Result<Vec<LayerPlan>> {
        layers("img", manifest, config)
    }
}
