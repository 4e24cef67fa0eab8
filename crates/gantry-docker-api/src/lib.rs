//! The Docker Engine API, versions 1.24 to 1.51, over the engine: requests become calls, results become documents.
//!
//! Nothing is decided here. [`server`] speaks HTTP, [`route`] finds the handler, `handlers` call the engine, `types` are the
//! documents, and [`filters`] reads what lists are to be reduced by.

#![recursion_limit = "512"]

mod ending;
mod error;
mod filters;
mod handlers;
mod reply;
mod request;
mod route;
mod server;
mod time;
mod types;

pub use server::{Answered, Api, Build, Door, Observer, Phase, serve, serve_by};
