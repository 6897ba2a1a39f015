//! BatchTopK: the k·B largest features of the batch (Bussmann et al. 2024, arXiv:2412.06410).

use sae_config::BatchTopKConfig;
use sae_models::{Sae, Weights};
use tch::Tensor;

use super::threshold::{Threshold, annealed_k};
use super::{Codes, Context, Detail, Loss, Rule, centre_decoder};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;

/// ‖x − x̂‖² + auxk.
pub(crate) struct BatchTopKRule {
    config: BatchTopKConfig,
    weights: Weights,
    k: Anneal,
    threshold: Threshold,
}

impl BatchTopKRule {
    pub(crate) fn new(config: &BatchTopKConfig, official: bool, sae: &dyn Sae) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            weights: sae.base().weights.alias(),
            k: annealed_k(config.k, config.k_anneal_steps, official, sae),
            threshold: Threshold::new(config.threshold_start_step, sae)?,
        })
    }
}

impl Rule for BatchTopKRule {
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

        let residual = x - codes.reconstruct(&self.weights);
        let mse = mean_square(&residual);
        context.dead.count_codes(&codes);
        let auxk = context.dead.auxk_loss(&self.config.auxk, &residual, &z, &self.weights.w_dec);
        let dead_after_rows = Some(self.config.auxk.dead_after_rows);
        let detail = Detail { k_target: Some(k), dead_after_rows, ..Detail::default() };
        Ok(Loss::of_codes([("mse", Some(mse)), ("auxk", auxk)], &codes, detail))
    }
}
