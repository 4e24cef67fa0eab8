//! A registry by itself, for measurements and for programs that test registries: `serve [CONFIG.toml]`. It prints where it
//! listens, and ends on SIGTERM or an interrupt.

use std::path::Path;

use gantry_registry::{Config, Registry};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let config = match std::env::args_os().nth(1) {
        Some(path) => Config::read(Path::new(&path))?,
        None => Config::default(),
    };
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let registry = Registry::start(config).await?;
        println!("{}", registry.address());
        tokio::select! {
            _ = term.recv() => {}
            _ = interrupt.recv() => {}
        }
        registry.stop().await;
        Ok(())
    })
}
