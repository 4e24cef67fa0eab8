//! The log, on standard error.

use std::io::{self, IsTerminal};
use std::sync::OnceLock;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, Registry, fmt, reload};

use crate::cli::daemon::LogFormat;
use crate::cli::{Global, Level};
use crate::terminal;

/// What changes the level.
static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();

/// The level that is asked for, if one is.
pub fn asked(global: &Global) -> Option<Level> {
    match global.log_level {
        Some(Level::Trace) => Some(Level::Trace),
        _ if global.debug => Some(Level::Debug),
        other => other,
    }
}

/// Begins to log. Without this nothing is.
pub fn start(level: Level, format: LogFormat) {
    let (filter, handle) = reload::Layer::new(level.into());
    let text = fmt::layer().with_writer(io::stderr).with_ansi(terminal::colours());
    let lines = match format {
        LogFormat::Json => fmt::layer().with_writer(io::stderr).json().flatten_event(true).boxed(),
        // A person at a terminal knows the time, and wants no names of modules.
        LogFormat::Text if io::stderr().is_terminal() && LevelFilter::from(level) <= LevelFilter::INFO => {
            text.without_time().with_target(false).boxed()
        }
        LogFormat::Text => text.boxed(),
    };
    // There is one log, begun once.
    let _ = LEVEL.set(handle);
    tracing_subscriber::registry().with(filter).with(lines).init();
}

/// Changes how much is logged.
pub fn set_level(level: Level) {
    if let Some(handle) = LEVEL.get() {
        // It fails when nothing logs any more.
        let _ = handle.reload(level);
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
            Level::Trace => Self::TRACE,
        }
    }
}
