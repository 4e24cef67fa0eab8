//! When to ask again, and after how long: exponential back-off with jitter, and what the registry itself asks for.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;

/// How often and how patiently a registry is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The most times that one request is made; at least 1.
    pub attempts: u32,
    /// The pause before the second attempt, in milliseconds; it doubles each time.
    pub first_ms: u64,
    /// The longest pause of ours, in milliseconds.
    pub longest_ms: u64,
    /// The longest pause that a registry may ask for (`Retry-After`), in seconds. A longer one is an error at once.
    pub longest_asked: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 5, first_ms: 250, longest_ms: 10_000, longest_asked: 60 }
    }
}

impl Retry {
    /// The pause after the `failed`th attempt (from 1): between half and the whole of the step, by `random`.
    pub(crate) fn pause(&self, failed: u32, random: u64) -> Duration {
        let step = self.first_ms.saturating_mul(1_u64.checked_shl(failed.saturating_sub(1)).unwrap_or(u64::MAX));
        let step = step.min(self.longest_ms);
        Duration::from_millis(step / 2 + random % (step / 2 + 1))
    }

    /// Waits for that pause.
    pub(crate) async fn wait(&self, failed: u32) {
        tokio::time::sleep(self.pause(failed, random())).await;
    }
}

/// Whether a status says that the same request may succeed later.
pub(crate) const fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

/// What `Retry-After` asks for. A date is measured against the answer's own `Date`, so that no clock of ours matters.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Duration::from_secs(seconds.into()));
    }
    let date = |text: &str| httpdate::parse_http_date(text).ok();
    let now: SystemTime = date(headers.get(http::header::DATE)?.to_str().ok()?)?;
    Some(date(text)?.duration_since(now).unwrap_or_default())
}

/// A number that differs each time: hashers of the standard library are seeded by the system.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit() {
        let retry = Retry { first_ms: 100, longest_ms: 1000, ..Retry::default() };
        let check = |failed, random, ms| assert_eq!(retry.pause(failed, random).as_millis(), ms, "{failed} {random}");
        check(1, 0, 50);
        check(1, 50, 100);
        check(2, 0, 100);
        check(3, 200, 400);
        check(5, 0, 500);
        check(64, 500, 1000);
        check(200, 0, 500);
        check(u32::MAX, u64::MAX, 500 + u128::from(u64::MAX % 501));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let check = |after: &str, date: &str, expect: Option<u64>| {
            let mut headers = HeaderMap::new();
            headers.insert("retry-after", after.parse().unwrap());
            headers.insert("date", date.parse().unwrap());
            assert_eq!(retry_after(&headers).map(|d| d.as_secs()), expect, "{after}");
        };
        let date = "Wed, 21 Oct 2015 07:28:00 GMT";
        check("3", date, Some(3));
        check(" 3 ", date, Some(3));
        check("Wed, 21 Oct 2015 07:28:09 GMT", date, Some(9));
        check("Wed, 21 Oct 2015 07:27:00 GMT", date, Some(0));
        check("Wed, 21 Oct 2015 07:28:09 GMT", "no date", None);
        check("-1", date, None);
        check("99999999999999", date, None);
        check("soon", date, None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
