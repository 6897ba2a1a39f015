//! How well activations are rebuilt, from a stream of rows and their reconstructions.

use sae_config::Reconstruction;

use crate::moments::Moments;
use crate::{Error, Result};

/// Sums over all rows seen.
#[derive(Debug, Clone)]
pub(crate) struct ReconstructionSums {
    n_rows: u64,
    /// Rows that are not zero, which alone have a norm ratio.
    n_nonzero: u64,
    x: Moments,
    /// Moments of x − (x̂ − x̂₀), which has the variance of the error: the error itself rounds x
    /// away where x̂ lies far off.
    error: Moments,
    /// The first reconstruction, x̂₀.
    reference: Option<Vec<f64>>,
    squared_error: f64,
    squared_x_hat: f64,
    product: f64,
    cosine: f64,
    norm_ratio: f64,
    /// x − (x̂ − x̂₀) of the row in hand.
    row_error: Vec<f64>,
}

impl ReconstructionSums {
    pub(crate) fn new(d_model: usize) -> Self {
        Self {
            n_rows: 0,
            n_nonzero: 0,
            x: Moments::new(d_model),
            error: Moments::new(d_model),
            reference: None,
            squared_error: 0.0,
            squared_x_hat: 0.0,
            product: 0.0,
            cosine: 0.0,
            norm_ratio: 0.0,
            row_error: vec![0.0; d_model],
        }
    }

    /// Adds one row.
    ///
    /// # Shapes
    /// x, x̂ `[d_model]`.
    pub(crate) fn add(&mut self, x: &[f64], x_hat: &[f64]) -> Result<()> {
        let (mut xx, mut hh, mut xh, mut ee) = (0.0, 0.0, 0.0, 0.0);
        for (x, x_hat) in x.iter().zip(x_hat) {
            let error = x - x_hat;
            xx += x * x;
            hh += x_hat * x_hat;
            xh += x * x_hat;
            ee += error * error;
        }
        for (name, squared_norm) in [("x", xx), ("x_hat", hh)] {
            if !squared_norm.is_finite() {
                return Err(Error::NotFinite { name, row: self.n_rows, got: squared_norm.sqrt() });
            }
        }
        let reference = self.reference.get_or_insert_with(|| x_hat.to_vec());
        for (((x, x_hat), x_hat_0), error) in
            x.iter().zip(x_hat).zip(reference.iter()).zip(&mut self.row_error)
        {
            *error = x - (x_hat - x_hat_0);
        }
        self.n_rows += 1;
        self.x.add(x);
        self.error.add(&self.row_error);
        self.squared_error += ee;
        self.squared_x_hat += hh;
        self.product += xh;
        if xx > 0.0 {
            self.n_nonzero += 1;
            self.norm_ratio += (hh / xx).sqrt();
            if hh > 0.0 {
                self.cosine += xh / (xx.sqrt() * hh.sqrt());
            }
        }
        Ok(())
    }

    /// The metrics of the rows so far.
    ///
    /// A row has cosine 0 where x or x̂ is zero; the relative bias is 0 where every x̂ is.
    pub(crate) fn finish(&self) -> Result<Reconstruction> {
        let n = self.n_rows as f64;
        // Σ‖x‖² − N‖μ‖², without its cancellation.
        let variance = self.x.total_squared_deviation();
        if variance <= 0.0 {
            return Err(Error::NoVariance { n_rows: self.n_rows });
        }
        let relative_bias =
            if self.squared_x_hat > 0.0 { self.squared_x_hat / self.product } else { 0.0 };
        Ok(Reconstruction {
            r2: 1.0 - self.squared_error / variance,
            frac_variance_explained: 1.0 - self.error.total_squared_deviation() / variance,
            mse_per_row: self.squared_error / n,
            cosine: self.cosine / n,
            norm_ratio: self.norm_ratio / self.n_nonzero as f64,
            relative_bias,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metrics(rows: &[([f64; 2], [f64; 2])]) -> Result<Reconstruction> {
        let mut sums = ReconstructionSums::new(2);
        for (x, x_hat) in rows {
            sums.add(x, x_hat)?;
        }
        sums.finish()
    }

    #[test]
    fn a_constant_error_shows_in_r2_and_not_in_fve() {
        // Variance 4·(1 + 1) about the mean (0, 1); error (0, 1) in each row.
        let result = metrics(&[([2.0, 0.0], [2.0, -1.0]), ([-2.0, 2.0], [-2.0, 1.0])]).unwrap();
        assert_eq!(result.r2, 1.0 - 2.0 / 10.0);
        assert_eq!(result.frac_variance_explained, 1.0);
        assert_eq!(result.mse_per_row, 1.0);
    }

    #[test]
    fn a_reconstruction_far_off_explains_no_more_than_a_near_one() {
        let rows = |offset: f64| [([2.0, 0.0], [offset, 0.0]), ([-2.0, 2.0], [offset, 0.0])];
        for offset in [0.0, 1.0, 1e25] {
            let result = metrics(&rows(offset)).unwrap();
            assert_eq!(result.frac_variance_explained, 0.0, "{offset}");
        }
        let scaled = metrics(&[([2.0, 0.0], [2e25, 0.0]), ([-2.0, 2.0], [-2e25, 2e25])]).unwrap();
        assert!((scaled.frac_variance_explained / -1e50 - 1.0).abs() < 1e-12);
    }

    #[test]
    fn half_the_input_is_half_the_norm_in_the_same_direction() {
        let result = metrics(&[([3.0, 4.0], [1.5, 2.0]), ([0.0, -2.0], [0.0, -1.0])]).unwrap();
        assert_eq!((result.cosine, result.norm_ratio), (1.0, 0.5));
        // E‖x̂‖²/E[x·x̂] of x̂ = x/2.
        assert_eq!(result.relative_bias, 0.5);
    }

    #[test]
    fn the_mean_of_the_data_has_r2_zero() {
        let result = metrics(&[([1.0, 7.0], [2.0, 6.0]), ([3.0, 5.0], [2.0, 6.0])]).unwrap();
        assert_eq!((result.r2, result.frac_variance_explained), (0.0, 0.0));
    }

    #[test]
    fn zero_rows_and_zero_reconstructions_have_finite_metrics() {
        let result = metrics(&[([0.0, 0.0], [1.0, 0.0]), ([2.0, 0.0], [1.0, 0.0])]).unwrap();
        assert_eq!((result.cosine, result.norm_ratio), (0.5, 0.5));
        let result = metrics(&[([1.0, 0.0], [0.0, 0.0]), ([2.0, 0.0], [0.0, 0.0])]).unwrap();
        assert_eq!((result.cosine, result.norm_ratio, result.relative_bias), (0.0, 0.0, 0.0));
    }

    #[test]
    fn equal_rows_and_values_that_are_not_finite_are_errors() {
        let rows = [([1.0, 2.0], [1.0, 2.0]); 3];
        let text = metrics(&rows).unwrap_err().to_string();
        assert_eq!(text, "activations: expected rows that differ, got 3 equal ones");
        let rows = [([1.0, 2.0], [1.0, 2.0]), ([0.0, 1.0], [f64::NAN, 0.0])];
        let text = metrics(&rows).unwrap_err().to_string();
        assert_eq!(text, "x_hat, row 1: expected finite values, got NaN");
    }
}
