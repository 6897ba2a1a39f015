//! Where the time of a step goes.

use std::time::{Duration, Instant};

/// Time spent in each part of a step, summed over steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Profile {
    steps: u64,
    parts: Vec<(&'static str, Duration)>,
    last: Option<Instant>,
}

impl Profile {
    /// Steps measured.
    #[must_use]
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// The parts in the order of a step, each with its mean time.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        let steps = u32::try_from(self.steps.max(1)).unwrap_or(u32::MAX);
        self.parts.iter().map(move |(name, time)| (*name, *time / steps))
    }

    pub(crate) fn begin(&mut self) {
        self.steps += 1;
        self.last = Some(Instant::now());
    }

    /// Counts the time since the last call to `name`.
    pub(crate) fn lap(&mut self, name: &'static str) {
        let now = Instant::now();
        let time = self.last.map_or(Duration::ZERO, |last| now - last);
        self.last = Some(now);
        match self.parts.iter_mut().find(|(n, _)| *n == name) {
            Some((_, sum)) => *sum += time,
            None => self.parts.push((name, time)),
        }
    }
}
