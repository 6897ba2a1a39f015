//! The configuration that a model is built from and saved with.

use sae_config::{ArchitectureConfig, Code, Normalization, Parity};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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
    /// The architecture, as inference needs it.
    pub code: Code,
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

/// What files of version 1 have in its place: settings of training beside those of inference.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Version1 {
    d_model: usize,
    n_features: usize,
    normalization: Normalization,
    parity: Parity,
    architecture: ArchitectureConfig,
}

impl From<Version1> for ModelConfig {
    fn from(old: Version1) -> Self {
        let Version1 { d_model, n_features, normalization, parity, mut architecture } = old;
        if let ArchitectureConfig::Soft(soft) = &mut architecture {
            // What version 1 took an absent bound for, whatever the parity.
            soft.k_max.get_or_insert(4.0 * soft.k as f64);
        }
        let code = architecture.code(d_model, n_features, parity);
        Self { d_model, d_out: None, n_features, normalization, code }
    }
}

/// A configuration as a file has it.
pub(crate) struct Written {
    pub(crate) config: ModelConfig,
    /// In the form of its version, of which the hash of a checkpoint is made.
    pub(crate) bytes: Vec<u8>,
}

impl Written {
    /// Reads a configuration of this version.
    pub(crate) fn read(value: Value, version: u32) -> serde_json::Result<Self> {
        if version == 1 {
            let old: Version1 = serde_json::from_value(value)?;
            return Ok(Self { bytes: serde_json::to_vec(&old)?, config: old.into() });
        }
        let config: ModelConfig = serde_json::from_value(value)?;
        Ok(Self { bytes: serde_json::to_vec(&config)?, config })
    }
}
