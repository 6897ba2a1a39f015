//! SoftSAE: k̂ by a dense estimator, soft codes by the sparse operator, hard codes at last.

use rayon::prelude::*;
use sae_config::{Parity, SelectionGradient, SoftConfig, TrainingConfig};
use sae_kernels::{
    Count, Matrix, Selector, add_bias_relu, estimator_backward, estimator_forward, squared_norm,
};
use sae_models::Sae;
use soft_topk::SparseTopK;
use tch::Tensor;

use super::buffers::{Buffers, Slots, empty, slice, slice_mut};
use super::products::{add_product, matmul};
use super::window::{KWindow, Window};
use super::{Error, Reach};
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
    operator: SparseTopK<f32>,
    selector: Selector,
    /// Whether the last selection was hard.
    hard: bool,
    /// W₁(x − b_dec) without bias, then its gradient, `[batch, f]`.
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
            operator: SparseTopK::default(),
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
        }
    }

    /// The estimator's gradients, where this step has any.
    pub(super) fn gradients(&self) -> Option<&EstimatorGradients> {
        (!self.hard).then_some(&self.gradients)
    }

    /// Selects the codes of a step; z becomes relu(z + b_enc).
    pub(super) fn select(
        &mut self,
        step: u64,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
    ) -> Result<(Detail, Reach)> {
        let (k, alpha) = (self.schedule.k(step), self.schedule.alpha(step));
        self.hard = self.schedule.is_hard(step);
        self.estimate(parameters, slots, buffers)?;
        add_bias_relu(slice_mut(&mut buffers.z)?, slots.b_enc(parameters)?)?;
        let z = slice(&buffers.z)?;
        if self.hard {
            let down = self.official;
            let whole = |k: &f32| if down { k.floor() } else { k.round_ties_even() };
            self.k_hat.iter_mut().for_each(|k| *k = whole(k));
            let counts: Vec<usize> = self.k_hat.iter().map(|k| *k as usize).collect();
            let rows = Matrix::new("z", z, buffers.f)?;
            let counts = Count::PerRow(&counts);
            self.selector.top_k(rows, &self.zeros, counts, &mut buffers.codes)?;
        } else {
            self.operator
                .forward(z, buffers.f, &self.k_hat, alpha as f32)
                .map_err(|source| Error::Selection { step, source })?;
            let p = &self.operator;
            buffers.codes.assign(p.indptr(), p.indices(), p.values())?;
            buffers.codes.gather(z, &mut self.z_values)?;
            let z_values = self.z_values.par_iter();
            buffers.codes.values_mut().par_iter_mut().zip(z_values).for_each(|(f, z)| *f *= z);
        }
        let detail = Detail {
            k_hat: Some(Tensor::from_slice(&self.k_hat)),
            k_target: Some(k),
            alpha: Some(alpha),
            hard: Some(self.hard),
            dead_after_rows: None,
        };
        let reach = Reach { encoder: !(self.hard && self.official), centred: true };
        Ok((detail, reach))
    }

    /// k̂ = clamp(k_max·σ(w₂·relu(W₁(x − b_dec) + b₁) + b₂)).
    fn estimate(
        &mut self,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
    ) -> Result<()> {
        let (batch, f) = (buffers.batch, buffers.f);
        if self.logits.len() != batch {
            self.hidden = empty(&[batch as i64, f as i64]);
            let of_rows =
                [&mut self.logits, &mut self.sigmoids, &mut self.k_hat, &mut self.k_gradients];
            of_rows.into_iter().for_each(|v| v.resize(batch, 0.0));
        }
        let weight = |slot: usize| slice(&parameters[slot].value);
        let w1 = &parameters[slots.hidden_weight].value;
        matmul(&buffers.centred, &w1.tr(), &mut self.hidden)?;
        let hidden = Matrix::new("hidden", slice(&self.hidden)?, f)?;
        let (b1, w2) = (weight(slots.hidden_bias)?, weight(slots.output_weight)?);
        estimator_forward(hidden, b1, w2, &mut self.logits)?;
        let b2 = weight(slots.output_bias)?[0];
        let k_max = self.config.k_bound() as f32;
        let (low, high) = (self.config.k_min as f32, self.k_limit as f32);
        for ((logit, sigmoid), k) in self.logits.iter().zip(&mut self.sigmoids).zip(&mut self.k_hat)
        {
            *sigmoid = 1.0 / (1.0 + (-(logit + b2)).exp());
            *k = (k_max * *sigmoid).max(low).min(high);
        }
        Ok(())
    }

    /// From the gradients of the codes to those of their pre-activations and of the estimator;
    /// the budget loss, weighted.
    pub(super) fn backward(
        &mut self,
        step: u64,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &mut Buffers,
    ) -> Result<Option<(&'static str, f64)>> {
        if self.hard {
            if self.official {
                buffers.code_gradients.fill(0.0);
            }
            return Ok(None);
        }
        let gradients = &mut buffers.code_gradients;
        self.incoming.clear();
        self.incoming.par_extend(self.z_values.par_iter().zip(&*gradients).map(|(z, g)| z * g));
        self.returned.resize(gradients.len(), 0.0);
        self.operator
            .backward_into(&self.incoming, &mut self.returned, &mut self.k_gradients, false)
            .map_err(|source| Error::Selection { step, source })?;
        let full = self.config.selection_gradient == SelectionGradient::Full;
        gradients
            .par_iter_mut()
            .zip(self.operator.values())
            .zip(self.z_values.par_iter().zip(&self.returned))
            .for_each(|((g, p), (z, through))| {
                let own = *g * p;
                *g = if *z > 0.0 { own + if full { *through } else { 0.0 } } else { 0.0 };
            });
        if let Some(window) = &mut self.window {
            let (z, centred) = (slice(&buffers.z)?, slice(&buffers.centred)?);
            let w_dec = slice(&parameters[slots.w_dec].value)?;
            let what = Window {
                z: Matrix::new("z", z, buffers.f)?,
                zeros: &self.zeros,
                centred: Matrix::new("centred", centred, buffers.d)?,
                decoder: Matrix::new("decoder", w_dec, buffers.d)?,
                k_hat: &self.k_hat,
            };
            window.gradient(what, &mut self.k_gradients)?;
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
        self.estimator_gradients(parameters, slots, buffers)?;
        Ok(Some(("budget", loss)))
    }

    fn estimator_gradients(
        &mut self,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
    ) -> Result<()> {
        let weight = |slot: usize| slice(&parameters[slot].value);
        let gradients = &mut self.gradients;
        estimator_backward(
            slice_mut(&mut self.hidden)?,
            weight(slots.hidden_bias)?,
            weight(slots.output_weight)?,
            &self.k_gradients,
            &mut gradients.output_weight,
            &mut gradients.hidden_bias,
            &mut self.partial,
        )?;
        gradients.output_bias = self.k_gradients.iter().sum();
        if gradients.hidden_weight.numel() == 0 {
            gradients.hidden_weight = empty(&[buffers.f as i64, buffers.d as i64]);
        }
        matmul(&self.hidden.tr(), &buffers.centred, &mut gradients.hidden_weight)
    }
}

impl EstimatorGradients {
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
