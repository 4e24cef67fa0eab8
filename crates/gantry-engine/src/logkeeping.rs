//! What is done beside for logs: sent elsewhere while containers run, and compressed at leisure.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::container::Record;
use crate::engine::{Engine, blocking};
use crate::error::Result;
use crate::logs::{Identity, Signals, compress_rotated};
use crate::table::{Container, lock};

/// How often it is looked for what can be compressed.
const PAUSE: Duration = Duration::from_secs(30);

impl Engine {
    /// Refuses a container whose log goes to a server that does not answer.
    pub(crate) async fn check_log(&self, container: &Container) -> Result<()> {
        match self.log_plan(container)?.shipper {
            Some(shipper) => shipper.check().await,
            None => Ok(()),
        }
    }

    /// Begins to send the log of a container that runs elsewhere, if that is where it goes: from where it was left.
    pub(crate) fn ship_log(&self, container: &Arc<Container>) {
        let plan = match self.log_plan(container) {
            Ok(plan) => plan,
            Err(error) => return tracing::warn!("send the log of container {}: {error}", container.id),
        };
        let (Some(shipper), Some(file)) = (plan.shipper, plan.file) else { return };
        let cursor = self.root_dir(&container.id).join("log.cursor");
        let (identity, mut moments) = (identity(&container.record()), container.watch());
        let (end, ended) = watch::channel(false);
        let signals = Signals { ended, shutdown: self.closing() };
        let id = container.id.clone();
        let task = tokio::spawn(async move {
            let until_ended = async {
                // The container is there as long as its moments.
                let _ = moments.wait_for(|moment| moment.gone || !moment.state.status.is_running()).await;
                end.send_replace(true);
            };
            let (shipped, ()) = tokio::join!(shipper.run(file, identity, cursor, signals), until_ended);
            if let Err(error) = shipped {
                tracing::warn!("send the log of container {id}: {error}");
            }
        });
        // One that is still at the last run's goes on from the same place in this one.
        if let Some(before) = lock(&container.shipping).replace(task.abort_handle()) {
            before.abort();
        }
    }

    /// Compresses what was rotated away, as long as the engine is there.
    pub(crate) fn compress_logs(&self) {
        let engine = self.clone();
        self.spawn(async move {
            loop {
                tokio::time::sleep(PAUSE).await;
                let containers = engine.read().all();
                for container in containers {
                    let Ok(plan) = engine.log_plan(&container) else { continue };
                    let Some(file) = plan.file.filter(|_| plan.compress) else { continue };
                    let compressed = blocking(move || compress_rotated(&file)).await;
                    if let Err(error) = compressed {
                        tracing::warn!("{error}");
                    }
                }
            }
        });
    }
}

/// Who a log is of, for those that it is sent to.
fn identity(record: &Record) -> Identity {
    let image = record.image.as_ref();
    let id = image.map(|image| image.id.to_string()).unwrap_or_default();
    Identity {
        id: record.id.clone(),
        name: record.name.clone(),
        image_id: id.split_once(':').map_or_else(String::new, |(_, hex)| hex.to_owned()),
        image_name: image.map(|image| image.name.clone()).unwrap_or_default(),
        command: crate::merge::words(&record.config).join(" "),
        created: crate::logs::date(record.created),
        daemon_name: "gantry".to_owned(),
        hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
        labels: record.config.labels.clone(),
        env: record.config.env.clone(),
    }
}
