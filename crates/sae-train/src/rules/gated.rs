//! Gated: the gate is trained by a reconstruction of its own (Rajamanoharan et al. 2024,
//! arXiv:2404.16014).

use sae_config::GatedConfig;
use sae_models::{Sae, Weights};
use tch::Tensor;

use super::{Context, Detail, Loss, Rule, tensor};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::sparsity_scale;

/// ‖x − x̂‖² + λ·Σ relu(gate) + ‖x − x̂ of relu(gate), decoder detached‖².
pub(crate) struct GatedRule {
    config: GatedConfig,
    weights: Weights,
    log_scale: Tensor,
    bias: Tensor,
}

impl GatedRule {
    pub(crate) fn new(config: &GatedConfig, sae: &dyn Sae) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            weights: sae.base().weights.alias(),
            log_scale: tensor(sae, "magnitude.log_scale")?,
            bias: tensor(sae, "magnitude.bias")?,
        })
    }
}

impl Rule for GatedRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule { beta1: 0.0, ..OptimizerRule::CONSTRAINED }
    }

    fn is_mean_of_rows(&self) -> bool {
        true
    }

    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss> {
        let Weights { w_dec, b_enc, b_dec, .. } = &self.weights;
        let pi = self.weights.projections(x);
        let gate = &pi + b_enc;
        let open = gate.detach().gt(0.0).to_kind(x.kind());
        let features = open * (self.log_scale.exp() * &pi + &self.bias).relu();
        let mse = mean_square(&(x - self.weights.reconstruct(&features)));

        let gate = gate.relu();
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let l1 = gate.sum(x.kind()) / x.size()[0] as f64 * (self.config.l1_penalty * scale);
        let gate_mse = mean_square(&(x - b_dec.detach().addmm(&gate, &w_dec.detach())));
        context.dead.count(&features);
        let terms = [("mse", Some(mse)), ("sparsity", Some(l1)), ("gate_mse", Some(gate_mse))];
        Ok(Loss::new(terms, features, Detail::default()))
    }
}
