//! What computes a step: the reference engine, by plain libtorch operations and autograd.

use sae_config::RunConfig;
use sae_models::Sae;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tch_autograd::read;

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

    /// The first step whose loss was not finite, where the engine does not see it at once.
    fn first_fault(&self) -> Option<&FirstFault> {
        None
    }

    /// Where the time of its steps goes, where the engine measures it.
    fn profile(&self) -> Option<&Profile> {
        None
    }
}

/// Plain libtorch operations and autograd, on any device.
///
/// On a GPU a step reads no number from the device, with these exceptions: the first step of the
/// TopK family and of SoftSAE (the geometric median), a step after which `standard` resamples, one
/// in which the p of `p_anneal` falls, and each of the hard phase of SoftSAE with `parity`.
pub(crate) struct ReferenceEngine {
    rule: Box<dyn Rule>,
    micro_batch: i64,
    /// Absent where reading each loss waits for nothing.
    first_fault: Option<FirstFault>,
}

impl ReferenceEngine {
    pub(crate) fn new(config: &RunConfig, sae: &dyn Sae) -> Result<Self> {
        let rule = rule(config, sae)?;
        let batch = config.training.batch_size;
        let micro_batch = config.training.micro_batch.unwrap_or(batch);
        if micro_batch < batch && !rule.is_mean_of_rows() {
            let expected = format!(
                "{batch}, the whole batch: the loss of `{}` is no mean of rows, and the reference \
                 engine adds up gradients",
                config.architecture.name()
            );
            let error = sae_config::Error::value("training.micro_batch", expected, micro_batch);
            return Err(error.into());
        }
        let device = sae.base().device();
        let first_fault = read::waits(device).then(|| FirstFault::none(device));
        Ok(Self { rule, micro_batch: micro_batch as i64, first_fault })
    }

    /// The loss of a batch and its gradients, part by part of the batch.
    fn differentiate(
        &mut self,
        state: &mut TrainerState,
        x: &Tensor,
    ) -> Result<(Loss, Vec<Tensor>)> {
        let step = state.step;
        let inputs: Vec<Tensor> =
            state.parameters.iter().map(|p| p.value.shallow_clone()).collect();
        let batch = x.size()[0];
        let before = state.dead.rows_since_fired.copy();
        let mut sum: Option<(Loss, Vec<Tensor>)> = None;
        for part in x.split(self.micro_batch, 0) {
            let loss = self.rule.loss(&part, Context { step, dead: &mut state.dead })?;
            let n = part.size()[0];
            let loss = if n == batch { loss } else { loss.share_of(n as f64 / batch as f64) };
            match &mut self.first_fault {
                Some(fault) => fault.see(&loss.total, step),
                None => drop(check_finite(&loss.total, step)?),
            }
            let gradients = Tensor::f_run_backward(&[&loss.total], &inputs, false, false)
                .map_err(|source| Error::Torch { step, source })?;
            sum = Some(match sum {
                None => (loss, gradients),
                Some((so_far, of_parts)) => (so_far.plus(loss), add(of_parts, gradients)),
            });
        }
        if self.micro_batch < batch {
            state.dead.fired_in_parts(&before, batch);
        }
        Ok(sum.expect("a batch has rows"))
    }
}

/// The sums of two lists of gradients; one that is undefined counts as 0.
fn add(mut sums: Vec<Tensor>, gradients: Vec<Tensor>) -> Vec<Tensor> {
    for (sum, gradient) in sums.iter_mut().zip(gradients) {
        if !sum.defined() {
            *sum = gradient;
        } else if gradient.defined() {
            *sum += gradient;
        }
    }
    sums
}

impl StepEngine for ReferenceEngine {
    fn step(&mut self, state: &mut TrainerState, x: &Tensor) -> Result<Loss> {
        let step = state.step;
        if step == 0 && state.config.training.init.is_none() {
            self.rule.start(x);
        }
        let (loss, gradients) = self.differentiate(state, x)?;
        let lr = state.lr();
        update(self.rule.optimizer(), &mut state.parameters, gradients, lr);
        self.rule.after_update(x, Context { step, dead: &mut state.dead }, &mut state.parameters);
        Ok(loss)
    }

    fn first_fault(&self) -> Option<&FirstFault> {
        self.first_fault.as_ref()
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

/// The first step whose loss was not finite, and that loss: on the device until somebody asks.
#[derive(Debug)]
pub(crate) struct FirstFault {
    /// −1 as long as there is none.
    step: Tensor,
    loss: Tensor,
}

impl FirstFault {
    fn none(device: Device) -> Self {
        let number = |value: f64, kind| Tensor::full([0i64; 0], value, (kind, device));
        Self { step: number(-1.0, Kind::Int64), loss: number(0.0, Kind::Double) }
    }

    fn see(&mut self, loss: &Tensor, step: u64) {
        let loss = loss.detach().to_kind(Kind::Double);
        let is_first = loss.isfinite().logical_not().logical_and(&self.step.lt(0));
        self.step = self.step.masked_fill(&is_first, step as i64);
        self.loss = loss.where_self(&is_first, &self.loss);
    }

    /// Another handle of what is known now.
    pub(crate) fn alias(&self) -> Self {
        Self { step: self.step.shallow_clone(), loss: self.loss.shallow_clone() }
    }

    /// # Errors
    /// That loss, with its step.
    pub(crate) fn check(&self) -> Result<()> {
        match u64::try_from(read::whole_number(&self.step)) {
            Ok(step) => Err(Error::LossNotFinite { step, loss: read::number(&self.loss) }),
            Err(_) => Ok(()),
        }
    }
}

/// The loss as a number; NaN and infinity are errors.
pub(crate) fn check_finite(loss: &Tensor, step: u64) -> Result<f64> {
    let value = read::number(loss);
    if value.is_finite() { Ok(value) } else { Err(Error::LossNotFinite { step, loss: value }) }
}
