//! The published trainers on recorded batches: `parity = "official"` follows each of them.
//!
//! Every size and setting is read from the files; `SOFTSAE_GOLDEN` names another folder of them.
//! `SOFTSAE_TEST_DEVICE` names the device of the reference engine (`cpu`).

mod file;
mod settings;

use file::Golden;
use sae_models::{Normalizer, Sae};
use sae_train::Trainer;
use tch::{Device, Kind, Tensor};
use tch_autograd::{test_device, test_device_name};

/// Relative to the loss, and to the norm of each tensor.
const TOLERANCE: f64 = 2e-5;

/// The runs that the fast engine computes too.
const FAST: [&str; 9] = [
    "batch_topk",
    "jumprelu",
    "matryoshka_batch_topk",
    "matryoshka_batch_topk_clip",
    "softsae_clip_annealed",
    "softsae_clip_soft_only",
    "softsae_llm_annealed",
    "topk",
    "topk_clip",
];

fn follow(name: &str) {
    tch::set_num_threads(1);
    let golden = Golden::read(name);
    for kind in [Kind::Double, Kind::Float] {
        follow_in(&golden, kind, "reference", None);
    }
    if FAST.contains(&name) && test_device() == Device::Cpu {
        follow_in(&golden, Kind::Float, "fast", None);
        let batch = golden.setting("batch_size").unwrap() as usize;
        follow_in(&golden, Kind::Float, "fast", Some(batch.div_ceil(3)));
    }
}

fn follow_in(golden: &Golden, kind: Kind, engine: &str, micro_batch: Option<usize>) {
    let device = test_device();
    let batches = golden.tensor("x").to_kind(kind).to_device(device);
    let losses: Vec<f64> = (&golden.tensor("losses")).try_into().unwrap();
    let trace = golden.tensor("trace");
    let d_model = batches.size()[2] as usize;
    let mut config = settings::run_config(golden, engine);
    config.training.micro_batch = micro_batch;
    config.training.device = test_device_name();
    let mut trainer =
        Trainer::new(config.check().unwrap(), d_model, &Normalizer::None, kind).unwrap();
    copy_state(golden, "init", trainer.sae());
    let what = format!("{} in {kind:?} ({engine}, micro-batch {micro_batch:?})", golden.name);

    for (step, expected) in losses.iter().enumerate() {
        let report = trainer.step(&batches.get(step as i64)).unwrap().report().unwrap();
        let error = (report.loss - expected).abs() / expected.abs();
        assert!(
            error < TOLERANCE,
            "{what}: loss of step {step}: {} is not {expected}",
            report.loss
        );
        check_trace(&trace.get(step as i64), &report, &format!("{what}: step {step}"));
        let saved = match step + 1 {
            1 => "step1",
            8 => "step8",
            n if n == losses.len() => "final",
            _ => continue,
        };
        check_state(golden, saved, trainer.sae(), &what);
    }
    check_evaluation(golden, trainer.sae(), kind, &what);
}

/// Puts a recorded state into the model.
fn copy_state(golden: &Golden, state: &str, sae: &Sae) {
    for (name, tensor) in golden.state(state, sae) {
        let all = sae.parameters().into_iter().chain(sae.buffers());
        let (_, slot) = all.into_iter().find(|(n, _)| *n == name).unwrap();
        tch::no_grad(|| slot.shallow_clone().copy_(&tensor));
    }
}

fn check_state(golden: &Golden, state: &str, sae: &Sae, what: &str) {
    let recorded = golden.state(state, sae);
    for (name, tensor) in sae.parameters().into_iter().chain(sae.buffers()) {
        let (_, expected) = recorded.iter().find(|(n, _)| *n == name).unwrap();
        close(&format!("{what}: {state}.{name}"), tensor, expected);
    }
}

fn close(what: &str, got: &Tensor, expected: &Tensor) {
    let plain = |t: &Tensor| t.detach().to_device(Device::Cpu).to_kind(Kind::Double);
    let (got, expected) = (plain(got), plain(expected));
    let error = (got - &expected).norm().double_value(&[]);
    let norm = expected.norm().double_value(&[]);
    assert!(error <= TOLERANCE * norm, "{what}: off by {:e} of its norm", error / norm);
}

/// Dead features, mean k̂, α, hard phase; −1 where the published trainer has none.
fn check_trace(expected: &Tensor, report: &sae_train::StepReport, what: &str) {
    let expected: Vec<f64> = expected.try_into().unwrap();
    if let (Some(dead), true) = (report.dead, expected[0] >= 0.0) {
        assert_eq!(dead as f64, expected[0], "{what}: dead features");
    }
    if expected[1] >= 0.0 {
        let k_hat = report.k_hat.unwrap();
        let error = (k_hat - expected[1]).abs() / expected[1];
        assert!(error < TOLERANCE, "{what}: mean k̂ {k_hat} is not {}", expected[1]);
        let alpha = report.alpha.unwrap();
        assert!((alpha - expected[2]).abs() < 1e-6 * expected[2], "{what}: alpha {alpha}");
        assert_eq!(report.hard, Some(expected[3] == 1.0), "{what}: hard phase");
    }
}

fn check_evaluation(golden: &Golden, sae: &Sae, kind: Kind, what: &str) {
    let rows = golden.tensor("eval.x").to_kind(kind).to_device(sae.device());
    let encoded = sae.encode(&rows).unwrap();
    close(&format!("{what}: features"), &encoded.features, &golden.tensor("eval.features"));
    let x_hat = sae.decode(&encoded).unwrap();
    close(&format!("{what}: x_hat"), &x_hat, &golden.tensor("eval.x_hat"));
    if let Some(k) = golden.get("eval.k") {
        close(&format!("{what}: k"), &encoded.k_hat.unwrap(), &k);
    }
}

macro_rules! golden_runs {
    ($($name:ident),* $(,)?) => {
        $(#[test]
        fn $name() {
            follow(stringify!($name));
        })*
    };
}

golden_runs!(
    batch_topk,
    gated,
    jumprelu,
    matryoshka_batch_topk,
    matryoshka_batch_topk_clip,
    p_anneal,
    softsae_clip_annealed,
    softsae_clip_soft_only,
    softsae_llm_annealed,
    standard,
    standard_april,
    topk,
    topk_clip,
);
