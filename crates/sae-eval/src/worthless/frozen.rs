//! An encoder for a decoder that is not trained.

use sae_models::InitRng;
use tch::{Kind, Tensor};

use super::SEED;
use crate::Result;

/// Steps of Adam.
const N_STEPS: usize = 200;

/// Rows a step.
const BATCH: i64 = 512;

/// Learning rate, which falls linearly to 0.
const LEARNING_RATE: f64 = 1e-3;

/// An encoder of rows that are centred already.
pub(super) struct Encoder {
    /// `[n_features, d_model]`.
    pub(super) weight: Tensor,
    /// `[n_features]`.
    pub(super) bias: Tensor,
}

/// Trains an encoder from `start` on, for the mean squared error of rows that the decoder rebuilds
/// from the k largest features of each.
///
/// # Shapes
/// start and decoder `[n_features, d_model]`, rows `[n, d_model]`.
pub(super) fn train(start: &Tensor, decoder: &Tensor, rows: &Tensor, k: usize) -> Result<Encoder> {
    let (n, k) = (rows.size()[0], (k as i64).min(decoder.size()[0]));
    let decoder = decoder.f_to_kind(Kind::Float)?;
    let rows = rows.f_to_kind(Kind::Float)?;
    let mut weight = Parameter::new(&start.f_to_kind(Kind::Float)?)?;
    let mut bias =
        Parameter::new(&Tensor::f_zeros([start.size()[0]], (Kind::Float, start.device()))?)?;
    let mut rng = InitRng::new(SEED);
    for step in 0..N_STEPS {
        let drawn = rng.uniform(&[BATCH.min(n)], 0.5).f_add_scalar(0.5)?.f_mul_scalar(n as f64)?;
        let drawn = drawn.f_to_kind(Kind::Int64)?.f_clamp(0, n - 1)?;
        let x = rows.f_index_select(0, &drawn)?;
        let loss = tch::with_grad(|| -> Result<Tensor> {
            let z = bias.value.f_addmm(&x, &weight.value.f_tr()?)?.f_relu()?;
            let (values, indices) = z.f_topk(k, 1, true, false)?;
            let kept = z.f_zeros_like()?.f_scatter(1, &indices, &values)?;
            let error = x.f_sub(&kept.f_matmul(&decoder)?)?.f_square()?;
            Ok(error.f_sum(Kind::Float)?.f_div_scalar(x.size()[0] as f64)?)
        })?;
        loss.f_backward()?;
        let rate = LEARNING_RATE * (1.0 - step as f64 / N_STEPS as f64);
        weight.step(step, rate)?;
        bias.step(step, rate)?;
    }
    Ok(Encoder { weight: weight.value.f_detach()?, bias: bias.value.f_detach()? })
}

/// A tensor and its moments of Adam.
struct Parameter {
    value: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl Parameter {
    fn new(start: &Tensor) -> Result<Self> {
        let value = start.f_detach()?.copy().f_set_requires_grad(true)?;
        let (mean, square) = (start.f_zeros_like()?, start.f_zeros_like()?);
        Ok(Self { value, mean, square })
    }

    /// Takes the gradient.
    fn step(&mut self, step: usize, rate: f64) -> Result<()> {
        let mut gradient = self.value.f_grad()?;
        let powers = [0.9, 0.999].map(|beta: f64| 1.0 - beta.powi(step as i32 + 1));
        self.mean = self.mean.f_mul_scalar(0.9)?.f_add(&gradient.f_mul_scalar(0.1)?)?;
        let square = gradient.f_square()?.f_mul_scalar(0.001)?;
        self.square = self.square.f_mul_scalar(0.999)?.f_add(&square)?;
        let size = self.square.f_div_scalar(powers[1])?.f_sqrt()?.f_add_scalar(1e-8)?;
        let change = self.mean.f_div_scalar(powers[0])?.f_div(&size)?.f_mul_scalar(rate)?;
        let _ = self.value.f_detach()?.f_sub_(&change)?;
        let _ = gradient.f_zero_()?;
        Ok(())
    }
}
