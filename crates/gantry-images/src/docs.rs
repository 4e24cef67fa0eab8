//! The documents in which Docker's API tells of images (API 1.47), made from what images say of themselves.

use std::collections::BTreeMap;

use gantry_model::digest::Digest;
use gantry_model::image::{ContainerConfig, Descriptor, Healthcheck, History, ImageConfig};
use gantry_model::reference::Reference;
use serde::Serialize;
use serde_json::Value;

use crate::pattern::familiar_name;
use crate::time;

/// What Docker writes for a time that is not known.
const NO_TIME: &str = "0001-01-01T00:00:00Z";

/// An image as `inspect` shows it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct Inspect {
    pub id: Digest,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub parent: String,
    pub comment: String,
    pub created: String,
    pub docker_version: String,
    pub author: String,
    pub config: Config,
    pub architecture: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    pub os: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os_version: String,
    pub size: u64,
    pub graph_driver: GraphDriver,
    #[serde(rename = "RootFS")]
    pub root_fs: RootFs,
    pub metadata: Metadata,
    pub descriptor: Descriptor,
}

/// The driver that layers lie in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct GraphDriver {
    pub data: Option<BTreeMap<String, String>>,
    pub name: String,
}

/// The layers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct RootFs {
    #[serde(rename = "Type")]
    pub kind: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Digest>,
}

/// What only this store knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct Metadata {
    pub last_tag_time: String,
}

/// A configuration with all the fields that Docker always writes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct Config {
    pub hostname: String,
    pub domainname: String,
    pub user: String,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Value>,
    pub tty: bool,
    pub open_stdin: bool,
    pub stdin_once: bool,
    pub env: Option<Vec<String>>,
    pub cmd: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    pub image: String,
    pub volumes: Option<BTreeMap<String, Value>>,
    pub working_dir: String,
    pub entrypoint: Option<Vec<String>>,
    pub on_build: Option<Vec<String>>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_timeout: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<Vec<String>>,
}

/// A step of an image's making, as `history` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct HistoryEntry {
    pub id: String,
    pub created: i64,
    pub created_by: String,
    pub tags: Option<Vec<String>>,
    pub size: u64,
    pub comment: String,
}

/// An image as lists show it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs, reason = "the names are the API's")]
pub struct Summary {
    pub id: Digest,
    pub parent_id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    pub created: i64,
    pub size: u64,
    pub shared_size: i64,
    pub labels: Option<BTreeMap<String, String>>,
    pub containers: i64,
}

/// What was done when an image was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// An image or a layer is gone.
    Deleted(String),
}

/// A configuration as Docker shows it.
pub fn config(config: &ContainerConfig) -> Config {
    let text = |name: &str| config.other.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let flag = |name: &str| config.other.get(name).and_then(Value::as_bool).unwrap_or_default();
    let filled = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Config {
        hostname: text("Hostname"),
        domainname: text("Domainname"),
        user: config.user.clone(),
        attach_stdin: flag("AttachStdin"),
        attach_stdout: flag("AttachStdout"),
        attach_stderr: flag("AttachStderr"),
        exposed_ports: config.exposed_ports.clone(),
        tty: flag("Tty"),
        open_stdin: flag("OpenStdin"),
        stdin_once: flag("StdinOnce"),
        env: filled(&config.env),
        cmd: config.cmd.clone(),
        healthcheck: config.healthcheck.clone(),
        args_escaped: flag("ArgsEscaped"),
        image: text("Image"),
        volumes: (!config.volumes.is_empty()).then(|| config.volumes.clone()),
        working_dir: config.working_dir.clone(),
        entrypoint: config.entrypoint.clone(),
        on_build: config.on_build.clone(),
        labels: (!config.labels.is_empty()).then(|| config.labels.clone()),
        stop_signal: config.stop_signal.clone(),
        stop_timeout: config.other.get("StopTimeout").filter(|value| value.is_number()).cloned(),
        shell: config.shell.clone(),
    }
}

/// When an image says that it was made, in nanoseconds since 1970; 0 if it does not say.
pub fn created(config: &ImageConfig) -> i64 {
    config.created.as_deref().and_then(time::parse).unwrap_or_default()
}

/// A time for `inspect`: as the image has it, if it is one.
pub(crate) fn created_text(config: &ImageConfig) -> String {
    match config.created.as_deref() {
        Some(text) if time::parse(text).is_some() => text.to_owned(),
        _ => NO_TIME.to_owned(),
    }
}

/// The names with a tag, as people write them.
pub fn repo_tags(names: &[Reference]) -> Vec<String> {
    names.iter().filter(|name| name.tag().is_some() && name.digest().is_none()).map(Reference::familiar).collect()
}

/// `name@digest` for each repository that an image has a name in.
pub fn repo_digests<'a>(names: impl Iterator<Item = (&'a Reference, &'a Digest)>) -> Vec<String> {
    let mut list: Vec<String> = names.map(|(name, digest)| format!("{}@{digest}", familiar_name(name))).collect();
    list.sort();
    list.dedup();
    list
}

/// The history of an image, the newest step first. `sizes` are those of its layers, the lowest first.
pub fn history(id: &Digest, tags: Vec<String>, config: &ImageConfig, sizes: &[u64]) -> Vec<HistoryEntry> {
    let mut sizes = sizes.iter().copied();
    let mut list: Vec<HistoryEntry> = config.history.iter().map(|step| entry(step, &mut sizes)).collect();
    // Layers that the history does not tell of.
    for size in sizes {
        list.push(HistoryEntry {
            size,
            ..entry(&History { empty_layer: true, ..History::default() }, &mut std::iter::empty())
        });
    }
    list.reverse();
    if let Some(top) = list.first_mut() {
        top.id = id.to_string();
        top.tags = (!tags.is_empty()).then_some(tags);
    }
    list
}

fn entry(step: &History, sizes: &mut dyn Iterator<Item = u64>) -> HistoryEntry {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    HistoryEntry {
        id: "<missing>".to_owned(),
        created: step.created.as_deref().and_then(time::parse).unwrap_or_default().div_euclid(1_000_000_000),
        created_by: text(&step.created_by),
        tags: None,
        size: if step.empty_layer { 0 } else { sizes.next().unwrap_or_default() },
        comment: text(&step.comment),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(text: &str) -> ImageConfig {
        ImageConfig::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn configurations_have_all_fields() {
        let image = image(
            r#"{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]},
            "config":{"Cmd":["sh"],"Env":null,"Hostname":"h","ArgsEscaped":true,"Labels":{"a":"b"}}}"#,
        );
        let json = serde_json::to_value(config(&image.config)).unwrap();
        let expect = serde_json::json!({
            "Hostname": "h", "Domainname": "", "User": "", "AttachStdin": false, "AttachStdout": false,
            "AttachStderr": false, "Tty": false, "OpenStdin": false, "StdinOnce": false, "Env": null, "Cmd": ["sh"],
            "ArgsEscaped": true, "Image": "", "Volumes": null, "WorkingDir": "", "Entrypoint": null, "OnBuild": null,
            "Labels": {"a": "b"}
        });
        assert_eq!(json, expect);
    }

    #[test]
    fn histories() {
        let id: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let check = |steps: &str, sizes: &[u64], expect: &[(&str, u64)]| {
            let config = image(&format!(r#"{{"rootfs":{{"diff_ids":[]}},"history":{steps}}}"#));
            let list = history(&id, vec!["a:1".into()], &config, sizes);
            let found: Vec<(&str, u64)> = list.iter().map(|one| (one.created_by.as_str(), one.size)).collect();
            assert_eq!(found, expect, "{steps}");
            if let Some(top) = list.first() {
                assert_eq!(top.id, id.to_string());
                assert_eq!(top.tags.as_deref(), Some(&["a:1".to_owned()][..]));
            }
            assert!(list.iter().skip(1).all(|one| one.id == "<missing>" && one.tags.is_none()));
        };
        check("[]", &[], &[]);
        check(r#"[{"created_by":"a"},{"created_by":"b","empty_layer":true}]"#, &[5], &[("b", 0), ("a", 5)]);
        check(r#"[{"created_by":"a"}]"#, &[5, 6], &[("", 6), ("a", 5)]);
        check(r#"[{"created_by":"a"},{"created_by":"b"}]"#, &[5], &[("b", 0), ("a", 5)]);
    }

    #[test]
    fn names() {
        let names: Vec<Reference> =
            ["nginx:1", "nginx:2", "localhost:5000/a:1"].map(|name| name.parse().unwrap()).to_vec();
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        assert_eq!(repo_tags(&names), ["nginx:1", "nginx:2", "localhost:5000/a:1"]);
        let digests = repo_digests(names.iter().map(|name| (name, &digest)));
        assert_eq!(digests, [format!("localhost:5000/a@{digest}"), format!("nginx@{digest}")]);
    }
}
