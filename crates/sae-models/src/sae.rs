//! A sparse autoencoder at inference, of whatever architecture.

use tch::{Device, Kind, Tensor};

use crate::architectures::selection;
use crate::normalizer::constants;
use crate::{
    Error, ModelConfig, Normalizer, Parameters, Result, Role, RowScale, Selection, TrainedOn,
};

/// Feature activations of a batch.
#[derive(Debug)]
pub struct Encoded {
    /// `[batch, n_features]`, zero where a feature is not active.
    pub features: Tensor,
    /// `[batch]`: the number of features chosen for each input, before rounding, where the
    /// architecture chooses one.
    pub k_hat: Option<Tensor>,
    /// What decoding needs of the input, where rows are normalised by their own statistics.
    pub rows: Option<RowScale>,
}

impl From<Tensor> for Encoded {
    /// Features `[batch, n_features]` with nothing known of the input.
    fn from(features: Tensor) -> Self {
        Self { features, k_hat: None, rows: None }
    }
}

/// A sparse autoencoder, or a transcoder, at inference, normalisation included.
#[derive(Debug)]
pub struct Sae {
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

impl Sae {
    /// The architecture's rule of inference.
    pub fn selection(&self) -> Selection {
        selection(self.config())
    }

    /// The configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// All trained tensors, by name, in a fixed order.
    pub fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        self.parameters.trained().map(|(role, tensor)| (role.name(), tensor)).collect()
    }

    /// Tensors that are saved but not trained by gradient, by name.
    pub fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        self.parameters.buffers().map(|(role, tensor)| (role.name(), tensor)).collect()
    }

    /// Encodes raw activations by the architecture's rule of inference.
    ///
    /// # Shapes
    /// x `[batch, d_model]`.
    ///
    /// # Errors
    /// A shape, kind or device that is not the model's.
    pub fn encode(&self, x: &Tensor) -> Result<Encoded> {
        self.check_rows("x", x, self.config.d_model)?;
        let _guard = tch::no_grad_guard();
        let (x, rows) = self.normalizer.normalize(x);
        let selection = self.selection();
        let z = selection.pre_activations(&self.parameters, &x);
        let (features, k_hat) = selection.features(&self.parameters, &x, &z);
        Ok(Encoded { features, k_hat, rows })
    }

    /// Decodes features into raw activations.
    ///
    /// # Shapes
    /// `encoded.features` `[batch, n_features]`; returns `[batch, d_out]`.
    ///
    /// # Errors
    /// A shape, kind or device that is not the model's, or row statistics that are needed and
    /// absent.
    pub fn decode(&self, encoded: &Encoded) -> Result<Tensor> {
        self.check_rows("features", &encoded.features, self.config.n_features)?;
        let _guard = tch::no_grad_guard();
        let x_hat = self.parameters.reconstruct(&encoded.features);
        self.output_normalizer().denormalize(&x_hat, encoded.rows.as_ref())
    }

    /// Writes the normalisation into the weights, so that the model takes raw activations with
    /// no normalisation and gives the same features, k̂ and reconstructions.
    ///
    /// With x' = (x − μ)/s: W_enc/s encodes, sW_dec decodes, and b_dec becomes s·b_dec + μ.
    ///
    /// # Errors
    /// [`Error::NotFoldable`] where rows are divided by their own statistics, and of a transcoder.
    pub fn fold(&mut self) -> Result<()> {
        if self.config.is_transcoder() {
            return Err(Error::NotFoldable { got: "the normalisations of a transcoder" });
        }
        let subtracts = self.parameters.centre().is_some();
        let (shift, scale) = match &self.normalizer {
            Normalizer::None => (None, 1.0),
            Normalizer::Scale { scale } => (None, *scale),
            Normalizer::ShiftScale { shift, scale } => (Some(shift.shallow_clone()), *scale),
            other => return Err(Error::NotFoldable { got: other.name() }),
        };
        let _guard = tch::no_grad_guard();
        let parameters = &mut self.parameters;
        for (role, tensor) in parameters.trained_mut() {
            if role.reads_activations() {
                let _ = tensor.divide_scalar_(scale);
            }
        }
        let _ = parameters[Role::DecoderWeight].multiply_scalar_(scale);
        let _ = parameters[Role::DecoderBias].multiply_scalar_(scale);
        if let Some(shift) = shift {
            parameters[Role::DecoderBias] += &shift;
            if !subtracts {
                let moved = parameters[Role::EncoderWeight].mv(&shift);
                parameters[Role::EncoderBias] -= moved;
            }
        }
        self.normalizer = Normalizer::None;
        self.config.normalization = sae_config::Normalization::None;
        Ok(())
    }

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
