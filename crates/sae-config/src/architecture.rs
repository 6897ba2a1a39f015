//! The architectures and the settings of each.

use serde::{Deserialize, Serialize};

use crate::Parity;
use crate::soft::{KEstimator, SoftConfig};

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

/// Revival of dead features: they reconstruct the residual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuxKConfig {
    /// Weight of the auxiliary loss.
    pub weight: f64,
    /// Rows without firing after which a feature counts as dead.
    pub dead_after_rows: u64,
}

impl Default for AuxKConfig {
    fn default() -> Self {
        Self { weight: 1.0 / 32.0, dead_after_rows: 10_000_000 }
    }
}

/// Settings of TopK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TopKConfig {
    /// Active features an input.
    pub k: usize,
    /// Steps over which k falls linearly from d_model.
    #[serde(default)]
    pub k_anneal_steps: u64,
    /// The step after which the inference threshold is tracked; default a tenth of the steps, at most 1000.
    pub threshold_start_step: Option<u64>,
    /// Revival of dead features.
    #[serde(default)]
    pub auxk: AuxKConfig,
}

/// Settings of AbsTopK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbsTopKConfig {
    /// Active features an input.
    pub k: usize,
    /// Steps over which k falls linearly from d_model.
    #[serde(default)]
    pub k_anneal_steps: u64,
    /// Revival of dead features.
    #[serde(default)]
    pub auxk: AuxKConfig,
}

/// Settings of BatchTopK: those of TopK, with k the mean over the batch.
pub type BatchTopKConfig = TopKConfig;

/// Settings of Matryoshka BatchTopK.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatryoshkaBatchTopKConfig {
    /// Mean active features an input.
    pub k: usize,
    /// Share of the dictionary in each group; they sum to 1.
    #[serde(default = "default_group_fractions")]
    pub group_fractions: Vec<f64>,
    /// Weight of each prefix reconstruction; default 1/G each.
    pub group_weights: Option<Vec<f64>>,
    /// Steps over which k falls linearly from d_model.
    #[serde(default)]
    pub k_anneal_steps: u64,
    /// The step after which the inference threshold is tracked; default a tenth of the steps, at most 1000.
    pub threshold_start_step: Option<u64>,
    /// Revival of dead features.
    #[serde(default)]
    pub auxk: AuxKConfig,
}

fn default_group_fractions() -> Vec<f64> {
    vec![1.0 / 32.0, 1.0 / 16.0, 1.0 / 8.0, 1.0 / 4.0, 1.0 / 2.0 + 1.0 / 32.0]
}

pub(crate) const fn one() -> f64 {
    1.0
}

/// Settings of JumpReLU.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JumpReluConfig {
    /// The L0 that the penalty (L0/target − 1)² aims at.
    pub target_l0: f64,
    /// Weight λ of the penalty.
    #[serde(default = "one")]
    pub sparsity_weight: f64,
    /// Width ε of the straight-through kernels.
    #[serde(default = "default_bandwidth")]
    pub bandwidth: f64,
    /// Steps over which the penalty is warmed up.
    #[serde(default)]
    pub sparsity_warmup_steps: u64,
    /// Whether b_dec is subtracted from the input.
    #[serde(default)]
    pub subtract_b_dec: bool,
}

const fn default_bandwidth() -> f64 {
    0.001
}

/// Settings of Gated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatedConfig {
    /// Weight λ of the L1 penalty on the gate.
    pub l1_penalty: f64,
    /// Steps over which the penalty is warmed up.
    #[serde(default)]
    pub sparsity_warmup_steps: u64,
}

/// Settings of Standard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardConfig {
    /// Weight λ of the L1 penalty.
    pub l1_penalty: f64,
    /// Steps over which the penalty is warmed up.
    #[serde(default)]
    pub sparsity_warmup_steps: u64,
    /// Steps between two resamplings of dead features; none if absent.
    pub resample_steps: Option<u64>,
}

/// Settings of Standard with the April update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandardAprilConfig {
    /// Weight λ of the L1 penalty.
    pub l1_penalty: f64,
    /// Steps over which the penalty is warmed up.
    #[serde(default)]
    pub sparsity_warmup_steps: u64,
}

/// The penalty of P-anneal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SparsityFunction {
    /// Σ f^p.
    #[default]
    #[serde(rename = "Lp^p")]
    LpToP,
    /// (Σ f^p)^{1/p}.
    #[serde(rename = "Lp")]
    Lp,
}

/// Settings of P-anneal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PAnnealConfig {
    /// Weight c of the penalty at the start; it adapts as p falls.
    pub initial_sparsity_penalty: f64,
    /// The penalty.
    #[serde(default)]
    pub sparsity_function: SparsityFunction,
    /// Steps over which the penalty is warmed up.
    #[serde(default)]
    pub sparsity_warmup_steps: u64,
    /// p at the start.
    #[serde(default = "one")]
    pub p_start: f64,
    /// p at the end.
    #[serde(default = "default_p_end")]
    pub p_end: f64,
    /// The step at which p begins to fall.
    pub anneal_start: u64,
    /// How many times p falls.
    #[serde(default = "default_n_sparsity_updates")]
    pub n_sparsity_updates: u64,
    /// Losses remembered to rescale c.
    #[serde(default = "default_sparsity_queue_length")]
    pub sparsity_queue_length: usize,
}

const fn default_p_end() -> f64 {
    0.2
}

const fn default_n_sparsity_updates() -> u64 {
    10
}

const fn default_sparsity_queue_length() -> usize {
    10
}

pub(crate) fn equal_weights(fractions: &[f64]) -> Vec<f64> {
    vec![1.0 / fractions.len() as f64; fractions.len()]
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
    #[must_use]
    pub const fn has_fast_engine(&self) -> bool {
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

    pub(crate) fn resolve(&mut self, steps: u64, parity: Parity) {
        match self {
            Self::TopK(c) | Self::BatchTopK(c) => {
                c.threshold_start_step.get_or_insert((steps / 10).min(1000));
            }
            Self::MatryoshkaBatchTopK(c) => {
                c.threshold_start_step.get_or_insert((steps / 10).min(1000));
                c.group_weights.get_or_insert_with(|| equal_weights(&c.group_fractions));
            }
            Self::Soft(c) => c.resolve(parity),
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
