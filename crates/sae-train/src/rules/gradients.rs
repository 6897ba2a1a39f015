//! Tests: the gradient of each rule's loss against central differences in f64, where the rule
//! means it to be the derivative.

use proptest::prelude::*;
use sae_config::{CheckedRun, RunConfig};
use sae_models::{InitRng, ModelConfig, Normalizer, Sae, init};
use tch::{Device, Kind, Tensor};

use super::{Context, Loss, Pair, rule};
use crate::dead::DeadFeatures;

const D_MODEL: usize = 4;
const N_FEATURES: usize = 10;
const BATCH: i64 = 6;

struct Case {
    config: CheckedRun,
    sae: Sae,
    x: Tensor,
    /// Of a transcoder.
    target: Option<Tensor>,
    step: u64,
}

impl Case {
    /// An SAE away from its initial values, and a batch.
    fn new(architecture: &str, seed: u64, step: u64) -> Self {
        Self::rebuilding(None, architecture, seed, step)
    }

    /// An SAE, or a transcoder to a port of this dimension.
    fn rebuilding(d_out: Option<usize>, architecture: &str, seed: u64, step: u64) -> Self {
        let text = format!(
            "data.store = ''\nsae.n_features = {N_FEATURES}\ntraining.steps = 10\n\
             training.batch_size = {BATCH}\narchitecture = {{ {architecture} }}"
        );
        let config = toml::from_str::<RunConfig>(&text).unwrap().check().unwrap();
        let model = ModelConfig {
            d_model: D_MODEL,
            d_out,
            n_features: N_FEATURES,
            normalization: sae_config::Normalization::None,
            code: config.code(D_MODEL),
        };
        let mut rng = InitRng::new(seed);
        let sae = init(model, &Normalizer::None, &mut rng, Kind::Double, Device::Cpu).unwrap();
        for (_, parameter) in sae.parameters() {
            let noise = rng.uniform(&parameter.size(), 0.4);
            let mut parameter = parameter.shallow_clone();
            tch::no_grad(|| parameter += noise);
            let _ = parameter.set_requires_grad(true);
        }
        let x = rng.uniform(&[BATCH, D_MODEL as i64], 2.0);
        let target = d_out.map(|d| rng.uniform(&[BATCH, d as i64], 2.0));
        Self { config, sae, x, target, step }
    }

    /// The loss as it is now.
    fn loss(&self) -> Loss {
        let rule = rule(&self.config, &self.sae);
        let dead = DeadFeatures::new(N_FEATURES, Device::Cpu);
        let context = Context { step: self.step, dead: &dead };
        let rows = Pair { x: &self.x, target: self.target.as_ref().unwrap_or(&self.x) };
        rule.loss(&self.sae.parameters, rows, context).unwrap()
    }

    /// The gradient to the parameter `name`, undefined where the loss does not reach it.
    fn gradient(&self, name: &str) -> Tensor {
        Tensor::run_backward(&[&self.loss().facts.total], &[self.parameter(name)], false, false)
            .remove(0)
    }

    fn parameter(&self, name: &str) -> Tensor {
        let found = self.sae.parameters().into_iter().find(|(n, _)| *n == name);
        found.unwrap().1.shallow_clone()
    }

    fn total(&self) -> f64 {
        self.loss().facts.total.double_value(&[])
    }

    /// The largest difference between the gradient and central differences.
    fn error(&self, name: &str) -> f64 {
        let gradient = self.gradient(name).flatten(0, -1);
        let parameter = self.parameter(name);
        let flat = tch::no_grad(|| parameter.detach().flatten(0, -1));
        let step = 1e-6;
        let differences = (0..flat.numel() as i64).map(|i| {
            let mut entry = flat.get(i);
            let old = entry.double_value(&[]);
            let mut at = |value: f64| {
                let _ = entry.fill_(value);
                self.total()
            };
            let difference = (at(old + step) - at(old - step)) / (2.0 * step);
            at(old);
            (difference - gradient.double_value(&[i])).abs() / (1.0 + difference.abs())
        });
        differences.fold(0.0, f64::max)
    }
}

const ALL: [&str; 4] = ["encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias"];
const ESTIMATOR: [&str; 4] = [
    "k_estimator.hidden.weight",
    "k_estimator.hidden.bias",
    "k_estimator.output.weight",
    "k_estimator.output.bias",
];
/// With a gradient of k̂ that is a derivative: the one over a window is a mean of differences.
const SOFT: &str =
    "name = 'soft', k = 3, alpha = 0.1, k_gradient_window = 0, auxk = { weight = 0.0 }";

fn check(architecture: &str, names: &[&str], seed: u64, step: u64) {
    for d_out in [None, Some(D_MODEL - 1), Some(D_MODEL)] {
        let case = Case::rebuilding(d_out, architecture, seed, step);
        for name in names {
            let error = case.error(name);
            assert!(error < 1e-5, "{architecture}, {d_out:?}: {name} is off by {error:e}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn of_hard_selections(seed in 0u64..1 << 40) {
        check("name = 'topk', k = 3, auxk = { weight = 0.0 }", &ALL, seed, 1);
        check("name = 'abs_topk', k = 3, auxk = { weight = 0.0 }", &ALL, seed, 1);
        check("name = 'batch_topk', k = 3, auxk = { weight = 0.0 }", &ALL, seed, 1);
        let groups = "k = 2, group_fractions = [0.3, 0.7], auxk = { weight = 0.0 }";
        check(&format!("name = 'matryoshka_batch_topk', {groups}"), &ALL, seed, 1);
    }

    #[test]
    fn of_penalties(seed in 0u64..1 << 40) {
        check("name = 'standard', l1_penalty = 0.3", &ALL, seed, 1);
        check("name = 'standard_april', l1_penalty = 0.3", &ALL, seed, 1);
        let p = "initial_sparsity_penalty = 0.3, p_start = 1.5, p_end = 1.2, anneal_start = 1";
        check(&format!("name = 'p_anneal', {p}"), &ALL, seed, 1);
        check(&format!("name = 'p_anneal', sparsity_function = 'Lp', {p}"), &ALL, seed, 1);
    }

    /// The decoder is detached in the gate's own reconstruction.
    #[test]
    fn of_gates(seed in 0u64..1 << 40) {
        let reached = ["encoder.weight", "encoder.bias", "magnitude.log_scale", "magnitude.bias"];
        check("name = 'gated', l1_penalty = 0.3", &reached, seed, 1);
    }

    /// Thresholds have straight-through gradients.
    #[test]
    fn of_jumps(seed in 0u64..1 << 40) {
        check("name = 'jumprelu', target_l0 = 3.0", &ALL, seed, 1);
        check("name = 'jumprelu', target_l0 = 3.0, subtract_b_dec = true", &ALL, seed, 1);
    }

    #[test]
    fn of_the_soft_selection(seed in 0u64..1 << 40) {
        let full = format!("{SOFT}, selection_gradient = 'full', budget = 'two_sided'");
        check(&full, &ALL, seed, 1);
        check(&full, &ESTIMATOR, seed, 1);
        check(&format!("{full}, k_estimator = 'shared'"), &ALL, seed, 1);
        let narrow = format!("{full}, k_estimator = {{ narrow = {{ width = 3 }} }}");
        check(&narrow, &ESTIMATOR, seed, 1);
        let low_rank = format!("{full}, k_estimator = {{ low_rank = {{ rank = 2 }} }}");
        check(&low_rank, &["k_estimator.down.weight", "k_estimator.up.weight"], seed, 1);
        let groups = format!("{full}, group_fractions = [0.3, 0.3, 0.4]");
        check(&groups, &ALL, seed, 1);
        check(&groups, &ESTIMATOR, seed, 1);
        // With budget_only the selection's gradient goes to k̂ alone, and there it is the same.
        check(SOFT, &ESTIMATOR, seed, 1);
        check(SOFT, &["decoder.weight"], seed, 1);
    }

    #[test]
    fn of_the_hard_phase(seed in 0u64..1 << 40) {
        let hard = format!("{SOFT}, hard_steps = 5");
        check(&hard, &ALL, seed, 5);
        let case = Case::new(&hard, seed, 5);
        for name in ESTIMATOR {
            prop_assert!(!case.gradient(name).defined(), "{}", name);
        }
    }

    /// The residual is detached, so the auxiliary loss is checked by itself.
    #[test]
    fn of_auxk(seed in 0u64..1 << 40) {
        let mut rng = InitRng::new(seed);
        let z = rng.uniform(&[BATCH, N_FEATURES as i64], 1.0).abs();
        let w_dec = rng.uniform(&[N_FEATURES as i64, D_MODEL as i64], 1.0);
        let residual = rng.uniform(&[BATCH, D_MODEL as i64], 1.0);
        let mut dead = DeadFeatures::new(N_FEATURES, Device::Cpu);
        dead.rows_seen = 100;
        let _ = dead.rows_since_fired.narrow(0, 3, 4).fill_(60);
        let config = sae_config::AuxKConfig { weight: 0.7, dead_after_rows: 50 };
        let loss = |z: &Tensor, w_dec: &Tensor| {
            dead.auxk_loss(&config, &residual, z, w_dec).unwrap()
        };
        let inputs = [z.copy().set_requires_grad(true), w_dec.copy().set_requires_grad(true)];
        let gradients =
            Tensor::run_backward(&[&loss(&inputs[0], &inputs[1])], &inputs, false, false);
        for (i, gradient) in gradients.iter().enumerate() {
            let direction = rng.uniform(&gradient.size(), 1.0);
            let at = |step: f64| {
                let moved = [&z, &w_dec].map(Tensor::shallow_clone);
                let shifted = &moved[i] + &direction * step;
                let value = if i == 0 { loss(&shifted, &w_dec) } else { loss(&z, &shifted) };
                value.double_value(&[])
            };
            let difference = (at(1e-6) - at(-1e-6)) / 2e-6;
            let expected = (gradient * &direction).sum(Kind::Double).double_value(&[]);
            prop_assert!((difference - expected).abs() < 1e-6 * (1.0 + expected.abs()));
            let live = if i == 0 { gradient.narrow(1, 0, 3) } else { gradient.narrow(0, 0, 3) };
            prop_assert_eq!(live.abs().max().double_value(&[]), 0.0);
        }
    }
}

#[test]
fn what_the_selection_passes_on_is_what_its_setting_says() {
    let full = format!("{SOFT}, selection_gradient = 'full'");
    let [budget_only, full] = [SOFT, &full].map(|a| Case::new(a, 4, 1));
    assert_eq!(budget_only.total(), full.total());
    for name in ESTIMATOR {
        let difference = budget_only.gradient(name) - full.gradient(name);
        assert!(difference.abs().max().double_value(&[]) < 1e-9, "{name}");
    }
    let difference = budget_only.gradient("encoder.weight") - full.gradient("encoder.weight");
    assert!(difference.abs().max().double_value(&[]) > 1e-3);

    // In the published code the hard phase trains the decoder alone.
    let official = Case::new(&format!("{SOFT}, hard_steps = 5"), 4, 5);
    let mut config = official.config.settings().clone();
    config.training.parity = sae_config::Parity::Official;
    let official = Case { config: config.check().unwrap(), step: 6, ..official };
    assert!(!official.gradient("encoder.weight").defined());
    assert!(official.gradient("decoder.weight").defined());
}
