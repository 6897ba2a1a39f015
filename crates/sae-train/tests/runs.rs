//! Whole runs: resumed ones end with the same bits, wrong ones are refused by name.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use sae_config::RunConfig;
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};
use sae_train::{Error, RunOptions, RunSummary, read_metrics, train_run};

const D_MODEL: usize = 8;

/// 200 rows that are no multiple of the batch, from a fixed sequence.
fn write_store(path: &Path, seed: u64) {
    let mut writer = StoreWriter::create(path, StoreSpec::new(D_MODEL, Dtype::F32)).unwrap();
    let mut state = seed;
    for row in 0..200u32 {
        let values: Vec<f32> = (0..D_MODEL)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
                (state >> 40) as f32 / (1 << 22) as f32 - 2.0
            })
            .collect();
        let meta = RowMeta { token_id: 1, document: 0, position: row };
        writer.append(&values, &[meta]).unwrap();
    }
    writer.finish().unwrap();
}

fn config(store: &Path, architecture: &str, more: &str) -> RunConfig {
    let text = format!(
        "data.store = {store:?}\nsae.n_features = 24\narchitecture = {{ {architecture} }}\n\
         [training]\nsteps = 20\nbatch_size = 16\nlr = 1e-2\nlog_every = 3\n{more}"
    );
    toml::from_str(&text).unwrap()
}

/// Trains until `stop_after` steps are done.
fn train(
    config: &RunConfig,
    out: &Path,
    resume: bool,
    stop_after: u64,
) -> Result<RunSummary, Error> {
    let stop = AtomicBool::new(false);
    let options = RunOptions { resume, stop: &stop };
    train_run(config, out, &options, &mut |progress| {
        stop.store(progress.step >= stop_after, Ordering::Relaxed);
    })
}

fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect()
}

/// The log without what the clock says.
fn log(out: &Path) -> Vec<sae_train::StepReport> {
    read_metrics(&out.join("metrics.jsonl")).unwrap().into_iter().map(|l| l.report).collect()
}

const ARCHITECTURES: [&str; 6] = [
    "name = 'topk', k = 3, k_anneal_steps = 6, auxk = { dead_after_rows = 32 }",
    "name = 'matryoshka_batch_topk', k = 2, group_fractions = [0.25, 0.75]",
    "name = 'soft', k = 3, alpha = 0.05, alpha_anneal_steps = 5, hard_steps = 6",
    "name = 'jumprelu', target_l0 = 3.0, sparsity_warmup_steps = 5, bandwidth = 0.1",
    "name = 'standard', l1_penalty = 0.1, resample_steps = 4",
    "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4, n_sparsity_updates = 5",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_resumed_run_ends_with_the_same_bits(
        architecture in 0..ARCHITECTURES.len(),
        stop_after in 1u64..19,
        checkpoint_every in 0u64..5,
        killed in any::<bool>(),
        reference in any::<bool>(),
    ) {
        tch::set_num_threads(1);
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        write_store(&store, 7);
        let engine = if reference { "engine = 'reference'" } else { "" };
        let more =
            format!("checkpoint_every = {checkpoint_every}\nkeep_checkpoints = 20\n{engine}");
        let config = config(&store, ARCHITECTURES[architecture], &more);
        let (whole, parts) = (dir.path().join("whole"), dir.path().join("parts"));
        train(&config, &whole, false, u64::MAX).unwrap();

        let error = train(&config, &parts, false, stop_after).unwrap_err();
        let interrupted = matches!(error, Error::Interrupted { step, .. } if step == stop_after);
        prop_assert!(interrupted, "{}", error);
        if killed {
            // As a kill would leave it: nothing of the last state, the log ahead of the older one.
            let state = parts.join(format!("training/step-{stop_after:010}"));
            std::fs::remove_dir_all(state).unwrap();
            std::fs::create_dir_all(parts.join("training/step-0000000099.partial")).unwrap();
        }
        train(&config, &parts, true, u64::MAX).unwrap();
        prop_assert_eq!(files(&whole.join("checkpoint")), files(&parts.join("checkpoint")));
        prop_assert_eq!(log(&whole), log(&parts));
        prop_assert!(!parts.join("training").exists());
    }
}

#[test]
fn another_run_is_refused_by_its_difference() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (dir.path().join("store"), dir.path().join("other"));
    write_store(&store, 7);
    write_store(&other, 8);
    let out = dir.path().join("run");
    let good = config(&store, ARCHITECTURES[0], "");
    train(&good, &out, false, 5).unwrap_err();

    let message = |config: &RunConfig| train(config, &out, true, u64::MAX).unwrap_err().to_string();
    let seed = config(&store, ARCHITECTURES[0], "seed = 3");
    assert!(message(&seed).ends_with("`training.seed`: expected 3, got 0"));
    let architecture = config(&store, "name = 'topk', k = 4, k_anneal_steps = 6", "");
    assert!(message(&architecture).contains("`architecture.auxk.dead_after_rows`"));
    let mut positions = good.clone();
    positions.data.min_position = Some(1);
    assert!(message(&positions).ends_with("`data.min_position`: expected 1, got nothing"));
    let data = config(&other, ARCHITECTURES[0], "");
    assert!(message(&data).contains("`data.store`: expected activations of hash"));
    let again = train(&good, &out, false, u64::MAX).unwrap_err();
    assert!(matches!(again, Error::Exists { .. }));

    // The bookkeeping may change, and a run that has ended is not run again.
    let free = config(&store, ARCHITECTURES[0], "keep_checkpoints = 1");
    assert!(train(&free, &out, true, u64::MAX).unwrap().last.is_some());
    let left = out.join("training/step-0000000019");
    std::fs::create_dir_all(&left).unwrap();
    assert!(train(&good, &out, true, u64::MAX).unwrap().last.is_none());
    assert!(!left.exists(), "states that a kill just before the end has left are removed");
    assert!(message(&seed).ends_with("`training.seed`: expected 3, got 0"));
}

#[test]
fn a_damaged_state_is_refused_by_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let out = dir.path().join("run");
    let config = config(&store, ARCHITECTURES[2], "");
    train(&config, &out, false, 5).unwrap_err();
    let file = out.join("training/step-0000000005/trainer.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let message = train(&config, &out, true, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("trainer.safetensors: expected the file of blake3"), "{message}");
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_names_the_step() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    for architecture in ["name = 'standard_april', l1_penalty = 0.1", ARCHITECTURES[0]] {
        let mut config = config(&store, architecture, "");
        config.training.lr = Some(1e30);
        let out = dir.path().join(architecture.split('\'').nth(1).unwrap());
        let error = train(&config, &out, false, u64::MAX).unwrap_err();
        assert!(matches!(error, Error::LossNotFinite { step: 1.., .. }), "{error}");
        assert!(!out.join("checkpoint").exists());
    }
}

#[test]
fn rows_that_are_all_the_same_cannot_be_scaled() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let mut writer = StoreWriter::create(&store, StoreSpec::new(D_MODEL, Dtype::F32)).unwrap();
    let meta = [0, 1].map(|position| RowMeta { token_id: 0, document: 0, position });
    writer.append(&[0.5; 2 * D_MODEL], &meta).unwrap();
    writer.finish().unwrap();
    let config = config(&store, ARCHITECTURES[0], "");
    let error = train(&config, &dir.path().join("run"), false, u64::MAX).unwrap_err();
    assert!(matches!(error, Error::NothingToScale { .. }), "{error}");
}
