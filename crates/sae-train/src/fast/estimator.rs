//! The k-estimator of SoftSAE: k̂ of rows, and its gradients in closed form.

use std::ops::Range;

use sae_config::{KEstimator, SoftConfig};
use sae_kernels::{Matrix, add_bias_relu, estimator_backward, estimator_forward, squared_norm};
use tch::Tensor;

use super::Profile;
use super::buffers::{Buffers, Slots, empty, rows_of, slice, slice_mut};
use super::products::{add_product, matmul, matmul_to};
use super::profile::{ESTIMATOR, GEMM};
use crate::Result;
use crate::optimizer::Parameter;

/// Estimates k̂ by a hidden layer of its own (`mlp`) or from the encoder's z (`shared`).
pub(super) struct FastEstimator {
    /// W₁(x − b_dec) without bias, then its gradient, `[micro, f]`; none where z is shared.
    hidden: Option<Tensor>,
    k_min: f32,
    k_max: f32,
    k_limit: f32,
    /// Logits of k̂/k_max, σ of them, and k̂, of each row.
    logits: Vec<f32>,
    sigmoids: Vec<f32>,
    pub(super) k_hat: Vec<f32>,
    /// Gradients of k̂, then of the logits.
    pub(super) k_gradients: Vec<f32>,
    partial: Vec<f32>,
    pub(super) gradients: EstimatorGradients,
}

/// Gradients of the estimator's parameters.
#[derive(Debug)]
pub(super) struct EstimatorGradients {
    pub(super) hidden: Option<HiddenGradients>,
    pub(super) output_weight: Vec<f32>,
    pub(super) output_bias: f32,
}

/// Those of a hidden layer of its own.
#[derive(Debug)]
pub(super) struct HiddenGradients {
    pub(super) weight: Tensor,
    pub(super) bias: Vec<f32>,
}

impl FastEstimator {
    /// Whether the engine computes this estimator.
    pub(super) const fn computes(estimator: KEstimator) -> bool {
        matches!(estimator, KEstimator::Mlp | KEstimator::Shared)
    }

    pub(super) fn new(config: &SoftConfig, n_features: usize) -> Self {
        let has_own = config.k_estimator == KEstimator::Mlp;
        Self {
            hidden: has_own.then(|| empty(&[0])),
            k_min: config.k_min as f32,
            k_max: config.k_bound() as f32,
            k_limit: (n_features as f64 - 1.0) as f32,
            logits: Vec::new(),
            sigmoids: Vec::new(),
            k_hat: Vec::new(),
            k_gradients: Vec::new(),
            partial: Vec::new(),
            gradients: EstimatorGradients {
                hidden: has_own
                    .then(|| HiddenGradients { weight: empty(&[0]), bias: vec![0.0; n_features] }),
                output_weight: vec![0.0; n_features],
                output_bias: 0.0,
            },
        }
    }

    /// Mean k̂ of the batch.
    pub(super) fn mean(&self) -> f64 {
        self.k_hat.iter().map(|k| f64::from(*k)).sum::<f64>() / self.k_hat.len() as f64
    }

    /// k̂ = clamp(k_max·σ(w₂·relu(h) + b₂)) of some rows, of which `buffers` holds z without bias.
    pub(super) fn estimate(
        &mut self,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let of_rows =
            [&mut self.logits, &mut self.sigmoids, &mut self.k_hat, &mut self.k_gradients];
        of_rows.into_iter().for_each(|v| v.resize(buffers.batch, 0.0));
        self.hidden_products(rows, parameters, slots, buffers)?;
        profile.lap(GEMM);
        let weight = |slot: usize| slice(&parameters[slot].value);
        let (layer, bias) = match &self.hidden {
            Some(hidden) => (hidden, slots.hidden_bias),
            None => (&buffers.z, slots.b_enc),
        };
        let layer = Matrix::new("hidden", &slice(layer)?[..rows.len() * buffers.f], buffers.f)?;
        let logits = &mut self.logits[rows.clone()];
        estimator_forward(layer, weight(bias)?, weight(slots.output_weight)?, logits)?;
        let b2 = weight(slots.output_bias)?[0];
        let sigmoids = &mut self.sigmoids[rows.clone()];
        let k_hat = &mut self.k_hat[rows.clone()];
        for ((logit, sigmoid), k) in logits.iter().zip(sigmoids).zip(k_hat) {
            *sigmoid = 1.0 / (1.0 + (-(logit + b2)).exp());
            *k = (self.k_max * *sigmoid).max(self.k_min).min(self.k_limit);
        }
        Ok(())
    }

    /// W₁(x − b_dec) of some rows, without its bias, where the hidden layer is its own.
    fn hidden_products(
        &mut self,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
    ) -> Result<()> {
        let Some(hidden) = &mut self.hidden else { return Ok(()) };
        let shape = [buffers.micro as i64, buffers.f as i64];
        if hidden.size() != shape {
            *hidden = empty(&shape);
        }
        let w1 = &parameters[slots.hidden_weight].value;
        let mut hidden = rows_of(hidden, &(0..rows.len()));
        matmul(&rows_of(&buffers.centred, rows), &w1.tr(), &mut hidden)
    }

    /// From `k_gradients`, and `slope` of the budget in mean k̂, to the gradients of the parameters.
    ///
    /// Where z is shared, nothing goes on to the encoder.
    pub(super) fn backward(
        &mut self,
        slope: f64,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let slope = (slope / buffers.batch as f64) as f32;
        let Self { k_min, k_max, k_limit, .. } = *self;
        for (g, s) in self.k_gradients.iter_mut().zip(&self.sigmoids) {
            let inside = (k_min..=k_limit).contains(&(k_max * s));
            *g = if inside { (*g + slope) * k_max * s * (1.0 - s) } else { 0.0 };
        }
        profile.lap(ESTIMATOR);
        self.gradients.begin(buffers, self.k_gradients.iter().sum());
        for rows in buffers.micro_batches() {
            if self.hidden.is_some() {
                self.hidden_backward(&rows, parameters, slots, buffers, profile)?;
            } else {
                self.shared_backward(&rows, parameters, slots, buffers, profile)?;
            }
        }
        Ok(())
    }

    fn hidden_backward(
        &mut self,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        if !buffers.is_whole() {
            self.hidden_products(rows, parameters, slots, buffers)?;
            profile.lap(GEMM);
        }
        let weight = |slot: usize| slice(&parameters[slot].value);
        let EstimatorGradients { hidden, output_weight, .. } = &mut self.gradients;
        let (Some(layer), Some(gradients)) = (&mut self.hidden, hidden) else { return Ok(()) };
        estimator_backward(
            &mut slice_mut(layer)?[..rows.len() * buffers.f],
            weight(slots.hidden_bias)?,
            weight(slots.output_weight)?,
            &self.k_gradients[rows.clone()],
            output_weight,
            &mut gradients.bias,
            &mut self.partial,
        )?;
        profile.lap(ESTIMATOR);
        let layer = rows_of(layer, &(0..rows.len())).tr();
        let centred = rows_of(&buffers.centred, rows);
        matmul_to(&layer, &centred, &mut gradients.weight, rows.start > 0)?;
        profile.lap(GEMM);
        Ok(())
    }

    fn shared_backward(
        &mut self,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let of_rows = 0..rows.len();
        if !buffers.is_whole() {
            let (centred, w_enc) =
                (rows_of(&buffers.centred, rows), &parameters[slots.w_enc].value);
            matmul(&centred, &w_enc.tr(), &mut rows_of(&buffers.z, &of_rows))?;
            let z = &mut slice_mut(&mut buffers.z)?[..rows.len() * buffers.f];
            add_bias_relu(z, slots.b_enc(parameters)?)?;
            profile.lap(GEMM);
        }
        let z = rows_of(&buffers.z, &of_rows);
        let gradients = &self.k_gradients[rows.clone()];
        add_product(&z, gradients, 1.0, &mut self.gradients.output_weight, rows.start == 0)?;
        profile.lap(ESTIMATOR);
        Ok(())
    }
}

impl EstimatorGradients {
    /// Prepares for sums over micro-batches.
    fn begin(&mut self, buffers: &Buffers, output_bias: f32) {
        if let Some(hidden) = &mut self.hidden {
            if hidden.weight.numel() == 0 {
                hidden.weight = empty(&[buffers.f as i64, buffers.d as i64]);
            }
            hidden.bias.fill(0.0);
        }
        self.output_weight.fill(0.0);
        self.output_bias = output_bias;
    }

    /// Subtracts what reaches b_dec through the estimator's input, and sums the squared norms.
    pub(super) fn finish(
        &self,
        parameters: &[Parameter],
        slots: &Slots,
        d_b_dec: &mut [f32],
    ) -> Result<f64> {
        let output_bias = f64::from(self.output_bias);
        let mut sum = squared_norm(&self.output_weight) + output_bias * output_bias;
        if let Some(hidden) = &self.hidden {
            add_product(
                &parameters[slots.hidden_weight].value,
                &hidden.bias,
                -1.0,
                d_b_dec,
                false,
            )?;
            sum += squared_norm(slice(&hidden.weight)?) + squared_norm(&hidden.bias);
        }
        Ok(sum)
    }
}
