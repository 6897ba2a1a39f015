//! TopK and BatchTopK.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::checks::{at_most_all_steps, before_the_end, check_auxk, check_target};
use crate::{AuxKConfig, CheckedTraining, KTarget, Recipe, Result, TopKRecipe};

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

/// The step after which a threshold is tracked: that of the setting, or its default.
pub(super) fn threshold_start(setting: Option<u64>, training: &CheckedTraining) -> u64 {
    setting.unwrap_or((training.steps / 10).min(1000))
}

impl Settings for TopKConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.k", self.k as f64)
    }

    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_target("k", self.k as f64, n_features)?;
        at_most_all_steps("k_anneal_steps", self.k_anneal_steps, training)?;
        let start = threshold_start(self.threshold_start_step, training);
        before_the_end("threshold_start_step", start, training)?;
        check_auxk(&self.auxk)
    }

    fn has_fast_engine(&self) -> bool {
        true
    }

    fn fill_in(&mut self, training: &CheckedTraining) {
        self.threshold_start_step = Some(threshold_start(self.threshold_start_step, training));
    }

    fn threshold_start_step(&mut self) -> Option<&mut Option<u64>> {
        Some(&mut self.threshold_start_step)
    }

    fn recipe(&self, n_features: usize, training: &CheckedTraining) -> Recipe {
        Recipe::TopK(TopKRecipe {
            k: KTarget::new(self.k, self.k_anneal_steps, training.parity),
            threshold_start_step: Some(threshold_start(self.threshold_start_step, training)),
            prefixes: vec![(n_features, 1.0)],
            auxk: self.auxk.clone(),
        })
    }
}
