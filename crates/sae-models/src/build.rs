//! From configuration and tensors to the architecture.

use tch::{Device, Kind};

use crate::architectures::{initial, take_own};
use crate::normalizer::{constants, kind_of};
use crate::{InitRng, ModelConfig, Normalizer, Parameters, Result, Sae, Tensors, TrainedOn};

/// Builds the model that `config` names from its tensors.
///
/// # Errors
/// A tensor that is absent, left over, not finite, or of another shape or kind, by name.
pub fn build(config: ModelConfig, mut tensors: Tensors) -> Result<Sae> {
    let (normalizer, target_normalizer) = Normalizer::take_all(&config, &mut tensors)?;
    let mut parameters = Parameters::take(&config, &mut tensors)?;
    take_own(&config, &mut parameters, &mut tensors)?;
    tensors.finish(config.code.name())?;
    let trained_on = TrainedOn::default();
    Ok(Sae { config, normalizer, target_normalizer, parameters, trained_on })
}

/// The weights and the normalisation of `sae`, copied into a model of another configuration, of
/// `kind` on `device`.
///
/// # Errors
/// A tensor that is absent, left over, or of another shape, by name.
pub fn rebuild(sae: &Sae, config: ModelConfig, kind: Kind, device: Device) -> Result<Sae> {
    let constants = sae.constants();
    let constants = constants.iter().map(|(name, tensor)| (*name, tensor));
    let all = sae.parameters().into_iter().chain(sae.buffers()).chain(constants);
    let copied = |(name, tensor): (&str, &tch::Tensor)| {
        (name.to_owned(), tensor.detach().copy().to_kind(kind_of(name, kind)))
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
) -> Result<Sae> {
    init_ports(config, (normalizer, None), rng, kind, device)
}

/// As [`init`], with the normaliser of what is rebuilt where that is another port: of a transcoder.
///
/// # Errors
/// Normalisers that are not those that `config` names or do not fit its dimensions.
pub fn init_ports(
    config: ModelConfig,
    (normalizer, of_target): (&Normalizer, Option<&Normalizer>),
    rng: &mut InitRng,
    kind: Kind,
    device: Device,
) -> Result<Sae> {
    let mut map = initial(&config, rng);
    for tensor in map.values_mut() {
        *tensor = tensor.to_kind(kind);
    }
    for (name, tensor) in constants(normalizer, of_target) {
        map.insert(name.into(), tensor.to_kind(kind_of(name, kind)));
    }
    build(config, Tensors::new(map, kind, device))
}
