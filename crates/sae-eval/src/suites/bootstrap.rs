//! Draws with replacement, and the intervals that they give.

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sae_config::{Interval, IntervalKind};

/// Draws of a bootstrap.
pub(crate) const N_DRAWS: usize = 1000;

/// Blocks that a store is cut into at most.
const MAX_BLOCKS: u64 = 200;

/// Rows of a block at least, where there are enough rows: neighbours are alike, so that fewer would
/// make intervals too narrow. A context has 128.
const MIN_BLOCK: u64 = 256;

/// Rows of the blocks that are drawn of a store of `n_rows`: 20 blocks or more, and at most 200.
pub(crate) fn block_length(n_rows: u64) -> u64 {
    let least = MIN_BLOCK.min(n_rows.div_ceil(20));
    n_rows.div_ceil(MAX_BLOCKS).max(least).max(1)
}

/// The interval of Σ numerators/Σ denominators over rows, drawn in blocks; none of a single block.
pub(crate) fn ratio_interval(numerators: &[f64], denominators: &[f64]) -> Option<Interval> {
    let length = block_length(numerators.len() as u64) as usize;
    let sums = |values: &[f64]| -> Vec<f64> {
        values.chunks(length).map(|block| block.iter().sum()).collect()
    };
    let (above, below) = (sums(numerators), sums(denominators));
    if above.len() < 2 {
        return None;
    }
    let mut resampler = Resampler::new();
    let draw = |_| {
        let counts = resampler.counts(above.len());
        let total = |of: &[f64]| counts.iter().zip(of).map(|(n, v)| n * v).sum::<f64>();
        total(&above) / total(&below)
    };
    let [low, high] = quantiles((0..N_DRAWS).map(draw).collect())?;
    Some(Interval { low, high, by: IntervalKind::BlockBootstrap })
}

/// A seeded source of draws with replacement.
pub(crate) struct Resampler(ChaCha8Rng);

impl Resampler {
    /// The one source of all intervals: a score has the same one whenever it is measured.
    pub(crate) fn new() -> Self {
        Self(ChaCha8Rng::seed_from_u64(0))
    }

    /// Numbers below `n`, `n` of them.
    pub(crate) fn draw(&mut self, n: usize) -> impl Iterator<Item = usize> {
        (0..n).map(move |_| self.0.random_range(0..n))
    }

    /// How often each of `n` comes in such a draw.
    pub(crate) fn counts(&mut self, n: usize) -> Vec<f64> {
        let mut counts = vec![0.0; n];
        self.draw(n).for_each(|i| counts[i] += 1.0);
        counts
    }
}

/// The quantiles 2.5 % and 97.5 % of values, between two of them in proportion; none of no values or
/// where one is not finite.
pub(crate) fn quantiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    if values.is_empty() || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    values.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let place = q * (values.len() - 1) as f64;
        let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    Some([at(0.025), at(0.975)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_of_all_with_replacement() {
        let mut resampler = Resampler::new();
        let counts = resampler.counts(500);
        assert_eq!(counts.iter().sum::<f64>(), 500.0);
        // A share of 1/e is left out.
        let absent = counts.iter().filter(|count| **count == 0.0).count() as f64 / 500.0;
        assert!((absent - (-1.0f64).exp()).abs() < 0.08, "{absent}");
        assert_ne!(resampler.counts(500), counts);
        assert_eq!(Resampler::new().counts(500), counts);
    }

    #[test]
    fn quantiles_of_a_ladder_are_its_places() {
        let [low, high] = quantiles((0..=1000).rev().map(f64::from).collect()).unwrap();
        assert!((low - 25.0).abs() < 1e-9 && (high - 975.0).abs() < 1e-9);
        assert_eq!(quantiles(vec![2.0]), Some([2.0, 2.0]));
        assert_eq!(quantiles(vec![]), None);
        assert_eq!(quantiles(vec![1.0, f64::NAN]), None);
    }

    /// The interval of a mean is that of its standard error.
    #[test]
    fn the_interval_of_a_mean_has_the_width_of_its_standard_error() {
        let n = 400;
        let values: Vec<f64> = (0..n).map(|i| f64::from((i * 7919) % n)).collect();
        let mut resampler = Resampler::new();
        let mean = |counts: Vec<f64>| {
            counts.iter().zip(&values).map(|(c, v)| c * v).sum::<f64>() / f64::from(n)
        };
        let means = (0..N_DRAWS).map(|_| mean(resampler.counts(n as usize))).collect();
        let [low, high] = quantiles(means).unwrap();
        // Variance (n² − 1)/12 of 0 to n − 1.
        let error = ((f64::from(n * n) - 1.0) / 12.0 / f64::from(n)).sqrt();
        let half = 1.96 * error;
        assert!(((high - low) / (2.0 * half) - 1.0).abs() < 0.1, "{low} to {high}");
    }
}
