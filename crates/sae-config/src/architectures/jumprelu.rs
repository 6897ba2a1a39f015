//! JumpReLU.

use serde::{Deserialize, Serialize};

use super::checks::{at_most_all_steps, check_target, not_negative, positive};
use super::{Settings, one};
use crate::{CheckedTraining, Recipe, Result};

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

impl Settings for JumpReluConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.target_l0", self.target_l0)
    }

    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()> {
        check_target("target_l0", self.target_l0, n_features)?;
        not_negative("sparsity_weight", self.sparsity_weight)?;
        positive("bandwidth", self.bandwidth)?;
        at_most_all_steps("sparsity_warmup_steps", self.sparsity_warmup_steps, training)
    }

    fn has_fast_engine(&self) -> bool {
        true
    }

    fn recipe(&self, _n_features: usize, _training: &CheckedTraining) -> Recipe {
        Recipe::JumpRelu(self.clone())
    }
}
