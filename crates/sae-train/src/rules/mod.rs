//! The training rules: one file each, the loss of a batch by plain libtorch operations.

mod abs_topk;
mod batch_topk;
mod budget;
mod codes;
mod gated;
#[cfg(test)]
mod gradients;
mod jumprelu;
mod loss;
mod matryoshka;
mod p_anneal;
mod prefixes;
mod soft;
mod standard;
mod threshold;
mod topk;

pub(crate) use budget::BudgetLoss;
pub(crate) use codes::Codes;
pub(crate) use loss::{Active, Detail, Loss};
pub(crate) use p_anneal::update_steps;
pub(crate) use soft::{SoftSchedule, hard_from};
pub(crate) use threshold::{KEPT, annealed_k};

use sae_config::{ArchitectureConfig, Parity, RunConfig};
use sae_models::{Sae, Weights};
use serde_json::Value;
use tch::Tensor;

use crate::Result;
use crate::dead::DeadFeatures;
use crate::optimizer::{OptimizerRule, Parameter};

/// What a rule may look at beside the batch.
pub(crate) struct Context<'a> {
    /// The step, counted from 0.
    pub(crate) step: u64,
    /// How long each feature has been silent; the rule counts the batch.
    pub(crate) dead: &'a mut DeadFeatures,
}

/// One training rule.
pub(crate) trait Rule: Send {
    /// How its gradient is turned into a step.
    fn optimizer(&self) -> OptimizerRule;

    /// Whether the loss is a mean over rows, so that a batch may come in parts.
    fn is_mean_of_rows(&self) -> bool {
        false
    }

    /// Sets what depends on the first batch.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, normalised.
    fn start(&mut self, _x: &Tensor) {}

    /// The loss of a batch.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, normalised.
    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss>;

    /// What is done after the update.
    fn after_update(&mut self, _x: &Tensor, _context: Context<'_>, _parameters: &mut [Parameter]) {}

    /// What must be kept beside the tensors to go on.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes back what `save` gave.
    fn restore(&mut self, _saved: &Value) -> Result<()> {
        Ok(())
    }
}

/// The rule of `config`'s architecture over the tensors of `sae`.
pub(crate) fn rule(config: &RunConfig, sae: &dyn Sae) -> Result<Box<dyn Rule>> {
    let training = &config.training;
    let official = training.parity == Parity::Official;
    Ok(match &config.architecture {
        ArchitectureConfig::TopK(c) => Box::new(topk::TopKRule::new(c, official, sae)?),
        ArchitectureConfig::AbsTopK(c) => Box::new(abs_topk::AbsTopKRule::new(c, official, sae)),
        ArchitectureConfig::BatchTopK(c) => {
            Box::new(batch_topk::BatchTopKRule::new(c, official, sae)?)
        }
        ArchitectureConfig::MatryoshkaBatchTopK(c) => {
            Box::new(matryoshka::MatryoshkaRule::new(c, official, sae)?)
        }
        ArchitectureConfig::Soft(c) => Box::new(soft::SoftRule::new(c, training, sae)?),
        ArchitectureConfig::JumpRelu(c) => Box::new(jumprelu::JumpReluRule::new(c, sae)?),
        ArchitectureConfig::Gated(c) => Box::new(gated::GatedRule::new(c, sae)?),
        ArchitectureConfig::Standard(c) => Box::new(standard::StandardRule::new(c, training, sae)),
        ArchitectureConfig::StandardApril(c) => Box::new(standard::AprilRule::new(c, sae)),
        ArchitectureConfig::PAnneal(c) => Box::new(p_anneal::PAnnealRule::new(c, training, sae)),
    })
}

/// A handle to the tensor of `sae` called `name`.
pub(crate) fn tensor(sae: &dyn Sae, name: &str) -> Result<Tensor> {
    let mut all = sae.parameters().into_iter().chain(sae.buffers());
    match all.find(|(n, _)| *n == name) {
        Some((_, tensor)) => Ok(tensor.shallow_clone()),
        None => {
            let error = sae_models::Error::MissingTensor { name: name.into(), expected: vec![] };
            Err(error.into())
        }
    }
}

/// Sets b_dec to the geometric median of the first batch.
fn centre_decoder(weights: &Weights, x: &Tensor) {
    let median = crate::geometric_median::geometric_median(x);
    tch::no_grad(|| weights.b_dec.shallow_clone().copy_(&median));
}
