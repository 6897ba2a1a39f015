//! The configuration that a model is built from and saved with.

use sae_config::{ArchitectureConfig, Normalization, Parity};
use serde::{Deserialize, Serialize};

/// Everything about a model but its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Dimension D of the activations that are encoded.
    pub d_model: usize,
    /// Dimension of those that are rebuilt, where they are others: the model is a transcoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub d_out: Option<usize>,
    /// Dictionary size F.
    pub n_features: usize,
    /// What is done to activations before encoding, and undone after decoding.
    pub normalization: Normalization,
    /// Whether k̂ is rounded down, as the published code does, or to the nearest.
    pub parity: Parity,
    /// The architecture and its own settings.
    pub architecture: ArchitectureConfig,
}

impl ModelConfig {
    /// Whether the model rebuilds other activations than it encodes.
    #[must_use]
    pub const fn is_transcoder(&self) -> bool {
        self.d_out.is_some()
    }

    /// Dimension of the activations that are rebuilt.
    #[must_use]
    pub fn output_dimension(&self) -> usize {
        self.d_out.unwrap_or(self.d_model)
    }
}

/// Sizes of the groups of a Matryoshka dictionary: ⌊fraction·F⌋ each, the last takes the rest.
///
/// A fraction that is within 1e-9 of a whole number of features counts as that number.
fn group_sizes(fractions: &[f64], n_features: usize) -> Vec<usize> {
    let floor = |fraction: &f64| (fraction * n_features as f64 + 1e-9).floor() as usize;
    let mut sizes: Vec<usize> = fractions.iter().map(floor).collect();
    if sizes.pop().is_some() {
        let taken: usize = sizes.iter().sum();
        sizes.push(n_features.saturating_sub(taken));
    }
    sizes
}

/// Where each prefix of a Matryoshka dictionary ends, and its weight, 1/G of G where not set.
#[must_use]
pub fn prefixes(
    fractions: &[f64],
    weights: Option<&[f64]>,
    n_features: usize,
) -> Vec<(usize, f64)> {
    let sizes = group_sizes(fractions, n_features);
    let equal = 1.0 / sizes.len() as f64;
    let mut end = 0;
    let with_weight = |(group, size)| {
        end += size;
        (end, weights.map_or(equal, |w| w[group]))
    };
    sizes.into_iter().enumerate().map(with_weight).collect()
}

#[cfg(test)]
mod tests {
    use super::{group_sizes, prefixes};

    #[test]
    fn prefixes_end_where_their_groups_do() {
        assert_eq!(prefixes(&[0.25, 0.75], None, 8), [(2, 0.5), (8, 0.5)]);
        assert_eq!(prefixes(&[0.25, 0.75], Some(&[0.9, 0.2]), 8), [(2, 0.9), (8, 0.2)]);
        assert_eq!(prefixes(&[1.0], None, 8), [(8, 1.0)]);
    }

    #[test]
    fn the_last_group_takes_the_rest() {
        assert_eq!(group_sizes(&[0.125, 0.25, 0.625], 64), [8, 16, 40]);
        assert_eq!(group_sizes(&[1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0], 64), [21, 21, 22]);
        assert_eq!(group_sizes(&[1.0], 7), [7]);
    }
}
