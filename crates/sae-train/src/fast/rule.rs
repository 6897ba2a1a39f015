//! What an architecture adds to the common step, and which architectures there are.

use std::ops::Range;

use sae_config::{AuxKConfig, CheckedRun, Recipe};
use sae_kernels::{Rank, SparseCodes};
use sae_models::{Parameters, Sae};
use serde_json::Value;

use super::buffers::Buffers;
use super::hard::HardRule;
use super::jumprelu::JumpReluFast;
use super::soft::SoftFast;
use super::update::Update;
use crate::Result;
use crate::optimizer::OptimizerRule;
use crate::profile::Profile;
use crate::rules::{Detail, TopKFamily};

/// Some rows of a step.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) step: u64,
    /// Those of the batch whose pre-activations are at hand.
    pub(super) rows: &'a Range<usize>,
    pub(super) parameters: &'a Parameters,
}

/// What an architecture adds to the common step.
pub(super) trait FastRule: Send {
    /// By what features are compared.
    fn rank(&self) -> Rank {
        Rank::Value
    }

    /// Puts the codes of some rows into the buffers.
    fn select(
        &mut self,
        rows: Rows<'_>,
        buffers: &mut Buffers,
        profile: &mut Profile,
    ) -> Result<()>;

    /// What is known of a step whose codes are selected; a threshold follows them.
    fn observe(&mut self, step: u64, codes: &SparseCodes, parameters: &mut Parameters) -> Detail;

    /// Whether the selection passes a gradient on to the encoder.
    fn reaches_encoder(&self) -> bool {
        true
    }

    /// From the gradients of the codes at hand to those of their pre-activations.
    fn code_backward(
        &mut self,
        _step: u64,
        _parameters: &Parameters,
        _buffers: &mut Buffers,
    ) -> Result<()> {
        Ok(())
    }

    /// The gradients of the rule's own parameters, and its own term of the loss, weighted.
    fn backward(
        &mut self,
        _step: u64,
        _parameters: &Parameters,
        _buffers: &mut Buffers,
        _profile: &mut Profile,
    ) -> Result<Option<(&'static str, f64)>> {
        Ok(None)
    }

    /// The squared norm of the gradients of its own parameters; what reaches b_dec through them is
    /// added there.
    fn squared_norm(&self, _parameters: &Parameters, _d_b_dec: &mut [f32]) -> Result<f64> {
        Ok(0.0)
    }

    /// Updates its own parameters.
    fn update(&self, _update: &mut Update<'_>) -> Result<()> {
        Ok(())
    }

    /// Gives back what it has taken of the buffers for the step.
    fn release(&mut self, _buffers: &mut Buffers) {}

    /// What must be kept to go on.
    fn save(&self) -> Value {
        Value::Null
    }

    /// Takes back what `save` gave.
    fn restore(&mut self, _saved: &Value) -> Result<()> {
        Ok(())
    }
}

/// How an architecture is trained.
pub(super) struct Training {
    pub(super) rule: Box<dyn FastRule>,
    pub(super) auxk: Option<AuxKConfig>,
    pub(super) optimizer: OptimizerRule,
}

/// How the architecture of `config` is trained; none where the engine does not compute it.
pub(super) fn training(config: &CheckedRun, sae: &Sae) -> Option<Training> {
    let clipped = OptimizerRule::CLIPPED;
    Some(match &config.recipe {
        Recipe::TopK(c) => Training {
            rule: Box::new(HardRule::new(TopKFamily::new(c, sae.config()))),
            auxk: Some(c.auxk.clone()),
            optimizer: clipped,
        },
        Recipe::Soft(c) => Training {
            rule: Box::new(SoftFast::new(c, &config.training, sae)),
            auxk: Some(c.auxk.clone()),
            optimizer: clipped,
        },
        Recipe::JumpRelu(c) => Training {
            rule: Box::new(JumpReluFast::new(c, sae)),
            auxk: None,
            optimizer: OptimizerRule { beta1: 0.0, ..clipped },
        },
        Recipe::Gated(_) | Recipe::Standard(_) | Recipe::StandardApril(_) | Recipe::PAnneal(_) => {
            return None;
        }
    })
}
