//! What each architecture is at inference: its tensors, their initial values, and its rule.

mod gated;
mod jumprelu;
mod soft;

use std::collections::BTreeMap;

use sae_config::ArchitectureConfig;
use tch::Tensor;

pub use self::soft::Estimator;
use crate::init::tied;
use crate::{InitRng, Largest, ModelConfig, Parameters, Result, Role, Selection, Tensors};

/// The threshold of a model that has not seen one.
const NO_THRESHOLD: f64 = -1.0;

/// The rule of inference.
///
/// BatchTopK (Bussmann et al. 2024, arXiv:2412.06410) and Matryoshka BatchTopK (arXiv:2503.17547)
/// keep the k·B largest features of a batch in training, and at inference those above a threshold
/// that training has averaged. Matryoshka, the April update and P-anneal differ from others in their
/// loss alone.
pub(crate) fn selection(config: &ModelConfig) -> Selection {
    match &config.architecture {
        ArchitectureConfig::TopK(c) => Selection::of_rows(Largest::top_k, c.k),
        ArchitectureConfig::AbsTopK(c) => Selection::of_rows(Largest::abs_top_k, c.k),
        ArchitectureConfig::BatchTopK(_) | ArchitectureConfig::MatryoshkaBatchTopK(_) => {
            Selection::Exceeding
        }
        ArchitectureConfig::Soft(c) => {
            Selection::Estimated(Estimator::new(c, config.n_features, config.parity))
        }
        ArchitectureConfig::JumpRelu(c) => Selection::Jump { subtract_b_dec: c.subtract_b_dec },
        ArchitectureConfig::Gated(_) => Selection::Gate,
        ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => Selection::Positive,
    }
}

/// Takes the tensors that an architecture has beside encoder and decoder.
pub(crate) fn take_own(
    config: &ModelConfig,
    all: &mut Parameters,
    from: &mut Tensors,
) -> Result<()> {
    match &config.architecture {
        ArchitectureConfig::TopK(_)
        | ArchitectureConfig::BatchTopK(_)
        | ArchitectureConfig::MatryoshkaBatchTopK(_) => all.take_buffer(Role::Threshold, &[], from),
        ArchitectureConfig::Soft(c) => soft::take(config, c, all, from),
        ArchitectureConfig::JumpRelu(_) => jumprelu::take(config, all, from),
        ArchitectureConfig::Gated(_) => gated::take(config, all, from),
        ArchitectureConfig::AbsTopK(_)
        | ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => Ok(()),
    }
}

/// The initial values of all tensors.
pub(crate) fn initial(config: &ModelConfig, rng: &mut InitRng) -> BTreeMap<String, Tensor> {
    match &config.architecture {
        ArchitectureConfig::TopK(_)
        | ArchitectureConfig::BatchTopK(_)
        | ArchitectureConfig::MatryoshkaBatchTopK(_) => {
            let mut map = tied(config, rng, 1.0);
            map.insert(Role::Threshold.name().into(), Tensor::from(NO_THRESHOLD));
            map
        }
        ArchitectureConfig::AbsTopK(_) => tied(config, rng, 1.0),
        ArchitectureConfig::Soft(c) => soft::initial(config, c, rng),
        ArchitectureConfig::JumpRelu(_) => jumprelu::initial(config, rng),
        ArchitectureConfig::Gated(_) => gated::initial(config, rng),
        // Decoder and encoder of norm 0.1, as the April update has it.
        ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => tied(config, rng, 0.1),
    }
}
