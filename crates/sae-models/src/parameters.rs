//! The tensors of a model by what they are for, and its dense products.

use std::ops::{Index, IndexMut};

use tch::{Device, Kind, Tensor};

use crate::architectures::subtracts_b_dec;
use crate::{ModelConfig, Result, Tensors};

/// What a tensor of a model is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// `[n_features, d_model]`, one row a feature.
    EncoderWeight,
    /// `[n_features]`; of Gated the bias of the gate.
    EncoderBias,
    /// `[n_features, d_out]`, one row a feature.
    DecoderWeight,
    /// `[d_out]`.
    DecoderBias,
    /// What activations have to exceed: a scalar that training averages, or `[n_features]`, trained.
    Threshold,
    /// r of Gated, `[n_features]`.
    MagnitudeLogScale,
    /// Bias of the magnitudes of Gated, `[n_features]`.
    MagnitudeBias,
    /// Hidden layer of the k-estimator, `[width, d_model]`.
    HiddenWeight,
    /// First factor of a hidden layer of low rank, `[rank, d_model]`.
    DownWeight,
    /// Second factor of a hidden layer of low rank, `[n_features, rank]`.
    UpWeight,
    /// Bias of the hidden layer, `[width]`.
    HiddenBias,
    /// Output layer of the k-estimator, `[width]`.
    OutputWeight,
    /// Bias of the output layer, a scalar.
    OutputBias,
}

impl Role {
    /// The name of the tensor in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EncoderWeight => "encoder.weight",
            Self::EncoderBias => "encoder.bias",
            Self::DecoderWeight => "decoder.weight",
            Self::DecoderBias => "decoder.bias",
            Self::Threshold => "threshold",
            Self::MagnitudeLogScale => "magnitude.log_scale",
            Self::MagnitudeBias => "magnitude.bias",
            Self::HiddenWeight => "k_estimator.hidden.weight",
            Self::DownWeight => "k_estimator.down.weight",
            Self::UpWeight => "k_estimator.up.weight",
            Self::HiddenBias => "k_estimator.hidden.bias",
            Self::OutputWeight => "k_estimator.output.weight",
            Self::OutputBias => "k_estimator.output.bias",
        }
    }

    /// Whether the tensor belongs to the k-estimator.
    #[must_use]
    pub const fn is_of_estimator(self) -> bool {
        matches!(
            self,
            Self::HiddenWeight
                | Self::DownWeight
                | Self::UpWeight
                | Self::HiddenBias
                | Self::OutputWeight
                | Self::OutputBias
        )
    }

    /// Whether the tensor is multiplied with activations as they come.
    pub(crate) const fn reads_activations(self) -> bool {
        matches!(self, Self::EncoderWeight | Self::HiddenWeight | Self::DownWeight)
    }
}

/// All tensors of a model but the constants of its normalisation, and their only owner.
///
/// Whoever reads them borrows them; whoever trains them borrows them mutably for a step.
#[derive(Debug)]
pub struct Parameters {
    trained: Vec<(Role, Tensor)>,
    buffers: Vec<(Role, Tensor)>,
    /// Whether b_dec is subtracted from what the encoder reads.
    is_centred: bool,
    /// The kind that factors of dense products are rounded to, if another than that of the weights.
    pub products_in: Option<Kind>,
}

impl Parameters {
    /// Takes encoder and decoder out of `tensors`, checked against `config`.
    ///
    /// # Errors
    /// An error that names the tensor that is absent or wrong.
    pub fn take(config: &ModelConfig, tensors: &mut Tensors) -> Result<Self> {
        let (f, d) = (config.n_features as i64, config.d_model as i64);
        let d_out = config.output_dimension() as i64;
        let (trained, buffers) = (Vec::new(), Vec::new());
        let is_centred = subtracts_b_dec(config);
        let mut all = Self { trained, buffers, is_centred, products_in: None };
        all.take_trained(Role::EncoderWeight, &[f, d], tensors)?;
        all.take_trained(Role::EncoderBias, &[f], tensors)?;
        all.take_trained(Role::DecoderWeight, &[f, d_out], tensors)?;
        all.take_trained(Role::DecoderBias, &[d_out], tensors)?;
        Ok(all)
    }

    /// Takes a tensor that is trained by gradient.
    ///
    /// # Errors
    /// An error that names the tensor that is absent or wrong.
    pub fn take_trained(&mut self, role: Role, shape: &[i64], from: &mut Tensors) -> Result<()> {
        self.trained.push((role, from.take(role.name(), shape)?));
        Ok(())
    }

    /// Takes a tensor that is saved but not trained by gradient.
    ///
    /// # Errors
    /// An error that names the tensor that is absent or wrong.
    pub fn take_buffer(&mut self, role: Role, shape: &[i64], from: &mut Tensors) -> Result<()> {
        self.buffers.push((role, from.take(role.name(), shape)?));
        Ok(())
    }

    /// The tensors that are trained by gradient, in a fixed order.
    pub fn trained(&self) -> impl Iterator<Item = (Role, &Tensor)> {
        self.trained.iter().map(|(role, tensor)| (*role, tensor))
    }

    /// The tensors that are trained by gradient, to be changed.
    pub fn trained_mut(&mut self) -> impl Iterator<Item = (Role, &mut Tensor)> {
        self.trained.iter_mut().map(|(role, tensor)| (*role, tensor))
    }

    /// The tensors that are saved but not trained by gradient.
    pub fn buffers(&self) -> impl Iterator<Item = (Role, &Tensor)> {
        self.buffers.iter().map(|(role, tensor)| (*role, tensor))
    }

    /// The kind of the tensors.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self[Role::DecoderWeight].kind()
    }

    /// The device of the tensors.
    #[must_use]
    pub fn device(&self) -> Device {
        self[Role::DecoderWeight].device()
    }

    /// b_dec, where it is subtracted from what the encoder reads.
    #[must_use]
    pub fn centre(&self) -> Option<&Tensor> {
        self.is_centred.then(|| &self[Role::DecoderBias])
    }

    /// What the encoder reads of normalised rows: x − b_dec, or x where that is not subtracted.
    pub(crate) fn centred(&self, x: &Tensor) -> Tensor {
        self.centre().map_or_else(|| x.shallow_clone(), |centre| x - centre)
    }

    /// W_enc(x − b_dec) + b_enc, as xW_encᵀ + (b_enc − W_enc b_dec): no second product with W_enc
    /// is needed for the gradient of b_dec. Without b_dec where that is not subtracted ([`Self::centre`]).
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]`.
    pub fn pre_activations(&self, x: &Tensor) -> Tensor {
        self.centred_linear(x, Role::EncoderWeight, Role::EncoderBias)
    }

    /// W_enc(x − b_dec), without the bias.
    ///
    /// # Shapes
    /// x `[batch, d_model]`; returns `[batch, n_features]`.
    pub fn projections(&self, x: &Tensor) -> Tensor {
        let w_enc = &self[Role::EncoderWeight];
        let z = product(x, &w_enc.tr(), self.products_in);
        match self.centre() {
            Some(centre) => z - w_enc.mv(centre),
            None => z,
        }
    }

    /// fW_dec + b_dec.
    ///
    /// # Shapes
    /// features `[batch, n_features]`; returns `[batch, d_out]`.
    pub fn reconstruct(&self, features: &Tensor) -> Tensor {
        let (w_dec, b_dec) = (&self[Role::DecoderWeight], &self[Role::DecoderBias]);
        match self.products_in {
            None => b_dec.addmm(features, w_dec),
            kind => product(features, w_dec, kind) + b_dec,
        }
    }

    /// W(x − b_dec) + b as xWᵀ + (b − W b_dec); with other factors as xWᵀ of x − b_dec, which is
    /// smaller and so rounded less.
    pub(crate) fn centred_linear(&self, x: &Tensor, weight: Role, bias: Role) -> Tensor {
        let (w, b) = (&self[weight], &self[bias]);
        match (self.products_in, self.centre()) {
            (None, Some(centre)) => (b - w.mv(centre)).addmm(x, &w.tr()),
            (None, None) => b.addmm(x, &w.tr()),
            (kind, _) => product(&self.centred(x), &w.tr(), kind) + b,
        }
    }
}

/// # Panics
/// If the model has no such tensor.
impl Index<Role> for Parameters {
    type Output = Tensor;

    fn index(&self, role: Role) -> &Tensor {
        let found = self.trained.iter().chain(&self.buffers).find(|(r, _)| *r == role);
        &found.unwrap_or_else(|| panic!("a model without {}", role.name())).1
    }
}

/// # Panics
/// If the model has no such tensor.
impl IndexMut<Role> for Parameters {
    fn index_mut(&mut self, role: Role) -> &mut Tensor {
        let found = self.trained.iter_mut().chain(&mut self.buffers).find(|(r, _)| *r == role);
        &mut found.unwrap_or_else(|| panic!("a model without {}", role.name())).1
    }
}

/// a·b with factors rounded to `kind`, in the kind of b.
fn product(a: &Tensor, b: &Tensor, kind: Option<Kind>) -> Tensor {
    match kind {
        None => a.mm(b),
        Some(kind) => a.to_kind(kind).mm(&b.to_kind(kind)).to_kind(b.kind()),
    }
}
