//! Our own configuration beside the settings of another tool, and the model of both.

use std::path::Path;

use sae_config::{AbsTopKConfig, ArchitectureConfig, AuxKConfig, KEstimator, TopKConfig};
use serde_json::{Map, Value};
use tch::{Device, Kind, Tensor};

use crate::{Error, ModelConfig, Result, Sae, Tensors, build};

/// The key under which exports keep our own configuration, which others ignore.
pub(super) const OWN_KEY: &str = "softsae_config";

/// Our own configuration in the settings of another tool, if we wrote them.
pub(super) fn own_config(
    settings: &Map<String, Value>,
    path: &Path,
) -> Result<Option<ModelConfig>> {
    let Some(value) = settings.get(OWN_KEY) else { return Ok(None) };
    let config = serde_json::from_value(value.clone()).map_err(|e| Error::Format {
        path: path.into(),
        expected: format!("our own configuration under `{OWN_KEY}`"),
        got: e.to_string(),
    })?;
    Ok(Some(config))
}

/// A model of these tensors, under our names, which the file at `path` has.
///
/// `own` adds what the settings of the file cannot say to `config`, which is what they say.
pub(super) fn model(
    path: &Path,
    own: Option<ModelConfig>,
    config: ModelConfig,
    tensors: impl IntoIterator<Item = (&'static str, Tensor)>,
) -> Result<Box<dyn Sae>> {
    let mut config = config;
    if let Some(own) = own.filter(|o| rule(&o.architecture) == rule(&config.architecture)) {
        let said = std::mem::replace(&mut config.architecture, own.architecture);
        config.parity = own.parity;
        take_said(&mut config.architecture, said);
    }
    check_k(&config).map_err(|e| e.in_file(path))?;
    let plain = |(name, tensor): (&str, Tensor)| (name.to_owned(), tensor.contiguous());
    let map = tensors.into_iter().map(plain).collect();
    build(config, Tensors::new(map, Kind::Float, Device::Cpu)).map_err(|e| e.in_file(path))
}

/// Refuses to select more features than there are.
fn check_k(config: &ModelConfig) -> Result<()> {
    match &config.architecture {
        ArchitectureConfig::TopK(TopKConfig { k, .. })
        | ArchitectureConfig::AbsTopK(AbsTopKConfig { k, .. })
            if *k > config.n_features =>
        {
            let expected = format!("at most the {} features", config.n_features);
            Err(sae_config::Error::value("k", expected, k).into())
        }
        _ => Ok(()),
    }
}

/// Puts what the settings of a file say of inference into our own.
fn take_said(own: &mut ArchitectureConfig, said: ArchitectureConfig) {
    use ArchitectureConfig::{AbsTopK, BatchTopK, JumpRelu, MatryoshkaBatchTopK, Soft, TopK};
    match (own, said) {
        (TopK(own), TopK(said)) | (BatchTopK(own), BatchTopK(said)) => own.k = said.k,
        (AbsTopK(own), AbsTopK(said)) => own.k = said.k,
        (MatryoshkaBatchTopK(own), MatryoshkaBatchTopK(said)) => own.k = said.k,
        (JumpRelu(own), JumpRelu(said)) => own.subtract_b_dec = said.subtract_b_dec,
        (Soft(own), Soft(said)) => {
            if own.k_bound() != said.k_bound() {
                own.k_max = said.k_max;
            }
            // Files have the hidden layer, however it came about.
            if let KEstimator::Shared | KEstimator::LowRank { .. } = own.k_estimator {
                own.k_estimator = KEstimator::Mlp;
            }
        }
        _ => {}
    }
}

/// The rule of inference of an architecture, which several may share.
fn rule(architecture: &ArchitectureConfig) -> &'static str {
    match architecture {
        ArchitectureConfig::StandardApril(_) | ArchitectureConfig::PAnneal(_) => "standard",
        ArchitectureConfig::MatryoshkaBatchTopK(_) => "batch_topk",
        other => other.name(),
    }
}

/// Settings of TopK and BatchTopK that a file tells.
pub(super) fn top_k(k: usize) -> TopKConfig {
    TopKConfig { k, k_anneal_steps: 0, threshold_start_step: None, auxk: AuxKConfig::default() }
}
