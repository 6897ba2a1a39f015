//! Standard: ReLU and an L1 penalty (Bricken et al. 2023), with resampling of dead features; and
//! its April update, whose penalty is weighted by decoder norms (Conerly et al. 2024).

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sae_config::{StandardAprilConfig, StandardConfig, TrainingConfig};
use sae_models::{Sae, Weights};
use tch::{IndexOp as _, Tensor};
use tch_autograd::read;

use super::{Context, Detail, Loss, Rule};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::{Decoder, OptimizerRule, Parameter};
use crate::schedule::sparsity_scale;

/// Rows whose losses are computed at once when inputs are drawn.
const LOSS_ROWS: i64 = 1024;

/// ‖x − x̂‖² + λ·Σ f.
pub(crate) struct StandardRule {
    config: StandardConfig,
    weights: Weights,
    seed: u64,
}

impl StandardRule {
    pub(crate) fn new(config: &StandardConfig, training: &TrainingConfig, sae: &dyn Sae) -> Self {
        let weights = sae.base().weights.alias();
        Self { config: config.clone(), weights, seed: training.seed }
    }
}

impl Rule for StandardRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CONSTRAINED
    }

    fn is_mean_of_rows(&self) -> bool {
        true
    }

    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss> {
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let features = self.weights.pre_activations(x).relu();
        let penalty = features.sum(x.kind()) / x.size()[0] as f64;
        context.dead.count(&features);
        Ok(penalised(x, &self.weights, features, penalty * (self.config.l1_penalty * scale)))
    }

    /// Every `resample_steps` steps, features silent for more than half of them start anew from
    /// inputs drawn in proportion to their loss.
    fn after_update(&mut self, x: &Tensor, context: Context<'_>, parameters: &mut [Parameter]) {
        let Some(every) = self.config.resample_steps else { return };
        if context.step == 0 || !context.step.is_multiple_of(every) {
            return;
        }
        let _guard = tch::no_grad_guard();
        let rows = every / 2 * x.size()[0] as u64;
        let Some(dead) = context.dead.silent_for(rows + 1) else { return };
        let indices = read::places(&dead);
        if indices.size()[0] == 0 || indices.size()[0] == dead.size()[0] {
            return;
        }
        let rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(context.step));
        let inputs = draw_by_loss(x, &self.weights, indices.size()[0] as usize, rng);
        let indices = indices.i(..inputs.size()[0]);
        let norm = inputs.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let directions = &inputs / norm.clamp_min(f64::from(f32::MIN_POSITIVE));
        let encoder_norms = self.weights.w_enc.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        let live = read::places(&dead.logical_not());
        let live_norm = encoder_norms.index_select(0, &live).mean(x.kind());

        let _ = self.weights.w_enc.index_copy_(0, &indices, &(&directions * live_norm * 0.2));
        let _ = self.weights.w_dec.index_copy_(0, &indices, &directions);
        let _ = self.weights.b_enc.index_fill_(0, &indices, 0.0);
        for parameter in parameters {
            if parameter.value.size()[0] == dead.size()[0] && parameter.name != "decoder.bias" {
                let _ = parameter.mean.index_fill_(0, &indices, 0.0);
                let _ = parameter.square.index_fill_(0, &indices, 0.0);
            }
        }
        let _ = context.dead.rows_since_fired.index_fill_(0, &indices, 0);
    }
}

/// At most `count` rows of x − b_dec, each at most once, drawn in proportion to ‖x − x̂‖.
fn draw_by_loss(x: &Tensor, weights: &Weights, count: usize, mut rng: ChaCha8Rng) -> Tensor {
    let of_rows = x.split(LOSS_ROWS, 0).into_iter().map(|x| {
        let x_hat = weights.reconstruct(&weights.pre_activations(&x).relu());
        (x - x_hat).norm_scalaropt_dim(2.0, [1i64].as_slice(), false)
    });
    let losses = Tensor::cat(&of_rows.collect::<Vec<_>>(), 0);
    let mut losses = read::vector::<f64>(&losses).expect("losses of rows are a vector");
    let mut drawn = Vec::new();
    while drawn.len() < count.min(losses.len()) {
        let mut left = rng.random::<f64>() * losses.iter().sum::<f64>();
        let hit = losses.iter().position(|loss| {
            left -= loss;
            left < 0.0
        });
        let Some(row) = hit else { break };
        losses[row] = 0.0;
        drawn.push(row as i64);
    }
    x.index_select(0, &Tensor::from_slice(&drawn).to_device(x.device())) - &weights.b_dec
}

/// ‖x − x̂‖² + λ·Σ f·‖row of W_dec‖; rows of the decoder keep whatever norm they take.
pub(crate) struct AprilRule {
    config: StandardAprilConfig,
    weights: Weights,
}

impl AprilRule {
    pub(crate) fn new(config: &StandardAprilConfig, sae: &dyn Sae) -> Self {
        Self { config: config.clone(), weights: sae.base().weights.alias() }
    }
}

impl Rule for AprilRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule { decoder: Decoder::Free, ..OptimizerRule::CLIPPED }
    }

    fn is_mean_of_rows(&self) -> bool {
        true
    }

    fn loss(&mut self, x: &Tensor, context: Context<'_>) -> Result<Loss> {
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let features = self.weights.pre_activations(x).relu();
        let norms = self.weights.w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        let penalty = features.mv(&norms).mean(x.kind());
        context.dead.count(&features);
        Ok(penalised(x, &self.weights, features, penalty * (self.config.l1_penalty * scale)))
    }
}

/// ‖x − x̂‖² + `penalty`.
pub(super) fn penalised(x: &Tensor, weights: &Weights, features: Tensor, penalty: Tensor) -> Loss {
    let mse = mean_square(&(x - weights.reconstruct(&features)));
    Loss::new([("mse", Some(mse)), ("sparsity", Some(penalty))], features, Detail::default())
}

#[cfg(test)]
mod tests {
    use sae_config::RunConfig;
    use sae_models::{InitRng, ModelConfig, Normalizer, init};
    use tch::{Device, IndexOp as _, Kind, Tensor};

    use super::{Context, Rule as _, StandardRule};
    use crate::dead::DeadFeatures;
    use crate::optimizer::Parameter;

    fn norms(rows: &Tensor) -> Vec<f64> {
        rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).try_into().unwrap()
    }

    /// Features 3 and 7 of ten have been silent for 17 rows; half of 8 steps of 4 rows is 16.
    #[test]
    fn silent_features_start_anew_from_inputs_and_nothing_else_changes() {
        let text = "data.store = ''\nsae.n_features = 10\ntraining = { steps = 20, batch_size = 4 }\n\
                    architecture = { name = 'standard', l1_penalty = 0.1, resample_steps = 8 }";
        let config: RunConfig = toml::from_str(text).unwrap();
        let sae_config::ArchitectureConfig::Standard(standard) = &config.architecture else {
            panic!("{config:?}")
        };
        let model = ModelConfig {
            d_model: 5,
            n_features: 10,
            normalization: sae_config::Normalization::None,
            parity: config.training.parity,
            architecture: config.architecture.clone(),
        };
        let mut rng = InitRng::new(3);
        let (kind, device) = (Kind::Double, Device::Cpu);
        let sae = init(model, &Normalizer::None, &mut rng, kind, device).unwrap();
        let x = rng.uniform(&[4, 5], 2.0);
        let mut rule = StandardRule::new(standard, &config.training, sae.as_ref());
        let mut dead = DeadFeatures::new(10, device);
        (dead.rows_seen, dead.rows_since_fired) =
            (40, Tensor::full([10], 16, (Kind::Int64, device)));
        for silent in [3, 7] {
            let _ = dead.rows_since_fired.i(silent).fill_(17);
        }
        let mut parameters: Vec<Parameter> =
            sae.parameters().into_iter().map(|(name, value)| Parameter::new(name, value)).collect();
        for parameter in &mut parameters {
            let _ = parameter.mean.fill_(0.5);
            let _ = parameter.square.fill_(0.5);
        }
        let values = |parameters: &[Parameter]| -> Vec<Tensor> {
            parameters.iter().map(|p| p.value.detach().copy()).collect()
        };
        let before = values(&parameters);
        rule.after_update(&x, Context { step: 7, dead: &mut dead }, &mut parameters);
        assert_eq!(values(&parameters), before, "step 7 is no multiple of 8");
        rule.after_update(&x, Context { step: 8, dead: &mut dead }, &mut parameters);

        let after = values(&parameters);
        let live = Tensor::from_slice(&[0_i64, 1, 2, 4, 5, 6, 8, 9]);
        let silent = Tensor::from_slice(&[3_i64, 7]);
        for ((parameter, before), after) in parameters.iter().zip(&before).zip(&after) {
            if parameter.name == "decoder.bias" {
                assert_eq!(before, after);
                continue;
            }
            assert_eq!(before.index_select(0, &live), after.index_select(0, &live));
            for moment in [&parameter.mean, &parameter.square] {
                assert_eq!(moment.index_select(0, &silent).abs().max().double_value(&[]), 0.0);
                assert_eq!(moment.index_select(0, &live).min().double_value(&[]), 0.5);
            }
        }
        let live_norms = norms(&before[0].index_select(0, &live));
        let mean_norm = live_norms.iter().sum::<f64>() / 8.0;
        let (encoder, decoder) =
            (after[0].index_select(0, &silent), after[2].index_select(0, &silent));
        for (encoder, decoder) in norms(&encoder).into_iter().zip(norms(&decoder)) {
            assert!((encoder - 0.2 * mean_norm).abs() < 1e-12 && (decoder - 1.0).abs() < 1e-12);
        }
        // Each direction is that of an input, seen from b_dec.
        let inputs = &x - sae.base().weights.b_dec.detach();
        let unit = &inputs / inputs.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let nearest = decoder.mm(&unit.tr()).amax([1i64].as_slice(), false);
        assert!((nearest - 1.0).abs().max().double_value(&[]) < 1e-12);
        assert_eq!(after[1].index_select(0, &silent).abs().max().double_value(&[]), 0.0);
        let since = dead.rows_since_fired.index_select(0, &silent);
        assert_eq!(since.max().int64_value(&[]), 0);
    }
}
