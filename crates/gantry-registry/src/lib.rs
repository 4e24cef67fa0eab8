//! The registry server: distribution-spec 1.1 over a directory or S3.
//!
//! [`serve`] runs one until it is told to stop; [`Registry`] is the same for programs that want its address and its other
//! handles. What is stored where is said in `keys`, in which order repositories change in `repo`, and why collection never
//! stands in anybody's way in `gc`.

// An answer that refuses is as large as one that grants, and is made once a request.
#![allow(clippy::result_large_err)]

mod admin;
mod api;
mod auth;
mod config;
mod error;
mod gc;
mod keys;
mod metrics;
mod passing;
mod pattern;
mod registry;
mod repo;
mod repos;
mod retention;
mod room;
mod server;
mod stall;
mod storage;
mod tls;
mod units;
mod uploads;
mod upstream;

pub use config::{
    Action, Auth, Config, Gc, Immutable, Limits, Quota, Retention, RetentionRule, Rule, S3, Scheme, Storage, Tls,
    Upstream,
};
pub use error::{Error, Result};
pub use gc::Collected;
pub use pattern::Pattern;
pub use registry::Clock;
pub use retention::Removed;
pub use server::{Registry, Sockets, serve};
pub use tls::mutual;
pub use units::{Size, Span};
