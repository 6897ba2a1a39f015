//! The k-estimator of SoftSAE: k̂ of rows, and its gradients in closed form.

use std::ops::Range;

use sae_kernels::{Matrix, estimator_backward, estimator_forward, squared_norm};
use sae_models::{Estimator, Parameters, Role};
use tch::Tensor;
use tch_autograd::matmul_into;

use super::buffers::{Buffers, empty, rows_of, slice, slice_mut};
use super::products::add_product;
use super::{ESTIMATOR, GEMM};
use crate::Result;
use crate::profile::Profile;

/// Estimates k̂ by two layers (`mlp` and `narrow`).
pub(super) struct FastEstimator {
    /// Hidden units.
    width: usize,
    /// W₁(x − b_dec) without bias, then its gradient, `[micro, width]`.
    hidden: Tensor,
    /// k_min, k_max and k_limit.
    bounds: [f32; 3],
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
    pub(super) hidden_weight: Tensor,
    /// z, while its memory is that of `hidden_weight`.
    lent: Option<Tensor>,
    pub(super) hidden_bias: Vec<f32>,
    pub(super) output_weight: Vec<f32>,
    pub(super) output_bias: f32,
}

impl FastEstimator {
    /// The estimator with a hidden layer of this width.
    pub(super) fn new(estimator: &Estimator, width: usize) -> Self {
        Self {
            width,
            hidden: empty(&[0]),
            bounds: [estimator.k_min, estimator.k_max, estimator.k_limit].map(|k| k as f32),
            logits: Vec::new(),
            sigmoids: Vec::new(),
            k_hat: Vec::new(),
            k_gradients: Vec::new(),
            partial: Vec::new(),
            gradients: EstimatorGradients {
                hidden_weight: empty(&[0]),
                lent: None,
                hidden_bias: vec![0.0; width],
                output_weight: vec![0.0; width],
                output_bias: 0.0,
            },
        }
    }

    /// Mean k̂ of the batch.
    pub(super) fn mean(&self) -> f64 {
        self.k_hat.iter().map(|k| f64::from(*k)).sum::<f64>() / self.k_hat.len() as f64
    }

    /// k̂ = clamp(k_max·σ(w₂·relu(h) + b₂)) of some rows with h = W₁(x − b_dec) + b₁; of a transcoder
    /// W₁x + b₁.
    pub(super) fn estimate(
        &mut self,
        rows: &Range<usize>,
        parameters: &Parameters,
        buffers: &Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let of_rows =
            [&mut self.logits, &mut self.sigmoids, &mut self.k_hat, &mut self.k_gradients];
        of_rows.into_iter().for_each(|v| v.resize(buffers.batch, 0.0));
        self.hidden_products(rows, parameters, buffers)?;
        profile.lap(GEMM);
        let weight = |role: Role| slice(&parameters[role]);
        let hidden = slice(&self.hidden)?;
        let hidden = Matrix::new("hidden", &hidden[..rows.len() * self.width], self.width)?;
        let logits = &mut self.logits[rows.clone()];
        estimator_forward(
            hidden,
            &weight(Role::HiddenBias)?,
            &weight(Role::OutputWeight)?,
            logits,
        )?;
        let b2 = weight(Role::OutputBias)?[0];
        let [k_min, k_max, k_limit] = self.bounds;
        let sigmoids = &mut self.sigmoids[rows.clone()];
        let k_hat = &mut self.k_hat[rows.clone()];
        for ((logit, sigmoid), k) in logits.iter().zip(sigmoids).zip(k_hat) {
            *sigmoid = 1.0 / (1.0 + (-(logit + b2)).exp());
            *k = (k_max * *sigmoid).max(k_min).min(k_limit);
        }
        Ok(())
    }

    /// W₁(x − b_dec) of some rows, without its bias.
    fn hidden_products(
        &mut self,
        rows: &Range<usize>,
        parameters: &Parameters,
        buffers: &Buffers,
    ) -> Result<()> {
        let shape = [buffers.micro as i64, self.width as i64];
        if self.hidden.size() != shape {
            self.hidden = empty(&shape);
        }
        let w1 = &parameters[Role::HiddenWeight];
        let mut hidden = rows_of(&self.hidden, &(0..rows.len()));
        Ok(matmul_into(&rows_of(&buffers.centred, rows), &w1.tr(), &mut hidden, false)?)
    }

    /// From `k_gradients`, and `slope` of the budget in mean k̂, to the gradients of the parameters;
    /// they take the memory of z until [`EstimatorGradients::release`].
    pub(super) fn backward(
        &mut self,
        slope: f64,
        parameters: &Parameters,
        buffers: &mut Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let slope = (slope / buffers.batch as f64) as f32;
        let [k_min, k_max, k_limit] = self.bounds;
        for (g, s) in self.k_gradients.iter_mut().zip(&self.sigmoids) {
            let inside = (k_min..=k_limit).contains(&(k_max * s));
            *g = if inside { (*g + slope) * k_max * s * (1.0 - s) } else { 0.0 };
        }
        profile.lap(ESTIMATOR);
        self.gradients.begin(buffers, self.k_gradients.iter().sum());
        for rows in buffers.micro_batches() {
            if !buffers.is_whole() {
                self.hidden_products(&rows, parameters, buffers)?;
                profile.lap(GEMM);
            }
            let weight = |role: Role| slice(&parameters[role]);
            let gradients = &mut self.gradients;
            estimator_backward(
                &mut slice_mut(&mut self.hidden)?[..rows.len() * self.width],
                &weight(Role::HiddenBias)?,
                &weight(Role::OutputWeight)?,
                &self.k_gradients[rows.clone()],
                &mut gradients.output_weight,
                &mut gradients.hidden_bias,
                &mut self.partial,
            )?;
            profile.lap(ESTIMATOR);
            let hidden = rows_of(&self.hidden, &(0..rows.len())).tr();
            let centred = rows_of(&buffers.centred, &rows);
            matmul_into(&hidden, &centred, &mut gradients.hidden_weight, rows.start > 0)?;
            profile.lap(GEMM);
        }
        Ok(())
    }
}

impl EstimatorGradients {
    /// Prepares for sums over micro-batches.
    fn begin(&mut self, buffers: &mut Buffers, output_bias: f32) {
        let shape = [self.hidden_bias.len() as i64, buffers.d_in as i64];
        if self.hidden_weight.size() != shape {
            self.hidden_weight = match buffers.z.lend(&shape) {
                Some((matrix, z)) => {
                    self.lent = Some(z);
                    matrix
                }
                None => empty(&shape),
            };
        }
        self.hidden_bias.fill(0.0);
        self.output_weight.fill(0.0);
        self.output_bias = output_bias;
    }

    /// Gives the memory of z back.
    pub(super) fn release(&mut self, buffers: &mut Buffers) {
        if let Some(z) = self.lent.take() {
            self.hidden_weight = empty(&[0]);
            buffers.z.put_back(z);
        }
    }

    /// Subtracts what reaches b_dec through the estimator's input, where it does, and sums the squared norms.
    pub(super) fn finish(&self, parameters: &Parameters, d_b_dec: &mut [f32]) -> Result<f64> {
        if parameters.centre().is_some() {
            let w1 = &parameters[Role::HiddenWeight];
            add_product(w1, &self.hidden_bias, -1.0, d_b_dec, false)?;
        }
        let output_bias = f64::from(self.output_bias);
        Ok(squared_norm(&slice(&self.hidden_weight)?)
            + squared_norm(&self.hidden_bias)
            + squared_norm(&self.output_weight)
            + output_bias * output_bias)
    }
}
