//! From a container to an image.

use gantry_model::digest::Digest;
use gantry_model::image::ContainerConfig;
use gantry_model::reference::Reference;
use serde_json::json;

use crate::container::Status;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::events::Subject;
use crate::request::Config;

/// What becomes of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// The name that the image gets.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A comment.
    pub message: String,
    /// Changes of the configuration: `CMD ["sh"]`.
    pub changes: Vec<String>,
    /// Whether the container is frozen meanwhile.
    pub pause: bool,
}

impl Engine {
    /// Makes an image of a container. Returns its id.
    pub async fn commit(&self, asked: &str, commit: Commit) -> Result<Digest> {
        let container = self.find(asked)?;
        let record = container.record();
        let frozen = commit.pause && container.state().status == Status::Running;
        if frozen {
            self.pause(&container.id).await?;
        }
        let some = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
        let options = gantry_images::CommitOptions {
            name: commit.name.clone(),
            author: some(&commit.author),
            message: some(&commit.message),
            created_by: crate::merge::words(&record.config).join(" "),
            changes: commit.changes,
            places: &crate::files::PLACES,
        };
        let parent = record.image.as_ref().map(|image| &image.manifest);
        let made = self.images().commit(&container.id, parent, image_config(&record.config), options).await;
        if frozen {
            match self.unpause(&container.id).await {
                // It was killed meanwhile.
                Ok(()) | Err(Error::Conflict(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let id = made?;
        self.tell_of(&container, "commit", &[("comment", commit.message), ("imageID", id.to_string())]);
        if let Some(name) = &commit.name {
            self.tell(Subject::Image, "tag", &id.to_string(), [("name".to_owned(), name.familiar())]);
        }
        Ok(id)
    }
}

/// The configuration of an image that runs what a container runs.
fn image_config(config: &Config) -> ContainerConfig {
    let set = |names: Vec<String>| names.into_iter().map(|name| (name, json!({}))).collect();
    ContainerConfig {
        user: config.user.clone(),
        exposed_ports: set(config.exposed_ports.iter().map(ToString::to_string).collect()),
        env: config.env.clone(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        volumes: set(config.volumes.iter().cloned().collect()),
        working_dir: config.working_dir.clone(),
        labels: config.labels.clone(),
        stop_signal: Some(config.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        healthcheck: config.health.clone(),
        ..ContainerConfig::default()
    }
}
