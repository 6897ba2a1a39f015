//! What an architecture adds to the common step, and which architectures there are.

use std::ops::Range;

use sae_config::{ArchitectureConfig, AuxKConfig, RunConfig};
use sae_kernels::{Rank, SparseCodes};
use sae_models::{Parameters, Sae, prefixes};
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
    /// Where each prefix of the dictionary ends that is a dictionary too, and its weight.
    pub(super) groups: Vec<(usize, f64)>,
    pub(super) auxk: Option<AuxKConfig>,
    pub(super) optimizer: OptimizerRule,
}

/// How the architecture of `config` is trained; none where the engine does not compute it.
pub(super) fn training(config: &RunConfig, sae: &dyn Sae) -> Option<Training> {
    let model = sae.config();
    let clipped = OptimizerRule::CLIPPED;
    let of_family = |family: TopKFamily| Training {
        groups: family.groups.clone(),
        auxk: Some(family.auxk.clone()),
        rule: Box::new(HardRule::new(family)),
        optimizer: clipped,
    };
    Some(match &config.architecture {
        ArchitectureConfig::TopK(c) => of_family(TopKFamily::topk(c, model)),
        ArchitectureConfig::AbsTopK(c) => of_family(TopKFamily::abs_topk(c, model)),
        ArchitectureConfig::BatchTopK(c) => of_family(TopKFamily::batch_topk(c, model)),
        ArchitectureConfig::MatryoshkaBatchTopK(c) => of_family(TopKFamily::matryoshka(c, model)),
        ArchitectureConfig::Soft(c) => {
            let weights = c.group_weights.as_deref();
            let groups = prefixes(&c.group_fractions, weights, model.n_features);
            let weight = groups.iter().map(|g| g.1).sum::<f64>() / groups.len() as f64;
            let rule = Box::new(SoftFast::new(c, &config.training, weight, sae));
            Training { rule, groups, auxk: Some(c.auxk.clone()), optimizer: clipped }
        }
        ArchitectureConfig::JumpRelu(c) => Training {
            rule: Box::new(JumpReluFast::new(c, sae)),
            groups: vec![(model.n_features, 1.0)],
            auxk: None,
            optimizer: OptimizerRule { beta1: 0.0, ..clipped },
        },
        ArchitectureConfig::Gated(_)
        | ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => return None,
    })
}
