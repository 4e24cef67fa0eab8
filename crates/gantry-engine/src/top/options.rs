//! The options of ps(1) that choose columns. Those that choose processes say nothing here: the container does. Pure.

use super::columns::Column;

/// Characters of options.
const MAX: usize = 4096;

/// An option that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadOption {
    /// An option.
    #[error("ps: option {0:?} is not supported: -ef, -F, -l, -j, aux, axl, axj and -o LIST are, among others")]
    Option(String),
    /// A column.
    #[error("ps: error: unknown user-defined format specifier {0:?}")]
    Column(String),
    /// Another column under the name of the process id.
    #[error("specifying \"{0}={1}\" is not allowed")]
    Disguise(String, String),
    /// A list that is missing or empty.
    #[error("ps: error: list of columns must follow {0}")]
    NoList(String),
    /// Too much.
    #[error("ps: options have more than {MAX} characters")]
    Length,
}

/// Columns of the fixed formats.
const BARE: &str = "pid -tty time ucmd";
const BARE_BSD: &str = "pid -tty stat bsdtime args";
const FULL: &str = "-uid pid ppid c stime -tty time cmd";
const EXTRA: &str = "-uid pid ppid c sz rss psr stime -tty time cmd";
const LONG: &str = "f s uid pid ppid c opri ni -addr sz wchan -tty time ucmd";
const LONG_FULL: &str = "f s -uid pid ppid c opri ni -addr sz wchan stime -tty time cmd";
const JOBS: &str = "pid pgid sid -tty time ucmd";
const JOBS_FULL: &str = "-uid pid ppid pgid sid c stime -tty time cmd";
const USER: &str = "user pid %cpu %mem vsz rss -tty stat bsdstart bsdtime args";
const LONG_BSD: &str = "f uid pid ppid -pri ni vsz rss wchan stat -tty bsdtime args";
const JOBS_BSD: &str = "ppid pid pgid sid -tty tpgid stat uid bsdtime args";

/// Which format the letters ask for.
#[derive(Default)]
struct Asked {
    full: bool,
    extra: bool,
    long: bool,
    jobs: bool,
    /// Letters without a dash: none, or that of a format.
    bsd: Option<char>,
    columns: Vec<Column>,
}

/// The columns that options choose.
pub(super) fn parse(options: &str) -> Result<Vec<Column>, BadOption> {
    if options.len() > MAX {
        return Err(BadOption::Length);
    }
    let mut asked = Asked::default();
    let mut words = options.split_ascii_whitespace();
    let mut any = false;
    while let Some(word) = words.next() {
        any = true;
        match word.strip_prefix('-') {
            // What everybody writes who means it without the dash.
            Some("aux" | "auxw" | "auxww") => asked.bsd = Some('u'),
            Some(long) if long.starts_with('-') => match long.strip_prefix("-format") {
                Some("") => list(&mut asked, word, "", &mut words)?,
                Some(rest) if rest.starts_with('=') => list(&mut asked, word, &rest[1..], &mut words)?,
                _ => return Err(BadOption::Option(word.to_owned())),
            },
            Some(letters) => unix(&mut asked, word, letters, &mut words)?,
            None => bsd(&mut asked, word, &mut words)?,
        }
    }
    if !asked.columns.is_empty() {
        return Ok(asked.columns);
    }
    let fixed = match asked {
        _ if !any => FULL,
        Asked { bsd: Some('u'), .. } => USER,
        Asked { bsd: Some('l'), .. } => LONG_BSD,
        Asked { bsd: Some('j'), .. } => JOBS_BSD,
        Asked { bsd: Some(_), .. } => BARE_BSD,
        Asked { extra: true, .. } => EXTRA,
        Asked { long: true, full: true, .. } => LONG_FULL,
        Asked { long: true, .. } => LONG,
        Asked { jobs: true, full: true, .. } => JOBS_FULL,
        Asked { jobs: true, .. } => JOBS,
        Asked { full: true, .. } => FULL,
        _ => BARE,
    };
    Ok(fixed.split(' ').filter_map(|name| Column::new(name, None)).collect())
}

/// Letters after a dash.
fn unix<'a>(
    asked: &mut Asked,
    word: &'a str,
    letters: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), BadOption> {
    if letters.is_empty() {
        return Err(BadOption::Option(word.to_owned()));
    }
    for (at, letter) in letters.char_indices() {
        match letter {
            // Which processes, and how wide.
            'e' | 'A' | 'a' | 'd' | 'w' => {}
            'f' => asked.full = true,
            'F' => asked.extra = true,
            'l' => asked.long = true,
            'j' => asked.jobs = true,
            'o' => return list(asked, word, &letters[at + 1..], words),
            _ => return Err(BadOption::Option(word.to_owned())),
        }
    }
    Ok(())
}

/// Letters without a dash.
fn bsd<'a>(asked: &mut Asked, word: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), BadOption> {
    // The same without the dash, as many write it.
    if word == "ef" {
        asked.full = true;
        return Ok(());
    }
    for (at, letter) in word.char_indices() {
        match letter {
            'a' | 'x' | 'g' | 'w' => asked.bsd = asked.bsd.or(Some(' ')),
            'u' | 'l' | 'j' => asked.bsd = Some(letter),
            'o' => return list(asked, word, &word[at + 1..], words),
            _ => return Err(BadOption::Option(word.to_owned())),
        }
    }
    Ok(())
}

/// A list of columns, here or in the next word. A head that was given goes to the end of the list.
fn list<'a>(
    asked: &mut Asked,
    word: &str,
    here: &'a str,
    words: &mut impl Iterator<Item = &'a str>,
) -> Result<(), BadOption> {
    let mut rest = if here.is_empty() { words.next().unwrap_or_default() } else { here };
    if rest.is_empty() {
        return Err(BadOption::NoList(word.to_owned()));
    }
    while !rest.is_empty() {
        let end = rest.find([',', '=']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let (title, next) = match after.strip_prefix('=') {
            Some(title) => (Some(title), ""),
            None => (None, after.strip_prefix(',').unwrap_or("")),
        };
        if let Some(title) = title.filter(|title| title.starts_with("PID") && name != "pid") {
            return Err(BadOption::Disguise(name.to_owned(), title.to_owned()));
        }
        let column = if name.starts_with('-') { None } else { Column::new(name, title) };
        asked.columns.push(column.ok_or_else(|| BadOption::Column(name.to_owned()))?);
        rest = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns() {
        let check = |options: &str, expect: &str| {
            let found = match parse(options) {
                Ok(columns) => columns.iter().map(|column| column.title.as_str()).collect::<Vec<_>>().join(" "),
                Err(error) => error.to_string(),
            };
            assert_eq!(found, expect, "{options}");
        };
        let full = "UID PID PPID C STIME TTY TIME CMD";
        let user = "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND";
        for options in ["", "  ", "-ef", "-e -f", "ef", "-Af", "-efww"] {
            check(options, full);
        }
        for options in ["aux", "-aux", "au x", "auxww", "u"] {
            check(options, user);
        }
        check("-e", "PID TTY TIME CMD");
        check("ax", "PID TTY STAT TIME COMMAND");
        check("-eF", "UID PID PPID C SZ RSS PSR STIME TTY TIME CMD");
        check("-el", "F S UID PID PPID C PRI NI ADDR SZ WCHAN TTY TIME CMD");
        check("-elf", "F S UID PID PPID C PRI NI ADDR SZ WCHAN STIME TTY TIME CMD");
        check("-j", "PID PGID SID TTY TIME CMD");
        check("-jf", "UID PID PPID PGID SID C STIME TTY TIME CMD");
        check("axl", "F UID PID PPID PRI NI VSZ RSS WCHAN STAT TTY TIME COMMAND");
        check("axj", "PPID PID PGID SID TTY TPGID STAT UID TIME COMMAND");
        for options in ["-o pid,cmd", "-opid,cmd", "-eo pid,cmd", "axo pid,cmd", "o pid,cmd", "--format=pid,cmd"] {
            check(options, "PID CMD");
        }
        check("-o pid -o user=WHO -o %cpu", "PID WHO %CPU");
        check("-o user=A,pid", "A,pid");
        check("-o pid=", "");
        check("-o pid=PID", "PID");
        check("-o user=PID", "specifying \"user=PID\" is not allowed");
        check("-o nothing", "ps: error: unknown user-defined format specifier \"nothing\"");
        check("-o pid,-uid", "ps: error: unknown user-defined format specifier \"-uid\"");
        check("-o", "ps: error: list of columns must follow -o");
        check("--format", "ps: error: list of columns must follow --format");
        let refused = |word: &str| {
            format!(
                "ps: option {word:?} is not supported: -ef, -F, -l, -j, aux, axl, axj and -o LIST are, among others"
            )
        };
        for options in ["-p", "-T", "auxf", "--forest", "-", "--", "1", "m", "-é"] {
            check(options, &refused(options));
        }
        check(&"-e ".repeat(2000), "ps: options have more than 4096 characters");
    }
}
