//! How long is waited, and how often tried.

use std::time::Duration;

/// How long is waited for an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Failures in a row after which nothing more is tried (6).
    pub attempts: u32,
    /// The wait after the first failure (1 s); it doubles with each that follows.
    pub first_wait: Duration,
    /// The longest of these waits (60 s).
    pub longest_wait: Duration,
    /// The longest wait that an endpoint may ask for (10 min).
    pub longest_asked: Duration,
    /// How long an endpoint may be silent (5 min).
    pub silence: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(60),
            longest_asked: Duration::from_secs(600),
            silence: Duration::from_secs(300),
        }
    }
}

impl Patience {
    /// Waits after the `n`-th failure in a row; `wanted` is what the endpoint asks for.
    pub(super) fn wait(&self, n: u32, wanted: Option<Duration>) {
        std::thread::sleep(self.wait_after(n, wanted));
    }

    /// The longer one of its own wait and the one asked for: endpoints that are too busy ask for none
    /// at all.
    fn wait_after(&self, n: u32, wanted: Option<Duration>) -> Duration {
        let own = self.first_wait.saturating_mul(1 << n.saturating_sub(1).min(16));
        own.min(self.longest_wait).max(wanted.unwrap_or_default())
    }
}

/// The wait that a `Retry-After` header names in seconds; a date is passed over.
pub(super) fn wanted_wait(header: &str) -> Option<Duration> {
    let seconds: f64 = header.trim().parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let patience = Patience { longest_wait: Duration::from_secs(5), ..Patience::default() };
        let wait = |n, wanted: Option<u64>| {
            patience.wait_after(n, wanted.map(Duration::from_secs)).as_secs()
        };
        assert_eq!([1, 2, 3, 4, 5].map(|n| wait(n, None)), [1, 2, 4, 5, 5]);
        assert_eq!(wait(u32::MAX, None), 5);
        assert_eq!([wait(1, Some(0)), wait(3, Some(2)), wait(3, Some(90))], [1, 4, 90]);
        assert_eq!(wanted_wait(" 20 "), Some(Duration::from_secs(20)));
        assert_eq!(wanted_wait("0.5"), Some(Duration::from_millis(500)));
        for other in ["", "-1", "nan", "1e300", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(wanted_wait(other), None, "{other}");
        }
    }
}
