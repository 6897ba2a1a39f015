//! Gated: the gate is trained by a reconstruction of its own (Rajamanoharan et al. 2024,
//! arXiv:2404.16014).

use sae_config::GatedConfig;
use sae_models::{Parameters, Role, Sae, Selection};

use super::{Context, Detail, Loss, Pair, Rule};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::sparsity_scale;

/// ‖x − x̂‖² + λ·Σ relu(gate) + ‖x − x̂ of relu(gate), decoder detached‖².
pub(crate) struct GatedRule {
    config: GatedConfig,
    selection: Selection,
}

impl GatedRule {
    pub(crate) fn new(config: &GatedConfig, sae: &Sae) -> Self {
        Self { config: config.clone(), selection: sae.selection() }
    }
}

impl Rule for GatedRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule { beta1: 0.0, ..OptimizerRule::CONSTRAINED }
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let pi = self.selection.pre_activations(parameters, x);
        let (features, _) = self.selection.features(parameters, x, &pi);
        let mse = mean_square(&(target - parameters.reconstruct(&features)));

        let gate = (&pi + &parameters[Role::EncoderBias]).relu();
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let l1 = gate.sum(x.kind()) / x.size()[0] as f64 * (self.config.l1_penalty * scale);
        let [w_dec, b_dec] =
            [Role::DecoderWeight, Role::DecoderBias].map(|r| parameters[r].detach());
        let gate_mse = mean_square(&(target - b_dec.addmm(&gate, &w_dec)));
        let terms = [("mse", Some(mse)), ("sparsity", Some(l1)), ("gate_mse", Some(gate_mse))];
        Ok(Loss::new(terms, features, Detail::default()))
    }
}
