//! The client against a registry in the same process, that can be told to misbehave.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "helpers of tests are tests"
)]

mod auth;
mod docker_config;
mod fake;
mod proxy;
mod pull;
mod push;
mod tls;

use std::sync::Arc;
use std::time::Duration;

use gantry_distribution::{Anonymous, Client, Config, Credentials, Proxy, Retry};
use gantry_model::Reference;

/// Fast and impatient.
pub fn config() -> Config {
    Config {
        proxy: Proxy::None,
        retry: Retry { attempts: 4, first_ms: 5, longest_ms: 20, longest_asked: 2 },
        connect_timeout: 2,
        answer_timeout: 5,
        stall_timeout: 1,
        ..Config::default()
    }
}

/// A client without credentials.
pub fn client() -> Client {
    Client::new(config(), Arc::new(Anonymous)).unwrap()
}

/// A client with these credentials.
pub fn client_as(credentials: impl Credentials + 'static) -> Client {
    Client::new(config(), Arc::new(credentials)).unwrap()
}

/// A reference at this registry.
pub fn reference(address: &str, rest: &str) -> Reference {
    format!("{address}/{rest}").parse().unwrap()
}

/// Runs a test with a limit of its time.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(30), test).await.expect("the test took too long") });
    runtime.shutdown_background();
}
