//! Questions on a terminal: yes or no, a name, a password that does not show.

use std::io::{self, BufRead, IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::failure::{Failure, Outcome};
use crate::terminal;

/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Asks for a yes. Where nobody can answer, that is a no.
pub fn confirm(question: &str) -> Outcome<bool> {
    terminal::tell(&format!("{question} [y/N] "));
    Ok(matches!(line()?.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line.
pub fn ask(question: &str) -> Outcome<String> {
    need_terminal("a user name is needed", "give --username")?;
    terminal::tell(question);
    Ok(line()?.trim().to_owned())
}

/// Asks for a password, which does not show.
pub fn password(question: &str) -> Outcome<String> {
    need_terminal("a password is needed, and standard input is no terminal", "give --password-stdin")?;
    terminal::tell(question);
    let answer = {
        let _hidden = Hidden::begin()?;
        line()
    };
    terminal::tell("\n");
    Ok(answer?.trim_end_matches(['\r', '\n']).to_owned())
}

/// A password from standard input: all of it, without the end of the line.
pub fn password_from_stdin() -> Outcome<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_ANSWER)
        .read_to_string(&mut text)
        .map_err(|error| Failure::new(format!("read the password from standard input: {error}")))?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn need_terminal(what: &str, hint: &str) -> Outcome {
    if io::stdin().is_terminal() { Ok(()) } else { Err(Failure::new(what).hint(hint)) }
}

fn line() -> Outcome<String> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(MAX_ANSWER)
        .read_line(&mut text)
        .map_err(|error| Failure::new(format!("read the answer from standard input: {error}")))?;
    Ok(text)
}

/// While it lives, what is typed does not show.
struct Hidden(Termios);

impl Hidden {
    fn begin() -> Outcome<Self> {
        let stdin = io::stdin();
        let before = tcgetattr(&stdin).map_err(io::Error::from)?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Flush, &hidden).map_err(io::Error::from)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // The terminal may be gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
