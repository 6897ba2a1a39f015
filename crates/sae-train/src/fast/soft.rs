//! SoftSAE: k̂ by its estimator, soft codes by the sparse operator, hard codes at last.

use std::ops::Range;

use rayon::prelude::*;
use sae_config::{Parity, SelectionGradient, SoftConfig, TrainingConfig};
use sae_kernels::{Count, Matrix, Rank, Selector, add_bias_relu};
use sae_models::Sae;
use soft_topk::SparseTopK;
use tch::{Device, Tensor};

use super::buffers::{Buffers, Slots, slice, slice_mut};
use super::estimator::{EstimatorGradients, FastEstimator};
use super::window::{KWindow, Window};
use super::{Error, Profile, Reach};
use crate::Result;
use crate::optimizer::Parameter;
use crate::rules::{BudgetLoss, Detail, SoftSchedule};

/// The rule of SoftSAE.
pub(super) struct SoftFast {
    config: SoftConfig,
    pub(super) budget: BudgetLoss,
    official: bool,
    schedule: SoftSchedule,
    /// The operator, one for each micro-batch of a step.
    operators: Vec<SparseTopK<f32>>,
    selector: Selector,
    /// Whether the last selection was hard.
    hard: bool,
    pub(super) estimator: FastEstimator,
    zeros: Vec<f32>,
    /// z at the codes; their incoming gradients; what the operator returns.
    z_values: Vec<f32>,
    incoming: Vec<f32>,
    returned: Vec<f32>,
    window: Option<KWindow>,
    /// Gradients of k̂ over the window.
    window_gradients: Vec<f32>,
    /// Whether the dictionary has no prefixes, whose products are sparse.
    one_group: bool,
}

impl SoftFast {
    /// The rule, where errors weigh `weight` in the loss.
    pub(super) fn new(
        config: &SoftConfig,
        training: &TrainingConfig,
        weight: f64,
        sae: &dyn Sae,
    ) -> Self {
        let f = sae.config().n_features;
        Self {
            config: config.clone(),
            budget: BudgetLoss::new(config, Device::Cpu),
            official: training.parity == Parity::Official,
            schedule: SoftSchedule::new(config, training, sae),
            operators: Vec::new(),
            selector: Selector::new(),
            hard: false,
            estimator: FastEstimator::new(config, sae.config()),
            zeros: vec![0.0; f],
            z_values: Vec::new(),
            incoming: Vec::new(),
            returned: Vec::new(),
            window: config
                .k_gradient_window
                .filter(|half| *half > 0)
                .map(|half| KWindow::new(half, weight, f)),
            window_gradients: Vec::new(),
            one_group: config.group_fractions.len() == 1,
        }
    }

    /// The estimator's gradients, where this step has any.
    pub(super) fn gradients(&self) -> Option<&EstimatorGradients> {
        (!self.hard).then_some(&self.estimator.gradients)
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
        add_bias_relu(&mut slice_mut(&mut buffers.z)?[..len], &slots.b_enc(parameters)?)?;
        let z = slice(&buffers.z)?;
        let z = &z[..len];
        let (k_hat, part) = (&mut self.estimator.k_hat[rows.clone()], &mut buffers.part);
        if self.hard {
            let down = self.official;
            let whole = |k: &f32| if down { k.floor() } else { k.round_ties_even() };
            k_hat.iter_mut().for_each(|k| *k = whole(k));
            let counts: Vec<usize> = k_hat.iter().map(|k| *k as usize).collect();
            let z = Matrix::new("z", z, buffers.f)?;
            self.selector.top_k(z, &self.zeros, Count::PerRow(&counts), Rank::Value, part)?;
        } else {
            // A step that streams is done with a micro-batch's operator before the next one.
            let streams = rows.start > 0 && buffers.streams;
            let micro_batch = if streams { 0 } else { rows.start / buffers.micro };
            if self.operators.len() <= micro_batch {
                self.operators.resize_with(micro_batch + 1, SparseTopK::default);
            }
            let p = &mut self.operators[micro_batch];
            p.forward(z, buffers.f, k_hat, self.schedule.alpha(step) as f32)
                .map_err(|source| Error::Selection { step, source })?;
            part.assign(p.indptr(), p.indices(), p.values())?;
            if let Some(window) = &mut self.window {
                let (d, centred) = (buffers.d, slice(&buffers.centred)?);
                let decoder = slice(&parameters[slots.w_dec].value)?;
                let what = Window {
                    z: Matrix::new("z", z, buffers.f)?,
                    zeros: &self.zeros,
                    centred: Matrix::new("centred", &centred[rows.start * d..rows.end * d], d)?,
                    decoder: Matrix::new("decoder", &decoder, d)?,
                    k_hat,
                    batch: buffers.batch,
                };
                self.window_gradients.resize(buffers.batch, 0.0);
                window.gradient(what, &mut self.window_gradients[rows.clone()])?;
            }
            let start = if micro_batch == 0 { 0 } else { self.z_values.len() };
            self.z_values.resize(start + part.nnz(), 0.0);
            let z_values = &mut self.z_values[start..];
            part.gather(z, 0..rows.len(), z_values)?;
            let z_values = z_values.par_iter();
            part.values_mut().par_iter_mut().zip(z_values).for_each(|(f, z)| *f *= z);
        }
        buffers.take_part(rows, self.one_group)
    }

    /// What is known of a step whose codes are selected.
    pub(super) fn detail(&self, step: u64) -> Detail {
        Detail {
            k_hat: Some(Tensor::from_slice(&self.estimator.k_hat)),
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

    /// From the gradients of the codes at hand to those of their pre-activations, and of k̂.
    pub(super) fn code_backward(&mut self, step: u64, buffers: &mut Buffers) -> Result<()> {
        if self.hard {
            if self.official {
                buffers.code_gradients.fill(0.0);
            }
            return Ok(());
        }
        let micro_batches = buffers.held_micro_batches();
        let gradients = &mut buffers.code_gradients;
        let full = self.config.selection_gradient == SelectionGradient::Full;
        // The operator's own gradient of k̂ is not asked for where a window gives another.
        let through_operator = full || self.window.is_none();
        if through_operator {
            self.incoming.clear();
            self.incoming.par_extend(self.z_values.par_iter().zip(&*gradients).map(|(z, g)| z * g));
            self.returned.resize(gradients.len(), 0.0);
        }
        for ((rows, of_codes), operator) in micro_batches.zip(&self.operators) {
            let entries = buffers.codes.entries(of_codes);
            if through_operator {
                let (v, grad) =
                    (&self.incoming[entries.clone()], &mut self.returned[entries.clone()]);
                operator
                    .backward_into(v, grad, &mut self.estimator.k_gradients[rows], false)
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
        Ok(())
    }

    /// The gradients of the estimator, once those of all k̂ are known; the budget loss, weighted.
    pub(super) fn backward(
        &mut self,
        step: u64,
        parameters: &[Parameter],
        slots: &Slots,
        buffers: &Buffers,
        profile: &mut Profile,
    ) -> Result<Option<(&'static str, f64)>> {
        if self.hard {
            return Ok(None);
        }
        if self.window.is_some() {
            self.estimator.k_gradients.copy_from_slice(&self.window_gradients);
        }
        let k = self.schedule.k(step);
        let mean = self.estimator.mean();
        let (loss, slope) = self.budget.value_and_slope(mean, k);
        self.budget.after_step(&Tensor::from(mean), k);
        self.estimator.backward(slope, parameters, slots, buffers, profile)?;
        Ok(Some(("budget", loss)))
    }
}
