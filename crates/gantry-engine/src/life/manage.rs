//! What is done to a container that is there: signals, stop, restart, pause, rename, update.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::oci::state::Status as Kernel;

use crate::container::{Record, Status};
use crate::db::{Row, Table};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::merge::signal_number;
use crate::names;
use crate::request::{Restart, StopOptions, Update};
use crate::table::Container;

use super::start::container_id;

/// Seconds from the signal that asks to the one that kills.
const GRACE: i64 = 10;
/// How long a killed process is waited for.
const DEATH: Duration = Duration::from_secs(30);
const KILL: i32 = 9;

impl Record {
    /// The name with its slash.
    pub fn name_path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Engine {
    /// Sends a signal to a container's process. One that nothing survives is waited for: whoever asks next finds the end.
    pub async fn kill(&self, asked: &str, signal: &str) -> Result<()> {
        let container = self.find(asked)?;
        let number = if signal.is_empty() { KILL } else { signal_number(signal)? };
        let status = container.state().status;
        if !status.is_running() {
            let id = &container.id;
            return Err(Error::Conflict(format!("cannot kill container: {asked}: container {id} is not running")));
        }
        let own = own_signal(&container)?;
        if number == KILL || number == own {
            let _life = container.life.lock().await;
            self.rest(&container).await?;
        }
        let ended = Self::until_ended(&container);
        self.send(&container, number).await?;
        self.tell_of(&container, "kill", &[("signal", number.to_string())]);
        if number == KILL { dead(&container, ended).await } else { Ok(()) }
    }

    /// Stops a container: asks it to end, and kills it if it does not.
    ///
    /// # Errors
    /// It does not run.
    pub async fn stop(&self, asked: &str, options: StopOptions) -> Result<()> {
        let container = self.find(asked)?;
        if !self.stop_it(&container, &options).await? {
            return Err(Error::NotModified(format!("container {asked} is not running")));
        }
        self.tell_of(&container, "stop", &[]);
        Ok(())
    }

    /// Stops a container; whether there was anything to stop.
    async fn stop_it(&self, container: &Arc<Container>, options: &StopOptions) -> Result<bool> {
        let signal = match options.signal.as_deref().filter(|signal| !signal.is_empty()) {
            Some(signal) => signal_number(signal)?,
            None => own_signal(container)?,
        };
        container.change(|state| state.stopped_by_hand = true);
        let status = container.state().status;
        if status == Status::Restarting {
            // It waits for its next start, which is not to come.
            let _life = container.life.lock().await;
            container.next_turn();
            if container.state().status == Status::Restarting {
                container.change(|state| state.status = Status::Exited);
                self.rest(container).await?;
                return Ok(true);
            }
        }
        if !container.state().status.is_running() {
            return Ok(false);
        }
        {
            let _life = container.life.lock().await;
            self.rest(container).await?;
        }
        self.send(container, signal).await?;
        self.tell_of(container, "kill", &[("signal", signal.to_string())]);
        let grace = options.timeout.or(container.record().config.stop_timeout).unwrap_or(GRACE);
        let ended = Self::until_ended(container);
        if grace < 0 {
            ended.await;
        } else if tokio::time::timeout(Duration::from_secs(grace as u64), ended).await.is_err() {
            self.end_by_force(container).await?;
        }
        Ok(true)
    }

    /// Stops a container if it runs, and starts it.
    pub async fn restart(&self, asked: &str, options: StopOptions) -> Result<()> {
        let container = self.find(asked)?;
        self.stop_it(&container, &options).await?;
        match self.start(&container.id).await {
            Ok(()) | Err(Error::NotModified(_)) => {}
            Err(error) => return Err(error),
        }
        self.tell_of(&container, "restart", &[]);
        Ok(())
    }

    /// Freezes a container.
    pub async fn pause(&self, asked: &str) -> Result<()> {
        let container = self.find(asked)?;
        let _life = container.hold().await?;
        match container.state().status {
            Status::Running => {}
            Status::Paused => return Err(Error::Conflict(format!("Container {} is already paused", container.id))),
            _ => return Err(Error::Conflict(format!("container {} is not running", container.id))),
        }
        let id = container_id(&container.id)?;
        self.runtime(move |runtime| Ok(runtime.pause(&id)?)).await?;
        container.change(|state| state.status = Status::Paused);
        self.keep_state(&container);
        self.tell_of(&container, "pause", &[]);
        Ok(())
    }

    /// Thaws a container.
    pub async fn unpause(&self, asked: &str) -> Result<()> {
        let container = self.find(asked)?;
        let _life = container.hold().await?;
        if container.state().status != Status::Paused {
            return Err(Error::Conflict(format!("Container {} is not paused", container.id)));
        }
        self.thaw(&container).await?;
        self.tell_of(&container, "unpause", &[]);
        Ok(())
    }

    async fn thaw(&self, container: &Arc<Container>) -> Result<()> {
        let id = container_id(&container.id)?;
        self.runtime(move |runtime| Ok(runtime.resume(&id)?)).await?;
        container.change(|state| state.status = Status::Running);
        self.keep_state(container);
        Ok(())
    }

    /// Gives a container another name.
    pub async fn rename(&self, asked: &str, name: &str) -> Result<()> {
        let container = self.find(asked)?;
        let name = name.strip_prefix('/').unwrap_or(name);
        if name.is_empty() {
            return Err(Error::Invalid("Neither old nor new names may be empty".to_owned()));
        }
        names::check("container", name)?;
        let _life = container.hold().await?;
        let old = container.record();
        if old.name == name {
            let words = "Renaming a container with the same name as its current name";
            return Err(Error::Invalid(words.to_owned()));
        }
        self.write().take_name(name, &container.id)?;
        let record = Record { name: name.to_owned(), ..(*old).clone() };
        if let Err(error) = self.0.db.write(vec![Row::put(Table::Containers, &container.id, &record)]).await {
            self.write().free_name(name);
            return Err(error);
        }
        container.set_record(record);
        self.write().free_name(&old.name);
        self.tell_of(&container, "rename", &[("oldName", old.name_path())]);
        Ok(())
    }

    /// Changes limits or the restart policy.
    pub async fn update(&self, asked: &str, update: Update) -> Result<Vec<String>> {
        let container = self.find(asked)?;
        let _life = container.hold().await?;
        let mut record = (*container.record()).clone();
        if let Some(restart) = update.restart {
            if record.host.auto_remove && restart != Restart::No {
                let words = "Restart policy cannot be updated because AutoRemove is enabled for the container";
                return Err(Error::Invalid(words.to_owned()));
            }
            record.host.restart = restart;
        }
        overlay(&mut record.host.resources, &update.resources);
        if let Some(origin) = update.origin {
            record.origin = origin;
        }
        if container.state().status.is_running() {
            let (id, resources) = (container_id(&container.id)?, update.resources);
            self.runtime(move |runtime| Ok(runtime.update(&id, &resources, &[])?)).await?;
        }
        self.0.db.write(vec![Row::put(Table::Containers, &container.id, &record)]).await?;
        container.set_record(record);
        self.tell_of(&container, "update", &[]);
        Ok(Vec::new())
    }

    /// Notes that a container is stopped by hand. Where a policy would start it again, this is on the disk before anything
    /// is done: a crash must not undo it. Who calls this holds the container's life, or what is written here could come
    /// after what its end writes.
    async fn rest(&self, container: &Arc<Container>) -> Result<()> {
        let state = container.change(|state| state.stopped_by_hand = true);
        if container.is_gone() {
            return Ok(());
        }
        if container.record().host.restart == Restart::No {
            self.keep_state(container);
            return Ok(());
        }
        self.0.db.write(vec![Row::put(Table::States, &container.id, &*state)]).await
    }

    /// Sends a signal.
    async fn send(&self, container: &Arc<Container>, signal: i32) -> Result<()> {
        let id = container_id(&container.id)?;
        let sent = self.runtime(move |runtime| Ok(runtime.kill(&id, signal, false)?)).await;
        match sent {
            // It has ended meanwhile, and may not be cleared up after yet.
            Err(Error::Runtime(
                gantry_runtime::Error::NotFound(_) | gantry_runtime::Error::Status { status: Kernel::Stopped, .. },
            )) => Ok(()),
            other => other,
        }?;
        // A frozen process dies only when it is thawed.
        if signal == KILL && container.state().status == Status::Paused {
            let _life = container.life.lock().await;
            if container.state().status == Status::Paused {
                match self.thaw(container).await {
                    // The signal has done it, and it may have ended.
                    Err(Error::Runtime(gantry_runtime::Error::Status { .. } | gantry_runtime::Error::NotFound(_))) => {}
                    thawed => thawed?,
                }
            }
        }
        Ok(())
    }

    /// Kills a container's processes and waits until it has ended.
    pub(super) async fn end_by_force(&self, container: &Arc<Container>) -> Result<()> {
        container.change(|state| state.stopped_by_hand = true);
        if container.state().status == Status::Restarting {
            let _life = container.life.lock().await;
            container.next_turn();
            if container.state().status == Status::Restarting {
                container.change(|state| state.status = Status::Exited);
                return Ok(());
            }
        }
        let ended = Self::until_ended(container);
        self.send(container, KILL).await?;
        dead(container, ended).await
    }

    /// Waits until a container does not run.
    pub(crate) fn until_ended(container: &Container) -> impl Future<Output = ()> + use<> {
        let mut watch = container.watch();
        async move {
            // The sender is never gone before its receivers.
            let _ = watch.wait_for(|moment| moment.gone || !moment.state.status.is_running()).await;
        }
    }
}

/// Waits for the end of a container that was killed, and not for ever.
async fn dead(container: &Container, ended: impl Future<Output = ()>) -> Result<()> {
    tokio::time::timeout(DEATH, ended).await.map_err(|_| {
        let seconds = DEATH.as_secs();
        Error::Conflict(format!("container {} was killed and has not ended within {seconds} seconds", container.id))
    })
}

/// The signal that asks a container to end.
fn own_signal(container: &Container) -> Result<i32> {
    let record = container.record();
    let name = &record.config.stop_signal;
    signal_number(if name.is_empty() { "SIGTERM" } else { name })
}

/// Lays the limits that are given over those that there are.
fn overlay(under: &mut gantry_model::oci::linux::Resources, over: &gantry_model::oci::linux::Resources) {
    // As documents: each value that is given replaces the other, whatever fields the specification gets.
    let (mut below, above) = (serde_json::to_value(&*under), serde_json::to_value(over));
    if let (Ok(below), Ok(above)) = (&mut below, above) {
        merge_json(below, above);
    }
    if let Some(merged) = below.ok().and_then(|merged| serde_json::from_value(merged).ok()) {
        *under = merged;
    }
}

fn merge_json(below: &mut serde_json::Value, above: serde_json::Value) {
    match (below, above) {
        (serde_json::Value::Object(below), serde_json::Value::Object(above)) => {
            for (key, value) in above {
                merge_json(below.entry(key).or_insert(serde_json::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}
