//! The trait of all architectures.

use tch::Tensor;

use crate::architectures::selection;
use crate::{Base, Error, ModelConfig, Normalizer, Result, Role, RowScale, Selection};

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
pub trait Sae: Send {
    /// Configuration, normalisation, encoder and decoder.
    fn base(&self) -> &Base;

    /// Configuration, normalisation and parameters, to be changed.
    fn base_mut(&mut self) -> &mut Base;

    /// The architecture's rule of inference.
    fn selection(&self) -> Selection {
        selection(self.config())
    }

    /// The configuration.
    fn config(&self) -> &ModelConfig {
        &self.base().config
    }

    /// All trained tensors, by name, in a fixed order.
    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        self.base().parameters.trained().map(|(role, tensor)| (role.name(), tensor)).collect()
    }

    /// Tensors that are saved but not trained by gradient, by name.
    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        self.base().parameters.buffers().map(|(role, tensor)| (role.name(), tensor)).collect()
    }

    /// Encodes raw activations by the architecture's rule of inference.
    ///
    /// # Shapes
    /// x `[batch, d_model]`.
    ///
    /// # Errors
    /// A shape, kind or device that is not the model's.
    fn encode(&self, x: &Tensor) -> Result<Encoded> {
        let base = self.base();
        base.check_rows("x", x, base.config.d_model)?;
        let _guard = tch::no_grad_guard();
        let (x, rows) = base.normalizer.normalize(x);
        let selection = self.selection();
        let z = selection.pre_activations(&base.parameters, &x);
        let (features, k_hat) = selection.features(&base.parameters, &x, &z);
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
    fn decode(&self, encoded: &Encoded) -> Result<Tensor> {
        let base = self.base();
        base.check_rows("features", &encoded.features, base.config.n_features)?;
        let _guard = tch::no_grad_guard();
        let x_hat = base.parameters.reconstruct(&encoded.features);
        base.output_normalizer().denormalize(&x_hat, encoded.rows.as_ref())
    }

    /// Writes the normalisation into the weights, so that the model takes raw activations with
    /// no normalisation and gives the same features, k̂ and reconstructions.
    ///
    /// With x' = (x − μ)/s: W_enc/s encodes, sW_dec decodes, and b_dec becomes s·b_dec + μ.
    ///
    /// # Errors
    /// [`Error::NotFoldable`] where rows are divided by their own statistics, and of a transcoder.
    fn fold(&mut self) -> Result<()> {
        let base = self.base_mut();
        if base.config.is_transcoder() {
            return Err(Error::NotFoldable { got: "the normalisations of a transcoder" });
        }
        let subtracts = base.parameters.centre().is_some();
        let (shift, scale) = match &base.normalizer {
            Normalizer::None => (None, 1.0),
            Normalizer::Scale { scale } => (None, *scale),
            Normalizer::ShiftScale { shift, scale } => (Some(shift.shallow_clone()), *scale),
            other => return Err(Error::NotFoldable { got: other.name() }),
        };
        let _guard = tch::no_grad_guard();
        let parameters = &mut base.parameters;
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
        base.normalizer = Normalizer::None;
        base.config.normalization = sae_config::Normalization::None;
        Ok(())
    }
}

impl Sae for Base {
    fn base(&self) -> &Self {
        self
    }

    fn base_mut(&mut self) -> &mut Self {
        self
    }
}
