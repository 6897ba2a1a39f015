//! The trait of all architectures.

use tch::Tensor;

use crate::sparse::sparse;
use crate::{Base, Error, ModelConfig, Normalizer, Products, Result, RowScale, SparseCodes};

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

/// A sparse autoencoder at inference, normalisation included.
///
/// An architecture gives its [`Base`], its rule [`activate`](Sae::activate) and the tensors that
/// it has beyond the base; the rest is provided.
pub trait Sae: Send {
    /// Configuration, normalisation, encoder and decoder.
    fn base(&self) -> &Base;

    /// The same, to change.
    fn base_mut(&mut self) -> &mut Base;

    /// The architecture's own rule: features, and k̂ where it has one, of normalised rows.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]` and `[batch]`.
    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>);

    /// The same as sparse codes, and k̂, on the CPU in f32; by dense features unless the
    /// architecture selects from its products.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; `codes`, of the model's n_features, are overwritten.
    ///
    /// # Errors
    /// A model that is not on the CPU in f32.
    fn activate_sparse(
        &self,
        x: &Tensor,
        _products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let (features, k_hat) = self.activate(x);
        sparse(&features.contiguous(), codes)?;
        Ok(k_hat)
    }

    /// Trained tensors beyond the base's, by name.
    fn own_parameters(&self) -> Vec<(&'static str, &Tensor)> {
        vec![]
    }

    /// Tensors that are saved but not trained by gradient, by name.
    fn buffers(&self) -> Vec<(&'static str, &Tensor)> {
        vec![]
    }

    /// Rewrites the own parameters for inputs that are no longer shifted and scaled.
    fn fold_own(&mut self, _scale: f64) {}

    /// Whether b_dec is subtracted before encoding.
    fn subtracts_b_dec(&self) -> bool {
        true
    }

    /// The configuration.
    fn config(&self) -> &ModelConfig {
        &self.base().config
    }

    /// All trained tensors, by name, in a fixed order.
    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        let weights = &self.base().weights;
        let mut all = vec![
            ("encoder.weight", &weights.w_enc),
            ("encoder.bias", &weights.b_enc),
            ("decoder.weight", &weights.w_dec),
            ("decoder.bias", &weights.b_dec),
        ];
        all.extend(self.own_parameters());
        all
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
        let (features, k_hat) = self.activate(&x);
        Ok(Encoded { features, k_hat, rows })
    }

    /// Decodes features into raw activations.
    ///
    /// # Shapes
    /// `encoded.features` `[batch, n_features]`; returns `[batch, d_model]`.
    ///
    /// # Errors
    /// A shape, kind or device that is not the model's, or row statistics that are needed and
    /// absent.
    fn decode(&self, encoded: &Encoded) -> Result<Tensor> {
        let base = self.base();
        base.check_rows("features", &encoded.features, base.config.n_features)?;
        let _guard = tch::no_grad_guard();
        let x_hat = base.weights.reconstruct(&encoded.features);
        base.normalizer.denormalize(&x_hat, encoded.rows.as_ref())
    }

    /// Writes the normalisation into the weights, so that the model takes raw activations with
    /// no normalisation and gives the same features, k̂ and reconstructions.
    ///
    /// With x' = (x − μ)/s: W_enc/s encodes, sW_dec decodes, and b_dec becomes s·b_dec + μ.
    ///
    /// # Errors
    /// [`Error::NotFoldable`] where rows are divided by their own statistics.
    fn fold(&mut self) -> Result<()> {
        let subtracts = self.subtracts_b_dec();
        let base = self.base_mut();
        let (shift, scale) = match &base.normalizer {
            Normalizer::None => (None, 1.0),
            Normalizer::Scale { scale } => (None, *scale),
            Normalizer::ShiftScale { shift, scale } => (Some(shift.shallow_clone()), *scale),
            other => return Err(Error::NotFoldable { got: other.name() }),
        };
        let _guard = tch::no_grad_guard();
        let weights = &mut base.weights;
        let _ = weights.w_enc.divide_scalar_(scale);
        let _ = weights.w_dec.multiply_scalar_(scale);
        let _ = weights.b_dec.multiply_scalar_(scale);
        if let Some(shift) = shift {
            weights.b_dec += &shift;
            if !subtracts {
                weights.b_enc -= weights.w_enc.mv(&shift);
            }
        }
        base.normalizer = Normalizer::None;
        base.config.normalization = sae_config::Normalization::None;
        self.fold_own(scale);
        Ok(())
    }
}
