//! The training rules: the loss of a batch by plain libtorch operations, and what is learned from
//! the steps that are taken.

mod budget;
mod gated;
#[cfg(test)]
mod gradients;
mod jumprelu;
mod loss;
mod p_anneal;
mod prefixes;
mod soft;
mod standard;
mod topk;

pub(crate) use budget::BudgetLoss;
pub(crate) use loss::{Active, Detail, Facts, Loss};
pub(crate) use p_anneal::update_steps;
pub(crate) use soft::{SoftSchedule, estimator};
pub(crate) use topk::{KEPT, TopKFamily};

use sae_config::{CheckedRun, Recipe};
use sae_models::{Parameters, Sae};
use serde_json::Value;
use tch::Tensor;

use self::topk::TopKRule;
use crate::Result;
use crate::dead::DeadFeatures;
use crate::optimizer::OptimizerRule;
use crate::state::History;

/// Rows of a batch, normalised: what is encoded and what is rebuilt, which is the same but in a
/// transcoder.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    /// `[batch, d_model]`.
    pub(crate) x: &'a Tensor,
    /// `[batch, d_out]`.
    pub(crate) target: &'a Tensor,
}

/// What a loss depends on beside the parameters and the batch.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// The step, counted from 0.
    pub(crate) step: u64,
    /// How long each feature has been silent before the batch.
    pub(crate) dead: &'a DeadFeatures,
}

/// A step that has been taken, its batch counted.
pub(crate) struct Taken<'a> {
    /// The step, counted from 0.
    pub(crate) step: u64,
    /// The batch.
    pub(crate) rows: Pair<'a>,
    /// What the loss was.
    pub(crate) loss: &'a Loss,
    pub(crate) parameters: &'a mut Parameters,
    pub(crate) history: &'a mut History,
}

/// One training rule.
pub(crate) trait Rule: Send {
    /// How its gradient is turned into a step.
    fn optimizer(&self) -> OptimizerRule;

    /// The loss of a batch, or of a part of it; it changes nothing.
    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss>;

    /// Learns from a step that has been taken: thresholds, multipliers, features that start anew.
    fn observe(&mut self, _taken: Taken<'_>) {}

    /// What must be kept beside the tensors to go on.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes back what `save` gave.
    fn restore(&mut self, _saved: &Value) -> Result<()> {
        Ok(())
    }
}

/// The rule of a run of `sae`.
pub(crate) fn rule(config: &CheckedRun, sae: &Sae) -> Box<dyn Rule> {
    let (training, model) = (&config.training, sae.config());
    match &config.recipe {
        Recipe::TopK(c) => Box::new(TopKRule::new(TopKFamily::new(c, model))),
        Recipe::Soft(c) => Box::new(soft::SoftRule::new(c, training, sae)),
        Recipe::JumpRelu(c) => Box::new(jumprelu::JumpReluRule::new(c, sae)),
        Recipe::Gated(c) => Box::new(gated::GatedRule::new(c, sae)),
        Recipe::Standard(c) => Box::new(standard::StandardRule::new(c, training)),
        Recipe::StandardApril(c) => Box::new(standard::AprilRule::new(c)),
        Recipe::PAnneal(c) => Box::new(p_anneal::PAnnealRule::new(c, training, sae)),
    }
}

/// Whether training sets b_dec to the geometric median of its first batch.
pub(crate) fn starts_at_median(recipe: &Recipe) -> bool {
    match recipe {
        Recipe::TopK(_) | Recipe::Soft(_) => true,
        Recipe::JumpRelu(_)
        | Recipe::Gated(_)
        | Recipe::Standard(_)
        | Recipe::StandardApril(_)
        | Recipe::PAnneal(_) => false,
    }
}

/// Whether the loss is a mean over rows, so that a batch may come in parts.
pub(crate) fn is_mean_of_rows(recipe: &Recipe) -> bool {
    match recipe {
        Recipe::Gated(_) | Recipe::Standard(_) | Recipe::StandardApril(_) => true,
        Recipe::TopK(_) | Recipe::Soft(_) | Recipe::JumpRelu(_) | Recipe::PAnneal(_) => false,
    }
}
