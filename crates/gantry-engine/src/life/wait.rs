//! Waiting for the end of a container.

use std::future::Future;

use crate::container::Status;
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::request::WaitFor;

/// How what was waited for ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// The exit status.
    pub code: i32,
    /// Why there was no process, if there was none.
    pub error: String,
}

impl Engine {
    /// Waits for a container. When this returns, what comes is not missed; the future that it returns then waits.
    pub fn wait(&self, asked: &str, what: WaitFor) -> Result<impl Future<Output = Result<Ended>> + Send + use<>> {
        let container = self.find(asked)?;
        let mut watch = container.watch();
        let before = watch.borrow_and_update().exits;
        Ok(async move {
            let found = watch.wait_for(|moment| match what {
                WaitFor::NotRunning => {
                    moment.gone || !(moment.state.status.is_running() || moment.state.status == Status::Restarting)
                }
                WaitFor::NextExit => moment.gone || moment.exits > before,
                WaitFor::Removed => moment.gone,
            });
            let moment = found.await.map_err(|_| Error::Closed)?;
            // Of one that is gone, whoever started it has been told why.
            let error = if what == WaitFor::Removed { String::new() } else { moment.state.error.clone() };
            Ok(Ended { code: moment.state.exit_code, error })
        })
    }
}
