//! The registry client: pulls from and pushes to registries by the OCI distribution specification 1.1, as Docker's
//! registries and all others speak it.
//!
//! [`Client`] is asynchronous and cheap to clone. It knows nothing of where content is kept: what it fetches comes as bytes
//! or as a [`Blob`] that is read piece by piece, what it pushes is read from a source that can begin anywhere.
//!
//! | module | what it holds |
//! |---|---|
//! | `config`, `challenge`, `header`, `proxy`, `retry` | pure: what people and registries write, to data |
//! | `credential`, `docker_config`, `helper` | who we are, from Docker's configuration and its helpers |
//! | `resolver`, `tls`, `transport` | connections |
//! | `auth`, `exchange`, `body` | one request: tokens, redirects, mirrors, trying again |
//! | `client`, `blob`, `listing`, `referrers`, `upload`, `session`, `source` | the operations of the protocol |

mod auth;
mod blob;
mod body;
mod challenge;
mod client;
mod config;
mod credential;
mod docker_config;
mod error;
mod exchange;
mod header;
mod helper;
mod listing;
mod proxy;
mod referrers;
mod resolver;
mod retry;
mod session;
mod source;
pub mod tls;
mod transport;
mod upload;

pub use blob::Blob;
pub use client::{Client, Fetched};
pub use config::{Config, Proxies, Proxy, Registry};
pub use credential::{Anonymous, Credential, Credentials, Fixed};
pub use docker_config::DockerConfig;
pub use error::{Error, Result};
pub use retry::Retry;
pub use source::{Open, Stream};
pub use upload::{Done, Pushed, Upload};
