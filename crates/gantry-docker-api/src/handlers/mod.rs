//! What is done for each request: the engine is called, and its result becomes a document.

pub(crate) mod checkpoint;
pub(crate) mod container;
pub(crate) mod exec;
pub(crate) mod files;
pub(crate) mod image;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod pipe;
pub(crate) mod progress;
pub(crate) mod stream;
pub(crate) mod system;
pub(crate) mod usage;
pub(crate) mod volume;
pub(crate) mod websocket;

use http::StatusCode;

use crate::reply::{Reply, empty};

/// The answer to what was done and has nothing to tell.
pub(crate) fn done() -> Reply {
    empty(StatusCode::NO_CONTENT)
}
