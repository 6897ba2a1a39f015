//! AbsTopK.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::checks::{at_most_all_steps, check_auxk, check_target};
use crate::{AuxKConfig, CheckedTraining, KTarget, Recipe, Result, TopKRecipe};

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

impl Settings for AbsTopKConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.k", self.k as f64)
    }

    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_target("k", self.k as f64, n_features)?;
        at_most_all_steps("k_anneal_steps", self.k_anneal_steps, training)?;
        check_auxk(&self.auxk)
    }

    fn has_fast_engine(&self) -> bool {
        true
    }

    fn recipe(&self, n_features: usize, training: &CheckedTraining) -> Recipe {
        Recipe::TopK(TopKRecipe {
            k: KTarget::new(self.k, self.k_anneal_steps, training.parity),
            threshold_start_step: None,
            prefixes: vec![(n_features, 1.0)],
            auxk: self.auxk.clone(),
        })
    }
}
