//! P-anneal.

use serde::{Deserialize, Serialize};

use super::checks::{at_most_all_steps, before_the_end, check, not_negative, positive};
use super::{Settings, one};
use crate::{CheckedTraining, Recipe, Result};

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

impl Settings for PAnnealConfig {
    fn sparsity(&self) -> (&'static str, f64) {
        ("architecture.initial_sparsity_penalty", self.initial_sparsity_penalty)
    }

    fn check(&self, _n_features: usize, training: &CheckedTraining) -> Result<()> {
        not_negative("initial_sparsity_penalty", self.initial_sparsity_penalty)?;
        at_most_all_steps("sparsity_warmup_steps", self.sparsity_warmup_steps, training)?;
        positive("p_end", self.p_end)?;
        let expected = format!("at least p_end = {}", self.p_end);
        check(
            "p_start",
            self.p_start >= self.p_end && self.p_start.is_finite(),
            expected,
            self.p_start,
        )?;
        before_the_end("anneal_start", self.anneal_start, training)?;
        check(
            "n_sparsity_updates",
            self.n_sparsity_updates > 0,
            "at least 1",
            self.n_sparsity_updates,
        )?;
        let length = self.sparsity_queue_length;
        check("sparsity_queue_length", length > 0, "at least 1", length)
    }

    fn has_fast_engine(&self) -> bool {
        false
    }

    fn recipe(&self, _n_features: usize, _training: &CheckedTraining) -> Recipe {
        Recipe::PAnneal(self.clone())
    }
}
