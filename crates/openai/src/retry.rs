//! When a request is tried again, and after how long.

use std::time::{Duration, SystemTime};

use aloud_base::random::KeyedRandom;

/// How often and after which pauses a request is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries of one request, the first included.
    pub max_tries: u32,
    /// The pause before try `k + 2` is uniform in `0..=min(longest, first * 2^k)` ("full jitter").
    pub first_pause: Duration,
    /// Upper bound of a pause that the endpoint did not ask for.
    pub longest_pause: Duration,
    /// An endpoint that asks to wait longer than this is given up.
    pub longest_asked_pause: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_tries: 6,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_mins(1),
            longest_asked_pause: Duration::from_mins(10),
        }
    }
}

impl RetryPolicy {
    /// The pause after `n_tries` failed tries: random, but never shorter than what the endpoint asked for.
    pub(super) fn pause(&self, n_tries: u32, asked: Option<Duration>, random: &mut KeyedRandom) -> Duration {
        let doublings = n_tries.saturating_sub(1).min(31);
        let bound = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        bound.mul_f64(random.uniform()).max(asked.unwrap_or_default())
    }
}

/// Whether a request that was answered with this status may be answered otherwise the next time.
pub(super) fn may_pass(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500 | 502 | 503 | 504 | 529)
}

/// Whether every other request will be refused in the same way: a wrong key, address or account.
pub(super) fn concerns_all_requests(status: u16) -> bool {
    matches!(status, 300..=399 | 401..=405)
}

/// Reads a `Retry-After` header: seconds, or a date after `now`. `None` if it is neither.
pub(super) fn retry_after(header: &str, now: SystemTime) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(header).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_tried_again() {
        for status in [408, 409, 425, 429, 500, 502, 503, 504, 529] {
            assert!(may_pass(status) && !concerns_all_requests(status), "{status}");
        }
        for status in [400, 401, 403, 404, 422, 501] {
            assert!(!may_pass(status), "{status}");
        }
        assert!([301, 307, 401, 402, 403, 404].into_iter().all(concerns_all_requests));
        assert!(![200, 400, 413, 422].into_iter().any(concerns_all_requests));
    }

    #[test]
    fn seconds_and_dates() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(retry_after(" 7 ", now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(date, now + Duration::from_mins(1)), Some(Duration::ZERO));
        assert_eq!(retry_after("soon", now), None);
        assert_eq!(retry_after("-3", now), None);
    }

    #[test]
    fn pauses_fill_their_range_and_double() {
        let policy = RetryPolicy::default();
        for (n_tries, bound) in [(1, 1.0), (2, 2.0), (5, 16.0), (6, 32.0), (7, 60.0), (80, 60.0)] {
            let pauses =
                (0..200).map(|seed| policy.pause(n_tries, None, &mut KeyedRandom::named(seed, "pause")).as_secs_f64());
            let (low, high) = pauses.fold((f64::MAX, 0.0_f64), |(low, high), pause| (low.min(pause), high.max(pause)));
            assert!(low < 0.05 * bound && 0.95 * bound < high && high <= bound, "{n_tries}: {low} to {high}");
        }
    }

    proptest! {
        #[test]
        fn the_endpoint_is_never_asked_too_early(seed: u64, n_tries in 0_u32..100, seconds in 0_u64..10_000) {
            let asked = Duration::from_secs(seconds);
            let pause = RetryPolicy::default().pause(n_tries, Some(asked), &mut KeyedRandom::named(seed, "pause"));
            prop_assert!(asked <= pause && pause <= asked.max(Duration::from_mins(1)));
        }
    }
}
