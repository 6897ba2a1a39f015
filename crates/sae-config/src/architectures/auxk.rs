//! Revival of dead features.

use serde::{Deserialize, Serialize};

/// Revival of dead features: they reconstruct the residual.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuxKConfig {
    /// Weight of the auxiliary loss.
    pub weight: f64,
    /// Rows without firing after which a feature counts as dead.
    pub dead_after_rows: u64,
}

impl Default for AuxKConfig {
    fn default() -> Self {
        Self { weight: 1.0 / 32.0, dead_after_rows: 10_000_000 }
    }
}
