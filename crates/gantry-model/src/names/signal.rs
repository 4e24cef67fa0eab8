//! Signals: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3` (signal(7)).

use super::{NameError, decimal, lookup};

/// Lowest real-time signal that programs see. The kernel's own is 32; both C libraries of Linux keep two or more for
/// themselves, and names in configurations are meant as glibc counts.
const RTMIN: i32 = 34;
/// Highest signal.
const RTMAX: i32 = 64;

/// Ordinary signals, by name without the prefix; the first of several names for one number is the usual one.
const SIGNALS: [(&str, i32); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// The number of a signal, from its number (0 to 64; 0 only asks whether the process is there), its name with or
/// without `SIG` in any case, or its distance from `RTMIN` or `RTMAX`.
pub fn parse(text: &str) -> Result<i32, NameError> {
    number(text).ok_or_else(|| {
        NameError::unknown("signal", text, "a name as SIGTERM or TERM, a number from 0 to 64, or SIGRTMIN+n is meant")
    })
}

/// The usual name of a signal, with its prefix; `None` for a number that has none.
pub fn name(signal: i32) -> Option<String> {
    if let Some((name, _)) = SIGNALS.iter().find(|&&(_, number)| number == signal) {
        return Some(format!("SIG{name}"));
    }
    match signal {
        RTMIN => Some("SIGRTMIN".to_owned()),
        RTMAX => Some("SIGRTMAX".to_owned()),
        _ if (RTMIN..RTMAX).contains(&signal) => Some(format!("SIGRTMIN+{}", signal - RTMIN)),
        _ => None,
    }
}

fn number(text: &str) -> Option<i32> {
    // Longer than any name: no copy of it is made.
    if text.len() > 16 {
        return None;
    }
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return decimal(text).and_then(|n| i32::try_from(n).ok()).filter(|&n| n <= RTMAX);
    }
    let upper = text.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    lookup(&SIGNALS, short).or_else(|| real_time(short))
}

fn real_time(short: &str) -> Option<i32> {
    let distance = |rest: &str, sign: char| {
        if rest.is_empty() { Some(0) } else { decimal(rest.strip_prefix(sign)?).and_then(|n| i32::try_from(n).ok()) }
    };
    let number = match (short.strip_prefix("RTMIN"), short.strip_prefix("RTMAX")) {
        (Some(rest), _) => RTMIN.checked_add(distance(rest, '+')?)?,
        (_, Some(rest)) => RTMAX.checked_sub(distance(rest, '-')?)?,
        _ => return None,
    };
    (RTMIN..=RTMAX).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals() {
        let check = |text: &str, expect: Option<i32>| assert_eq!(parse(text).ok(), expect, "{text:?}");
        for (text, number) in [
            ("SIGTERM", 15),
            ("TERM", 15),
            ("term", 15),
            ("sigKill", 9),
            ("15", 15),
            ("0", 0),
            ("64", 64),
            ("IOT", 6),
            ("POLL", 29),
            ("SIGRTMIN", 34),
            ("RTMIN+0", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMIN+30", 64),
            ("SIGRTMAX", 64),
            ("RTMAX-30", 34),
            ("rtmax-1", 63),
        ] {
            check(text, Some(number));
        }
        let long = "SIG".repeat(1 << 16);
        for text in [
            "",
            "SIG",
            "SIGSIGTERM",
            "65",
            "-1",
            "+9",
            "9 ",
            " 9",
            "9x",
            "0x9",
            "4294967305",
            "99999999999999999999",
            "TERM\0",
            "RTMIN+",
            "RTMIN-1",
            "RTMIN+31",
            "RTMAX+1",
            "RTMAX-31",
            "RTMIN+2147483647",
            "RTMIN+-1",
            "RTMIN+ 1",
            "ſIGTERM",
            &long,
        ] {
            check(text, None);
        }
    }

    #[test]
    fn names_and_numbers_agree() {
        for number in (1..=31).chain(34..=64) {
            let name = name(number).unwrap();
            assert_eq!(parse(&name), Ok(number), "{name}");
        }
        assert_eq!((name(0), name(32), name(65), name(-1)), (None, None, None, None));
        assert_eq!((name(6).as_deref(), name(64).as_deref()), (Some("SIGABRT"), Some("SIGRTMAX")));
    }
}
