//! What every architecture holds: configuration, normalisation and parameters.

use tch::{Device, Kind, Tensor};

use crate::normalizer::constants;
use crate::{Error, ModelConfig, Normalizer, Parameters, Result, TrainedOn};

/// What every architecture holds.
#[derive(Debug)]
pub struct Base {
    /// The configuration it was built from.
    pub config: ModelConfig,
    /// What is done to activations before encoding, and undone after decoding where the same ones
    /// are rebuilt.
    pub normalizer: Normalizer,
    /// What is done to the activations that are rebuilt, where they are others than those that are
    /// encoded.
    pub target_normalizer: Option<Normalizer>,
    /// Encoder, decoder and what else the architecture has.
    pub parameters: Parameters,
    /// The host, hook point and data that it belongs to, where known.
    pub trained_on: TrainedOn,
}

impl Base {
    /// The kind of the parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.parameters.kind()
    }

    /// The device of the parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.parameters.device()
    }

    /// What is undone after decoding.
    #[must_use]
    pub fn output_normalizer(&self) -> &Normalizer {
        self.target_normalizer.as_ref().unwrap_or(&self.normalizer)
    }

    /// The constants of its normalisation, by the names under which they are saved.
    pub(crate) fn constants(&self) -> Vec<(&'static str, Tensor)> {
        constants(&self.normalizer, self.target_normalizer.as_ref())
    }

    /// Checks that `tensor` is `[batch, width]` of this model's kind and on its device.
    pub(crate) fn check_rows(&self, name: &str, tensor: &Tensor, width: usize) -> Result<()> {
        let size = tensor.size();
        if size.len() != 2 || size[1] != width as i64 {
            let expected = format!("[batch, {width}]");
            return Err(Error::Shape { name: name.into(), expected, got: size });
        }
        if tensor.kind() != self.kind() {
            let expected = format!("{:?}", self.kind());
            return Err(Error::Kind { name: name.into(), expected, got: tensor.kind() });
        }
        if tensor.device() != self.device() {
            let (expected, got) = (self.device(), tensor.device());
            return Err(Error::Device { name: name.into(), expected, got });
        }
        Ok(())
    }
}
