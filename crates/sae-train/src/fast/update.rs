//! The end of a step: the clipping scale, then one pass over each parameter.
//!
//! The scale needs the norm of the whole gradient before any parameter can move. The kernels
//! that form a gradient also sum its squares, so no second pass over it is needed; that of the
//! estimator's dense product alone is read once more.

use sae_kernels::{AdamStep, Matrix, Moments, SquaredNorms, adam, squared_norm};

use super::buffers::{slice, slice_mut};
use super::{FastEngine, FastRule, Reach};
use crate::Result;
use crate::optimizer::{EPSILON, OptimizerRule, PROJECTION_EPSILON, Parameter};
use crate::state::TrainerState;

impl FastEngine {
    /// Clips the gradients in the buffers and updates every parameter that has one.
    pub(super) fn update(
        &mut self,
        state: &mut TrainerState,
        norms: SquaredNorms,
        reach: Reach,
        lr: f64,
    ) -> Result<()> {
        let Self { rule, buffers, slots, optimizer, .. } = self;
        let mut total = norms.decoder + norms.encoder + norms.bias;
        let estimator = match &*rule {
            FastRule::Soft(soft) => soft.gradients(),
            _ => None,
        };
        if let Some(gradients) = estimator {
            total += gradients.finish(&state.parameters, slots, &mut buffers.d_b_dec)?;
        }
        let d_threshold = match &*rule {
            FastRule::JumpRelu(rule) => Some(&rule.d_threshold),
            _ => None,
        };
        total += d_threshold.map_or(0.0, |d| squared_norm(d));
        total += squared_norm(&buffers.d_b_dec);
        let gradient_scale = (1.0 / (total.sqrt() + PROJECTION_EPSILON)).min(1.0);

        let (d, active) = (buffers.d, buffers.active.as_slice());
        let step = Step { optimizer: *optimizer, lr, gradient_scale };
        let unit_norm = Some(f32::EPSILON);
        let d_w_dec = slice(&buffers.d_w_dec)?;
        let d_w_dec = Matrix::new("decoder gradient", &d_w_dec, d)?;
        let parameters = &mut state.parameters;
        step.take(&mut parameters[slots.w_dec], d_w_dec, Some(active), unit_norm)?;
        step.vector(&mut parameters[slots.b_dec], &buffers.d_b_dec)?;
        if reach.encoder {
            let d_w_enc = slice(&buffers.d_w_enc)?;
            let d_w_enc = Matrix::new("encoder gradient", &d_w_enc, d)?;
            step.take(&mut parameters[slots.w_enc], d_w_enc, Some(active), None)?;
            step.vector(&mut parameters[slots.b_enc], &buffers.d_b_enc)?;
        }
        if let Some(gradients) = estimator {
            step.vector(&mut parameters[slots.hidden_weight], &slice(&gradients.hidden_weight)?)?;
            step.vector(&mut parameters[slots.hidden_bias], &gradients.hidden_bias)?;
            step.vector(&mut parameters[slots.output_weight], &gradients.output_weight)?;
            step.vector(&mut parameters[slots.output_bias], &[gradients.output_bias])?;
        }
        if let Some(d_threshold) = d_threshold {
            step.vector(&mut parameters[slots.threshold], d_threshold)?;
        }
        Ok(())
    }
}

/// What all updates of a step share.
struct Step {
    optimizer: OptimizerRule,
    lr: f64,
    gradient_scale: f64,
}

impl Step {
    fn vector(&self, parameter: &mut Parameter, gradient: &[f32]) -> Result<()> {
        let gradient = Matrix::new("gradient", gradient, gradient.len())?;
        self.take(parameter, gradient, None, None)
    }

    fn take(
        &self,
        parameter: &mut Parameter,
        gradient: Matrix<'_>,
        active: Option<&[bool]>,
        unit_norm: Option<f32>,
    ) -> Result<()> {
        parameter.updates += 1;
        let settings = AdamStep {
            lr: self.lr * parameter.lr_factor,
            beta1: self.optimizer.beta1,
            beta2: self.optimizer.beta2,
            eps: EPSILON,
            step: parameter.updates,
            gradient_scale: self.gradient_scale,
        };
        let moments = Moments {
            weights: slice_mut(&mut parameter.value)?,
            first: slice_mut(&mut parameter.mean)?,
            second: slice_mut(&mut parameter.square)?,
        };
        Ok(adam(moments, gradient, active, settings, unit_norm)?)
    }
}
