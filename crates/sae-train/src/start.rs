//! How a training begins: what a source says of its ports, and the first model.

use sae_config::{CheckedRun, Normalization, Parity};
use sae_data::{BatchSource, Port, Ports, Statistics};
use sae_models::{Normalizer, TrainedOn};
use tch::{Kind, Tensor};

use crate::origin::origin;
use crate::{Error, Result, Trainer};

/// What is known of what a model is trained on.
pub(crate) fn origins(ports: &Ports<Port>) -> Result<TrainedOn> {
    let target = ports.target.as_ref().map(origin).transpose()?;
    Ok(TrainedOn { target: target.map(Box::new), ..origin(&ports.input)? })
}

/// A training that begins: of a new model, or of one from `training.init`.
pub(crate) fn new_trainer(config: &CheckedRun, source: &mut dyn BatchSource) -> Result<Trainer> {
    let dimensions = source.ports().as_ref().map(|port| port.dimension);
    if let Some(init) = &config.training.init {
        return Trainer::from_checkpoint(config.clone(), dimensions, init);
    }
    let normalizers = normalizers(config, source)?;
    let ports = Ports {
        input: (dimensions.input, &normalizers.input),
        target: dimensions.target.zip(normalizers.target.as_ref()),
    };
    Trainer::for_ports(config.clone(), ports, Kind::Float)
}

/// The normalisation of each port, with constants of all its rows.
fn normalizers(config: &CheckedRun, source: &mut dyn BatchSource) -> Result<Ports<Normalizer>> {
    match config.sae.normalization {
        Normalization::Scale | Normalization::ShiftScale => {
            let statistics = source.statistics()?;
            let Ports { input, target } = source.ports();
            Ok(Ports {
                input: normalizer(config, input, &statistics.input)?,
                target: statistics
                    .target
                    .zip(target.as_ref())
                    .map(|(statistics, port)| normalizer(config, port, &statistics))
                    .transpose()?,
            })
        }
        Normalization::None => Ok(source.ports().as_ref().map(|_| Normalizer::None)),
        Normalization::UnitNorm => Ok(source.ports().as_ref().map(|_| Normalizer::UnitNorm)),
        Normalization::LayerNorm => Ok(source.ports().as_ref().map(|_| Normalizer::LayerNorm)),
    }
}

/// The normalisation of a port with constants: with a shift where the configuration says so.
///
/// With `parity = "official"` shift_scale divides by √E‖x‖², as the published code does.
fn normalizer(config: &CheckedRun, port: &Port, statistics: &Statistics) -> Result<Normalizer> {
    let shifts = config.sae.normalization == Normalization::ShiftScale;
    let centred = shifts && config.training.parity == Parity::None;
    let mean_square = match centred {
        true => statistics.mean_squared_centred_norm,
        false => statistics.mean_squared_norm,
    };
    if mean_square <= 0.0 {
        return Err(Error::NothingToScale { store: port.place.clone(), got: mean_square });
    }
    let scale = mean_square.sqrt();
    if !shifts {
        return Ok(Normalizer::Scale { scale });
    }
    let shift = Tensor::from_slice(&statistics.mean).to_kind(Kind::Float);
    Ok(Normalizer::ShiftScale { shift, scale })
}
