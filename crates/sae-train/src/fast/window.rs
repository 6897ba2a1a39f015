//! The gradient of k̂ over a neighbourhood of the boundary.

use sae_kernels::{Count, Matrix, Selector, SparseCodes, row_errors};

use crate::Result;

/// The mean change of a row's loss by a feature between k̂ − half and k̂ + half features.
#[derive(Debug)]
pub(super) struct KWindow {
    half: usize,
    selector: Selector,
    codes: SparseCodes,
    counts: Vec<usize>,
    errors: [Vec<f32>; 2],
}

/// What the gradient is taken of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window<'a> {
    /// Activations, rows × n_features, and as many zeros as there are features.
    pub(super) z: Matrix<'a>,
    pub(super) zeros: &'a [f32],
    /// x − b_dec, rows × d_model.
    pub(super) centred: Matrix<'a>,
    pub(super) decoder: Matrix<'a>,
    pub(super) k_hat: &'a [f32],
    /// Rows of the whole batch.
    pub(super) batch: usize,
}

impl KWindow {
    pub(super) fn new(half: usize, n_features: usize) -> Self {
        let (selector, codes) = (Selector::new(), SparseCodes::new(n_features));
        Self { half, selector, codes, counts: Vec::new(), errors: [Vec::new(), Vec::new()] }
    }

    /// Gradients of the mean squared error over the batch, one for each of these rows of it.
    pub(super) fn gradient(&mut self, what: Window<'_>, gradients: &mut [f32]) -> Result<()> {
        let f = what.z.n_cols();
        let Self { half, selector, codes, counts, errors } = self;
        let ends = |k: f32| {
            let k = k.round_ties_even() as usize;
            [k.saturating_sub(*half), (k + *half).min(f)]
        };
        for (end, errors) in errors.iter_mut().enumerate() {
            counts.clear();
            counts.extend(what.k_hat.iter().map(|k| ends(*k)[end]));
            selector.top_k(what.z, what.zeros, Count::PerRow(counts), codes)?;
            errors.resize(what.k_hat.len(), 0.0);
            row_errors(codes, what.decoder, what.centred, errors)?;
        }
        let [fewer, more] = &errors;
        for (((gradient, k), fewer), more) in
            gradients.iter_mut().zip(what.k_hat).zip(fewer).zip(more)
        {
            let [low, high] = ends(*k);
            *gradient = (more - fewer) / ((high - low) * what.batch) as f32;
        }
        Ok(())
    }
}
