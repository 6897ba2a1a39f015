//! What every architecture holds: configuration, normalisation, encoder and decoder.

use tch::{Device, Kind, Tensor};

use crate::{Error, ModelConfig, Normalizer, Result, Tensors, TrainedOn};

/// Encoder and decoder; one row a feature in both matrices.
#[derive(Debug)]
pub struct Weights {
    /// `encoder.weight`, `[n_features, d_model]`.
    pub w_enc: Tensor,
    /// `encoder.bias`, `[n_features]`; of Gated the bias of the gate.
    pub b_enc: Tensor,
    /// `decoder.weight`, `[n_features, d_model]`.
    pub w_dec: Tensor,
    /// `decoder.bias`, `[d_model]`.
    pub b_dec: Tensor,
    /// The kind that factors of dense products are rounded to, if another than that of the weights.
    pub products_in: Option<Kind>,
}

impl Weights {
    /// Takes the four tensors out of `tensors`, checked against `config`.
    ///
    /// # Errors
    /// An error that names the tensor that is absent or wrong.
    pub fn take(config: &ModelConfig, tensors: &mut Tensors) -> Result<Self> {
        let (f, d) = (config.n_features as i64, config.d_model as i64);
        Ok(Self {
            w_enc: tensors.take("encoder.weight", &[f, d])?,
            b_enc: tensors.take("encoder.bias", &[f])?,
            w_dec: tensors.take("decoder.weight", &[f, d])?,
            b_dec: tensors.take("decoder.bias", &[d])?,
            products_in: None,
        })
    }

    /// Other handles to the same tensors.
    #[must_use]
    pub fn alias(&self) -> Self {
        Self {
            w_enc: self.w_enc.shallow_clone(),
            b_enc: self.b_enc.shallow_clone(),
            w_dec: self.w_dec.shallow_clone(),
            b_dec: self.b_dec.shallow_clone(),
            products_in: self.products_in,
        }
    }

    /// W_enc(x − b_dec) + b_enc, as xW_encᵀ + (b_enc − W_enc b_dec): no second product with W_enc
    /// is needed for the gradient of b_dec.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]`.
    pub fn pre_activations(&self, x: &Tensor) -> Tensor {
        centred_linear(x, &self.w_enc, &self.b_enc, &self.b_dec, self.products_in)
    }

    /// W_enc(x − b_dec), without the bias.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]`.
    pub fn projections(&self, x: &Tensor) -> Tensor {
        product(x, &self.w_enc.tr(), self.products_in) - self.w_enc.mv(&self.b_dec)
    }

    /// fW_dec + b_dec.
    ///
    /// # Shapes
    /// features `[batch, n_features]`; returns `[batch, d_model]`.
    pub fn reconstruct(&self, features: &Tensor) -> Tensor {
        match self.products_in {
            None => self.b_dec.addmm(features, &self.w_dec),
            kind => product(features, &self.w_dec, kind) + &self.b_dec,
        }
    }
}

/// W(x − centre) + b as xWᵀ + (b − W centre); with other factors as xWᵀ of x − centre, which is
/// smaller and so rounded less.
pub(crate) fn centred_linear(
    x: &Tensor,
    w: &Tensor,
    b: &Tensor,
    centre: &Tensor,
    products_in: Option<Kind>,
) -> Tensor {
    match products_in {
        None => (b - w.mv(centre)).addmm(x, &w.tr()),
        kind => product(&(x - centre), &w.tr(), kind) + b,
    }
}

/// a·b with factors rounded to `kind`, in the kind of b.
fn product(a: &Tensor, b: &Tensor, kind: Option<Kind>) -> Tensor {
    match kind {
        None => a.mm(b),
        Some(kind) => a.to_kind(kind).mm(&b.to_kind(kind)).to_kind(b.kind()),
    }
}

/// What every architecture holds.
#[derive(Debug)]
pub struct Base {
    /// The configuration it was built from.
    pub config: ModelConfig,
    /// What is done to activations before encoding, and undone after decoding.
    pub normalizer: Normalizer,
    /// Encoder and decoder.
    pub weights: Weights,
    /// The host, hook point and data that it belongs to, where known.
    pub trained_on: TrainedOn,
}

impl Base {
    /// The kind of the parameters.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.weights.w_dec.kind()
    }

    /// The device of the parameters.
    #[must_use]
    pub fn device(&self) -> Device {
        self.weights.w_dec.device()
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
