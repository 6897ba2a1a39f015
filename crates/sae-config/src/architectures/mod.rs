//! The architectures and the settings of each.

mod abs_topk;
mod auxk;
mod checks;
mod gated;
mod jumprelu;
mod matryoshka;
mod p_anneal;
mod soft;
mod standard;
mod topk;

use serde::{Deserialize, Serialize};

use crate::{CheckedTraining, Recipe, Result};

pub use abs_topk::AbsTopKConfig;
pub use auxk::AuxKConfig;
pub use gated::GatedConfig;
pub use jumprelu::JumpReluConfig;
pub use matryoshka::MatryoshkaBatchTopKConfig;
pub use p_anneal::{PAnnealConfig, SparsityFunction};
pub use soft::{Budget, KEstimator, SelectionGradient, SoftConfig};
pub use standard::{StandardAprilConfig, StandardConfig};
pub use topk::{BatchTopKConfig, TopKConfig};

/// An architecture with its settings: `[architecture]` with `name = "…"`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name")]
pub enum ArchitectureConfig {
    /// The k largest features of each input.
    #[serde(rename = "topk")]
    TopK(TopKConfig),
    /// The k features of largest magnitude of each input, with their sign.
    #[serde(rename = "abs_topk")]
    AbsTopK(AbsTopKConfig),
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

/// What the settings of an architecture decide about a run. What inference needs of them is a
/// [`Code`](crate::Code).
pub(crate) trait Settings {
    /// The setting that decides how sparse codes are, as a dotted key of the run, and its value.
    fn sparsity(&self) -> (&'static str, f64);

    /// Names the first setting that is wrong for the dictionary or the length of the run.
    fn check(&self, n_features: usize, training: &CheckedTraining) -> Result<()>;

    /// Whether the fast engine computes the architecture with these settings.
    fn has_fast_engine(&self) -> bool;

    /// Writes the defaults that depend on the rest of the run into the settings.
    fn fill_in(&mut self, _training: &CheckedTraining) {}

    /// The setting of the step after which a threshold is tracked, where there is one.
    fn threshold_start_step(&mut self) -> Option<&mut Option<u64>> {
        None
    }

    /// How a dictionary is trained.
    fn recipe(&self, n_features: usize, training: &CheckedTraining) -> Recipe;
}

/// The settings, of whatever architecture.
macro_rules! each {
    ($architecture:expr) => {
        match $architecture {
            Self::TopK(c) | Self::BatchTopK(c) => c,
            Self::AbsTopK(c) => c,
            Self::MatryoshkaBatchTopK(c) => c,
            Self::Soft(c) => c,
            Self::JumpRelu(c) => c,
            Self::Gated(c) => c,
            Self::Standard(c) => c,
            Self::StandardApril(c) => c,
            Self::PAnneal(c) => c,
        }
    };
}

pub(crate) const fn one() -> f64 {
    1.0
}

impl ArchitectureConfig {
    /// The names of all architectures.
    pub const NAMES: [&'static str; 10] = [
        "topk",
        "abs_topk",
        "batch_topk",
        "matryoshka_batch_topk",
        "soft",
        "jumprelu",
        "gated",
        "standard",
        "standard_april",
        "p_anneal",
    ];

    /// The name under which the architecture is configured.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::TopK(_) => "topk",
            Self::AbsTopK(_) => "abs_topk",
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
    pub fn target_l0(&self) -> Option<f64> {
        let (key, value) = self.sparsity();
        matches!(key, "architecture.k" | "architecture.target_l0").then_some(value)
    }

    /// The setting that decides how sparse codes are, as a dotted key of the run, and its value.
    #[must_use]
    pub fn sparsity(&self) -> (&'static str, f64) {
        self.settings().sparsity()
    }

    /// The step after which the threshold of inference is tracked, of architectures that have one:
    /// its default depends on the length of the run.
    pub fn threshold_start_step(&mut self) -> Option<&mut Option<u64>> {
        self.settings_mut().threshold_start_step()
    }

    pub(crate) fn settings(&self) -> &dyn Settings {
        each!(self)
    }

    pub(crate) fn settings_mut(&mut self) -> &mut dyn Settings {
        each!(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{architectures, run};

    #[test]
    fn names_are_all_that_files_may_have() {
        let error = toml::from_str::<ArchitectureConfig>("name = 'none of them'").unwrap_err();
        let message = error.message();
        let listed = message.split('`').skip(3).step_by(2).collect::<Vec<_>>();
        assert_eq!(listed, ArchitectureConfig::NAMES, "{message}");
    }

    #[test]
    fn checked_settings_leave_no_default_open() {
        // Absent, these say what the other settings say already, or that nothing is done.
        let may_be_absent = ["alpha_first", "k_first", "resample_steps"];
        for mut architecture in architectures() {
            let text = toml::to_string(&architecture).unwrap();
            let mut table = toml::Table::new();
            table.insert("architecture".into(), text.parse::<toml::Table>().unwrap().into());
            let checked = run(&toml::to_string(&table).unwrap());
            let filled = serde_json::to_value(&checked.settings().architecture).unwrap();
            let absent = filled.as_object().unwrap().iter().filter(|(_, value)| value.is_null());
            for (key, _) in absent {
                assert!(may_be_absent.contains(&key.as_str()), "{}.{key}", architecture.name());
            }
            let has_threshold = filled.get("threshold_start_step").is_some();
            assert_eq!(architecture.threshold_start_step().is_some(), has_threshold, "{text}");
        }
    }
}
