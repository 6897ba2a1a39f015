//! SoftSAE: k̂ by a dense estimator, soft codes by the sparse operator, hard codes at last.

use std::ops::Range;

use rayon::prelude::*;
use sae_config::{Parity, SelectionGradient, SoftConfig, TrainingConfig};
use sae_kernels::{
    Count, Matrix, Selector, add_bias_relu, estimator_backward, estimator_forward, squared_norm,
};
use sae_models::Sae;
use soft_topk::SparseTopK;
use tch::Tensor;

use super::buffers::{Buffers, Slots, empty, rows_of, slice, slice_mut};
use super::products::{add_product, matmul, matmul_to};
use super::profile::{ESTIMATOR, GEMM};
use super::window::{KWindow, Window};
use super::{Error, Profile, Reach};
use crate::Result;
use crate::optimizer::Parameter;
use crate::rules::{BudgetLoss, Detail, SoftSchedule};

/// The rule of SoftSAE with the `mlp` estimator.
pub(super) struct SoftFast {
    config: SoftConfig,
    pub(super) budget: BudgetLoss,
    official: bool,
    schedule: SoftSchedule,
    k_limit: f64,
    /// The operator, one for each micro-batch of a step.
    operators: Vec<SparseTopK<f32>>,
    selector: Selector,
    /// Whether the last selection was hard.
    hard: bool,
    /// W₁(x − b_dec) without bias, then its gradient, `[micro, f]`.
    hidden: Tensor,
    /// Logits of k̂/k_max, σ of them, and k̂, of each row.
    logits: Vec<f32>,
    sigmoids: Vec<f32>,
    k_hat: Vec<f32>,
    /// Gradients of k̂, then of the logits.
    k_gradients: Vec<f32>,
    zeros: Vec<f32>,
    /// z at the codes; their incoming gradients; what the operator returns.
    z_values: Vec<f32>,
    incoming: Vec<f32>,
    returned: Vec<f32>,
    partial: Vec<f32>,
    gradients: EstimatorGradients,
    window: Option<KWindow>,
    /// Gradients of k̂ over the window.
    window_gradients: Vec<f32>,
}

/// Gradients of the estimator's parameters.
#[derive(Debug)]
pub(super) struct EstimatorGradients {
    pub(super) hidden_weight: Tensor,
    pub(super) hidden_bias: Vec<f32>,
    pub(super) output_weight: Vec<f32>,
    pub(super) output_bias: f32,
}

impl SoftFast {
    pub(super) fn new(config: &SoftConfig, training: &TrainingConfig, sae: &dyn Sae) -> Self {
        let f = sae.config().n_features;
        Self {
            config: config.clone(),
            budget: BudgetLoss::new(config),
            official: training.parity == Parity::Official,
            schedule: SoftSchedule::new(config, training, sae),
            k_limit: f as f64 - 1.0,
            operators: Vec::new(),
            selector: Selector::new(),
            hard: false,
            hidden: empty(&[0]),
            logits: Vec::new(),
            sigmoids: Vec::new(),
            k_hat: Vec::new(),
            k_gradients: Vec::new(),
            zeros: vec![0.0; f],
            z_values: Vec::new(),
            incoming: Vec::new(),
            returned: Vec::new(),
            partial: Vec::new(),
            gradients: EstimatorGradients {
                hidden_weight: empty(&[0]),
                hidden_bias: vec![0.0; f],
                output_weight: vec![0.0; f],
                output_bias: 0.0,
            },
            window: config
                .k_gradient_window
                .filter(|half| *half > 0)
                .map(|half| KWindow::new(half, f)),
            window_gradients: Vec::new(),
        }
    }

    /// The estimator's gradients, where this step has any.
    pub(super) fn gradients(&self) -> Option<&EstimatorGradients> {
        (!self.hard).then_some(&self.gradients)
    }

    /// Selects the codes of some rows of a step; their z becomes relu(z + b_enc).
    pub(super) fn select(
        &mut self,
        step: u64,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
    ) -> Result<()> {
        self.hard = self.schedule.is_hard(step);
        let len = rows.len() * buffers.f;
        add_bias_relu(&mut slice_mut(&mut buffers.z)?[..len], slots.b_enc(parameters)?)?;
        let z = &slice(&buffers.z)?[..len];
        let (k_hat, part) = (&mut self.k_hat[rows.clone()], &mut buffers.part);
        if self.hard {
            let down = self.official;
            let whole = |k: &f32| if down { k.floor() } else { k.round_ties_even() };
            k_hat.iter_mut().for_each(|k| *k = whole(k));
            let counts: Vec<usize> = k_hat.iter().map(|k| *k as usize).collect();
            let z = Matrix::new("z", z, buffers.f)?;
            self.selector.top_k(z, &self.zeros, Count::PerRow(&counts), part)?;
        } else {
            let micro_batch = rows.start / buffers.micro;
            if self.operators.len() <= micro_batch {
                self.operators.resize_with(micro_batch + 1, SparseTopK::default);
            }
            let p = &mut self.operators[micro_batch];
            p.forward(z, buffers.f, k_hat, self.schedule.alpha(step) as f32)
                .map_err(|source| Error::Selection { step, source })?;
            part.assign(p.indptr(), p.indices(), p.values())?;
            if let Some(window) = &mut self.window {
                let (d, centred) = (buffers.d, slice(&buffers.centred)?);
                let what = Window {
                    z: Matrix::new("z", z, buffers.f)?,
                    zeros: &self.zeros,
                    centred: Matrix::new("centred", &centred[rows.start * d..rows.end * d], d)?,
                    decoder: Matrix::new("decoder", slice(&parameters[slots.w_dec].value)?, d)?,
                    k_hat,
                    batch: buffers.batch,
                };
                self.window_gradients.resize(buffers.batch, 0.0);
                window.gradient(what, &mut self.window_gradients[rows.clone()])?;
            }
            let start = if rows.start == 0 { 0 } else { self.z_values.len() };
            self.z_values.resize(start + part.nnz(), 0.0);
            let z_values = &mut self.z_values[start..];
            part.gather(z, 0..rows.len(), z_values)?;
            let z_values = z_values.par_iter();
            part.values_mut().par_iter_mut().zip(z_values).for_each(|(f, z)| *f *= z);
        }
        buffers.take_part(rows)
    }

    /// What is known of a step whose codes are selected.
    pub(super) fn detail(&self, step: u64) -> Detail {
        Detail {
            k_hat: Some(Tensor::from_slice(&self.k_hat)),
            k_target: Some(self.schedule.k(step)),
            alpha: Some(self.schedule.alpha(step)),
            hard: Some(self.hard),
            dead_after_rows: None,
        }
    }

    /// Which of the encoder's gradients the selection passes on.
    pub(super) fn reach(&self) -> Reach {
        Reach { encoder: !(self.hard && self.official), centred: true }
    }

    /// k̂ = clamp(k_max·σ(w₂·relu(W₁(x − b_dec) + b₁) + b₂)) of some rows.
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
        let hidden = &slice(&self.hidden)?[..rows.len() * buffers.f];
        let hidden = Matrix::new("hidden", hidden, buffers.f)?;
        let weight = |slot: usize| slice(&parameters[slot].value);
        let (b1, w2) = (weight(slots.hidden_bias)?, weight(slots.output_weight)?);
        let k_max = self.config.k_bound() as f32;
        let (low, high) = (self.config.k_min as f32, self.k_limit as f32);
        let logits = &mut self.logits[rows.clone()];
        estimator_forward(hidden, b1, w2, logits)?;
        let b2 = weight(slots.output_bias)?[0];
        let sigmoids = &mut self.sigmoids[rows.clone()];
        let k_hat = &mut self.k_hat[rows.clone()];
        for ((logit, sigmoid), k) in logits.iter().zip(sigmoids).zip(k_hat) {
            *sigmoid = 1.0 / (1.0 + (-(logit + b2)).exp());
            *k = (k_max * *sigmoid).max(low).min(high);
        }
        Ok(())
    }

    /// W₁(x − b_dec) of some rows, without its bias.
    fn hidden_products(
        &mut self,
        rows: &Range<usize>,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
    ) -> Result<()> {
        let shape = [buffers.micro as i64, buffers.f as i64];
        if self.hidden.size() != shape {
            self.hidden = empty(&shape);
        }
        let w1 = &parameters[slots.hidden_weight].value;
        let mut hidden = rows_of(&self.hidden, &(0..rows.len()));
        matmul(&rows_of(&buffers.centred, rows), &w1.tr(), &mut hidden)
    }

    /// From the gradients of the codes to those of their pre-activations and of the estimator;
    /// the budget loss, weighted.
    pub(super) fn backward(
        &mut self,
        step: u64,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
        profile: &mut Profile,
    ) -> Result<Option<(&'static str, f64)>> {
        if self.hard {
            if self.official {
                buffers.code_gradients.fill(0.0);
            }
            return Ok(None);
        }
        let micro_batches = buffers.micro_batches();
        let gradients = &mut buffers.code_gradients;
        let full = self.config.selection_gradient == SelectionGradient::Full;
        // The operator's own gradient of k̂ is not asked for where a window gives another.
        let through_operator = full || self.window.is_none();
        if through_operator {
            self.incoming.clear();
            self.incoming.par_extend(self.z_values.par_iter().zip(&*gradients).map(|(z, g)| z * g));
            self.returned.resize(gradients.len(), 0.0);
        }
        for (rows, operator) in micro_batches.zip(&self.operators) {
            let entries = buffers.codes.entries(rows.clone());
            if through_operator {
                let (v, grad) =
                    (&self.incoming[entries.clone()], &mut self.returned[entries.clone()]);
                operator
                    .backward_into(v, grad, &mut self.k_gradients[rows], false)
                    .map_err(|source| Error::Selection { step, source })?;
            }
            let z = &self.z_values[entries.clone()];
            let gradients = &mut gradients[entries.clone()];
            gradients
                .par_iter_mut()
                .zip(operator.values())
                .zip(z)
                .for_each(|((g, p), z)| *g = if *z > 0.0 { *g * p } else { 0.0 });
            if full {
                let returned = &self.returned[entries];
                gradients
                    .par_iter_mut()
                    .zip(returned)
                    .zip(z)
                    .for_each(|((g, through), z)| *g += if *z > 0.0 { *through } else { 0.0 });
            }
        }
        if self.window.is_some() {
            self.k_gradients.copy_from_slice(&self.window_gradients);
        }
        let k = self.schedule.k(step);
        let mean = self.k_hat.iter().map(|k| f64::from(*k)).sum::<f64>() / self.k_hat.len() as f64;
        let (loss, slope) = self.budget.value_and_slope(mean, k);
        self.budget.after_step(mean, k);
        let k_max = self.config.k_bound() as f32;
        let (low, high) = (self.config.k_min as f32, self.k_limit as f32);
        let slope = (slope / buffers.batch as f64) as f32;
        for (g, s) in self.k_gradients.iter_mut().zip(&self.sigmoids) {
            let k = k_max * s;
            let inside = (low..=high).contains(&k);
            *g = if inside { (*g + slope) * k_max * s * (1.0 - s) } else { 0.0 };
        }
        self.estimator_gradients(parameters, slots, buffers, profile)?;
        Ok(Some(("budget", loss)))
    }

    fn estimator_gradients(
        &mut self,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
        profile: &mut Profile,
    ) -> Result<()> {
        let weight = |slot: usize| slice(&parameters[slot].value);
        profile.lap(ESTIMATOR);
        self.gradients.begin(buffers, self.k_gradients.iter().sum());
        for rows in buffers.micro_batches() {
            if !buffers.is_whole() {
                self.hidden_products(&rows, parameters, slots, buffers)?;
                profile.lap(GEMM);
            }
            let gradients = &mut self.gradients;
            estimator_backward(
                &mut slice_mut(&mut self.hidden)?[..rows.len() * buffers.f],
                weight(slots.hidden_bias)?,
                weight(slots.output_weight)?,
                &self.k_gradients[rows.clone()],
                &mut gradients.output_weight,
                &mut gradients.hidden_bias,
                &mut self.partial,
            )?;
            profile.lap(ESTIMATOR);
            let hidden = rows_of(&self.hidden, &(0..rows.len())).tr();
            let centred = rows_of(&buffers.centred, &rows);
            matmul_to(&hidden, &centred, &mut gradients.hidden_weight, rows.start > 0)?;
            profile.lap(GEMM);
        }
        Ok(())
    }
}

impl EstimatorGradients {
    /// Prepares for sums over micro-batches.
    fn begin(&mut self, buffers: &Buffers, output_bias: f32) {
        if self.hidden_weight.numel() == 0 {
            self.hidden_weight = empty(&[buffers.f as i64, buffers.d as i64]);
        }
        self.output_weight.fill(0.0);
        self.hidden_bias.fill(0.0);
        self.output_bias = output_bias;
    }

    /// Subtracts what reaches b_dec through the estimator's input, and sums the squared norms.
    pub(super) fn finish(&self, hidden_weight: &Tensor, d_b_dec: &mut [f32]) -> Result<f64> {
        add_product(hidden_weight, &self.hidden_bias, -1.0, d_b_dec, false)?;
        let output_bias = f64::from(self.output_bias);
        Ok(squared_norm(slice(&self.hidden_weight)?)
            + squared_norm(&self.hidden_bias)
            + squared_norm(&self.output_weight)
            + output_bias * output_bias)
    }
}
