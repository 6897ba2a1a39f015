//! The settings of SoftSAE.

use serde::{Deserialize, Serialize};

use super::checks::{
    at_most_all_steps, check, check_auxk, check_groups, check_target, not_negative, positive,
};
use super::{Settings, one};
use crate::groups::{equal_weights, prefixes};
use crate::{AuxKConfig, CheckedTraining, KTarget, Parity, Recipe, Result, SoftRecipe};

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
    /// Two layers, with as many hidden units as the dictionary has features (the published one).
    #[default]
    Mlp,
    /// The same with fewer hidden units, which costs next to nothing.
    Narrow {
        /// Its hidden units; default d_model, but at least 256, and at most the size of the
        /// dictionary.
        width: Option<usize>,
    },
    /// A linear head on the encoder's own activations.
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

const fn five() -> f64 {
    5.0
}

const fn default_alpha() -> f64 {
    1e-4
}

impl SoftConfig {
    /// Upper bound of k̂, as set or by default.
    pub(crate) const fn k_bound(&self, parity: Parity) -> f64 {
        match (self.k_max, parity) {
            (Some(k_max), _) => k_max,
            (None, Parity::None) => 4.0 * self.k as f64,
            (None, Parity::Official) => 2.0 * self.k as f64,
        }
    }

    /// How mean k̂ is held at k, as set or by default.
    pub(crate) const fn budget(&self, parity: Parity) -> Budget {
        match (self.budget, parity) {
            (Some(budget), _) => budget,
            (None, Parity::None) => Budget::Dual,
            (None, Parity::Official) => Budget::OneSided,
        }
    }

    /// Width of the neighbourhood that k̂'s gradient is taken over, as set or by default.
    pub(crate) fn window(&self, parity: Parity) -> usize {
        let is_sharp = self.alpha_anneal_steps == 0;
        let default = if parity == Parity::Official || !is_sharp { 0 } else { (self.k / 4).max(1) };
        self.k_gradient_window.unwrap_or(default)
    }
}

impl Settings for SoftConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.k", self.k as f64)
    }

    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_target("k", self.k as f64, n_features)?;
        let features = n_features as f64;
        check("k", n_features > 2, "a dictionary of at least 3 features", n_features)?;
        let k_max = self.k_bound(training.parity);
        let expected = format!("more than k = {}", self.k);
        check("k_max", k_max > self.k as f64 && k_max.is_finite(), expected, k_max)?;
        let expected =
            format!("more than 0, at most k = {} and less than {}", self.k, features - 1.0);
        let most = (self.k as f64).min(features - 1.0);
        check("k_min", self.k_min > 0.0 && self.k_min <= most, expected, self.k_min)?;
        if let Some(first) = self.k_first {
            let expected = format!("from 1 to sae.n_features = {n_features}");
            check("k_first", (1..=n_features).contains(&first), expected, first)?;
        }
        positive("alpha", self.alpha)?;
        positive("alpha_start", self.alpha_start)?;
        positive("alpha_first", self.alpha_first.unwrap_or(1.0))?;
        not_negative("k_loss_weight", self.k_loss_weight)?;
        positive("k_loss_beta", self.k_loss_beta)?;
        let window = self.window(training.parity);
        let is_sharp = window == 0 || self.alpha_anneal_steps == 0;
        check("k_gradient_window", is_sharp, "0, since alpha_anneal_steps is not 0", window)?;
        positive("k_estimator_lr", self.k_estimator_lr)?;
        at_most_all_steps("alpha_anneal_steps", self.alpha_anneal_steps, training)?;
        at_most_all_steps("k_anneal_steps", self.k_anneal_steps, training)?;
        at_most_all_steps("hard_steps", self.hard_steps, training)?;
        match self.k_estimator {
            KEstimator::Narrow { width: Some(width) } => {
                let expected = format!("from 1 to sae.n_features = {n_features}");
                let fine = (1..=n_features).contains(&width);
                check("k_estimator.narrow.width", fine, expected, width)?;
            }
            KEstimator::LowRank { rank } => {
                check("k_estimator.low_rank.rank", rank > 0, "at least 1", rank)?;
            }
            KEstimator::Mlp | KEstimator::Narrow { width: None } | KEstimator::Shared => {}
        }
        check_groups(&self.group_fractions, self.group_weights.as_deref(), n_features)?;
        check_auxk(&self.auxk)
    }

    fn has_fast_engine(&self) -> bool {
        matches!(self.k_estimator, KEstimator::Mlp | KEstimator::Narrow { .. })
    }

    fn fill_in(&mut self, training: &CheckedTraining) {
        let parity = training.parity;
        self.group_weights.get_or_insert_with(|| equal_weights(&self.group_fractions));
        self.k_max = Some(self.k_bound(parity));
        self.budget = Some(self.budget(parity));
        self.k_gradient_window = Some(self.window(parity));
    }

    fn recipe(&self, n_features: usize, training: &CheckedTraining) -> Recipe {
        let target = KTarget::new(self.k, self.k_anneal_steps, training.parity);
        let official = training.parity == Parity::Official;
        let soft_steps = training.steps - self.hard_steps.min(training.steps);
        Recipe::Soft(SoftRecipe {
            k: KTarget { first: self.k_first.or(target.first), ..target },
            k_max: self.k_bound(training.parity),
            alpha: self.alpha,
            alpha_start: self.alpha_start,
            alpha_first: self.alpha_first.unwrap_or(self.alpha_start),
            alpha_anneal_steps: self.alpha_anneal_steps,
            // The published code begins a step late.
            hard_from: soft_steps + u64::from(official),
            k_loss_weight: self.k_loss_weight,
            k_loss_beta: self.k_loss_beta,
            budget: self.budget(training.parity),
            k_estimator_lr: self.k_estimator_lr,
            k_gradient_window: self.window(training.parity),
            selection_gradient: self.selection_gradient,
            prefixes: prefixes(&self.group_fractions, self.group_weights.as_deref(), n_features),
            auxk: self.auxk.clone(),
        })
    }
}
