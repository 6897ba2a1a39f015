//! Our own configuration beside the settings of another tool, and the model of both.

use std::path::Path;

use sae_config::{Code, SoftCode};
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use crate::config::Written;
use crate::{Error, ModelConfig, Result, Sae, Tensors, build};

/// The key under which exports keep our own configuration, which others ignore.
pub(super) const OWN_KEY: &str = "softsae_config";

/// Our own configuration in the settings of another tool, if we wrote them.
pub(super) fn own_config(
    settings: &Map<String, Value>,
    path: &Path,
) -> Result<Option<ModelConfig>> {
    let Some(value) = settings.get(OWN_KEY) else { return Ok(None) };
    // Exports of before version 2 of checkpoints have that of version 1.
    let version = if value.get("architecture").is_some() { 1 } else { 2 };
    let own = Written::read(value.clone(), version).map_err(|e| Error::Format {
        path: path.into(),
        expected: format!("our own configuration under `{OWN_KEY}`"),
        got: e.to_string(),
    })?;
    Ok(Some(own.config))
}

/// A model of these tensors, under our names, which the file at `path` has.
///
/// `own` adds what the settings of the file cannot say to `config`, which is what they say.
pub(super) fn model(
    path: &Path,
    own: Option<ModelConfig>,
    mut config: ModelConfig,
    tensors: impl IntoIterator<Item = (&'static str, Tensor)>,
) -> Result<Sae> {
    if let Some(own) = own {
        config.code = completed(config.code, own.code);
    }
    config.code.check(config.n_features).map_err(|e| e.in_file(path))?;
    let plain = |(name, tensor): (&str, Tensor)| (name.to_owned(), tensor.contiguous());
    let map = tensors.into_iter().map(plain).collect();
    build(config, Tensors::new(map, Kind::Float, Device::Cpu)).map_err(|e| e.in_file(path))
}

/// The code that a file says, with what its format cannot say from our own where both are one rule
/// of inference.
fn completed(said: Code, own: Code) -> Code {
    match (said, own) {
        (Code::Standard {}, own @ (Code::StandardApril {} | Code::PAnneal {})) => own,
        (Code::BatchTopK { k }, Code::MatryoshkaBatchTopK { group_sizes, .. }) => {
            Code::MatryoshkaBatchTopK { k, group_sizes }
        }
        // The published code has neither a lower bound nor another rounding, and α in f32.
        (Code::Soft(said), Code::Soft(own)) => {
            let SoftCode { k_min, rounding, .. } = own;
            let is_same = own.alpha as f32 == said.alpha as f32;
            let alpha = if is_same { own.alpha } else { said.alpha };
            Code::Soft(SoftCode { k_min, rounding, alpha, ..said })
        }
        (said, _) => said,
    }
}
