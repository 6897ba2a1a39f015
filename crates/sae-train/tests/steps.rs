//! Single steps through the trainer: what they leave as it is, and what they hold to.

use sae_config::{ArchitectureConfig, RunConfig};
use sae_models::{InitRng, Normalizer};
use sae_train::{Error, Trainer};
use tch::{Kind, Tensor};
use tch_autograd::{test_device, test_device_name};

const D_MODEL: usize = 6;

const ARCHITECTURES: [&str; 13] = [
    "name = 'topk', k = 3",
    "name = 'abs_topk', k = 3",
    "name = 'batch_topk', k = 3",
    "name = 'matryoshka_batch_topk', k = 3, group_fractions = [0.25, 0.75]",
    "name = 'soft', k = 3, alpha = 0.05",
    "name = 'soft', k = 3, alpha = 0.05, k_estimator = 'shared'",
    "name = 'soft', k = 3, alpha = 0.05, k_estimator = { narrow = { width = 4 } }",
    "name = 'soft', k = 3, alpha = 0.05, k_estimator = { low_rank = { rank = 2 } }",
    "name = 'jumprelu', target_l0 = 3.0",
    "name = 'gated', l1_penalty = 0.1",
    "name = 'standard', l1_penalty = 0.1",
    "name = 'standard_april', l1_penalty = 0.1",
    "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 2",
];

fn trainer(architecture: &str, more: &str) -> Trainer {
    let text = format!(
        "data.store = ''\nsae.n_features = 20\narchitecture = {{ {architecture} }}\n\
         [training]\nsteps = 40\nbatch_size = 32\nlr = 1e-2\ndevice = \"{}\"\n{more}",
        test_device_name()
    );
    let config: RunConfig = toml::from_str(&text).unwrap();
    Trainer::new(config.check().unwrap(), D_MODEL, &Normalizer::Scale { scale: 2.0 }, Kind::Float)
        .unwrap()
}

fn rows(seed: u64) -> Tensor {
    InitRng::new(seed)
        .uniform(&[32, D_MODEL as i64], 4.0)
        .to_kind(Kind::Float)
        .to_device(test_device())
}

fn parameters(trainer: &Trainer) -> Vec<(&'static str, Tensor)> {
    trainer.sae().parameters().into_iter().map(|(name, t)| (name, t.detach().copy())).collect()
}

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

#[test]
fn every_architecture_is_stepped() {
    for name in ArchitectureConfig::NAMES {
        let start = format!("name = '{name}'");
        assert!(
            ARCHITECTURES.iter().any(|architecture| architecture.starts_with(&start)),
            "{name}"
        );
    }
}

#[test]
fn a_step_at_learning_rate_zero_moves_nothing_but_the_centre_and_the_norms() {
    for architecture in ARCHITECTURES {
        let mut trainer = trainer(architecture, "warmup_steps = 4");
        let before = parameters(&trainer);
        assert_eq!(trainer.step(&rows(1)).unwrap().report().unwrap().lr, 0.0);
        for ((name, before), (_, after)) in before.iter().zip(parameters(&trainer)) {
            let moved = match *name {
                "decoder.bias" => continue,
                "decoder.weight" => {
                    let norms = before.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
                    let free = architecture.contains("april");
                    let unit = if free { before.copy() } else { before / norms };
                    difference(&unit, &after)
                }
                _ => difference(before, &after),
            };
            assert!(moved < 1e-6, "{architecture}: {name} moved by {moved}");
        }
    }
}

#[test]
fn training_lowers_the_loss_and_keeps_k_hat_within_its_bounds() {
    for architecture in ARCHITECTURES {
        let mut trainer = trainer(architecture, "decay_start = 40");
        let losses: Vec<f64> = (0..40)
            .map(|_| {
                let report = trainer.step(&rows(1)).unwrap().report().unwrap();
                if let Some(k_hat) = report.k_hat {
                    assert!((1.0..=6.0).contains(&k_hat), "{architecture}: k̂ {k_hat}");
                }
                report.parts["mse"]
            })
            .collect();
        assert!(losses[39] < 0.7 * losses[0], "{architecture}: {losses:?}");
    }
}

/// As checkpoints, evaluation and observers may; the fast engine writes to the memory in place.
#[test]
fn a_handle_held_across_a_step_stays_what_it_was_and_the_model_goes_on() {
    let text = "data.store = ''\nsae.n_features = 20\n\
                architecture = { name = 'soft', k = 3, alpha = 0.05 }\n\
                training = { steps = 40, batch_size = 32, lr = 1e-2, engine = 'fast' }";
    let start = || {
        let config: RunConfig = toml::from_str(text).unwrap();
        Trainer::new(config.check().unwrap(), D_MODEL, &Normalizer::None, Kind::Float).unwrap()
    };
    let places = |trainer: &Trainer| -> Vec<usize> {
        trainer.sae().parameters().iter().map(|(_, tensor)| tensor.data_ptr() as usize).collect()
    };
    let (mut watched, mut alone) = (start(), start());
    for step in 0..3 {
        let x = rows(step).to_device(tch::Device::Cpu);
        let before_step = places(&alone);
        let before = parameters(&watched);
        let held: Vec<Tensor> =
            watched.sae().parameters().iter().map(|(_, tensor)| tensor.shallow_clone()).collect();
        drop(watched.step(&x).unwrap());
        drop(alone.step(&x).unwrap());
        for (((name, before), held), (_, after)) in
            before.iter().zip(&held).zip(parameters(&watched))
        {
            assert_eq!(before, held, "{name}");
            assert_ne!(*before, after, "{name}");
        }
        assert_eq!(parameters(&watched), parameters(&alone));
        // No step makes a copy where nobody holds a handle.
        let now = places(&alone);
        assert!(step == 0 || now == before_step, "{now:?}");
    }
}

#[test]
fn the_seed_decides_the_weights() {
    let run = |seed: u64| {
        let mut trainer = trainer(ARCHITECTURES[3], &format!("seed = {seed}"));
        (0..3).for_each(|step| drop(trainer.step(&rows(step)).unwrap()));
        parameters(&trainer)
    };
    let (a, b, c) = (run(5), run(5), run(6));
    assert!(a.iter().zip(&b).all(|(a, b)| a.1 == b.1));
    assert!(difference(&a[0].1, &c[0].1) > 0.1);
}

#[test]
fn activations_of_another_width_are_refused() {
    let mut trainer = trainer(ARCHITECTURES[0], "");
    let x = Tensor::zeros([2, 5], (Kind::Float, test_device()));
    let message = trainer.step(&x).unwrap_err().to_string();
    assert_eq!(message, "tensor `x`: expected shape [batch, 6], got [2, 5]");
}

#[test]
fn a_device_that_is_not_there_is_refused() {
    let text = "data.store = ''\nsae.n_features = 20\narchitecture = { name = 'topk', k = 3 }\n\
                training = { steps = 4, batch_size = 2, device = 'cuda:99' }";
    let config: RunConfig = toml::from_str(text).unwrap();
    let error = Trainer::new(config.check().unwrap(), D_MODEL, &Normalizer::None, Kind::Float)
        .err()
        .unwrap();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert!(error.to_string().contains("`training.device`"), "{error}");
}
