//! Random initial values, the same whatever libtorch's version, device or thread count.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tch::{Kind, Tensor};

use crate::ModelConfig;

/// A seeded source of initial values, drawn in f64.
#[derive(Debug)]
pub struct InitRng(ChaCha8Rng);

impl InitRng {
    /// The source of this `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Independent draws from (−`bound`, `bound`).
    pub fn uniform(&mut self, shape: &[i64], bound: f64) -> Tensor {
        let n = shape.iter().product::<i64>() as usize;
        let values: Vec<f64> = (0..n).map(|_| self.0.random_range(-bound..bound)).collect();
        Tensor::from_slice(&values).reshape(shape)
    }

    /// Rows of this `norm` in directions drawn uniformly from the sphere.
    pub fn directions(&mut self, n_rows: usize, width: usize, norm: f64) -> Tensor {
        let mut values = Vec::with_capacity(n_rows * width);
        for _ in 0..n_rows {
            let start = values.len();
            values.extend((0..width).map(|_| self.normal()));
            let length = values[start..].iter().map(|v| v * v).sum::<f64>().sqrt();
            values[start..].iter_mut().for_each(|v| *v *= norm / length.max(f64::MIN_POSITIVE));
        }
        Tensor::from_slice(&values).reshape([n_rows as i64, width as i64])
    }

    /// A standard normal draw (Box–Muller).
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.0.random::<f64>()).cos()
    }
}

/// Encoder and decoder: rows of the decoder have `norm`, the encoder is the same, biases are 0.
///
/// The encoder of a transcoder reads another space than the decoder writes to, whatever their
/// dimensions: its rows, of the same norm, are drawn for themselves.
pub(crate) fn encoder_and_decoder(
    config: &ModelConfig,
    rng: &mut InitRng,
    norm: f64,
) -> BTreeMap<String, Tensor> {
    let w_dec = rng.directions(config.n_features, config.output_dimension(), norm);
    let w_enc = match config.is_transcoder() {
        true => rng.directions(config.n_features, config.d_model, norm),
        false => w_dec.copy(),
    };
    BTreeMap::from([
        ("encoder.weight".into(), w_enc),
        ("encoder.bias".into(), zeros(&[config.n_features])),
        ("decoder.weight".into(), w_dec),
        ("decoder.bias".into(), zeros(&[config.output_dimension()])),
    ])
}

pub(crate) fn zeros(shape: &[usize]) -> Tensor {
    let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
    Tensor::zeros(shape, (Kind::Double, tch::Device::Cpu))
}
