//! Gated.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::checks::check_penalty;
use crate::{CheckedTraining, Recipe, Result};

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

impl Settings for GatedConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.l1_penalty", self.l1_penalty)
    }

    fn check(&self, _n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_penalty(self.l1_penalty, self.sparsity_warmup_steps, training)
    }

    fn has_fast_engine(&self) -> bool {
        false
    }

    fn recipe(&self, _n_features: usize, _training: &CheckedTraining) -> Recipe {
        Recipe::Gated(self.clone())
    }
}
