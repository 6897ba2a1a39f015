//! From configuration and tensors to the architecture.

use sae_config::ArchitectureConfig;
use tch::{Device, Kind};

use crate::architectures::{AbsTopK, BatchTopK, Gated, JumpRelu, Soft, Standard, TopK};
use crate::{Base, InitRng, ModelConfig, Normalizer, Parameters, Result, Sae, Tensors, TrainedOn};

/// Builds the model that `config` names from its tensors.
///
/// # Errors
/// A tensor that is absent, left over, not finite, or of another shape or kind, by name.
pub fn build(config: ModelConfig, mut tensors: Tensors) -> Result<Box<dyn Sae>> {
    let architecture = config.architecture.clone();
    let normalizer = Normalizer::take(&config, &mut tensors)?;
    let parameters = Parameters::take(&config, &mut tensors)?;
    let base = Base { config, normalizer, parameters, trained_on: TrainedOn::default() };
    let sae: Box<dyn Sae> = match &architecture {
        ArchitectureConfig::TopK(c) => Box::new(TopK::new(base, c, &mut tensors)?),
        ArchitectureConfig::AbsTopK(c) => Box::new(AbsTopK::new(base, c)),
        ArchitectureConfig::BatchTopK(_) | ArchitectureConfig::MatryoshkaBatchTopK(_) => {
            Box::new(BatchTopK::new(base, &mut tensors)?)
        }
        ArchitectureConfig::Soft(c) => Box::new(Soft::new(base, c, &mut tensors)?),
        ArchitectureConfig::JumpRelu(c) => Box::new(JumpRelu::new(base, c, &mut tensors)?),
        ArchitectureConfig::Gated(_) => Box::new(Gated::new(base, &mut tensors)?),
        ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => Box::new(Standard::new(base)),
    };
    tensors.finish(architecture.name())?;
    Ok(sae)
}

/// The weights and the normalisation of `sae`, copied into a model of another configuration, of
/// `kind` on `device`.
///
/// # Errors
/// A tensor that is absent, left over, or of another shape, by name.
pub fn rebuild(
    sae: &dyn Sae,
    config: ModelConfig,
    kind: Kind,
    device: Device,
) -> Result<Box<dyn Sae>> {
    let constants = sae.base().normalizer.tensors();
    let constants = constants.iter().map(|(name, tensor)| (*name, tensor));
    let all = sae.parameters().into_iter().chain(sae.buffers()).chain(constants);
    let copied = |(name, tensor): (&str, &tch::Tensor)| {
        let kind = if name == "normalization.scale" { Kind::Double } else { kind };
        (name.to_owned(), tensor.detach().copy().to_kind(kind))
    };
    build(config, Tensors::new(all.map(copied).collect(), kind, device))
}

/// A new model with initial weights of `kind` on `device`.
///
/// # Errors
/// A normaliser that is not the one `config` names or does not fit its dimension.
pub fn init(
    config: ModelConfig,
    normalizer: &Normalizer,
    rng: &mut InitRng,
    kind: Kind,
    device: Device,
) -> Result<Box<dyn Sae>> {
    let mut map = match &config.architecture {
        ArchitectureConfig::TopK(_)
        | ArchitectureConfig::BatchTopK(_)
        | ArchitectureConfig::MatryoshkaBatchTopK(_) => BatchTopK::initial(&config, rng),
        ArchitectureConfig::AbsTopK(_) => AbsTopK::initial(&config, rng),
        ArchitectureConfig::Soft(c) => Soft::initial(&config, c, rng),
        ArchitectureConfig::JumpRelu(_) => JumpRelu::initial(&config, rng),
        ArchitectureConfig::Gated(_) => Gated::initial(&config, rng),
        ArchitectureConfig::Standard(_)
        | ArchitectureConfig::StandardApril(_)
        | ArchitectureConfig::PAnneal(_) => Standard::initial(&config, rng),
    };
    for tensor in map.values_mut() {
        *tensor = tensor.to_kind(kind);
    }
    for (name, tensor) in normalizer.tensors() {
        let kind = if name == "normalization.scale" { Kind::Double } else { kind };
        map.insert(name.into(), tensor.to_kind(kind));
    }
    build(config, Tensors::new(map, kind, device))
}
