//! The settings of each architecture but SoftSAE.

use serde::{Deserialize, Serialize};

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

impl TopKConfig {
    /// The step after which the threshold is tracked in a run of so many steps.
    pub(crate) fn threshold_start(&self, steps: u64) -> u64 {
        self.threshold_start_step.unwrap_or_else(|| default_threshold_start(steps))
    }
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

impl MatryoshkaBatchTopKConfig {
    /// The step after which the threshold is tracked in a run of so many steps.
    pub(crate) fn threshold_start(&self, steps: u64) -> u64 {
        self.threshold_start_step.unwrap_or_else(|| default_threshold_start(steps))
    }
}

fn default_threshold_start(steps: u64) -> u64 {
    (steps / 10).min(1000)
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
