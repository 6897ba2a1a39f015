//! A run: which activations, which SAE, how it is trained.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::check::check_architecture;
use crate::{
    ArchitectureConfig, DataConfig, Error, Result, TrainingConfig, apply_preset, read_toml,
};

/// Everything that determines a training run (`run.toml`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunConfig {
    /// The activations.
    pub data: DataConfig,
    /// What all architectures share.
    pub sae: SaeConfig,
    /// The architecture and its own settings.
    pub architecture: ArchitectureConfig,
    /// Length, batches, learning rate, device.
    pub training: TrainingConfig,
}

/// What all architectures share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SaeConfig {
    /// Dictionary size F.
    pub n_features: usize,
    /// What is done to activations before encoding, and undone after decoding.
    #[serde(default)]
    pub normalization: Normalization,
}

/// What is done to activations before encoding, and undone after decoding.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Activations as they are.
    None,
    /// x/√E‖x‖².
    Scale,
    /// (x − mean)/√E‖x − mean‖².
    #[default]
    ShiftScale,
    /// Each row divided by its own norm.
    UnitNorm,
    /// Each row centred and divided by its own standard deviation.
    LayerNorm,
}

impl RunConfig {
    /// Reads, checks and resolves a run file, which may name a preset to build on.
    ///
    /// # Errors
    /// An error that names the file and the key.
    pub fn read(path: &Path) -> Result<Self> {
        let table: toml::Table = read_toml(path)?;
        if !table.contains_key("preset") {
            let config: Self = read_toml(path)?;
            return config.resolve().map_err(|e| e.in_file(path));
        }
        let table = apply_preset(table).map_err(|e| e.in_file(path))?;
        let config = table.try_into::<Self>();
        let config =
            config.map_err(|e| Error::Parse { path: path.into(), message: e.to_string() })?;
        config.resolve().map_err(|e| e.in_file(path))
    }

    /// Checks every value and writes every default into the configuration.
    ///
    /// # Errors
    /// [`crate::Error::Value`] for the first value out of range.
    pub fn resolve(mut self) -> Result<Self> {
        if self.sae.n_features == 0 {
            return Err(Error::value("sae.n_features", "at least 1", 0));
        }
        self.data.check()?;
        self.training.check()?;
        self.training.resolve(self.sae.n_features);
        self.architecture.resolve(self.training.steps, self.training.parity);
        check_architecture(&self.architecture, self.sae.n_features, &self.training)?;
        Ok(self)
    }
}
