//! The log, on standard error.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::cli::{Global, Level};
use crate::terminal;

/// Begins to log. Without this nothing is.
pub fn start(global: &Global) {
    let level = match global.log_level {
        _ if global.debug && global.log_level != Level::Trace => LevelFilter::DEBUG,
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    };
    let builder =
        tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr).with_ansi(terminal::colours());
    // A person at a terminal knows the time, and wants no names of modules.
    if io::stderr().is_terminal() && level <= LevelFilter::INFO {
        builder.without_time().with_target(false).init();
    } else {
        builder.init();
    }
}
