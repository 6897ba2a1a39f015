//! Matryoshka BatchTopK.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::checks::{
    at_most_all_steps, before_the_end, check, check_auxk, check_groups, check_target,
};
use super::topk::threshold_start;
use crate::groups::{equal_weights, prefixes};
use crate::{AuxKConfig, CheckedTraining, KTarget, Recipe, Result, TopKRecipe};

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

impl Settings for MatryoshkaBatchTopKConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.k", self.k as f64)
    }

    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_target("k", self.k as f64, n_features)?;
        at_most_all_steps("k_anneal_steps", self.k_anneal_steps, training)?;
        let start = threshold_start(self.threshold_start_step, training);
        before_the_end("threshold_start_step", start, training)?;
        check_auxk(&self.auxk)?;
        let smallest =
            check_groups(&self.group_fractions, self.group_weights.as_deref(), n_features)?;
        let expected = format!("at most the smallest group, {smallest} features");
        check("k", self.k as f64 <= smallest, expected, self.k)
    }

    fn has_fast_engine(&self) -> bool {
        true
    }

    fn fill_in(&mut self, training: &CheckedTraining) {
        self.threshold_start_step = Some(threshold_start(self.threshold_start_step, training));
        self.group_weights.get_or_insert_with(|| equal_weights(&self.group_fractions));
    }

    fn threshold_start_step(&mut self) -> Option<&mut Option<u64>> {
        Some(&mut self.threshold_start_step)
    }

    fn recipe(&self, n_features: usize, training: &CheckedTraining) -> Recipe {
        Recipe::TopK(TopKRecipe {
            k: KTarget::new(self.k, self.k_anneal_steps, training.parity),
            threshold_start_step: Some(threshold_start(self.threshold_start_step, training)),
            prefixes: prefixes(&self.group_fractions, self.group_weights.as_deref(), n_features),
            auxk: self.auxk.clone(),
        })
    }
}
