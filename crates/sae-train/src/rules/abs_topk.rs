//! AbsTopK: the k features of largest magnitude of each row (Zhu et al. 2025, arXiv:2510.00404).

use sae_config::AbsTopKConfig;
use sae_models::{Sae, Weights};
use tch::Tensor;

use super::threshold::annealed_k;
use super::{Codes, Context, Detail, Loss, Rule, centre_decoder};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::Anneal;

/// ‖x − x̂‖² + auxk.
pub(crate) struct AbsTopKRule {
    config: AbsTopKConfig,
    weights: Weights,
    k: Anneal,
}

impl AbsTopKRule {
    pub(crate) fn new(config: &AbsTopKConfig, official: bool, sae: &dyn Sae) -> Self {
        Self {
            config: config.clone(),
            weights: sae.base().weights.alias(),
            k: annealed_k(config.k, config.k_anneal_steps, official, sae),
        }
    }
}

impl Rule for AbsTopKRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CLIPPED
    }

    fn start(&mut self, x: &Tensor) {
        centre_decoder(&self.weights, x);
    }

    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss> {
        let k = self.k.at(context.step).trunc();
        let z = self.weights.pre_activations(x);
        let codes = Codes::of_magnitudes(&z, k as i64);

        let residual = x - codes.reconstruct(&self.weights);
        let mse = mean_square(&residual);
        context.dead.count_codes(&codes);
        let auxk = context.dead.auxk_loss(&self.config.auxk, &residual, &z, &self.weights.w_dec);
        let dead_after_rows = Some(self.config.auxk.dead_after_rows);
        let detail = Detail { k_target: Some(k), dead_after_rows, ..Detail::default() };
        Ok(Loss::of_codes([("mse", Some(mse)), ("auxk", auxk)], &codes, detail))
    }
}
