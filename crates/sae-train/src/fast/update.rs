//! The end of a step: the clipping scale, then one pass over each parameter.
//!
//! The scale needs the norm of the whole gradient before any parameter can move. The kernels
//! that form a gradient also sum its squares, so no second pass over it is needed; that of the
//! estimator's dense product alone is read once more.

use sae_kernels::{AdamStep, Matrix, Moments, SquaredNorms, adam};
use sae_models::{Parameters, Role};

use super::FastEngine;
use super::buffers::{slice, slice_mut};
use crate::Result;
use crate::optimizer::{AdamState, EPSILON, OptimizerRule, PROJECTION_EPSILON};

impl FastEngine {
    /// Clips the gradients in the buffers and updates every parameter that has one.
    pub(super) fn update(
        &mut self,
        parameters: &mut Parameters,
        adam: &mut [AdamState],
        norms: SquaredNorms,
        reaches_encoder: bool,
        lr: f64,
    ) -> Result<()> {
        let Self { rule, buffers, optimizer, .. } = self;
        let mut total = norms.decoder + norms.encoder + norms.bias;
        total += rule.squared_norm(parameters, &mut buffers.d_b_dec)?;
        total += sae_kernels::squared_norm(&buffers.d_b_dec);
        let gradient_scale = (1.0 / (total.sqrt() + PROJECTION_EPSILON)).min(1.0);

        let (d_in, d, active) = (buffers.d_in, buffers.d, buffers.active.as_slice());
        let mut update = Update { optimizer: *optimizer, lr, gradient_scale, parameters, adam };
        let unit_norm = Some(f32::EPSILON);
        let d_w_dec = slice(&buffers.d_w_dec)?;
        let d_w_dec = Matrix::new("decoder gradient", &d_w_dec, d)?;
        update.take(Role::DecoderWeight, d_w_dec, Some(active), unit_norm)?;
        update.vector(Role::DecoderBias, &buffers.d_b_dec)?;
        if reaches_encoder {
            let d_w_enc = slice(&buffers.d_w_enc)?;
            let d_w_enc = Matrix::new("encoder gradient", &d_w_enc, d_in)?;
            update.take(Role::EncoderWeight, d_w_enc, Some(active), None)?;
            update.vector(Role::EncoderBias, &buffers.d_b_enc)?;
        }
        rule.update(&mut update)
    }
}

/// What all updates of a step share.
pub(super) struct Update<'a> {
    optimizer: OptimizerRule,
    lr: f64,
    gradient_scale: f64,
    parameters: &'a mut Parameters,
    adam: &'a mut [AdamState],
}

impl Update<'_> {
    /// Updates a parameter, whatever its shape, from the elements of its gradient.
    pub(super) fn vector(&mut self, role: Role, gradient: &[f32]) -> Result<()> {
        let gradient = Matrix::new("gradient", gradient, gradient.len())?;
        self.take(role, gradient, None, None)
    }

    fn take(
        &mut self,
        role: Role,
        gradient: Matrix<'_>,
        active: Option<&[bool]>,
        unit_norm: Option<f32>,
    ) -> Result<()> {
        let state = self.adam.iter_mut().find(|state| state.role == role);
        let state = state.expect("every parameter has moments");
        state.updates += 1;
        let settings = AdamStep {
            lr: self.lr * state.lr_factor,
            beta1: self.optimizer.beta1,
            beta2: self.optimizer.beta2,
            eps: EPSILON,
            step: state.updates,
            gradient_scale: self.gradient_scale,
        };
        let moments = Moments {
            weights: slice_mut(&mut self.parameters[role])?,
            first: slice_mut(&mut state.mean)?,
            second: slice_mut(&mut state.square)?,
        };
        Ok(adam(moments, gradient, active, settings, unit_norm)?)
    }
}
