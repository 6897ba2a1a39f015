//! SoftSAE: the number of active features k̂ is estimated from each input, and its z is kept on its k̂
//! largest entries.
//!
//! k̂ = clamp(k_max·σ(w₂·h + b₂), k_min, F − 1), with h = relu(W₁(x − b_dec) + b₁) of the
//! network of two layers, h = relu(U V (x − b_dec) + b₁) of that of low rank, with V of few rows, and
//! h = z where the encoder is shared.

use std::collections::BTreeMap;

use sae_config::{EstimatorNetwork, Rounding, SoftCode};
use sae_kernels::{Matrix, estimator_forward};
use tch::{Device, Kind, Tensor};
use tch_autograd::{view, view_mut};

use crate::init::zeros;
use crate::{InitRng, Largest, ModelConfig, Parameters, Result, Role, Tensors};

/// How k̂ is estimated; the tensors that do it are among the model's.
#[derive(Debug, Clone, Copy)]
pub struct Estimator {
    network: EstimatorNetwork,
    /// What σ of the output layer is multiplied by.
    pub k_max: f64,
    /// The least k̂.
    pub k_min: f64,
    /// The largest k̂, where the dictionary has not more than k_max features.
    pub k_limit: f64,
    rounding: Rounding,
}

impl Estimator {
    /// The estimator of a dictionary of `n_features`.
    #[must_use]
    pub const fn new(soft: &SoftCode, n_features: usize) -> Self {
        Self {
            network: soft.k_estimator,
            k_min: soft.k_min,
            k_max: soft.k_max,
            k_limit: n_features as f64 - 1.0,
            rounding: soft.rounding,
        }
    }

    /// The most features that it can choose, rounded up.
    #[must_use]
    pub fn most(&self) -> i64 {
        self.k_max.min(self.k_limit).ceil() as i64
    }

    /// Whether its hidden layer is one of its own, of one matrix.
    pub(crate) const fn has_hidden_layer(&self) -> bool {
        match self.network {
            EstimatorNetwork::TwoLayers { .. } => true,
            EstimatorNetwork::Shared | EstimatorNetwork::LowRank { .. } => false,
        }
    }

    /// The whole numbers of features that k̂ stands for.
    pub fn whole(&self, k_hat: &Tensor) -> Tensor {
        match self.rounding {
            Rounding::Nearest => k_hat.round(),
            Rounding::Down => k_hat.floor(),
        }
        .to_kind(Kind::Int64)
    }

    /// What is kept with these numbers of features, one a row.
    pub fn largest<'a>(&self, k: &'a Tensor) -> Largest<'a> {
        Largest::OfEachRow { k, most: self.most() }
    }

    /// k̂ of normalised rows `x` whose encoder gives `z`.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, z `[batch, n_features]`; returns `[batch]`.
    pub fn k_hat(&self, all: &Parameters, x: &Tensor, z: &Tensor) -> Tensor {
        let output = &all[Role::OutputWeight];
        let score = match self.network {
            EstimatorNetwork::TwoLayers { .. } => {
                all.centred_linear(x, Role::HiddenWeight, Role::HiddenBias).relu().mv(output)
            }
            EstimatorNetwork::Shared => z.mv(output),
            EstimatorNetwork::LowRank { .. } => {
                let low = all.centred(x).mm(&all[Role::DownWeight].tr());
                all[Role::HiddenBias].addmm(&low, &all[Role::UpWeight].tr()).relu().mv(output)
            }
        };
        self.of_score(all, &score)
    }

    /// The same of a hidden layer without its bias.
    pub(crate) fn k_hat_of_hidden(&self, all: &Parameters, hidden: Matrix<'_>) -> Result<Tensor> {
        let mut score = Tensor::zeros([hidden.n_rows() as i64], (Kind::Float, Device::Cpu));
        let (bias, output) = (view(&all[Role::HiddenBias])?, view(&all[Role::OutputWeight])?);
        estimator_forward(hidden, &bias, &output, view_mut(&mut score)?)?;
        Ok(self.of_score(all, &score))
    }

    fn of_score(&self, all: &Parameters, score: &Tensor) -> Tensor {
        let share = (score + &all[Role::OutputBias]).sigmoid();
        (share * self.k_max).clamp(self.k_min, self.k_limit)
    }
}

pub(super) fn take(
    config: &ModelConfig,
    soft: &SoftCode,
    all: &mut Parameters,
    from: &mut Tensors,
) -> Result<()> {
    let (f, d) = (config.n_features as i64, config.d_model as i64);
    let width = soft.k_estimator.hidden_units(config.n_features) as i64;
    match soft.k_estimator {
        EstimatorNetwork::TwoLayers { .. } => {
            all.take_trained(Role::HiddenWeight, &[width, d], from)?;
            all.take_trained(Role::HiddenBias, &[width], from)?;
        }
        EstimatorNetwork::Shared => {}
        EstimatorNetwork::LowRank { rank } => {
            all.take_trained(Role::DownWeight, &[rank as i64, d], from)?;
            all.take_trained(Role::UpWeight, &[f, rank as i64], from)?;
            all.take_trained(Role::HiddenBias, &[f], from)?;
        }
    }
    all.take_trained(Role::OutputWeight, &[width], from)?;
    all.take_trained(Role::OutputBias, &[], from)
}

/// Puts the initial values of the estimator beside those of encoder and decoder: W₁ starts as the
/// first rows of W_enc, k̂ near k.
pub(super) fn initial(
    config: &ModelConfig,
    soft: &SoftCode,
    rng: &mut InitRng,
    map: &mut BTreeMap<String, Tensor>,
) {
    let (f, d) = (config.n_features as i64, config.d_model as i64);
    let width = soft.k_estimator.hidden_units(config.n_features);
    let w_enc = map[Role::EncoderWeight.name()].shallow_clone();
    let mut set = |role: Role, value: Tensor| drop(map.insert(role.name().into(), value));
    match soft.k_estimator {
        EstimatorNetwork::TwoLayers { .. } => {
            set(Role::HiddenWeight, w_enc.narrow(0, 0, width as i64).copy());
            set(Role::HiddenBias, zeros(&[width]));
        }
        EstimatorNetwork::Shared => {}
        EstimatorNetwork::LowRank { rank } => {
            set(Role::DownWeight, rng.uniform(&[rank as i64, d], 1.0 / (d as f64).sqrt()));
            set(Role::UpWeight, rng.uniform(&[f, rank as i64], 1.0 / (rank as f64).sqrt()));
            set(Role::HiddenBias, zeros(&[config.n_features]));
        }
    }
    set(Role::OutputWeight, rng.uniform(&[width as i64], 1.0 / (width as f64).sqrt()));
    let (k, k_max) = (soft.k as f64, soft.k_max);
    set(Role::OutputBias, zeros(&[]) + (k / (k_max - k)).ln());
}
