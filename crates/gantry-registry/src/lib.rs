//! The registry server.

mod config;
mod error;
mod pattern;
mod units;

pub use config::{
    Action, Auth, Config, Gc, Immutable, Limits, Quota, Retention, RetentionRule, Rule, S3, Scheme, Storage, Tls,
    Upstream,
};
pub use error::{Error, Result};
pub use pattern::Pattern;
pub use units::{Size, Span};
