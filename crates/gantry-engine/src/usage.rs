//! What containers use while they run.

use crate::engine::{Engine, blocking};
use crate::error::{Error, Result};
use crate::life::container_id;
use crate::request::NetworkMode;
use crate::stats::{self, Stats};
use crate::top::{Top, top};

impl Engine {
    /// What a container uses now; none if it does not run.
    pub async fn stats(&self, asked: &str) -> Result<Option<Stats>> {
        let container = self.find(asked)?;
        let state = container.state();
        if !state.status.is_running() {
            return Ok(None);
        }
        let process = (container.record().network.mode != NetworkMode::Host).then_some(state.pid);
        let (id, now) = (container_id(&container.id)?, self.now());
        self.runtime(move |runtime| {
            let report = runtime.report(&id)?;
            let read = stats::read(&report.record.cgroup, process, now);
            read.map(Some).map_err(|error| Error::Conflict(error.to_string()))
        })
        .await
    }

    /// The ids of the processes of a container.
    pub async fn pids(&self, asked: &str) -> Result<Vec<i32>> {
        let container = self.find(asked)?;
        if !container.state().status.is_running() {
            return Err(Error::Conflict(format!("container {} is not running", container.id)));
        }
        let id = container_id(&container.id)?;
        self.runtime(move |runtime| Ok(runtime.pids(&id)?)).await
    }
}

impl Engine {
    /// The processes of a container, with columns as `ps` has them for these options; none are `-ef`.
    pub async fn top(&self, asked: &str, options: &str) -> Result<Top> {
        let pids = self.pids(asked).await?;
        let (options, now) = (options.to_owned(), self.now().div_euclid(1_000_000_000));
        blocking(move || top(&pids, &options, now).map_err(|error| Error::Invalid(error.to_string()))).await
    }
}
