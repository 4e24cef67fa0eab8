//! When a container is started again, and how long that waits: decided purely. Times are nanoseconds.

use crate::request::Restart;

/// The pause before the first restart.
pub const FIRST_PAUSE: i64 = 100_000_000;
/// The longest pause.
pub const LONGEST_PAUSE: i64 = 60_000_000_000;
/// A run of this length makes the next pause the first again.
pub const STEADY: i64 = 10_000_000_000;

/// A policy that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPolicy {
    /// No policy of that name.
    #[error(
        "invalid restart policy: unknown policy '{0}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
    )]
    Unknown(String),
    /// A count with a policy that does not count.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure'")]
    Count,
    /// The same, and below zero.
    #[error("invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative")]
    NegativeCount,
    /// A count below zero.
    #[error("invalid restart policy: maximum retry count cannot be negative")]
    Negative,
    /// What should be a count is none.
    #[error("invalid restart policy: maximum retry count must be an integer: {0:?}")]
    NotANumber(String),
}

/// A policy by its name and count, as the API gives them. An empty name is `no`, with any count.
///
/// # Errors
/// There is no such policy, or it has no such count.
pub fn policy(name: &str, count: i64) -> Result<Restart, BadPolicy> {
    let plain = match name {
        "" => return Ok(Restart::No),
        "on-failure" => {
            return u32::try_from(count.min(i64::from(u32::MAX)))
                .map(Restart::OnFailure)
                .map_err(|_| BadPolicy::Negative);
        }
        "no" => Restart::No,
        "always" => Restart::Always,
        "unless-stopped" => Restart::UnlessStopped,
        _ => return Err(BadPolicy::Unknown(name.to_owned())),
    };
    match count {
        0 => Ok(plain),
        1.. => Err(BadPolicy::Count),
        _ => Err(BadPolicy::NegativeCount),
    }
}

/// A policy as people write it: `on-failure:3`.
///
/// # Errors
/// As of [`policy`].
pub fn parse(text: &str) -> Result<Restart, BadPolicy> {
    let Some((name, count)) = text.split_once(':') else { return policy(text, 0) };
    if name.is_empty() {
        return Err(BadPolicy::Unknown(text.to_owned()));
    }
    policy(name, count.parse().map_err(|_| BadPolicy::NotANumber(count.to_owned()))?)
}

/// What is known of a container whose process has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Past {
    /// Whether it was ever started.
    pub started: bool,
    /// How its process ended.
    pub code: i32,
    /// Whether it was stopped by hand, or is being removed.
    pub by_hand: bool,
    /// How often it was started again since it was last started by hand.
    pub restarts: u32,
}

/// Whether a container is started again after its process ended.
pub fn after_exit(policy: Restart, past: Past) -> bool {
    !past.by_hand && wants(policy, past)
}

/// Whether a container that does not run is started when the engine is: after a start of the machine, say. One that always
/// runs does so also if it was stopped by hand.
pub fn after_engine_start(policy: Restart, past: Past) -> bool {
    past.started && (policy == Restart::Always || after_exit(policy, past))
}

/// Whether a container is stopped and started again because its health check found it unhealthy. `asked` is the option,
/// which counts as a failure: a policy that bounds the restarts bounds these too.
pub fn when_unhealthy(policy: Restart, asked: bool, past: Past) -> bool {
    let bounded = matches!(policy, Restart::OnFailure(most) if most != 0 && past.restarts >= most);
    asked && !past.by_hand && !bounded
}

/// The pause before the next restart, after a run that lasted `ran`. `last` is the pause before that run, 0 if none.
pub fn pause(last: i64, ran: i64) -> i64 {
    if last <= 0 || ran >= STEADY { FIRST_PAUSE } else { last.saturating_mul(2).min(LONGEST_PAUSE) }
}

fn wants(policy: Restart, past: Past) -> bool {
    match policy {
        Restart::No => false,
        Restart::Always | Restart::UnlessStopped => true,
        Restart::OnFailure(most) => past.code != 0 && (most == 0 || past.restarts < most),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |text: &str, expect: Result<Restart, &str>| {
            assert_eq!(parse(text).map_err(|error| error.to_string()), expect.map_err(str::to_owned), "{text}");
        };
        check("", Ok(Restart::No));
        check("no", Ok(Restart::No));
        check("always", Ok(Restart::Always));
        check("unless-stopped", Ok(Restart::UnlessStopped));
        check("on-failure", Ok(Restart::OnFailure(0)));
        check("on-failure:3", Ok(Restart::OnFailure(3)));
        check("on-failure:99999999999", Ok(Restart::OnFailure(u32::MAX)));
        check("on-failure:-1", Err("invalid restart policy: maximum retry count cannot be negative"));
        check("on-failure:x", Err("invalid restart policy: maximum retry count must be an integer: \"x\""));
        check("always:0", Ok(Restart::Always));
        check("always:2", Err("invalid restart policy: maximum retry count can only be used with 'on-failure'"));
        let negative =
            "invalid restart policy: maximum retry count can only be used with 'on-failure' and cannot be negative";
        check("no:-2", Err(negative));
        let unknown = |name: &str| {
            format!(
                "invalid restart policy: unknown policy '{name}'; use one of 'no', 'always', 'on-failure', or 'unless-stopped'"
            )
        };
        check("sometimes", Err(&unknown("sometimes")));
        check(":3", Err(&unknown(":3")));
        assert_eq!(policy("", 7), Ok(Restart::No));
    }

    #[test]
    fn decisions() {
        use Restart::{Always, No, OnFailure, UnlessStopped};
        // After its end, after a start of the engine, when unhealthy.
        let check = |policy, code, by_hand, restarts, expect: [bool; 3]| {
            let past = Past { started: true, code, by_hand, restarts };
            let found =
                [after_exit(policy, past), after_engine_start(policy, past), when_unhealthy(policy, true, past)];
            assert_eq!(found, expect, "{policy:?} {past:?}");
            assert!(!after_engine_start(policy, Past { started: false, ..past }));
            assert!(!when_unhealthy(policy, false, past));
        };
        check(No, 1, false, 0, [false, false, true]);
        check(No, 1, true, 0, [false, false, false]);
        check(Always, 0, false, 9, [true, true, true]);
        check(Always, 0, true, 9, [false, true, false]);
        check(UnlessStopped, 137, false, 0, [true, true, true]);
        check(UnlessStopped, 137, true, 0, [false, false, false]);
        check(OnFailure(0), 0, false, 0, [false, false, true]);
        check(OnFailure(0), 1, false, 1000, [true, true, true]);
        check(OnFailure(2), 1, false, 1, [true, true, true]);
        check(OnFailure(2), 1, false, 2, [false, false, false]);
        check(OnFailure(2), 1, true, 0, [false, false, false]);
    }

    #[test]
    fn pauses() {
        let mut found = vec![];
        let mut last = 0;
        for _ in 0..12 {
            last = pause(last, 1_000_000_000);
            found.push(last / 1_000_000);
        }
        assert_eq!(found, [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 51_200, 60_000, 60_000]);
        assert_eq!(pause(LONGEST_PAUSE, STEADY), FIRST_PAUSE);
        assert_eq!(pause(LONGEST_PAUSE, STEADY - 1), LONGEST_PAUSE);
        assert_eq!(pause(i64::MAX, 0), LONGEST_PAUSE);
    }
}
