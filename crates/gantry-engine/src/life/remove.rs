//! Removing containers.

use std::sync::Arc;
use std::time::Duration;

use crate::container::Status;
use crate::db::{Row, Table};
use crate::engine::Engine;
use crate::error::{Error, Kind, Result};
use crate::request::RemoveOptions;
use crate::table::Container;

/// The first and the longest pause before a removal is tried again.
const PAUSE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

impl Engine {
    /// Removes a container.
    ///
    /// # Errors
    /// It runs and force was not asked for, or it is being removed already.
    pub async fn remove(&self, asked: &str, options: RemoveOptions) -> Result<()> {
        let container = self.find(asked)?;
        let status = container.state().status;
        if status.is_running() || status == Status::Restarting {
            if !options.force {
                let hint = match status {
                    Status::Paused => "container is paused and must be unpaused first",
                    Status::Restarting => "container is restarting: stop the container before removing or force remove",
                    _ => "container is running: stop the container before removing or force remove",
                };
                return Err(Error::Conflict(format!(
                    "cannot remove container {:?}: {hint}",
                    container.record().name_path()
                )));
            }
            self.end_by_force(&container).await?;
        }
        self.remove_stopped(&container, options.volumes).await
    }

    /// Removes a container that does not run.
    async fn remove_stopped(&self, container: &Arc<Container>, volumes: bool) -> Result<()> {
        let life = container.hold().await?;
        let before = container.state().status;
        if before == Status::Removing {
            let words = format!("removal of container {} is already in progress", container.record().name);
            return Err(Error::Conflict(words));
        }
        if before.is_running() {
            return Err(Error::Conflict(format!("container {} was started meanwhile", container.record().name)));
        }
        if !volumes {
            // Who removes a container without its volumes keeps them.
            for mount in container.record().mounts.iter().filter(|mount| mount.anonymous) {
                self.0.volumes.disown(&mount.name)?;
            }
        }
        container.next_turn();
        container.change(|state| state.status = Status::Removing);
        let rows = vec![Row::remove(Table::Containers, &container.id), Row::remove(Table::States, &container.id)];
        if let Err(error) = self.0.db.write(rows).await {
            container.change(|state| state.status = before);
            return Err(error);
        }
        // From here on it is not there; what is left of it on the disk is cleared now or when the engine starts.
        self.write().remove(container);
        self.clear_run(container).await;
        self.clear(&container.id).await;
        if volumes {
            self.remove_anonymous(&container.record().mounts).await;
        }
        container.say_gone();
        self.tell_of(container, "destroy", &[]);
        drop(life);
        Ok(())
    }

    /// Removes a container that was to go with its end. Nobody asks for it again, so it is tried until it succeeds.
    pub(super) async fn remove_at_the_end(&self, container: &Arc<Container>) {
        let Some(error) = self.try_to_remove(container).await else { return };
        tracing::warn!("remove container {}, which is tried again: {error}", container.id);
        let (engine, container) = (self.clone(), Arc::clone(container));
        self.spawn(async move {
            let mut pause = PAUSE[0];
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE[1]);
                // It may have been started, or have failed to, meanwhile.
                if container.state().status.is_running() || engine.try_to_remove(&container).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Removes a container that was to go, and gives what is in the way of that and may be so no more later.
    async fn try_to_remove(&self, container: &Arc<Container>) -> Option<Error> {
        match self.remove_stopped(container, true).await {
            Err(error) if !error.is_missing() && error.kind() != Kind::Conflict => Some(error),
            _ => None,
        }
    }
}
