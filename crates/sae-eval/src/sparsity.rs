//! How many features are active, and how often each is.

use sae_config::Sparsity;

/// Decades of the density histogram, from 1e-6 to 1.
const DECADES: usize = 6;
/// Bins a decade.
const BINS: usize = 10;

/// Counts over all rows seen.
#[derive(Debug, Clone)]
pub(crate) struct SparsityCounts {
    n_rows: u64,
    /// Rows by their number of active features, from 0 to n_features.
    by_l0: Vec<u64>,
    /// How often each feature was active.
    fired: Vec<u64>,
    l1: f64,
}

impl SparsityCounts {
    pub(crate) fn new(n_features: usize) -> Self {
        Self { n_rows: 0, by_l0: vec![0; n_features + 1], fired: vec![0; n_features], l1: 0.0 }
    }

    /// Adds rows: for each its number of active features and the sum of its activations, and for
    /// each feature the number of these rows in which it is active.
    pub(crate) fn add(&mut self, l0: &[usize], l1: &[f64], fired: &[u64]) {
        self.n_rows += l0.len() as u64;
        for &l0 in l0 {
            self.by_l0[l0] += 1;
        }
        for l1 in l1 {
            self.l1 += l1;
        }
        for (total, count) in self.fired.iter_mut().zip(fired) {
            *total += count;
        }
    }

    /// Share of rows in which each feature is active.
    pub(crate) fn firing_rates(&self) -> Vec<f64> {
        self.fired.iter().map(|&count| count as f64 / self.n_rows as f64).collect()
    }

    pub(crate) fn finish(&self) -> Sparsity {
        let n = self.n_rows as f64;
        let counts = || self.by_l0.iter().enumerate().map(|(l0, &rows)| (l0 as f64, rows as f64));
        let mean = counts().map(|(l0, rows)| l0 * rows).sum::<f64>() / n;
        let deviation = counts().map(|(l0, rows)| (l0 - mean).powi(2) * rows).sum::<f64>();
        let rates = self.firing_rates();
        let share = |wanted: &dyn Fn(f64) -> bool| {
            rates.iter().filter(|&&rate| wanted(rate)).count() as f64 / rates.len() as f64
        };
        Sparsity {
            l0_mean: mean,
            l0_sd: if self.n_rows > 1 { (deviation / (n - 1.0)).sqrt() } else { 0.0 },
            l0_p5: self.l0_percentile(0.05),
            l0_p50: self.l0_percentile(0.5),
            l0_p95: self.l0_percentile(0.95),
            l1: self.l1 / n,
            dead_fraction: share(&|rate| rate == 0.0),
            dense_fraction_1e2: share(&|rate| rate > 1e-2),
            dense_fraction_1e1: share(&|rate| rate > 1e-1),
            density_histogram: density_histogram(&rates),
        }
    }

    /// A percentile of the L0, interpolated linearly between the two rows it lies between.
    fn l0_percentile(&self, q: f64) -> f64 {
        let position = q * (self.n_rows - 1) as f64;
        let below = position.floor();
        let (low, high) = (self.l0_of_rank(below as u64), self.l0_of_rank(position.ceil() as u64));
        low + (high - low) * (position - below)
    }

    /// The L0 of a row when rows are sorted by it, counted from 0.
    fn l0_of_rank(&self, rank: u64) -> f64 {
        let mut rows = 0;
        let at_rank = |&count: &u64| {
            rows += count;
            rows > rank
        };
        self.by_l0.iter().position(at_rank).unwrap_or(self.fired.len()) as f64
    }
}

/// Number of features by log10 of their firing rate; rates below the first bin count there, rates
/// of 0 nowhere.
fn density_histogram(rates: &[f64]) -> Vec<u64> {
    let mut histogram = vec![0; DECADES * BINS];
    for rate in rates.iter().filter(|&&rate| rate > 0.0) {
        let bin = ((rate.log10() + DECADES as f64) * BINS as f64).floor();
        histogram[(bin.max(0.0) as usize).min(DECADES * BINS - 1)] += 1;
    }
    histogram
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_are_tenths_of_decades() {
        let histogram = density_histogram(&[0.0, 1e-9, 1e-6, 1.1e-1, 0.99, 1.0]);
        assert_eq!(histogram.len(), 60);
        assert_eq!((histogram[0], histogram[50], histogram[59]), (2, 1, 2));
        assert_eq!(histogram.iter().sum::<u64>(), 5);
    }

    #[test]
    fn shares_count_features() {
        let mut counts = SparsityCounts::new(4);
        // 1000 rows; features that fire never, in 10, in 11, in 500 of them.
        counts.add(&[0; 1000], &[0.25; 1000], &[0, 10, 11, 500]);
        let sparsity = counts.finish();
        assert_eq!(sparsity.dead_fraction, 0.25);
        assert_eq!(sparsity.dense_fraction_1e2, 0.5);
        assert_eq!(sparsity.dense_fraction_1e1, 0.25);
        assert_eq!(sparsity.l1, 0.25);
    }

    proptest! {
        #[test]
        fn distribution_of_l0_is_that_of_the_sorted_rows(
            mut l0 in prop::collection::vec(0..=20usize, 1..60),
        ) {
            let mut counts = SparsityCounts::new(20);
            counts.add(&l0, &[], &[]);
            let sparsity = counts.finish();
            l0.sort_unstable();
            let n = l0.len();
            let percentile = |q: f64| {
                let at = q * (n - 1) as f64;
                let (low, high) = (l0[at as usize] as f64, l0[(at as usize + 1).min(n - 1)] as f64);
                low + (high - low) * at.fract()
            };
            prop_assert!((sparsity.l0_p5 - percentile(0.05)).abs() < 1e-9);
            prop_assert!((sparsity.l0_p50 - percentile(0.5)).abs() < 1e-9);
            prop_assert!((sparsity.l0_p95 - percentile(0.95)).abs() < 1e-9);
            let mean = l0.iter().sum::<usize>() as f64 / n as f64;
            let deviation: f64 = l0.iter().map(|&l0| (l0 as f64 - mean).powi(2)).sum();
            let sd = (deviation / (n as f64 - 1.0).max(1.0)).sqrt();
            prop_assert!((sparsity.l0_mean - mean).abs() < 1e-9);
            prop_assert!((sparsity.l0_sd - sd).abs() < 1e-9);
        }
    }
}
