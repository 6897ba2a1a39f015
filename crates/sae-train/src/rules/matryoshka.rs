//! Matryoshka BatchTopK: prefixes of the dictionary are dictionaries too
//! (Bussmann et al. 2025, arXiv:2503.17547).

use sae_config::MatryoshkaBatchTopKConfig;
use sae_models::{Sae, Weights};
use tch::Tensor;

use super::prefixes::Prefixes;
use super::threshold::{Threshold, annealed_k};
use super::{Codes, Context, Detail, Loss, Rule, centre_decoder};
use crate::Result;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;

/// Mean over groups g of weight_g·‖x − x̂ of the first g groups‖² + auxk of the whole.
pub(crate) struct MatryoshkaRule {
    config: MatryoshkaBatchTopKConfig,
    weights: Weights,
    prefixes: Prefixes,
    k: Anneal,
    threshold: Threshold,
}

impl MatryoshkaRule {
    pub(crate) fn new(
        config: &MatryoshkaBatchTopKConfig,
        official: bool,
        sae: &dyn Sae,
    ) -> Result<Self> {
        let (fractions, weights) = (&config.group_fractions, config.group_weights.as_deref());
        Ok(Self {
            config: config.clone(),
            weights: sae.base().weights.alias(),
            prefixes: Prefixes::new(fractions, weights, sae.config().n_features),
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

        let (mse, residual) = self.prefixes.errors(x, &codes, &self.weights);
        context.dead.count_codes(&codes);
        let auxk = context.dead.auxk_loss(&self.config.auxk, &residual, &z, &self.weights.w_dec);
        let dead_after_rows = Some(self.config.auxk.dead_after_rows);
        let detail = Detail { k_target: Some(k), dead_after_rows, ..Detail::default() };
        Ok(Loss::of_codes([("mse", Some(mse)), ("auxk", auxk)], &codes, detail))
    }
}
