//! Standard, and its April update.

use serde::{Deserialize, Serialize};

use super::Settings;
use super::checks::{check, check_penalty};
use crate::{CheckedTraining, Recipe, Result};

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

impl Settings for StandardConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.l1_penalty", self.l1_penalty)
    }

    fn check(&self, _n_features: usize, training: &CheckedTraining) -> Result<()> {
        let fine = self.resample_steps.is_none_or(|steps| steps > 0);
        check("resample_steps", fine, "at least 1", self.resample_steps.unwrap_or(0))?;
        check_penalty(self.l1_penalty, self.sparsity_warmup_steps, training)
    }

    fn has_fast_engine(&self) -> bool {
        false
    }

    fn recipe(&self, _n_features: usize, _training: &CheckedTraining) -> Recipe {
        Recipe::Standard(self.clone())
    }
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

impl Settings for StandardAprilConfig {
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
        Recipe::StandardApril(self.clone())
    }
}
