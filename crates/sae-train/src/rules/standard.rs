//! Standard: ReLU and an L1 penalty (Bricken et al. 2023), with resampling of dead features; and
//! its April update, whose penalty is weighted by decoder norms (Conerly et al. 2024).

use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use sae_config::{CheckedTraining, StandardAprilConfig, StandardConfig};
use sae_models::{Parameters, Role, Selection};
use tch::{IndexOp as _, Tensor};
use tch_autograd::read;

use super::{Context, Detail, Loss, Pair, Rule, Taken};
use crate::Result;
use crate::dead::mean_square;
use crate::optimizer::{Decoder, OptimizerRule};
use crate::schedule::sparsity_scale;

/// Rows whose losses are computed at once when inputs are drawn.
const LOSS_ROWS: i64 = 1024;

/// ‖x − x̂‖² + λ·Σ f.
pub(crate) struct StandardRule {
    config: StandardConfig,
    seed: u64,
}

impl StandardRule {
    pub(crate) fn new(config: &StandardConfig, training: &CheckedTraining) -> Self {
        Self { config: config.clone(), seed: training.seed }
    }
}

impl Rule for StandardRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule::CONSTRAINED
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let features = positive(parameters, x);
        let penalty = features.sum(x.kind()) / x.size()[0] as f64;
        Ok(penalised(target, parameters, features, penalty * (self.config.l1_penalty * scale)))
    }

    /// Every `resample_steps` steps, features silent for more than half of them start anew from
    /// rows drawn in proportion to their loss: the decoder from what is to be rebuilt, the encoder from
    /// what it reads.
    fn observe(&mut self, taken: Taken<'_>) {
        let Taken { step, rows, parameters, history, .. } = taken;
        let Some(every) = self.config.resample_steps else { return };
        if step == 0 || !step.is_multiple_of(every) {
            return;
        }
        let _guard = tch::no_grad_guard();
        let silent = every / 2 * rows.x.size()[0] as u64;
        let Some(dead) = history.dead.silent_for(silent + 1) else { return };
        let indices = read::places(&dead);
        if indices.size()[0] == 0 || indices.size()[0] == dead.size()[0] {
            return;
        }
        let rng = ChaCha8Rng::seed_from_u64(self.seed.wrapping_add(step));
        let drawn = draw_by_loss(rows, parameters, indices.size()[0] as usize, rng);
        let indices = indices.i(..drawn.size()[0]);
        let of_target = rows.target.index_select(0, &drawn) - &parameters[Role::DecoderBias];
        let written = directions(&of_target);
        let read = match parameters.centre() {
            Some(_) => written.shallow_clone(),
            None => directions(&rows.x.index_select(0, &drawn)),
        };
        let w_enc = &parameters[Role::EncoderWeight];
        let encoder_norms = w_enc.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        let live = read::places(&dead.logical_not());
        let live_norm = encoder_norms.index_select(0, &live).mean(rows.x.kind());

        let read = &read * live_norm * 0.2;
        let _ = parameters[Role::EncoderWeight].index_copy_(0, &indices, &read);
        let _ = parameters[Role::DecoderWeight].index_copy_(0, &indices, &written);
        let _ = parameters[Role::EncoderBias].index_fill_(0, &indices, 0.0);
        for adam in &mut history.adam {
            if adam.role != Role::DecoderBias {
                let _ = adam.mean.index_fill_(0, &indices, 0.0);
                let _ = adam.square.index_fill_(0, &indices, 0.0);
            }
        }
        let _ = history.dead.rows_since_fired.index_fill_(0, &indices, 0);
    }
}

/// The features of Standard.
pub(super) fn positive(parameters: &Parameters, x: &Tensor) -> Tensor {
    let z = Selection::Positive.pre_activations(parameters, x);
    Selection::Positive.features(parameters, x, &z).0
}

/// Each row divided by its norm.
fn directions(rows: &Tensor) -> Tensor {
    let norm = rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    rows / norm.clamp_min(f64::from(f32::MIN_POSITIVE))
}

/// At most `count` numbers of rows, each at most once, drawn in proportion to ‖target − x̂‖.
fn draw_by_loss(
    rows: Pair<'_>,
    parameters: &Parameters,
    count: usize,
    mut rng: ChaCha8Rng,
) -> Tensor {
    let Pair { x, target } = rows;
    let parts = x.split(LOSS_ROWS, 0).into_iter().zip(target.split(LOSS_ROWS, 0));
    let of_rows = parts.map(|(x, target)| {
        let x_hat = parameters.reconstruct(&positive(parameters, &x));
        (target - x_hat).norm_scalaropt_dim(2.0, [1i64].as_slice(), false)
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
    Tensor::from_slice(&drawn).to_device(x.device())
}

/// ‖x − x̂‖² + λ·Σ f·‖row of W_dec‖; rows of the decoder keep whatever norm they take.
pub(crate) struct AprilRule {
    config: StandardAprilConfig,
}

impl AprilRule {
    pub(crate) fn new(config: &StandardAprilConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Rule for AprilRule {
    fn optimizer(&self) -> OptimizerRule {
        OptimizerRule { decoder: Decoder::Free, ..OptimizerRule::CLIPPED }
    }

    fn loss(&self, parameters: &Parameters, rows: Pair<'_>, context: Context<'_>) -> Result<Loss> {
        let Pair { x, target } = rows;
        let scale = sparsity_scale(self.config.sparsity_warmup_steps, context.step);
        let features = positive(parameters, x);
        let w_dec = &parameters[Role::DecoderWeight];
        let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
        let penalty = features.mv(&norms).mean(x.kind());
        Ok(penalised(target, parameters, features, penalty * (self.config.l1_penalty * scale)))
    }
}

/// ‖target − x̂‖² + `penalty`.
pub(super) fn penalised(
    target: &Tensor,
    parameters: &Parameters,
    features: Tensor,
    penalty: Tensor,
) -> Loss {
    let mse = mean_square(&(target - parameters.reconstruct(&features)));
    Loss::new([("mse", Some(mse)), ("sparsity", Some(penalty))], features, Detail::default())
}

#[cfg(test)]
mod tests {
    use sae_config::{CheckedRun, Recipe, RunConfig};
    use sae_models::{InitRng, ModelConfig, Normalizer, Parameters, Role, Sae, init};
    use tch::{Device, IndexOp as _, Kind, Tensor};

    use super::{Context, Pair, Rule as _, StandardRule, Taken};
    use crate::state::History;

    fn copies(parameters: &Parameters) -> Vec<Tensor> {
        parameters.trained().map(|(_, tensor)| tensor.detach().copy()).collect()
    }

    fn norms(rows: &Tensor) -> Vec<f64> {
        rows.norm_scalaropt_dim(2.0, [1i64].as_slice(), false).try_into().unwrap()
    }

    /// A run of ten features, and a model of it.
    fn start(rng: &mut InitRng) -> (CheckedRun, Sae) {
        let text = "data.store = ''\nsae.n_features = 10\ntraining = { steps = 20, batch_size = 4 }\n\
                    architecture = { name = 'standard', l1_penalty = 0.1, resample_steps = 8 }";
        let config = toml::from_str::<RunConfig>(text).unwrap().check().unwrap();
        let model = ModelConfig {
            d_model: 5,
            d_out: None,
            n_features: 10,
            normalization: sae_config::Normalization::None,
            code: config.code(5),
        };
        let sae = init(model, &Normalizer::None, rng, Kind::Double, Device::Cpu).unwrap();
        (config, sae)
    }

    /// Features 3 and 7 of ten have been silent for 17 rows; half of 8 steps of 4 rows is 16.
    #[test]
    fn silent_features_start_anew_from_inputs_and_nothing_else_changes() {
        let mut rng = InitRng::new(3);
        let (config, mut sae) = start(&mut rng);
        let Recipe::Standard(standard) = &config.recipe else { panic!("{config:?}") };
        let x = rng.uniform(&[4, 5], 2.0);
        let mut rule = StandardRule::new(standard, &config.training);
        let mut history = History::new(&config, &sae);
        let dead = &mut history.dead;
        (dead.rows_seen, dead.rows_since_fired) =
            (40, Tensor::full([10], 16, (Kind::Int64, Device::Cpu)));
        for silent in [3, 7] {
            let _ = dead.rows_since_fired.i(silent).fill_(17);
        }
        for adam in &mut history.adam {
            let _ = adam.mean.fill_(0.5);
            let _ = adam.square.fill_(0.5);
        }
        let mut observe = |step: u64, history: &mut History| {
            let context = Context { step, dead: &history.dead };
            let parameters = &mut sae.parameters;
            let rows = Pair { x: &x, target: &x };
            let loss = &rule.loss(parameters, rows, context).unwrap();
            let before = copies(parameters);
            rule.observe(Taken { step, rows, loss, parameters, history });
            (before, copies(parameters))
        };
        let (before, after) = observe(7, &mut history);
        assert_eq!(before, after, "step 7 is no multiple of 8");
        let (before, after) = observe(8, &mut history);

        let live = Tensor::from_slice(&[0_i64, 1, 2, 4, 5, 6, 8, 9]);
        let silent = Tensor::from_slice(&[3_i64, 7]);
        for ((adam, before), after) in history.adam.iter().zip(&before).zip(&after) {
            if adam.role == Role::DecoderBias {
                assert_eq!(before, after);
                continue;
            }
            assert_eq!(before.index_select(0, &live), after.index_select(0, &live));
            for moment in [&adam.mean, &adam.square] {
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
        let inputs = &x - sae.parameters[Role::DecoderBias].detach();
        let unit = &inputs / inputs.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        let nearest = decoder.mm(&unit.tr()).amax([1i64].as_slice(), false);
        assert!((nearest - 1.0).abs().max().double_value(&[]) < 1e-12);
        assert_eq!(after[1].index_select(0, &silent).abs().max().double_value(&[]), 0.0);
        let since = history.dead.rows_since_fired.index_select(0, &silent);
        assert_eq!(since.max().int64_value(&[]), 0);
    }
}
