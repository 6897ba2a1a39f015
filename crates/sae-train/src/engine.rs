//! What computes a step: the reference engine, by plain libtorch operations and autograd.

use sae_config::RunConfig;
use sae_models::Sae;
use serde_json::Value;
use tch::{Device, Tensor};

use crate::fast::Profile;
use crate::optimizer::update;
use crate::rules::{Context, Loss, Rule, rule};
use crate::schedule::lr_factor;
use crate::state::TrainerState;
use crate::{Error, Result};

/// Computes optimiser steps on a trainer's state.
pub(crate) trait StepEngine: Send {
    /// One step on normalised rows `[batch, d_model]`; the state's step is not yet counted up.
    fn step(&mut self, state: &mut TrainerState, x: &Tensor) -> Result<Loss>;

    /// What must be kept beside the state to go on.
    fn save(&self) -> Value;

    /// Takes back what `save` gave.
    fn restore(&mut self, saved: &Value) -> Result<()>;

    /// Brings the model's tensors up to date, where the engine works on others.
    fn publish(&self, _state: &TrainerState) {}

    /// Where the time of its steps goes, where the engine measures it.
    fn profile(&self) -> Option<&Profile> {
        None
    }
}

/// Plain libtorch operations and autograd, on any device.
pub(crate) struct ReferenceEngine {
    rule: Box<dyn Rule>,
}

impl ReferenceEngine {
    pub(crate) fn new(config: &RunConfig, sae: &dyn Sae) -> Result<Self> {
        Ok(Self { rule: rule(config, sae)? })
    }
}

impl StepEngine for ReferenceEngine {
    fn step(&mut self, state: &mut TrainerState, x: &Tensor) -> Result<Loss> {
        let step = state.step;
        if step == 0 {
            self.rule.start(x);
        }
        let loss = self.rule.loss(x, Context { step, dead: &mut state.dead })?;
        if x.device() == Device::Cpu {
            check_finite(&loss.total, step)?;
        }
        let inputs: Vec<&Tensor> = state.parameters.iter().map(|p| &p.value).collect();
        let gradients = Tensor::f_run_backward(&[&loss.total], &inputs, false, false)
            .map_err(|source| Error::Torch { step, source })?;
        let lr = state.lr();
        update(self.rule.optimizer(), &mut state.parameters, gradients, lr);
        self.rule.after_update(x, Context { step, dead: &mut state.dead }, &mut state.parameters);
        Ok(loss)
    }

    fn save(&self) -> Value {
        self.rule.save()
    }

    fn restore(&mut self, saved: &Value) -> Result<()> {
        self.rule.restore(saved)
    }
}

impl TrainerState {
    /// The learning rate of the step to come.
    pub(crate) fn lr(&self) -> f64 {
        let training = &self.config.training;
        training.lr.unwrap_or_default() * lr_factor(training, self.step)
    }
}

/// The loss as a number; NaN and infinity are errors.
pub(crate) fn check_finite(loss: &Tensor, step: u64) -> Result<f64> {
    let value = loss.double_value(&[]);
    if value.is_finite() { Ok(value) } else { Err(Error::LossNotFinite { step, loss: value }) }
}
