//! What the TopK family shares: the annealed k, the threshold that inference uses.

use sae_models::Sae;
use tch::{Kind, Tensor};

use super::tensor;
use crate::Result;
use crate::schedule::Anneal;

/// Share of the old value that the moving average keeps.
pub(crate) const KEPT: f64 = 0.999;

/// k falling from D to `k`; the published code sees `k` itself in the first step.
pub(crate) fn annealed_k(k: usize, steps: u64, official: bool, sae: &dyn Sae) -> Anneal {
    let end = k as f64;
    if steps == 0 {
        return Anneal::constant(end);
    }
    let start = (sae.config().d_model as f64).max(end).min(sae.config().n_features as f64);
    Anneal { first: if official { end } else { start }, start, end, steps }
}

/// Moving average of the least value kept; negative until the first is seen.
pub(super) struct Threshold {
    value: Tensor,
    start_step: u64,
}

impl Threshold {
    pub(super) fn new(start_step: Option<u64>, sae: &dyn Sae) -> Result<Self> {
        Ok(Self { value: tensor(sae, "threshold")?, start_step: start_step.unwrap_or(0) })
    }

    /// Sees the mean over rows of each row's least positive feature.
    pub(super) fn see_rows(&mut self, features: &Tensor, step: u64) {
        if step > self.start_step {
            let _guard = tch::no_grad_guard();
            let least = least_positive(features).amin([1i64].as_slice(), false);
            let some = least.isfinite();
            let sum = least.where_self(&some, &least.zeros_like()).sum(least.kind());
            self.see(&(sum / some.sum(Kind::Int64)));
        }
    }

    /// Sees the least positive feature of the batch.
    pub(super) fn see_batch(&mut self, features: &Tensor, step: u64) {
        if step > self.start_step {
            let _guard = tch::no_grad_guard();
            self.see(&least_positive(features).min());
        }
    }

    /// The first value is taken as it is; one that is not finite (no feature was active) is not.
    fn see(&mut self, least: &Tensor) {
        let average = &self.value * KEPT + least * (1.0 - KEPT);
        let next = average.where_self(&self.value.ge(0.0), least);
        let next = next.where_self(&least.isfinite(), &self.value);
        self.value.copy_(&next);
    }
}

fn least_positive(features: &Tensor) -> Tensor {
    let features = features.detach();
    features.masked_fill(&features.le(0.0), f64::INFINITY)
}
