//! Health checks of containers that run: made when they are due, and what follows from them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;

use crate::container::Status;
use crate::engine::Engine;
use crate::error::Result;
use crate::health::{Check, HEALTHY, Outcome, Output, UNHEALTHY};
use crate::request::{CreateExec, StopOptions};
use crate::restart;
use crate::table::{Container, lock};

impl Engine {
    /// Begins to look at a container that was started, or found again, if it says how.
    pub(crate) fn look_after_health(&self, container: &Arc<Container>) {
        let asked = container.record().config.health.clone().unwrap_or_default();
        // It was checked when the container was made.
        let Ok(Some(check)) = Check::new(&asked, &[]) else { return };
        container.change(|state| state.health = Some(Check::begin(state.health.as_ref())));
        let (engine, task_of) = (self.clone(), Arc::clone(container));
        let task = self.spawn(async move { engine.look(&task_of, &check).await });
        lock(&container.tasks).push(task);
    }

    async fn look(&self, container: &Arc<Container>, check: &Check) {
        let mut since = self.now();
        loop {
            let state = container.state();
            let due = check.due(&state.health.clone().unwrap_or_default(), state.started, since);
            let wait = Duration::from_nanos((due - self.now()).max(0) as u64);
            tokio::time::sleep(wait).await;
            match container.state().status {
                Status::Running => {}
                // It is not looked at while it is frozen.
                Status::Paused => {
                    since = self.now();
                    continue;
                }
                _ => return,
            }
            let start = self.now();
            let outcome = match self.probe(container, check).await {
                Ok(outcome) => outcome,
                Err(error) => Outcome::NotRun(error.to_string()),
            };
            since = self.now();
            self.count(&outcome);
            let mut changed = None;
            container.change(|state| {
                let mut health = state.health.take().unwrap_or_default();
                changed = check.take(&mut health, state.started, (start, since), outcome);
                state.health = Some(health);
            });
            let Some(now) = changed else { continue };
            self.keep_state(container);
            self.tell_of(container, &format!("health_status: {now}"), &[]);
            debug_assert!([HEALTHY, UNHEALTHY].contains(&now));
            if now == UNHEALTHY && Self::is_to_be_restarted(container) {
                let (engine, container) = (self.clone(), Arc::clone(container));
                // Not in this task, which ends with the run.
                self.spawn(async move {
                    if let Err(error) = engine.restart_unhealthy(&container).await {
                        tracing::warn!("restart container {}, which is unhealthy: {error}", container.id);
                    }
                });
                return;
            }
        }
    }

    /// Counts a check.
    fn count(&self, outcome: &Outcome) {
        let checks = &self.0.checks;
        checks.all.fetch_add(1, Ordering::Relaxed);
        if !matches!(outcome, Outcome::Ended { code: 0, .. }) {
            checks.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn is_to_be_restarted(container: &Container) -> bool {
        let (record, state) = (container.record(), container.state());
        let past = restart::Past { started: true, code: 1, by_hand: state.stopped_by_hand, restarts: state.restarts };
        restart::when_unhealthy(record.host.restart, record.host.restart_unhealthy, past)
    }

    async fn restart_unhealthy(&self, container: &Arc<Container>) -> Result<()> {
        let restarts = container.state().restarts;
        self.restart(&container.id, StopOptions::default()).await?;
        container.change(|state| state.restarts = restarts + 1);
        self.keep_state(container);
        Ok(())
    }

    /// Makes a check.
    async fn probe(&self, container: &Arc<Container>, check: &Check) -> Result<Outcome> {
        let request = CreateExec { args: check.command.clone(), stdout: true, stderr: true, ..CreateExec::default() };
        let id = self.create_exec(&container.id, request)?;
        let attached = self.start_exec(&id, false, None).await?;
        let mut output = Output::default();
        let run = async {
            if let Some(mut attached) = attached {
                let mut head = [0; 8];
                while attached.socket.read_exact(&mut head).await.is_ok() {
                    let mut left = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
                    let mut piece = [0; 4096];
                    while left > 0 {
                        let most = left.min(piece.len());
                        match attached.socket.read(&mut piece[..most]).await {
                            Ok(0) | Err(_) => break,
                            Ok(got) => {
                                output.push(&piece[..got]);
                                left -= got;
                            }
                        }
                    }
                }
            }
            self.wait_exec(&id).await
        };
        if let Ok(code) = tokio::time::timeout(Duration::from_nanos(check.timeout.max(0) as u64), run).await {
            Ok(Outcome::Ended { code: code?, output })
        } else {
            let pid = self.exec(&id)?.state.pid;
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                // It may have ended meanwhile.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            Ok(Outcome::TimedOut { output })
        }
    }
}
