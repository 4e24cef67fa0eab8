//! How a test ends before its last line: it failed, or it cannot run here.

use std::fmt::Display;

/// Why a test did not get to its end.
#[derive(Debug)]
pub enum Stop {
    /// What was expected did not come; the text says what was seen.
    Fail(String),
    /// The test cannot run on this machine; the text says what it lacks.
    Skip(String),
}

/// What a test returns.
pub type Outcome<T = ()> = Result<T, Stop>;

impl<E: std::error::Error> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Fail(error.to_string())
    }
}

/// Ends a test as failed.
pub fn fail<T>(text: impl Display) -> Outcome<T> {
    Err(Stop::Fail(text.to_string()))
}

/// Ends a test as one that cannot run here.
pub fn skip<T>(reason: impl Display) -> Outcome<T> {
    Err(Stop::Skip(reason.to_string()))
}

/// Fails the test with the formatted text unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err($crate::Stop::Fail(format!($($text)+)));
        }
    };
}

/// Fails the test unless both values are equal, and shows them.
#[macro_export]
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($text:tt)+) => {
        match (&$found, &$expected) {
            (found, expected) if found != expected => {
                return Err($crate::Stop::Fail(format!(
                    "{}: found {found:?}, expected {expected:?}", format_args!($($text)+)
                )));
            }
            _ => {}
        }
    };
}
