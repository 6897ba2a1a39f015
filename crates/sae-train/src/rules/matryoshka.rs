//! Matryoshka BatchTopK: prefixes of the dictionary are dictionaries too
//! (Bussmann et al. 2025, arXiv:2503.17547).

use sae_config::MatryoshkaBatchTopKConfig;
use sae_models::{Sae, Weights, group_sizes};
use tch::Tensor;

use super::loss::sum;
use super::threshold::{Threshold, annealed_k};
use super::{Codes, Context, Detail, Loss, Rule, centre_decoder};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;

/// Mean over groups g of weight_g·‖x − x̂ of the first g groups‖² + auxk of the whole.
pub(crate) struct MatryoshkaRule {
    config: MatryoshkaBatchTopKConfig,
    weights: Weights,
    groups: Vec<(i64, f64)>,
    k: Anneal,
    threshold: Threshold,
}

impl MatryoshkaRule {
    pub(crate) fn new(
        config: &MatryoshkaBatchTopKConfig,
        official: bool,
        sae: &dyn Sae,
    ) -> Result<Self> {
        let sizes = group_sizes(&config.group_fractions, sae.config().n_features);
        let equal = vec![1.0 / sizes.len() as f64; sizes.len()];
        let weights = config.group_weights.clone().unwrap_or(equal);
        Ok(Self {
            config: config.clone(),
            weights: sae.base().weights.alias(),
            groups: sizes.into_iter().map(|size| size as i64).zip(weights).collect(),
            k: annealed_k(config.k, config.k_anneal_steps, official, sae),
            threshold: Threshold::new(config.threshold_start_step, sae)?,
        })
    }
}

impl Rule for MatryoshkaRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CLIPPED
    }

    fn start(&mut self, x: &Tensor) {
        centre_decoder(&self.weights, x);
    }

    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss> {
        let k = self.k.at(context.step).trunc();
        let z = self.weights.pre_activations(x).relu();
        let codes = Codes::of_batch(&z, k as i64 * x.size()[0]);
        self.threshold.see_batch(&codes.values(), context.step);

        let mut residuals = vec![x - &self.weights.b_dec];
        let mut start = 0;
        for &(size, _) in &self.groups {
            let group = codes.of_group(start, start + size).decode(&self.weights.w_dec);
            residuals.push(&residuals[residuals.len() - 1] - group);
            start += size;
        }
        let weighted = self.groups.iter().zip(&residuals[1..]).map(|((_, weight), residual)| {
            mean_square(residual) * (weight / self.groups.len() as f64)
        });
        let mse = sum(weighted);
        let residual = &residuals[self.groups.len()];
        context.dead.count_codes(&codes);
        let auxk = context.dead.auxk_loss(&self.config.auxk, residual, &z, &self.weights.w_dec);
        let dead_after_rows = Some(self.config.auxk.dead_after_rows);
        let detail = Detail { k_target: Some(k), dead_after_rows, ..Detail::default() };
        Ok(Loss::of_codes([("mse", Some(mse)), ("auxk", auxk)], &codes, detail))
    }
}
