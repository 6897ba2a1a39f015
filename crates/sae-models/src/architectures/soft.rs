//! SoftSAE: the number of active features k̂ is estimated from each input.
//!
//! k̂ = clamp(k_max·σ(w₂·h + b₂), k_min, F − 1), with h = relu(W₁(x − b_dec) + b₁) of the `mlp`
//! estimator (F hidden units) and of `narrow` (fewer), h = relu(U V (x − b_dec) + b₁) of `low_rank`
//! with V of few rows, h = z of `shared`.

use std::collections::BTreeMap;

use sae_config::{KEstimator, Parity, SoftConfig};
use sae_kernels::{Matrix, estimator_forward};
use tch::{Device, Kind, Tensor};
use tch_autograd::{view, view_mut};

use crate::init::{tied, zeros};
use crate::{
    Base, InitRng, Largest, ModelConfig, Parameters, Result, Role, Sae, Selection, Tensors,
};

/// f = z on its k̂ largest entries, z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct Soft {
    base: Base,
    estimator: Estimator,
}

/// How k̂ is estimated; the tensors that do it are among the model's.
#[derive(Debug, Clone, Copy)]
pub struct Estimator {
    hidden: KEstimator,
    k_min: f64,
    k_max: f64,
    k_limit: f64,
    /// Whether k̂ is rounded down, not to the nearest.
    down: bool,
}

impl Estimator {
    /// The estimator of a dictionary of `n_features`.
    #[must_use]
    pub fn new(soft: &SoftConfig, n_features: usize, parity: Parity) -> Self {
        Self {
            hidden: soft.k_estimator,
            k_min: soft.k_min,
            k_max: soft.k_bound(),
            k_limit: n_features as f64 - 1.0,
            down: parity == Parity::Official,
        }
    }

    /// The most features that it can choose, rounded up.
    #[must_use]
    pub fn most(&self) -> i64 {
        self.k_max.min(self.k_limit).ceil() as i64
    }

    /// Whether its hidden layer is one of its own, of one matrix.
    pub(crate) const fn has_hidden_layer(&self) -> bool {
        match self.hidden {
            KEstimator::Mlp | KEstimator::Narrow { .. } => true,
            KEstimator::Shared | KEstimator::LowRank { .. } => false,
        }
    }

    /// The whole numbers of features that k̂ stands for.
    pub fn whole(&self, k_hat: &Tensor) -> Tensor {
        if self.down { k_hat.floor() } else { k_hat.round() }.to_kind(Kind::Int64)
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
        let score = match self.hidden {
            KEstimator::Mlp | KEstimator::Narrow { .. } => {
                all.centred_linear(x, Role::HiddenWeight, Role::HiddenBias).relu().mv(output)
            }
            KEstimator::Shared => z.mv(output),
            KEstimator::LowRank { .. } => {
                let low = (x - &all[Role::DecoderBias]).mm(&all[Role::DownWeight].tr());
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

impl Soft {
    pub(crate) fn new(mut base: Base, soft: &SoftConfig, from: &mut Tensors) -> Result<Self> {
        let (f, d) = (base.config.n_features as i64, base.config.d_model as i64);
        let width = soft.k_estimator.hidden_units(base.config.d_model, base.config.n_features);
        let all = &mut base.parameters;
        match soft.k_estimator {
            KEstimator::Mlp | KEstimator::Narrow { .. } => {
                all.take_trained(Role::HiddenWeight, &[width as i64, d], from)?;
                all.take_trained(Role::HiddenBias, &[width as i64], from)?;
            }
            KEstimator::Shared => {}
            KEstimator::LowRank { rank } => {
                all.take_trained(Role::DownWeight, &[rank as i64, d], from)?;
                all.take_trained(Role::UpWeight, &[f, rank as i64], from)?;
                all.take_trained(Role::HiddenBias, &[f], from)?;
            }
        }
        all.take_trained(Role::OutputWeight, &[width as i64], from)?;
        all.take_trained(Role::OutputBias, &[], from)?;
        let estimator = Estimator::new(soft, base.config.n_features, base.config.parity);
        Ok(Self { base, estimator })
    }

    /// W₁ starts as the first rows of W_enc; k̂ starts near k.
    pub(crate) fn initial(
        config: &ModelConfig,
        soft: &SoftConfig,
        rng: &mut InitRng,
    ) -> BTreeMap<String, Tensor> {
        let (f, d) = (config.n_features as i64, config.d_model as i64);
        let width = soft.k_estimator.hidden_units(config.d_model, config.n_features);
        let mut map = tied(config, rng, 1.0);
        match soft.k_estimator {
            KEstimator::Mlp | KEstimator::Narrow { .. } => {
                let rows = map["encoder.weight"].narrow(0, 0, width as i64);
                map.insert("k_estimator.hidden.weight".into(), rows.copy());
                map.insert("k_estimator.hidden.bias".into(), zeros(&[width]));
            }
            KEstimator::Shared => {}
            KEstimator::LowRank { rank } => {
                let down = rng.uniform(&[rank as i64, d], 1.0 / (d as f64).sqrt());
                let up = rng.uniform(&[f, rank as i64], 1.0 / (rank as f64).sqrt());
                map.insert("k_estimator.down.weight".into(), down);
                map.insert("k_estimator.up.weight".into(), up);
                map.insert("k_estimator.hidden.bias".into(), zeros(&[config.n_features]));
            }
        }
        let output = rng.uniform(&[width as i64], 1.0 / (width as f64).sqrt());
        map.insert("k_estimator.output.weight".into(), output);
        let k_max = soft.k_bound();
        let logit = (soft.k as f64 / (k_max - soft.k as f64)).ln();
        map.insert("k_estimator.output.bias".into(), zeros(&[]) + logit);
        map
    }
}

impl Sae for Soft {
    fn base(&self) -> &Base {
        &self.base
    }

    fn base_mut(&mut self) -> &mut Base {
        &mut self.base
    }

    fn selection(&self) -> Selection {
        Selection::Estimated(self.estimator)
    }
}
