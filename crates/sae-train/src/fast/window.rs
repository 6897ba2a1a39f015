//! The gradient of k̂ over a neighbourhood of the boundary.

use sae_kernels::{Count, Matrix, Rank, Selector, SparseCodes, error_differences};

use crate::Result;

/// The mean change of a row's loss by a feature between k̂ − half and k̂ + half features.
#[derive(Debug)]
pub(super) struct KWindow {
    half: usize,
    /// Of the error in the loss.
    weight: f32,
    selector: Selector,
    codes: SparseCodes,
    /// Features at the lower and the upper end of each row's window.
    low: Vec<usize>,
    high: Vec<usize>,
}

/// What the gradient is taken of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    /// Activations, rows × n_features, and as many zeros as there are features.
    pub(super) z: Matrix<'a>,
    pub(super) zeros: &'a [f32],
    /// What is rebuilt, without b_dec, rows × d_out.
    pub(super) target: Matrix<'a>,
    pub(super) decoder: Matrix<'a>,
    pub(super) k_hat: &'a [f32],
    /// Rows of the whole batch.
    pub(super) batch: usize,
}

impl KWindow {
    pub(super) fn new(half: usize, weight: f64, n_features: usize) -> Self {
        let (selector, codes) = (Selector::new(), SparseCodes::new(n_features));
        Self { half, weight: weight as f32, selector, codes, low: Vec::new(), high: Vec::new() }
    }

    /// Gradients of the mean squared error over the batch, one for each of these rows of it.
    pub(super) fn gradient(&mut self, what: Window<'_>, gradients: &mut [f32]) -> Result<()> {
        let f = what.z.n_cols();
        let Self { half, weight, selector, codes, low, high } = self;
        let whole = |k: &f32| k.round_ties_even() as usize;
        low.clear();
        low.extend(what.k_hat.iter().map(|k| whole(k).saturating_sub(*half)));
        high.clear();
        high.extend(what.k_hat.iter().map(|k| (whole(k) + *half).min(f)));
        selector.top_k(what.z, what.zeros, Count::PerRow(high), Rank::Value, codes)?;
        error_differences(codes, low, what.decoder, what.target, gradients)?;
        for ((gradient, low), high) in gradients.iter_mut().zip(low).zip(high) {
            *gradient *= *weight / ((*high - *low) * what.batch) as f32;
        }
        Ok(())
    }
}
