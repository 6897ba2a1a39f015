//! The architectures and the settings of each.

use serde::{Deserialize, Serialize};

use crate::Parity;

/// An architecture with its settings: `[architecture]` with `name = "…"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name")]
#[non_exhaustive]
pub enum ArchitectureConfig {
    /// The k largest features of each input.
    #[serde(rename = "topk")]
    TopK(TopKConfig),
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

/// Where the gradient of the soft selection goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SelectionGradient {
    /// To k̂ alone: z is detached inside the operator.
    #[default]
    BudgetOnly,
    /// To k̂ and to z, as in the published code.
    Full,
}

/// The network that estimates k̂.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KEstimator {
    /// Two layers, as wide as the dictionary (the published one).
    #[default]
    Mlp,
    /// A linear head on the encoder's own activations, to which it passes no gradient.
    Shared,
    /// Two layers whose first is of low rank.
    LowRank {
        /// Its rank.
        rank: usize,
    },
}

/// How mean k̂ is held at k.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Budget {
    /// softplus_β(mean k̂ − k): only overspending costs (the published one).
    OneSided,
    /// The same on both sides.
    TwoSided,
    /// μ·e + λ_k/2·e² with e = mean k̂/k − 1, where μ rises while k is overspent and falls while it
    /// is not, so that mean k̂ comes to k itself.
    Dual,
}

/// Settings of SoftSAE.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftConfig {
    /// Target of mean k̂.
    pub k: usize,
    /// Upper bound of k̂; default 4k, with `parity = "official"` 2k.
    pub k_max: Option<f64>,
    /// Lower bound of k̂.
    #[serde(default = "one")]
    pub k_min: f64,
    /// Temperature α of the soft top-k at its end.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// α at the start, where it is annealed.
    #[serde(default = "one")]
    pub alpha_start: f64,
    /// α in the very first step, where it is annealed; default `alpha_start`.
    pub alpha_first: Option<f64>,
    /// Steps over which α falls linearly from `alpha_start`; 0 keeps it at `alpha`.
    #[serde(default)]
    pub alpha_anneal_steps: u64,
    /// Target k in the very first step, where it is annealed; default d_model, with
    /// `parity = "official"` the final `k`.
    pub k_first: Option<usize>,
    /// Steps over which the target k falls linearly from d_model.
    #[serde(default)]
    pub k_anneal_steps: u64,
    /// Last steps, trained with the hard selection of inference.
    #[serde(default)]
    pub hard_steps: u64,
    /// Weight λ_k of the budget loss.
    #[serde(default = "one")]
    pub k_loss_weight: f64,
    /// Sharpness β of its softplus.
    #[serde(default = "five")]
    pub k_loss_beta: f64,
    /// How mean k̂ is held at k; default `dual`, with `parity = "official"` `one_sided`.
    pub budget: Option<Budget>,
    /// Factor of the learning rate for the k-estimator.
    #[serde(default = "one")]
    pub k_estimator_lr: f64,
    /// Width w of the neighbourhood of the boundary that k̂'s gradient is taken over: the mean
    /// change of the loss by a feature between k̂ − w and k̂ + w features. 0: that of the operator,
    /// which at small α sees one feature alone. It takes the selection as hard, so α must not be
    /// annealed. Default k/4; 0 with `parity = "official"` and where α is annealed.
    pub k_gradient_window: Option<usize>,
    /// Where the gradient of the selection goes.
    #[serde(default)]
    pub selection_gradient: SelectionGradient,
    /// The network that estimates k̂.
    #[serde(default)]
    pub k_estimator: KEstimator,
    /// Share of the dictionary in each group, whose prefixes reconstruct by themselves as in
    /// Matryoshka BatchTopK; they sum to 1. One group: the whole dictionary alone.
    #[serde(default = "one_group")]
    pub group_fractions: Vec<f64>,
    /// Weight of each prefix reconstruction; default 1/G each.
    pub group_weights: Option<Vec<f64>>,
    /// Revival of dead features.
    #[serde(default)]
    pub auxk: AuxKConfig,
}

fn one_group() -> Vec<f64> {
    vec![1.0]
}

const fn one() -> f64 {
    1.0
}

const fn five() -> f64 {
    5.0
}

const fn default_alpha() -> f64 {
    1e-4
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

fn equal_weights(fractions: &[f64]) -> Vec<f64> {
    vec![1.0 / fractions.len() as f64; fractions.len()]
}

impl SoftConfig {
    /// Upper bound of k̂, as set or by default.
    #[must_use]
    pub const fn k_bound(&self) -> f64 {
        match self.k_max {
            Some(k_max) => k_max,
            None => 4.0 * self.k as f64,
        }
    }
}

impl ArchitectureConfig {
    /// The name under which the architecture is configured.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "topk",
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

    /// The number of active features the settings ask for, where they do.
    #[must_use]
    pub const fn target_l0(&self) -> Option<f64> {
        match self {
            Self::TopK(c) | Self::BatchTopK(c) => Some(c.k as f64),
            Self::MatryoshkaBatchTopK(c) => Some(c.k as f64),
            Self::Soft(c) => Some(c.k as f64),
            Self::JumpRelu(c) => Some(c.target_l0),
            _ => None,
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
            Self::Soft(c) => {
                c.group_weights.get_or_insert_with(|| equal_weights(&c.group_fractions));
                let official = parity == Parity::Official;
                let k_max = if official { 2.0 * c.k as f64 } else { c.k_bound() };
                c.k_max.get_or_insert(k_max);
                c.budget.get_or_insert(if official { Budget::OneSided } else { Budget::Dual });
                let is_sharp = c.alpha_anneal_steps == 0;
                let window = if official || !is_sharp { 0 } else { (c.k / 4).max(1) };
                c.k_gradient_window.get_or_insert(window);
            }
            _ => {}
        }
    }
}
