//! SoftSAE: k̂ by its estimator, soft codes by the sparse operator, hard codes at last.

use rayon::prelude::*;
use sae_config::{CheckedTraining, SelectionGradient, SoftRecipe};
use sae_kernels::{Matrix, Selector, SparseCodes};
use sae_models::{Estimator, Parameters, Role, Sae};
use serde_json::Value;
use soft_topk::SparseTopK;
use tch::{Device, Tensor};

use super::buffers::{Buffers, slice};
use super::estimator::FastEstimator;
use super::update::Update;
use super::window::{KWindow, Window};
use super::{FastRule, Rows};
use crate::profile::Profile;
use crate::rules::{BudgetLoss, Detail, SoftSchedule, estimator};
use crate::{Error, Result};

/// The rule of SoftSAE.
pub(super) struct SoftFast {
    recipe: SoftRecipe,
    budget: BudgetLoss,
    official: bool,
    schedule: SoftSchedule,
    /// The operator, one for each micro-batch of a step.
    operators: Vec<SparseTopK<f32>>,
    selector: Selector,
    /// Whether the last selection was hard.
    hard: bool,
    /// What k̂ selects, as at inference.
    choice: Estimator,
    estimator: FastEstimator,
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
    pub(super) fn new(recipe: &SoftRecipe, training: &CheckedTraining, sae: &Sae) -> Self {
        let (choice, half) = (estimator(sae), recipe.k_gradient_window);
        let width = sae.parameters[Role::HiddenBias].numel();
        // What the error of the whole dictionary would weigh, if all prefixes had it.
        let prefixes = &recipe.prefixes;
        let weight = prefixes.iter().map(|g| g.1).sum::<f64>() / prefixes.len() as f64;
        Self {
            recipe: recipe.clone(),
            budget: BudgetLoss::new(recipe, Device::Cpu),
            official: training.parity == sae_config::Parity::Official,
            schedule: SoftSchedule::new(recipe, sae.config()),
            operators: Vec::new(),
            selector: Selector::new(),
            hard: false,
            choice,
            estimator: FastEstimator::new(&choice, width),
            z_values: Vec::new(),
            incoming: Vec::new(),
            returned: Vec::new(),
            window: (half > 0).then(|| KWindow::new(half, weight, sae.config().n_features)),
            window_gradients: Vec::new(),
            one_group: prefixes.len() == 1,
        }
    }

    /// The codes of inference, from z without its bias; k̂ becomes whole.
    fn select_hard(&mut self, rows: &Rows<'_>, buffers: &mut Buffers) -> Result<()> {
        let k_hat = &mut self.estimator.k_hat[rows.rows.clone()];
        let k = self.choice.whole(&Tensor::from_slice(k_hat));
        let z = slice(&buffers.z.values)?;
        let z = Matrix::new("z", &z[..rows.rows.len() * buffers.f], buffers.f)?;
        let largest = self.choice.largest(&k);
        let bias = slice(&rows.parameters[Role::EncoderBias])?;
        largest.select(z, &bias, &mut self.selector, &mut buffers.part)?;
        let k = tch_autograd::view::<i64>(&k)?;
        k_hat.iter_mut().zip(k.iter()).for_each(|(k_hat, k)| *k_hat = *k as f32);
        Ok(())
    }

    /// The codes of the operator: z·p; their z becomes relu(z + b_enc).
    fn select_soft(&mut self, at: &Rows<'_>, buffers: &mut Buffers) -> Result<()> {
        let Rows { step, rows, parameters } = *at;
        buffers.z.activate(rows.len() * buffers.f, &slice(&parameters[Role::EncoderBias])?)?;
        let z = slice(&buffers.z.values)?;
        let z = &z[..rows.len() * buffers.f];
        // A step that streams is done with a micro-batch's operator before the next one.
        let streams = rows.start > 0 && buffers.streams;
        let micro_batch = if streams { 0 } else { rows.start / buffers.micro };
        if self.operators.len() <= micro_batch {
            self.operators.resize_with(micro_batch + 1, SparseTopK::default);
        }
        let (k_hat, part) = (&self.estimator.k_hat[rows.clone()], &mut buffers.part);
        let p = &mut self.operators[micro_batch];
        p.forward(z, buffers.f, k_hat, self.schedule.alpha(step) as f32)
            .map_err(|source| Error::Selection { step, source })?;
        part.assign(p.indptr(), p.indices(), p.values())?;
        if let Some(window) = &mut self.window {
            let target = buffers.centred_target.as_ref().unwrap_or(&buffers.centred);
            let (d, target) = (buffers.d, slice(target)?);
            let decoder = slice(&parameters[Role::DecoderWeight])?;
            let what = Window {
                z: Matrix::new("z", z, buffers.f)?,
                zeros: &buffers.zeros,
                target: Matrix::new("target", &target[rows.start * d..rows.end * d], d)?,
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
        Ok(())
    }

    /// From the gradients of some codes to those of their pre-activations, given what the operator
    /// returned of them.
    fn through_codes(
        gradients: &mut [f32],
        operator: &SparseTopK<f32>,
        z: &[f32],
        returned: Option<&[f32]>,
    ) {
        gradients
            .par_iter_mut()
            .zip(operator.values())
            .zip(z)
            .for_each(|((g, p), z)| *g = if *z > 0.0 { *g * p } else { 0.0 });
        if let Some(returned) = returned {
            gradients
                .par_iter_mut()
                .zip(returned)
                .zip(z)
                .for_each(|((g, through), z)| *g += if *z > 0.0 { *through } else { 0.0 });
        }
    }
}

impl FastRule for SoftFast {
    /// The codes of some rows.
    fn select(&mut self, at: Rows<'_>, buffers: &mut Buffers, profile: &mut Profile) -> Result<()> {
        let Rows { step, rows, parameters } = at;
        self.estimator.estimate(rows, parameters, buffers, profile)?;
        self.hard = self.schedule.is_hard(step);
        if self.hard {
            self.select_hard(&at, buffers)?;
        } else {
            self.select_soft(&at, buffers)?;
        }
        buffers.take_part(rows, self.one_group)
    }

    fn observe(&mut self, step: u64, _: &SparseCodes, _: &mut Parameters) -> Detail {
        self.schedule.detail(&self.recipe, step, Tensor::from_slice(&self.estimator.k_hat))
    }

    fn reaches_encoder(&self) -> bool {
        !(self.hard && self.official)
    }

    /// From the gradients of the codes at hand to those of their pre-activations, and of k̂.
    fn code_backward(
        &mut self,
        step: u64,
        _parameters: &Parameters,
        buffers: &mut Buffers,
    ) -> Result<()> {
        if self.hard {
            if self.official {
                buffers.code_gradients.fill(0.0);
            }
            return Ok(());
        }
        let micro_batches = buffers.held_micro_batches();
        let gradients = &mut buffers.code_gradients;
        let full = self.recipe.selection_gradient == SelectionGradient::Full;
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
            let returned = full.then(|| &self.returned[entries.clone()]);
            Self::through_codes(&mut gradients[entries], operator, z, returned);
        }
        Ok(())
    }

    /// The gradients of the estimator, once those of all k̂ are known; the budget loss, weighted.
    fn backward(
        &mut self,
        step: u64,
        parameters: &Parameters,
        buffers: &mut Buffers,
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
        self.estimator.backward(slope, parameters, buffers, profile)?;
        Ok(Some(("budget", loss)))
    }

    fn squared_norm(&self, parameters: &Parameters, d_b_dec: &mut [f32]) -> Result<f64> {
        if self.hard { Ok(0.0) } else { self.estimator.gradients.finish(parameters, d_b_dec) }
    }

    fn update(&self, update: &mut Update<'_>) -> Result<()> {
        if self.hard {
            return Ok(());
        }
        let gradients = &self.estimator.gradients;
        update.vector(Role::HiddenWeight, &slice(&gradients.hidden_weight)?)?;
        update.vector(Role::HiddenBias, &gradients.hidden_bias)?;
        update.vector(Role::OutputWeight, &gradients.output_weight)?;
        update.vector(Role::OutputBias, &[gradients.output_bias])
    }

    fn release(&mut self, buffers: &mut Buffers) {
        self.estimator.gradients.release(buffers);
    }

    fn save(&self) -> Value {
        self.budget.save()
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        self.budget.restore(saved)
    }
}
