//! The reconstruction error of a dictionary whose prefixes are dictionaries too
//! (Matryoshka; Bussmann et al. 2025, arXiv:2503.17547).

use sae_models::{Codes, Parameters, Role};
use tch::Tensor;

use super::loss::sum;
use crate::dead::mean_square;

/// Where each prefix of the dictionary ends, and its weight.
pub(super) struct Prefixes(Vec<(i64, f64)>);

/// Features that can be decoded a range at a time.
pub(super) trait Decode {
    /// Σ over features of `start..end`, without b_dec.
    ///
    /// # Shapes
    /// w_dec `[n_features, d_out]`.
    fn decode_range(&self, w_dec: &Tensor, start: i64, end: i64) -> Tensor;
}

impl Decode for Codes {
    fn decode_range(&self, w_dec: &Tensor, start: i64, end: i64) -> Tensor {
        self.of_group(start, end).decode(w_dec)
    }
}

/// Features `[batch, n_features]`.
impl Decode for Tensor {
    fn decode_range(&self, w_dec: &Tensor, start: i64, end: i64) -> Tensor {
        let n = end - start;
        self.narrow(1, start, n).mm(&w_dec.narrow(0, start, n))
    }
}

impl Prefixes {
    pub(super) fn new(ends: &[(usize, f64)]) -> Self {
        Self(ends.iter().map(|(end, weight)| (*end as i64, *weight)).collect())
    }

    /// Whether the whole dictionary is the only one.
    pub(super) const fn is_one(&self) -> bool {
        self.0.len() == 1
    }

    /// What the error of the whole dictionary would weigh in the loss, if all prefixes had it.
    pub(super) fn weight(&self) -> f64 {
        self.0.iter().map(|(_, weight)| weight).sum::<f64>() / self.0.len() as f64
    }

    /// Mean over prefixes of weight·‖target − x̂ of the prefix‖², and the residual of them all.
    pub(super) fn errors(
        &self,
        target: &Tensor,
        codes: &impl Decode,
        parameters: &Parameters,
    ) -> (Tensor, Tensor) {
        let w_dec = &parameters[Role::DecoderWeight];
        let mut residual = target - &parameters[Role::DecoderBias];
        let mut start = 0;
        let mut errors = Vec::new();
        for &(end, weight) in &self.0 {
            // Not in place: the error before needs its residual for its gradient.
            let next = &residual - codes.decode_range(w_dec, start, end);
            errors.push(mean_square(&next) * (weight / self.0.len() as f64));
            (residual, start) = (next, end);
        }
        (sum(errors.into_iter()), residual)
    }
}
