//! Finding again what runs when the engine starts, and clearing up after what does not.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use gantry_model::oci::state::Status as Kernel;

use crate::container::Status;
use crate::engine::{Engine, blocking};
use crate::error::{Context, Result};
use crate::monitor::{self, Connection};
use crate::network::Joined;
use crate::restart;
use crate::rootfs;
use crate::table::Container;

use super::start::{container_id, remove_run_dir};

/// The length of a container's id, and what follows it in the keys of views that it has.
const ID: usize = 64;
const VIEW: &str = "-image";

/// Whether a container's process has come to its program. It is forked from the monitor, and has its arguments until then.
/// One that is started and yet there has lost who started it, in the moment before it was told.
fn has_begun(pid: i32, dir: &Path) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let launch = dir.join("launch.json");
    !arguments.split(|byte| *byte == 0).any(|argument| argument == launch.as_os_str().as_encoded_bytes())
}

impl Engine {
    /// Adopts the containers that there are; each by itself, so that one that is damaged holds up no other.
    pub(crate) async fn adopt(&self) {
        if let Err(error) = self.clear_strangers().await {
            tracing::warn!("clear up: {error}");
        }
        let containers = self.read().all();
        for container in &containers {
            self.clear_checkpoints(&container.id).await;
            if let Err(error) = self.adopt_one(container).await {
                tracing::warn!("adopt container {}: {error}", container.id);
            }
        }
    }

    /// Finds out what became of a container while the engine was away.
    async fn adopt_one(&self, container: &Arc<Container>) -> Result<()> {
        let dir = self.run_dir(&container.id);
        let before = container.state();
        let was_up = before.status.is_running();
        if !dir.exists() {
            self.without_a_run(container, was_up).await;
            return Ok(());
        }
        if let Some(exit) = monitor::read_exit(&dir.join("exit")) {
            if before.finished == exit.finished as i64 {
                // That was dealt with, but for the last of it.
                self.take_back(container).await;
                self.without_a_run(container, false).await;
                return Ok(());
            }
            self.settle_running(container, 0, Status::Running, &dir);
            self.after(container, Some(exit)).await;
            return Ok(());
        }
        let id = container_id(&container.id)?;
        let report =
            self.runtime(move |runtime| Ok(runtime.report(&id).map(|report| (report.record.pid, report.status))));
        match (Connection::open(&dir.join("monitor")), report.await?) {
            (Ok(connection), Ok((pid, kernel @ (Kernel::Running | Kernel::Paused))))
                if was_up || has_begun(pid, &dir) =>
            {
                let status = if kernel == Kernel::Paused { Status::Paused } else { Status::Running };
                self.settle_running(container, pid, status, &dir);
                self.watch_over(container, connection);
                self.look_after_health(container);
                self.ship_log(container);
            }
            (Ok(connection), Ok((_, Kernel::Stopped))) if was_up => {
                // It ends right now.
                self.settle_running(container, 0, Status::Running, &dir);
                self.watch_over(container, connection);
            }
            // A start that was cut off before the program ran: it has not run.
            (Ok(_), Ok((_, Kernel::Running | Kernel::Paused))) | (_, Ok((_, Kernel::Created))) => {
                // Its monitor ends with it.
                self.end_processes(container).await;
                let _gone = monitor::until_gone(&dir.join("launch.json")).await;
                self.take_back(container).await;
                self.without_a_run(container, false).await;
            }
            // The monitor may still be making it, or taking it back: it ends when it finds that nobody listens.
            (_, Ok((_, Kernel::Creating | Kernel::Stopped)) | Err(gantry_runtime::Error::NotFound(_))) if !was_up => {
                let gone = monitor::until_gone(&dir.join("launch.json")).await;
                if let Some(exit) = monitor::read_exit(&dir.join("exit")) {
                    // It has run, and ended while it was looked at.
                    drop(gone);
                    self.settle_running(container, 0, Status::Running, &dir);
                    self.after(container, Some(exit)).await;
                    return Ok(());
                }
                self.take_back(container).await;
                self.without_a_run(container, false).await;
            }
            // Its monitor is gone, and with it who knew how it ends.
            _ => {
                self.settle_running(container, 0, Status::Running, &dir);
                self.after(container, None).await;
            }
        }
        Ok(())
    }

    /// A container of which nothing runs: it has not, or the machine was started since.
    async fn without_a_run(&self, container: &Arc<Container>, was_up: bool) {
        let record = container.record();
        if was_up {
            self.after(container, None).await;
            return;
        }
        if container.state().status == Status::Removing {
            // The removal was not carried out.
            container.change(|state| state.status = Status::Exited);
        } else if record.host.auto_remove && container.state().status == Status::Exited {
            self.remove_at_the_end(container).await;
            return;
        }
        let state = container.state();
        let past = restart::Past {
            started: state.started != 0,
            code: state.exit_code,
            by_hand: state.stopped_by_hand,
            restarts: state.restarts,
        };
        let due = restart::after_engine_start(record.host.restart, past);
        if state.status == Status::Restarting || (due && state.status == Status::Exited) {
            container.change(|state| state.status = Status::Restarting);
            self.plan_restart(container, true);
        }
    }

    /// The state of a container that runs, of which only the kernel may know yet.
    fn settle_running(&self, container: &Arc<Container>, pid: i32, status: Status, dir: &Path) {
        use std::os::unix::fs::MetadataExt as _;
        let started = std::fs::metadata(dir.join("launch.json"))
            .map_or(0, |file| file.mtime() * 1_000_000_000 + file.mtime_nsec());
        let joined = Joined::read(dir).unwrap_or_default();
        if pid != 0
            && let Err(error) = self.take_up(container, &joined)
        {
            tracing::warn!("take up the network of container {}: {error}", container.id);
        }
        container.change(|state| {
            state.endpoints = joined.endpoints.into_iter().collect();
            state.ports = joined.ports;
            if !state.status.is_running() {
                // It was started after this was written: by its policy, which counts, or by hand, which begins anew.
                if state.status == Status::Restarting {
                    state.restarts += 1;
                } else {
                    (state.restarts, state.stopped_by_hand) = (0, false);
                }
                (state.started, state.exit_code, state.oom_killed) = (started, 0, false);
                state.error.clear();
            }
            // Whether it is frozen is the kernel's to say.
            state.status = status;
            state.pid = pid;
        });
    }

    /// Removes snapshots that nothing needs: of containers that are not there, and views of images whose run was cut off.
    pub(crate) async fn clear_snapshots(&self) {
        let store = self.images().store().clone();
        let Ok(all) = store.snapshots() else { return };
        let is_left = |key: &str| match key.split_at_checked(ID) {
            // Others have theirs too.
            Some((id, rest)) if id.bytes().all(|byte| byte.is_ascii_hexdigit()) => match self.find(id) {
                Ok(container) => rest.starts_with(VIEW) && !container.state().status.is_running(),
                Err(_) => rest.is_empty() || rest.starts_with(VIEW),
            },
            _ => false,
        };
        let left: Vec<_> =
            all.iter().map(gantry_store::Snapshot::key).filter(|key| is_left(key)).map(str::to_owned).collect();
        let removed = blocking(move || {
            for key in left {
                store.remove_snapshot(&key)?;
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!("clear up snapshots: {error}");
        }
    }

    /// Removes network namespaces that no container is in: what used them was cut off.
    pub(crate) async fn clear_namespaces(&self) {
        let wanted = |id: &str| self.find(id).is_ok_and(|container| container.state().status.is_running());
        let dir = self.0.options.run.join("netns");
        let Ok(entries) = std::fs::read_dir(&dir) else { return };
        let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
        let paths: Vec<_> = names.filter(|name| !wanted(name)).map(|name| dir.join(name)).collect();
        let removed = blocking(move || {
            for path in paths {
                gantry_net::remove_netns(&path)?;
            }
            Ok(())
        });
        if let Err(error) = removed.await {
            tracing::warn!("clear up network namespaces: {error}");
        }
    }

    /// Clears up directories of containers that are not there: their removal, or their making, was cut off.
    async fn clear_strangers(&self) -> Result<()> {
        let known: HashSet<String> = self.read().all().iter().map(|container| container.id.clone()).collect();
        let (roots, runs) = (self.0.options.root.join("containers"), self.0.options.run.join("containers"));
        let strangers = blocking(move || {
            let mut found = HashSet::new();
            for dir in [&roots, &runs] {
                let what = || format!("read {}", dir.display());
                for entry in std::fs::read_dir(dir).context(what)? {
                    let name = entry.context(what)?.file_name().to_string_lossy().into_owned();
                    if !known.contains(&name) {
                        found.insert(name);
                    }
                }
            }
            Ok(found)
        })
        .await?;
        for id in strangers {
            tracing::info!("clear up after container {id}, which is not there");
            if let Ok(runtime_id) = container_id(&id) {
                let ended = self.runtime(move |runtime| Ok(runtime.delete(&runtime_id, true))).await?;
                if let Err(error) = ended {
                    tracing::debug!("end container {id}: {error}");
                }
            }
            let _gone = monitor::until_gone(&self.run_dir(&id).join("launch.json")).await;
            if let Ok(runtime_id) = container_id(&id) {
                let gone = self.runtime(move |runtime| match runtime.delete(&runtime_id, true) {
                    Err(gantry_runtime::Error::NotFound(_)) | Ok(()) => Ok(()),
                    Err(error) => Err(error.into()),
                });
                gone.await?;
            }
            let dir = self.run_dir(&id);
            let (store, id_of_mounts) = (self.images().store().clone(), id.clone());
            blocking(move || {
                rootfs::unmount_all(&dir.join("rootfs"))?;
                super::mounts::clear(&store, &id_of_mounts, &dir)?;
                remove_run_dir(&dir)
            })
            .await?;
            self.clear(&id).await;
        }
        Ok(())
    }
}
