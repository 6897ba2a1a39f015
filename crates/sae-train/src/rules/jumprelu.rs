//! JumpReLU: thresholds learned by straight-through kernels (Rajamanoharan et al. 2024,
//! arXiv:2407.14435).

use sae_config::JumpReluConfig;
use sae_models::{Parameters, Role, Sae, Selection};
use tch::{Kind, Tensor};

use super::{Context, Detail, Loss, Pair, Rule};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::OptimizerRule;
use crate::schedule::sparsity_scale;

/// ‖x − x̂‖² + λ·(L0/target − 1)².
pub(crate) struct JumpReluRule {
    config: JumpReluConfig,
    selection: Selection,
}

impl JumpReluRule {
    pub(crate) fn new(config: &JumpReluConfig, sae: &Sae) -> Self {
        Self { config: config.clone(), selection: sae.selection() }
    }

    /// rect((v − θ)/ε): 1 where |v − θ| < ε/2.
    fn near(&self, v: &Tensor, threshold: &Tensor) -> Tensor {
        let distance = (v - threshold).abs();
        distance.lt(self.config.bandwidth / 2.0).to_kind(v.kind())
    }

    /// h·(h > θ), with ∂f/∂h = 1[h > θ] and ∂f/∂θ = −(θ/ε)·rect((h − θ)/ε).
    fn features(&self, parameters: &Parameters, x: &Tensor) -> Tensor {
        let threshold = &parameters[Role::Threshold];
        let h = self.selection.pre_activations(parameters, x);
        let slope = tch::no_grad(|| {
            self.near(&h, threshold) * (threshold * (-1.0 / self.config.bandwidth))
        });
        let (features, _) = self.selection.features(parameters, x, &h);
        features + straight_through(threshold, &slope)
    }

    /// Mean number of features above θ, with ∂L0/∂θ = −(1/ε)·mean rect((f − θ)/ε) and none to f.
    fn l0(&self, features: &Tensor, threshold: &Tensor) -> Tensor {
        let (count, slope) = tch::no_grad(|| {
            let batch = features.size()[0] as f64;
            let active = features.greater_tensor(threshold).sum(Kind::Int64);
            let near = self.near(features, threshold);
            let near = near.sum_dim_intlist([0i64].as_slice(), false, None);
            (
                active.to_kind(features.kind()) / batch,
                near * (-1.0 / (self.config.bandwidth * batch)),
            )
        });
        count + straight_through(threshold, &slope).sum(features.kind())
    }
}

/// 0, with the gradient `slope` to θ.
fn straight_through(threshold: &Tensor, slope: &Tensor) -> Tensor {
    (threshold - threshold.detach()) * slope
}

impl Rule for JumpReluRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule { beta1: 0.0, ..OptimizerRule::CLIPPED }
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let features = self.features(parameters, x);
        let mse = mean_square(&(target - parameters.reconstruct(&features)));
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let excess = self.l0(&features, &parameters[Role::Threshold]) / self.config.target_l0 - 1.0;
        let penalty = excess.square() * (self.config.sparsity_weight * scale);
        let detail = Detail { k_target: Some(self.config.target_l0), ..Detail::default() };
        Ok(Loss::new([("mse", Some(mse)), ("sparsity", Some(penalty))], features, detail))
    }
}
