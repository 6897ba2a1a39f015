//! The code of SoftSAE and the network that estimates its k̂.

use serde::{Deserialize, Serialize};

use crate::{KEstimator, Parity, SoftConfig};

/// The code of SoftSAE: relu(z) on its k̂ largest entries, k̂ = clamp(k_max·σ(score), k_min, F − 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftCode {
    /// What mean k̂ was trained to be.
    pub k: usize,
    /// Upper bound of k̂.
    pub k_max: f64,
    /// Lower bound of k̂.
    pub k_min: f64,
    /// Temperature α that the soft selection of training ends with; inference selects as if it were
    /// 0. The published code keeps it with the model.
    pub alpha: f64,
    /// The whole number of features that k̂ stands for.
    pub rounding: Rounding,
    /// The network that estimates k̂.
    pub k_estimator: EstimatorNetwork,
}

/// To which whole number k̂ is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rounding {
    /// The nearest.
    Nearest,
    /// The next below, as in the published code.
    Down,
}

impl Rounding {
    /// That of a training with or without the defects of the published code.
    #[must_use]
    pub fn of(parity: Parity) -> Self {
        match parity {
            Parity::None => Self::Nearest,
            Parity::Official => Self::Down,
        }
    }
}

/// The network that estimates k̂, with its sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EstimatorNetwork {
    /// Two layers.
    TwoLayers {
        /// Units of the first.
        hidden_units: usize,
    },
    /// A linear head on the encoder's own activations.
    Shared,
    /// Two layers, as wide as the dictionary, whose first is of low rank.
    LowRank {
        /// Its rank.
        rank: usize,
    },
}

impl EstimatorNetwork {
    /// Units of the layer that the output weights read.
    #[must_use]
    pub const fn hidden_units(self, n_features: usize) -> usize {
        match self {
            Self::TwoLayers { hidden_units } => hidden_units,
            Self::Shared | Self::LowRank { .. } => n_features,
        }
    }
}

impl SoftConfig {
    pub(super) fn code(&self, d_model: usize, n_features: usize, parity: Parity) -> SoftCode {
        SoftCode {
            k: self.k,
            k_max: self.k_bound(parity),
            k_min: self.k_min,
            alpha: self.alpha,
            rounding: Rounding::of(parity),
            k_estimator: self.k_estimator.network(d_model, n_features),
        }
    }
}

/// Hidden units that cost next to nothing, however small the dictionary.
const LEAST_WIDTH: usize = 256;

impl KEstimator {
    /// The network in a model of these sizes.
    fn network(self, d_model: usize, n_features: usize) -> EstimatorNetwork {
        match self {
            Self::Mlp => EstimatorNetwork::TwoLayers { hidden_units: n_features },
            Self::Narrow { width } => EstimatorNetwork::TwoLayers {
                hidden_units: width.unwrap_or(d_model.max(LEAST_WIDTH)).min(n_features),
            },
            Self::Shared => EstimatorNetwork::Shared,
            Self::LowRank { rank } => EstimatorNetwork::LowRank { rank },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_narrow_estimator_is_as_wide_as_the_input_between_256_and_the_dictionary() {
        let units = |estimator: KEstimator, d_model: usize, n_features: usize| {
            estimator.network(d_model, n_features).hidden_units(n_features)
        };
        let narrow = KEstimator::Narrow { width: None };
        assert_eq!(units(narrow, 576, 2304), 576);
        assert_eq!(units(narrow, 64, 2304), 256);
        assert_eq!(units(narrow, 576, 100), 100);
        assert_eq!(units(KEstimator::Narrow { width: Some(8) }, 576, 2304), 8);
        for wide in [KEstimator::Mlp, KEstimator::Shared, KEstimator::LowRank { rank: 3 }] {
            assert_eq!(units(wide, 576, 2304), 2304);
        }
    }
}
