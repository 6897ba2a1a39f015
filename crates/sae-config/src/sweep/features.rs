//! Which runs of a sweep get feature pages.

use serde::{Deserialize, Serialize};

use crate::{ArchitectureConfig, Error, Result, RunConfig};

/// Feature pages at the end of a sweep (`[features]`): of each architecture those of the run of
/// highest R² whose k, or target of L0, is `k`. No part of what a run is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeaturesConfig {
    /// The architectures.
    pub architectures: Vec<String>,
    /// The k of their runs.
    pub k: f64,
}

impl FeaturesConfig {
    /// Checks what does not depend on the runs.
    pub(super) fn check(&self) -> Result<()> {
        let names = ArchitectureConfig::NAMES;
        let key = "features.architectures";
        if self.architectures.is_empty() {
            return Err(Error::value(key, "at least one architecture", "an empty list"));
        }
        for name in &self.architectures {
            if !names.contains(&name.as_str()) {
                return Err(Error::value(key, format!("some of {names:?}"), format!("`{name}`")));
            }
        }
        if self.k.is_finite() && self.k > 0.0 {
            return Ok(());
        }
        Err(Error::value("features.k", "a number above 0", self.k))
    }

    /// Whether a run is one of those of which the best of `architecture` is taken.
    #[must_use]
    pub fn competes(&self, architecture: &str, run: &RunConfig) -> bool {
        run.architecture.name() == architecture && run.architecture.target_l0() == Some(self.k)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused() {
        let error = |text: &str| {
            let features: FeaturesConfig = toml::from_str(text).unwrap();
            features.check().unwrap_err().to_string()
        };
        assert!(error("architectures = []\nk = 4").contains("an empty list"));
        let unknown = error("architectures = ['topk', 'soft_topk']\nk = 4");
        assert!(unknown.starts_with("`features.architectures`: expected some of"), "{unknown}");
        assert!(unknown.contains("got `soft_topk`"), "{unknown}");
        for k in ["0", "-1.0", "nan", "inf"] {
            let wrong = error(&format!("architectures = ['topk']\nk = {k}"));
            assert!(wrong.starts_with("`features.k`: expected a number above 0"), "{wrong}");
        }
        assert!(
            toml::from_str::<FeaturesConfig>("architectures = ['topk']\nk = 4\nl0 = 3").is_err()
        );
    }

    #[test]
    fn runs_of_the_architecture_and_the_k_compete() {
        let features = FeaturesConfig { architectures: vec!["topk".into()], k: 4.0 };
        let run = |architecture: &str| -> RunConfig {
            let text = format!(
                "data.store = 'x'\nsae.n_features = 9\ntraining.steps = 1\ntraining.batch_size = 1\narchitecture = {{ {architecture} }}"
            );
            toml::from_str(&text).unwrap()
        };
        assert!(features.competes("topk", &run("name = 'topk', k = 4")));
        assert!(!features.competes("topk", &run("name = 'topk', k = 8")));
        assert!(!features.competes("topk", &run("name = 'batch_topk', k = 4")));
        assert!(features.competes("jumprelu", &run("name = 'jumprelu', target_l0 = 4.0")));
        assert!(!features.competes("gated", &run("name = 'gated', l1_penalty = 4.0")));
    }
}
