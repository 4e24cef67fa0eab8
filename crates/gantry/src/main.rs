//! The command line of Gantry: reads it, carries the command out, and says how that ended.
//!
//! A command is three steps: its arguments become a request, the request is carried out, the result becomes text. The middle
//! one is a call into a library; it can as well be a call over a socket.

mod cli;
mod client;
mod commands;
mod config;
mod context;
mod create;
mod daemon;
mod failure;
mod log;
mod progress;
mod prompt;
mod render;
mod stream;
mod template;
mod terminal;
mod times;
mod user;

use std::process::ExitCode;

use crate::failure::{FAILED, Failure, Report, USAGE};

fn main() -> ExitCode {
    let cli = match cli::parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(cli) => cli,
        Err((error, status)) => {
            // Help and the version are "errors" too, of status 0. Whether anyone reads them does not matter.
            let _ = error.print();
            if let Some(hint) = cli::misplaced(&error) {
                terminal::tell(&hint);
            }
            return ExitCode::from(status);
        }
    };
    // The daemon's is as its configuration says.
    if !matches!(cli.command, cli::Command::Daemon(_)) {
        log::start(log::asked(&cli.global).unwrap_or(cli::Level::Warn), cli::daemon::LogFormat::Text);
    }
    let context = context::Context::new(cli.global);
    match commands::run(&context, cli.command) {
        // Who read only the beginning wanted only that.
        Ok(()) | Err(Failure::Closed) => ExitCode::SUCCESS,
        Err(Failure::Interrupted(status) | Failure::Status(status)) => ExitCode::from(status),
        Err(Failure::Said) => ExitCode::from(FAILED),
        Err(failure @ (Failure::Daemon { .. } | Failure::NotThere(_))) => {
            terminal::tell(&format!("{}\n", failure::clean(&failure.text())));
            ExitCode::from(FAILED)
        }
        Err(Failure::Usage(text)) => {
            terminal::tell(&Report { text, hint: Some("see --help".to_owned()) }.lines(terminal::colours()));
            ExitCode::from(USAGE)
        }
        Err(Failure::Error(report)) => {
            terminal::tell(&report.lines(terminal::colours()));
            ExitCode::from(FAILED)
        }
    }
}
