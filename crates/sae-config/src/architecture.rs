//! The architectures and the settings of each.

use serde::{Deserialize, Serialize};

use crate::groups::equal_weights;
use crate::{
    AbsTopKConfig, BatchTopKConfig, GatedConfig, JumpReluConfig, KEstimator,
    MatryoshkaBatchTopKConfig, PAnnealConfig, Parity, SoftConfig, StandardAprilConfig,
    StandardConfig, TopKConfig,
};

/// An architecture with its settings: `[architecture]` with `name = "…"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum ArchitectureConfig {
    /// The k largest features of each input.
    #[serde(rename = "topk")]
    TopK(TopKConfig),
    /// The k features of largest magnitude of each input, with their sign.
    #[serde(rename = "abs_topk")]
    AbsTopK(AbsTopKConfig),
    /// The k·B largest of a batch; a threshold at inference.
    #[serde(rename = "batch_topk")]
    BatchTopK(BatchTopKConfig),
    /// BatchTopK whose prefixes are dictionaries too.
    #[serde(rename = "matryoshka_batch_topk")]
    MatryoshkaBatchTopK(MatryoshkaBatchTopKConfig),
    /// SoftSAE: the number of features is learned per input.
    #[serde(rename = "soft")]
    Soft(SoftConfig),
    /// A learned threshold per feature.
    #[serde(rename = "jumprelu")]
    JumpRelu(JumpReluConfig),
    /// A gate decides, a magnitude measures.
    #[serde(rename = "gated")]
    Gated(GatedConfig),
    /// ReLU with an L1 penalty.
    #[serde(rename = "standard")]
    Standard(StandardConfig),
    /// ReLU with an L1 penalty weighted by decoder norms.
    #[serde(rename = "standard_april")]
    StandardApril(StandardAprilConfig),
    /// ReLU with an Lp penalty, p annealed from 1 towards 0.
    #[serde(rename = "p_anneal")]
    PAnneal(PAnnealConfig),
}

impl ArchitectureConfig {
    /// The names of all architectures.
    pub const NAMES: [&'static str; 10] = [
        "topk",
        "abs_topk",
        "batch_topk",
        "matryoshka_batch_topk",
        "soft",
        "jumprelu",
        "gated",
        "standard",
        "standard_april",
        "p_anneal",
    ];

    /// The name under which the architecture is configured.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "topk",
            Self::AbsTopK(_) => "abs_topk",
            Self::BatchTopK(_) => "batch_topk",
            Self::MatryoshkaBatchTopK(_) => "matryoshka_batch_topk",
            Self::Soft(_) => "soft",
            Self::JumpRelu(_) => "jumprelu",
            Self::Gated(_) => "gated",
            Self::Standard(_) => "standard",
            Self::StandardApril(_) => "standard_april",
            Self::PAnneal(_) => "p_anneal",
        }
    }

    /// Whether the fast engine computes the architecture with these settings.
    pub(crate) const fn has_fast_engine(&self) -> bool {
        match self {
            Self::TopK(_)
            | Self::AbsTopK(_)
            | Self::BatchTopK(_)
            | Self::MatryoshkaBatchTopK(_)
            | Self::JumpRelu(_) => true,
            Self::Soft(c) => matches!(c.k_estimator, KEstimator::Mlp | KEstimator::Narrow { .. }),
            Self::Gated(_) | Self::Standard(_) | Self::StandardApril(_) | Self::PAnneal(_) => false,
        }
    }

    /// The number of active features the settings ask for, where they do.
    #[must_use]
    pub const fn target_l0(&self) -> Option<f64> {
        match self {
            Self::TopK(c) | Self::BatchTopK(c) => Some(c.k as f64),
            Self::AbsTopK(c) => Some(c.k as f64),
            Self::MatryoshkaBatchTopK(c) => Some(c.k as f64),
            Self::Soft(c) => Some(c.k as f64),
            Self::JumpRelu(c) => Some(c.target_l0),
            Self::Gated(_) | Self::Standard(_) | Self::StandardApril(_) | Self::PAnneal(_) => None,
        }
    }

    /// The setting that decides how sparse codes are, as a dotted key of the run, and its value.
    #[must_use]
    pub const fn sparsity(&self) -> (&'static str, f64) {
        match self {
            Self::TopK(c) | Self::BatchTopK(c) => ("architecture.k", c.k as f64),
            Self::AbsTopK(c) => ("architecture.k", c.k as f64),
            Self::MatryoshkaBatchTopK(c) => ("architecture.k", c.k as f64),
            Self::Soft(c) => ("architecture.k", c.k as f64),
            Self::JumpRelu(c) => ("architecture.target_l0", c.target_l0),
            Self::Gated(c) => ("architecture.l1_penalty", c.l1_penalty),
            Self::Standard(c) => ("architecture.l1_penalty", c.l1_penalty),
            Self::StandardApril(c) => ("architecture.l1_penalty", c.l1_penalty),
            Self::PAnneal(c) => {
                ("architecture.initial_sparsity_penalty", c.initial_sparsity_penalty)
            }
        }
    }

    /// Writes the defaults that depend on the rest of the run into the settings.
    pub(crate) fn fill_in(&mut self, steps: u64, parity: Parity) {
        match self {
            Self::TopK(c) | Self::BatchTopK(c) => {
                c.threshold_start_step = Some(c.threshold_start(steps));
            }
            Self::MatryoshkaBatchTopK(c) => {
                c.threshold_start_step = Some(c.threshold_start(steps));
                c.group_weights.get_or_insert_with(|| equal_weights(&c.group_fractions));
            }
            Self::Soft(c) => c.fill_in(parity),
            Self::AbsTopK(_)
            | Self::JumpRelu(_)
            | Self::Gated(_)
            | Self::Standard(_)
            | Self::StandardApril(_)
            | Self::PAnneal(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_all_that_files_may_have() {
        let error = toml::from_str::<ArchitectureConfig>("name = 'none of them'").unwrap_err();
        let message = error.message();
        let listed = message.split('`').skip(3).step_by(2).collect::<Vec<_>>();
        assert_eq!(listed, ArchitectureConfig::NAMES, "{message}");
    }
}
