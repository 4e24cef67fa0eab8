//! The OCI runtime's executable: reads the command line, and carries the command out.

mod commands;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::SystemTime;

use gantry_oci::cli::{self, Command, Invocation};
use gantry_oci::log::Log;

/// Most commands end before they have used this up.
#[global_allocator]
static ARENA: gantry_sys::arena::Arena = gantry_sys::arena::Arena::new();

/// The status of a command that failed, as runc has it. `exec` has its own, so that it is told from the process's.
const FAILED: u8 = 1;
const EXEC_FAILED: u8 = 255;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().collect();
    if args.first().is_some_and(|name| Path::new(name).file_name() == Some(gantry_oci::init::NAME.as_ref())) {
        return gantry_oci::init::main(&args);
    }
    if let [_, verb, launch] = &args[..]
        && verb == "monitor"
    {
        return monitor(&args, launch.as_ref());
    }
    let invocation = match cli::parse(args.iter().skip(1).cloned()) {
        Ok(invocation) => invocation,
        Err(refused) => {
            if let Some(log) = open_log(&refused.global) {
                log.error(&refused.error);
            }
            return ExitCode::from(FAILED);
        }
    };
    // Without the log that it looks at, whoever asked would miss what goes wrong later.
    let Some(log) = open_log(&invocation.global).map(Rc::new) else { return ExitCode::from(FAILED) };
    let failed = if matches!(invocation.command, Command::Exec(_)) { EXEC_FAILED } else { FAILED };
    match enter(&args, invocation, &log) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            log.error(error);
            ExitCode::from(failed)
        }
    }
}

/// What an engine starts, and nobody types: see `gantry_oci::monitor`.
fn monitor(args: &[OsString], launch: &Path) -> ExitCode {
    // The one clock of the program.
    #[allow(clippy::disallowed_methods)]
    let clock: fn() -> SystemTime = SystemTime::now;
    let sealed = gantry_runtime::seal::ensure(args).map_err(gantry_oci::monitor::Error::from);
    match sealed.and_then(|()| gantry_oci::monitor::main(launch, clock, || ARENA.retire())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gantry-oci: monitor: {error}");
            ExitCode::from(FAILED)
        }
    }
}

/// Carries a command out; one that enters a container, from an executable that the container cannot reach.
fn enter(args: &[OsString], invocation: Invocation, log: &Rc<Log>) -> Result<u8, commands::Failure> {
    let dry = matches!(&invocation.command, Command::Run(run) if run.dry_run);
    let enters = matches!(
        invocation.command,
        Command::Create(_) | Command::Run(_) | Command::Exec(_) | Command::Restore(_) | Command::Mounts(_)
    );
    if enters && !dry {
        gantry_runtime::seal::ensure(args)?;
    }
    commands::run(invocation, log)
}

/// The log of the command line; none where it cannot be opened, which is told on the standard error.
fn open_log(global: &cli::Global) -> Option<Log> {
    // The one clock of the program.
    #[allow(clippy::disallowed_methods)]
    let clock: fn() -> SystemTime = SystemTime::now;
    match Log::open(&global.log, global.log_format, global.log_level, clock) {
        Ok(log) => Some(log),
        Err(cause) => {
            Log::stderr(global.log_format, global.log_level, clock).error(format!("open log: {cause}"));
            None
        }
    }
}
