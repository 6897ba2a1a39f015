//! SoftSAE: the number of active features k̂ is estimated from each input.
//!
//! k̂ = clamp(k_max·σ(w₂·h + b₂), k_min, F − 1), with h = relu(W₁(x − b_dec) + b₁) of the `mlp`
//! estimator (F hidden units) and of `narrow` (fewer), h = relu(U V (x − b_dec) + b₁) of `low_rank`
//! with V of few rows, h = z of `shared`.

use std::collections::BTreeMap;

use sae_config::{ArchitectureConfig, KEstimator, Parity, SoftConfig};
use sae_kernels::{Count, Matrix, Rank, estimator_forward};
use tch::{Device, Kind, Tensor};
use tch_autograd::{read, view, view_mut};

use crate::base::centred_linear;
use crate::init::{tied, zeros};
use crate::select::{top_at_most_mask, whole};
use crate::sparse::sparse;
use crate::{Base, Error, InitRng, ModelConfig, Products, Result, Sae, SparseCodes, Tensors};

/// f = z on its k̂ largest entries, z = relu(W_enc(x − b_dec) + b_enc).
#[derive(Debug)]
pub struct Soft {
    base: Base,
    estimator: KEstimatorWeights,
}

/// The network that estimates k̂.
#[derive(Debug)]
pub struct KEstimatorWeights {
    hidden: Hidden,
    /// `k_estimator.output.weight`, as wide as the hidden layer.
    output: Tensor,
    /// `k_estimator.output.bias`, a scalar.
    bias: Tensor,
    k_min: f64,
    k_max: f64,
    k_limit: f64,
    products_in: Option<Kind>,
}

#[derive(Debug)]
enum Hidden {
    /// W₁ `[width, d_model]` and b₁ `[width]`.
    Mlp(Tensor, Tensor),
    Shared,
    /// V `[rank, d_model]`, U `[n_features, rank]`, b₁ `[n_features]`.
    LowRank(Tensor, Tensor, Tensor),
}

impl KEstimatorWeights {
    fn take(config: &ModelConfig, soft: &SoftConfig, tensors: &mut Tensors) -> Result<Self> {
        let (f, d) = (config.n_features as i64, config.d_model as i64);
        let width = soft.k_estimator.hidden_units(config.d_model, config.n_features) as i64;
        let hidden = match soft.k_estimator {
            KEstimator::Mlp | KEstimator::Narrow { .. } => Hidden::Mlp(
                tensors.take("k_estimator.hidden.weight", &[width, d])?,
                tensors.take("k_estimator.hidden.bias", &[width])?,
            ),
            KEstimator::Shared => Hidden::Shared,
            KEstimator::LowRank { rank } => Hidden::LowRank(
                tensors.take("k_estimator.down.weight", &[rank as i64, d])?,
                tensors.take("k_estimator.up.weight", &[f, rank as i64])?,
                tensors.take("k_estimator.hidden.bias", &[f])?,
            ),
        };
        Ok(Self {
            hidden,
            output: tensors.take("k_estimator.output.weight", &[width])?,
            bias: tensors.take("k_estimator.output.bias", &[])?,
            k_min: soft.k_min,
            k_max: soft.k_bound(),
            k_limit: config.n_features as f64 - 1.0,
            products_in: None,
        })
    }

    /// The estimator of the model `sae`, as other handles to its tensors.
    ///
    /// # Errors
    /// A model that has none: the tensor that is missing.
    pub fn of(sae: &dyn Sae) -> Result<Self> {
        let config = sae.config();
        let ArchitectureConfig::Soft(soft) = &config.architecture else {
            let name = "k_estimator.output.weight".into();
            return Err(Error::MissingTensor { name, expected: vec![config.n_features as i64] });
        };
        let own = sae.own_parameters().into_iter();
        let map = own.map(|(name, tensor)| (name.into(), tensor.shallow_clone())).collect();
        let base = sae.base();
        let tensors = &mut Tensors::new(map, base.kind(), base.device());
        let products_in = base.weights.products_in;
        Ok(Self { products_in, ..Self::take(config, soft, tensors)? })
    }

    /// The most features that it can choose, rounded up.
    #[must_use]
    pub fn most(&self) -> i64 {
        self.k_max.min(self.k_limit).ceil() as i64
    }

    /// k̂ of normalised rows `x` whose encoder gives `z`.
    ///
    /// # Shapes
    /// x `[batch, d_model]`, z `[batch, n_features]`; returns `[batch]`.
    pub fn k_hat(&self, x: &Tensor, z: &Tensor, b_dec: &Tensor) -> Tensor {
        let score = match &self.hidden {
            Hidden::Mlp(w, b) => {
                centred_linear(x, w, b, b_dec, self.products_in).relu().mv(&self.output)
            }
            Hidden::Shared => z.mv(&self.output),
            Hidden::LowRank(v, u, b) => {
                let low = (x - b_dec).mm(&v.tr());
                b.addmm(&low, &u.tr()).relu().mv(&self.output)
            }
        };
        self.of_score(&score)
    }

    /// w₂·relu(h + bias) of a hidden layer without its bias.
    fn score(&self, hidden: Matrix<'_>, bias: &Tensor) -> Result<Tensor> {
        let mut score = Tensor::zeros([hidden.n_rows() as i64], (Kind::Float, Device::Cpu));
        estimator_forward(hidden, &view(bias)?, &view(&self.output)?, view_mut(&mut score)?)?;
        Ok(score)
    }

    fn of_score(&self, score: &Tensor) -> Tensor {
        ((score + &self.bias).sigmoid() * self.k_max).clamp(self.k_min, self.k_limit)
    }

    fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        let mut all = match &self.hidden {
            Hidden::Mlp(w, b) => {
                vec![("k_estimator.hidden.weight", w), ("k_estimator.hidden.bias", b)]
            }
            Hidden::Shared => vec![],
            Hidden::LowRank(v, u, b) => vec![
                ("k_estimator.down.weight", v),
                ("k_estimator.up.weight", u),
                ("k_estimator.hidden.bias", b),
            ],
        };
        all.push(("k_estimator.output.weight", &self.output));
        all.push(("k_estimator.output.bias", &self.bias));
        all
    }
}

impl Soft {
    pub(crate) fn new(base: Base, config: &SoftConfig, tensors: &mut Tensors) -> Result<Self> {
        let estimator = KEstimatorWeights::take(&base.config, config, tensors)?;
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

    fn activate(&self, x: &Tensor) -> (Tensor, Option<Tensor>) {
        let z = self.base.weights.pre_activations(x).relu();
        let k_hat = self.estimator.k_hat(x, &z, &self.base.weights.b_dec);
        let k = whole(&k_hat, self.base.config.parity == Parity::Official);
        (&z * top_at_most_mask(&z, &k, self.estimator.most()), Some(k_hat))
    }

    fn activate_sparse(
        &self,
        x: &Tensor,
        products: &mut Products,
        codes: &mut SparseCodes,
    ) -> Result<Option<Tensor>> {
        let weights = &self.base.weights;
        let Hidden::Mlp(w, b) = &self.estimator.hidden else {
            let (features, k_hat) = self.activate(x);
            sparse(&features, codes)?;
            return Ok(k_hat);
        };
        let (hidden, _) = products.product(1, x, w, Some(&weights.b_dec))?;
        let k_hat = self.estimator.of_score(&self.estimator.score(hidden, b)?);
        let k = whole(&k_hat, self.base.config.parity == Parity::Official);
        let k: Vec<usize> = read::vector::<i64>(&k)?.into_iter().map(|k| k as usize).collect();
        let (z, selector) = products.of_encoder(x, weights)?;
        selector.top_k(z, &view(&weights.b_enc)?, Count::PerRow(&k), Rank::Value, codes)?;
        Ok(Some(k_hat))
    }

    fn own_parameters(&self) -> Vec<(&'static str, &Tensor)> {
        self.estimator.parameters()
    }

    fn fold_own(&mut self, scale: f64) {
        if let Hidden::Mlp(w, _) | Hidden::LowRank(w, ..) = &mut self.estimator.hidden {
            let _ = w.divide_scalar_(scale);
        }
    }
}
