//! Mean and squared deviations of a stream of vectors, in f64.

/// Running mean and sum of squared deviations of each dimension, by Welford's recurrence
/// (Welford 1962): stable where the mean is large against the spread, and the same however the
/// stream is cut.
#[derive(Debug, Clone)]
pub(crate) struct Moments {
    n: u64,
    mean: Vec<f64>,
    squared_deviations: Vec<f64>,
}

impl Moments {
    pub(crate) fn new(width: usize) -> Self {
        Self { n: 0, mean: vec![0.0; width], squared_deviations: vec![0.0; width] }
    }

    pub(crate) fn add(&mut self, row: &[f64]) {
        self.n += 1;
        let share = 1.0 / self.n as f64;
        let sums = self.mean.iter_mut().zip(&mut self.squared_deviations);
        for ((mean, squares), value) in sums.zip(row) {
            let before = value - *mean;
            *mean += before * share;
            *squares += before * (value - *mean);
        }
    }

    /// Mean of a dimension.
    pub(crate) fn mean(&self, dimension: usize) -> f64 {
        self.mean[dimension]
    }

    /// Σ(x − mean)², over rows and dimensions.
    pub(crate) fn total_squared_deviation(&self) -> f64 {
        self.squared_deviations.iter().sum()
    }

    /// Standard deviation with N − 1 of a single dimension; 0 of fewer than two rows.
    pub(crate) fn standard_deviation(&self, dimension: usize) -> f64 {
        if self.n < 2 {
            return 0.0;
        }
        (self.squared_deviations[dimension] / (self.n - 1) as f64).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_mean_costs_no_precision() {
        let mut moments = Moments::new(1);
        for value in [1e9 + 1.0, 1e9 + 2.0, 1e9 + 3.0, 1e9 + 4.0] {
            moments.add(&[value]);
        }
        assert_eq!(moments.mean(0), 1e9 + 2.5);
        assert!((moments.total_squared_deviation() - 5.0).abs() < 1e-6);
        assert!((moments.standard_deviation(0) - (5.0f64 / 3.0).sqrt()).abs() < 1e-6);
    }

    #[test]
    fn one_row_has_no_spread() {
        let mut moments = Moments::new(2);
        moments.add(&[3.0, -4.0]);
        assert_eq!((moments.mean(0), moments.mean(1)), (3.0, -4.0));
        assert_eq!(moments.standard_deviation(0), 0.0);
        assert_eq!(moments.total_squared_deviation(), 0.0);
    }
}
