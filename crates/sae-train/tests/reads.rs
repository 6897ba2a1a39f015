//! What a step on a GPU reads from it, and that reading less changes nothing: with the CPU taken for
//! a device that has to be waited for.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use sae_config::{ArchitectureConfig, RunConfig};
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};
use sae_models::{InitRng, Normalizer, Sae};
use sae_train::{Error, RunOptions, StepReport, Trainer, open_stores, read_metrics, train_run};
use tch::{Kind, Tensor};
use tch_autograd::read;

const D_MODEL: usize = 6;
const N_FEATURES: usize = 20;
const STEPS: u64 = 24;

/// Features are dead after two batches without firing.
const AUXK: &str = "auxk = { dead_after_rows = 64 }";

/// How often a step may read.
type Reads = fn(u64) -> u64;

/// Every architecture and what of its settings leads through other code; steps that may read, as
/// the documentation of the reference engine says, and how often.
fn cases() -> Vec<(String, Reads)> {
    let never = |_: u64| 0;
    let hard_official = |step: u64| u64::from(step > STEPS - 8);
    let resampled = |step: u64| if step > 0 && step.is_multiple_of(6) { 3 } else { 0 };
    // p falls 5 times from step 4 to the end; at the first time nothing is remembered.
    let falls = |step: u64| u64::from([9, 14, 19].contains(&step));
    let cases: [(&str, Reads); 19] = [
        ("name = 'topk', k = 3, AUXK", never),
        ("name = 'topk', k = 3, k_anneal_steps = 9, AUXK", never),
        ("name = 'abs_topk', k = 3, AUXK", never),
        ("name = 'batch_topk', k = 3, AUXK", never),
        ("name = 'matryoshka_batch_topk', k = 3, group_fractions = [0.25, 0.75], AUXK", never),
        ("name = 'soft', k = 3, AUXK", never),
        ("name = 'soft', k = 3, AUXK, budget = 'one_sided', k_gradient_window = 0", never),
        ("name = 'soft', k = 3, alpha = 0.05, AUXK, selection_gradient = 'full'", never),
        ("name = 'soft', k = 3, AUXK, k_gradient_window = 2, hard_steps = 8", never),
        ("name = 'soft', k = 3, AUXK, group_fractions = [0.5, 0.5], hard_steps = 8", never),
        ("name = 'soft', k = 3, AUXK, k_estimator = 'shared'", never),
        ("name = 'soft', k = 3, AUXK, k_estimator = { low_rank = { rank = 2 } }", never),
        ("name = 'soft', k = 3, AUXK, hard_steps = 8 | parity = 'official'", hard_official),
        ("name = 'jumprelu', target_l0 = 3.0", never),
        ("name = 'gated', l1_penalty = 0.1 | micro_batch = 10", never),
        ("name = 'standard', l1_penalty = 0.1", never),
        ("name = 'standard', l1_penalty = 0.9, resample_steps = 6", resampled),
        ("name = 'standard_april', l1_penalty = 0.1 | micro_batch = 10", never),
        (
            "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4, \
             n_sparsity_updates = 5",
            falls,
        ),
    ];
    cases.into_iter().map(|(text, reads)| (text.replace("AUXK", AUXK), reads)).collect()
}

fn trainer(case: &str, more: &str) -> Trainer {
    let (architecture, training) = case.split_once('|').unwrap_or((case, ""));
    let text = format!(
        "data.store = ''\nsae.n_features = {N_FEATURES}\narchitecture = {{ {architecture} }}\n\
         [training]\nsteps = {STEPS}\nbatch_size = 32\nlr = 1e-2\nengine = 'reference'\n\
         {training}\n{more}"
    );
    let config: RunConfig = toml::from_str(&text).unwrap();
    Trainer::new(config.check().unwrap(), D_MODEL, &Normalizer::Scale { scale: 2.0 }, Kind::Double)
        .unwrap()
}

/// Rows near a line, so that features that do not lie along it stay silent.
fn rows(seed: u64) -> Tensor {
    let mut rng = InitRng::new(seed);
    let line = InitRng::new(99).uniform(&[1, D_MODEL as i64], 2.0);
    rng.uniform(&[32, 1], 1.0) * line + rng.uniform(&[32, D_MODEL as i64], 0.1)
}

#[test]
fn every_architecture_is_among_the_cases() {
    for name in ArchitectureConfig::NAMES {
        let name = format!("name = '{name}'");
        assert!(cases().iter().any(|(case, _)| case.starts_with(&name)), "{name}");
    }
}

/// All steps, the parameters after them, and how often each step read.
fn run(case: &str, more: &str) -> (Vec<StepReport>, Vec<(&'static str, Tensor)>, Vec<u64>) {
    let mut trainer = trainer(case, more);
    let (mut reports, mut reads) = (Vec::new(), Vec::new());
    for step in 0..STEPS {
        let x = rows(step);
        let before = read::count();
        let taken = trainer.step(&x).unwrap();
        reads.push(read::count() - before);
        reports.push(taken.report().unwrap());
    }
    (reports, values(trainer.sae()), reads)
}

fn values(sae: &Sae) -> Vec<(&'static str, Tensor)> {
    let all = sae.parameters().into_iter().chain(sae.buffers());
    all.map(|(name, tensor)| (name, tensor.detach().copy())).collect()
}

#[test]
fn a_step_on_a_gpu_reads_nothing_but_what_is_documented() {
    for (case, expected) in cases() {
        let (reports, _, reads) = read::as_on_a_gpu(|| run(&case, ""));
        for (step, reads) in reads.iter().enumerate().skip(1) {
            assert_eq!(*reads, expected(step as u64), "{case}: step {step} of {reads:?}");
        }
        if case.contains("auxk") && !case.contains("'jumprelu'") {
            let revived = reports.iter().any(|report| report.dead > Some(0));
            assert!(revived, "{case}: no feature was dead, which is to be tested too");
        }
    }
}

#[test]
fn reading_less_changes_no_step() {
    for (case, _) in cases() {
        for more in ["", "precision = 'bf16'"] {
            let (expected, all, _) = run(&case, more);
            let (got, after, _) = read::as_on_a_gpu(|| run(&case, more));
            for ((name, expected), (_, got)) in all.iter().zip(&after) {
                let off = (expected - got).abs().max().double_value(&[]);
                // Sums in another order, which rounding to bfloat16 makes larger.
                let tolerance = if more.is_empty() { 1e-9 } else { 2e-2 };
                assert!(off < tolerance, "{case}, {more}: {name} is off by {off:e}");
            }
            for (expected, got) in expected.iter().zip(&got) {
                let off = (expected.loss - got.loss).abs() / (1.0 + expected.loss.abs());
                assert!(off < if more.is_empty() { 1e-9 } else { 2e-2 }, "{case}: {off:e}");
                // A term of dead features is absent while none is, or 0.
                for (part, value) in &got.parts {
                    let of_ours = expected.parts.get(part).copied().unwrap_or(0.0);
                    assert!((of_ours - value).abs() < 2e-2, "{case}: {part}");
                }
            }
        }
    }
}

#[test]
fn a_loss_that_is_not_finite_is_named_by_its_step_however_late_it_is_read() {
    for (case, _) in cases() {
        let first_bad = |in_time: bool| {
            let mut trainer = trainer(&case, "");
            let mut last = None;
            for step in 0..9 {
                let x = if step == 3 { rows(step) * f64::INFINITY } else { rows(step) };
                match trainer.step(&x) {
                    Ok(taken) => last = Some(taken),
                    Err(error) => {
                        assert!(in_time, "{case}: {error}");
                        return error;
                    }
                }
            }
            let folder = tempfile::tempdir().unwrap();
            let saved = trainer.save(&folder.path().join("state")).unwrap_err();
            assert!(matches!(saved, Error::LossNotFinite { step: 3, .. }), "{case}: {saved}");
            last.unwrap().report().unwrap_err()
        };
        let late = read::as_on_a_gpu(|| first_bad(false));
        assert!(matches!(late, Error::LossNotFinite { step: 3, .. }), "{case}: {late}");
        let at_once = first_bad(true).to_string();
        // SoftSAE refuses to select from what is not finite.
        assert!(at_once.starts_with("step 3: "), "{case}: {at_once}");
    }
}

#[test]
fn encoding_on_a_gpu_reads_nothing() {
    for (case, _) in cases() {
        let mut trainer = trainer(&case, "");
        (0..3).for_each(|step| drop(trainer.step(&rows(step)).unwrap()));
        let x = rows(7);
        let expected = trainer.sae().encode(&x).unwrap();
        let got = read::as_on_a_gpu(|| {
            let before = read::count();
            let got = trainer.sae().encode(&x).unwrap();
            assert_eq!(read::count(), before, "{case}");
            got
        });
        assert_eq!(got.features, expected.features, "{case}");
    }
}

/// As on a GPU, where batches are brought along ahead of the steps.
#[test]
fn a_killed_run_whose_batches_are_staged_resumes_to_the_same_bits() {
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let mut writer = StoreWriter::create(&store, StoreSpec::new(D_MODEL, Dtype::F32)).unwrap();
    let values: Vec<f32> =
        Vec::try_from(Tensor::cat(&(0..4).map(rows).collect::<Vec<_>>(), 0).flatten(0, -1))
            .unwrap();
    for (row, values) in values.chunks(D_MODEL).enumerate() {
        let meta = RowMeta { token_id: 0, document: 0, position: row as u32 };
        writer.append(values, &[meta]).unwrap();
    }
    writer.finish().unwrap();
    for case in ["name = 'soft', k = 3, hard_steps = 8", "name = 'standard', l1_penalty = 0.1"] {
        let text = format!(
            "data.store = {store:?}\nsae.n_features = {N_FEATURES}\narchitecture = {{ {case} }}\n\
             [training]\nsteps = {STEPS}\nbatch_size = 20\nlr = 1e-2\nengine = 'reference'\n\
             log_every = 5\ncheckpoint_every = 4"
        );
        let config: RunConfig = toml::from_str(&text).unwrap();
        let train = |name: &str, stop_after: u64| {
            let stop = AtomicBool::new(false);
            let options = RunOptions { open: &open_stores, resume: true, stop: &stop };
            let out = folder.path().join(format!("{name}-{}", case.len()));
            let run = train_run(&config, &out, &options, &mut |progress| {
                stop.store(progress.step >= stop_after, Ordering::Relaxed);
            });
            (run, out)
        };
        let weights = |out: &Path| std::fs::read(out.join("checkpoint/sae.safetensors")).unwrap();
        let log = |out: &Path| -> Vec<StepReport> {
            let lines = read_metrics(&out.join("metrics.jsonl")).unwrap();
            lines.into_iter().map(|line| line.report).collect()
        };
        read::as_on_a_gpu(|| {
            let whole = train("whole", u64::MAX).1;
            for stop_after in [1, 7, 18] {
                let name = format!("stopped-{stop_after}");
                let (stopped, out) = train(&name, stop_after);
                assert!(matches!(stopped, Err(Error::Interrupted { .. })), "{stopped:?}");
                if stop_after == 7 {
                    // As a kill would leave it.
                    std::fs::remove_dir_all(out.join("training/step-0000000007")).unwrap();
                }
                train(&name, u64::MAX).0.unwrap();
                assert!(weights(&out) == weights(&whole), "{case}, after {stop_after}");
                assert_eq!(log(&out), log(&whole), "{case}, after {stop_after}");
            }
        });
    }
}
