//! Standard output and standard error: whether they are terminals, how wide, and what happens when they close.

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use crate::failure::{Failure, Outcome};

/// Writes to standard output at once.
pub fn print(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::new(format!("write to standard output: {error}"))),
    }
}

/// Writes to standard error. Nobody can be told if that fails.
pub fn tell(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// The width of standard output, if it is a terminal.
pub fn width() -> Option<usize> {
    let out = io::stdout();
    if out.is_terminal() { columns(&out) } else { None }
}

/// Rows and columns of standard output, if it is a terminal that knows them.
pub fn size() -> Option<(u16, u16)> {
    let out = io::stdout();
    if !out.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&out).ok()?;
    (size.ws_col > 0 || size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// The width of standard error; that of an old terminal if it is none.
pub fn error_width() -> usize {
    columns(&io::stderr()).unwrap_or(80)
}

fn columns(file: &impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(file).ok()?;
    // Some terminals do not know their size.
    Some(usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Whether standard error takes colours (no-color.org).
pub fn colours() -> bool {
    io::stderr().is_terminal() && wanted()
}

/// Whether standard output takes colours.
pub fn output_colours() -> bool {
    io::stdout().is_terminal() && wanted()
}

fn wanted() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}
