//! Watching over a container that runs: its end is recorded, cleared up after, told of, and followed by a restart if its
//! policy says so.

use std::sync::Arc;
use std::time::Duration;

use gantry_model::monitor::Exit;

use crate::container::Status;
use crate::db::{Row, Table};
use crate::engine::Engine;
use crate::health;
use crate::monitor::{self, Connection};
use crate::restart;
use crate::table::Container;

/// The exit status of a process whose end nobody saw.
const LOST: u8 = 255;
/// The first and the longest pause before a restart.
const PAUSE: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(60)];
/// A run of this length makes the next pause the first again.
const STEADY: i64 = 10_000_000_000;

impl Engine {
    /// Begins to watch over a container.
    pub(super) fn watch_over(&self, container: &Arc<Container>, connection: Connection) {
        let (engine, container) = (self.clone(), Arc::clone(container));
        self.spawn(async move {
            let told = connection.exit().await;
            engine.after(&container, told).await;
        });
    }

    /// Does what is to be done after the end of a process.
    pub(super) async fn after(&self, container: &Arc<Container>, told: Option<Exit>) {
        let life = container.life.lock().await;
        let exit = told.or_else(|| monitor::read_exit(&self.run_dir(&container.id).join("exit")));
        let exit = match exit {
            Some(exit) => exit,
            None => Exit { code: LOST, finished: self.now() as u64, ..Exit::default() },
        };
        container.end_tasks();
        if told.is_none() {
            // The monitor did not clear up: it is gone.
            self.end_processes(container).await;
        }
        self.clear_mounts(container).await;
        if exit.saved {
            // It is to go on from its checkpoint, and not to begin anew.
            container.change(|state| state.stopped_by_hand = true);
        }
        let (code, finished) = (i32::from(exit.code), exit.finished as i64);
        let again = Self::restarts(container, code);
        let lasted = finished - container.state().started;
        container.ended(|state| {
            state.status = if again { Status::Restarting } else { Status::Exited };
            (state.pid, state.exit_code, state.oom_killed, state.finished) = (0, code, exit.oom, finished);
            if let Some(health) = &mut state.health {
                // Nothing serves any more, whatever the last check found. Clients know it so of Docker.
                health::UNHEALTHY.clone_into(&mut health.status);
            }
        });
        if exit.oom {
            self.tell_of(container, "oom", &[]);
        }
        let duration = (lasted.max(0) / 1_000_000_000).to_string();
        self.tell_of(container, "die", &[("exitCode", code.to_string()), ("execDuration", duration)]);
        if container.record().host.auto_remove && !again {
            drop(life);
            self.remove_at_the_end(container).await;
            return;
        }
        // The exit record goes when the state that tells of it is on the disk.
        match self.0.db.write(vec![Row::put(Table::States, &container.id, &*container.state())]).await {
            Ok(()) => self.clear_run(container).await,
            Err(error) => tracing::warn!("keep the state of container {}: {error}", container.id),
        }
        if again {
            self.plan_restart(container, lasted >= STEADY);
        }
        drop(life);
    }

    /// Whether a container is started again after its end.
    fn restarts(container: &Container, code: i32) -> bool {
        let state = container.state();
        if state.stopped_by_hand || matches!(state.status, Status::Removing | Status::Dead) {
            return false;
        }
        let past = restart::Past { started: true, code, by_hand: state.stopped_by_hand, restarts: state.restarts };
        restart::after_exit(container.record().host.restart, past)
    }

    /// Plans the next start of a container.
    pub(super) fn plan_restart(&self, container: &Arc<Container>, steady: bool) {
        let turn = container.next_turn();
        let tries = if steady { 0 } else { container.state().restarts.min(16) };
        let pause = (PAUSE[0] * (1 << tries)).min(PAUSE[1]);
        let (engine, container) = (self.clone(), Arc::clone(container));
        self.spawn(async move {
            tokio::time::sleep(pause).await;
            engine.until_ready().await;
            let life = container.life.lock().await;
            if *crate::table::lock(&container.turn) != turn || container.state().status != Status::Restarting {
                return;
            }
            container.change(|state| state.restarts += 1);
            let started = engine.launch(&container, None).await;
            drop(life);
            if let Err(error) = started {
                tracing::warn!("restart container {}: {error}", container.id);
                if container.record().host.auto_remove {
                    engine.remove_at_the_end(&container).await;
                }
            }
        });
    }
}
