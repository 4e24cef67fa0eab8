//! What is tried: everything that reads a document from outside, with the documents to begin from.

mod gzip;
mod tar;

use gantry_model::image::{Document, ImageConfig, media};
use gantry_model::oci::seccomp::Seccomp;
use gantry_model::oci::spec::Spec;
use gantry_model::platform::Platform;
use gantry_model::reference::Reference;
use gantry_runtime::{Host, lower_text};
use gantry_seccomp::{Arch, Filter, compile, verify};

/// Something to try inputs on. It may refuse an input; it may not panic, hang, or use memory without bound.
pub struct Target {
    pub name: &'static str,
    /// The documents that damage is done to.
    pub seeds: fn() -> Vec<Vec<u8>>,
    pub run: fn(&[u8]),
}

/// Every target. One that reads something new is a line here.
pub const TARGETS: &[Target] = &[
    Target { name: "spec", seeds: configs, run: spec },
    Target { name: "lower", seeds: configs, run: lower },
    Target { name: "seccomp", seeds: profiles, run: seccomp },
    Target { name: "seccomp-cache", seeds: cached, run: seccomp_cache },
    Target { name: "reference", seeds: references, run: reference },
    Target { name: "manifest", seeds: documents, run: manifest },
    Target { name: "tar", seeds: tar::archives, run: tar::archive },
    Target { name: "gzip", seeds: gzip::streams, run: gzip::stream },
];

/// Configurations: the ordinary one, one with every field of the specification, and inputs that once did harm.
fn configs() -> Vec<Vec<u8>> {
    [
        include_bytes!("../corpus/config-default.json").as_slice(),
        include_bytes!("../corpus/config-full.json"),
        include_bytes!("../corpus/config-rootless.json"),
    ]
    .map(<[u8]>::to_vec)
    .into()
}

fn profiles() -> Vec<Vec<u8>> {
    [include_bytes!("../corpus/seccomp-small.json").as_slice(), include_bytes!("../corpus/seccomp-all.json")]
        .map(<[u8]>::to_vec)
        .into()
}

/// Compiled filters, as a cache keeps them.
fn cached() -> Vec<Vec<u8>> {
    let profiles = profiles().into_iter().filter_map(|text| serde_json::from_slice::<Seccomp>(&text).ok());
    profiles.filter_map(|profile| compile(&profile, Arch::X86_64).ok()).map(|filter| filter.to_bytes()).collect()
}

/// References of every form.
fn references() -> Vec<Vec<u8>> {
    let hex = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let mut texts: Vec<Vec<u8>> =
        ["nginx", "me/app:1.2-x_y", "docker.io/library/nginx:1", "localhost:5000/a/b__c/d---e:t", "[::1]:80/a.b:T"]
            .map(|text| text.as_bytes().to_vec())
            .into();
    texts.push(format!("registry.example:443/x/y:z@sha256:{hex}").into_bytes());
    texts.push(format!("x@sha512:{hex}{hex}").into_bytes());
    texts
}

/// Manifests, indexes and configurations of images, in the form of both specifications.
fn documents() -> Vec<Vec<u8>> {
    [
        include_bytes!("../corpus/manifest-oci.json").as_slice(),
        include_bytes!("../corpus/manifest-docker.json"),
        include_bytes!("../corpus/index-oci.json"),
        include_bytes!("../corpus/index-docker.json"),
        include_bytes!("../corpus/image-config.json"),
    ]
    .map(<[u8]>::to_vec)
    .into()
}

/// Reading a reference; what is accepted is the same after it was written, in full and as people write it.
fn reference(input: &[u8]) {
    let Ok(reference) = String::from_utf8_lossy(input).parse::<Reference>() else { return };
    for text in [reference.to_string(), reference.familiar()] {
        assert_eq!(text.parse().as_ref(), Ok(&reference), "{text:?}");
    }
    drop(reference.with_default_tag().target());
}

/// Reading an image's documents; what is accepted is the same after it was written.
fn manifest(input: &[u8]) {
    for served in ["", media::OCI_MANIFEST, media::OCI_INDEX] {
        let Ok(document) = Document::parse(input, served) else { continue };
        drop(document.children());
        let text = match &document {
            Document::Manifest(manifest) => serde_json::to_vec(manifest),
            Document::Index(index) => {
                let chosen = index.select(&Platform::host());
                assert!(chosen.is_none_or(|one| index.manifests.contains(one)));
                serde_json::to_vec(index)
            }
        };
        let again = text.map(|text| Document::parse(&text, served));
        assert!(matches!(&again, Ok(Ok(again)) if *again == document), "{document:?} became {again:?}");
    }
    if let Ok(config) = ImageConfig::parse(input) {
        assert!(serde_json::to_vec(&config).is_ok(), "{config:?} cannot be written");
    }
}

/// Reading a configuration, to its last field.
fn spec(input: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<Spec>(input) {
        drop(format!("{spec:?}"));
    }
}

/// From a configuration to steps, on hosts that differ in everything that matters.
fn lower(input: &[u8]) {
    for privileged in [true, false] {
        let host = Host {
            privileged,
            in_user_namespace: !privileged,
            euid: u32::from(!privileged) * 1000,
            egid: u32::from(!privileged) * 1000,
            apparmor: privileged,
            selinux: !privileged,
            resctrl: privileged.then(|| "/sys/fs/resctrl".to_owned()),
            ..Host::default()
        };
        drop(lower_text(input, &host));
    }
}

/// From a profile to a filter; the filter is one that the kernel would take.
fn seccomp(input: &[u8]) {
    let Ok(profile) = serde_json::from_slice::<Seccomp>(input) else { return };
    for arch in Arch::ALL {
        let Ok(filter) = compile(&profile, arch) else { continue };
        let verdict = verify(&filter.program);
        assert!(verdict.is_ok(), "the compiler made a filter that the kernel refuses: {verdict:?}");
    }
}

/// Reading a compiled filter back; whatever is accepted is one that the kernel would take.
fn seccomp_cache(input: &[u8]) {
    if let Ok(filter) = Filter::from_bytes(input) {
        let verdict = verify(&filter.program);
        assert!(verdict.is_ok(), "the cache gave a filter that the kernel refuses: {verdict:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Damage to a document that was refused as it is would reach nothing.
    #[test]
    fn the_seeds_are_good_documents() {
        for config in configs() {
            serde_json::from_slice::<Spec>(&config).unwrap();
        }
        for profile in profiles() {
            compile(&serde_json::from_slice(&profile).unwrap(), Arch::X86_64).unwrap();
        }
        assert_eq!(cached().len(), profiles().len());
        for text in references() {
            String::from_utf8(text).unwrap().parse::<Reference>().unwrap();
        }
        for text in documents() {
            assert!(Document::parse(&text, "").is_ok() || ImageConfig::parse(&text).is_ok());
        }
    }

    #[test]
    fn every_target_takes_its_seeds() {
        for target in TARGETS {
            for seed in (target.seeds)() {
                (target.run)(&seed);
            }
        }
    }
}
