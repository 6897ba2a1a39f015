//! Whole runs: resumed ones end with the same bits, wrong ones are refused by name.

mod longer;

use std::path::Path;

use proptest::prelude::*;
use sae_config::RunConfig;
use sae_data::{Dtype, RowMeta, StoreSpec, StoreWriter};
use sae_train::Error;
use tch::Device;
use tch_autograd::{test_device, test_device_name};

use crate::support::{D_MODEL, config, files, log, states, train, write_store};

const ARCHITECTURES: [&str; 7] = [
    "name = 'topk', k = 3, k_anneal_steps = 6, auxk = { dead_after_rows = 32 }",
    "name = 'matryoshka_batch_topk', k = 2, group_fractions = [0.25, 0.75]",
    "name = 'soft', k = 3, alpha = 0.05, alpha_anneal_steps = 5, hard_steps = 6",
    "name = 'jumprelu', target_l0 = 3.0, sparsity_warmup_steps = 5, bandwidth = 0.1",
    "name = 'standard', l1_penalty = 0.1, resample_steps = 4",
    "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4, n_sparsity_updates = 5",
    "name = 'abs_topk', k = 3, k_anneal_steps = 6, auxk = { dead_after_rows = 32 }",
];

/// Fails unless two runs have the same weights and losses, as far as a device computes twice alike.
///
/// CUDA adds up in an order that it chooses anew, so that no two runs there have the same bits. A
/// state that was lost moves each weight by the learning rate, a twentieth of its size.
fn same_to_rounding(whole: &Path, parts: &Path) {
    let load = |out: &Path| sae_models::load_checkpoint(&out.join("checkpoint"), Device::Cpu);
    let (whole_sae, parts_sae) = (load(whole).unwrap(), load(parts).unwrap());
    let all = whole_sae.parameters().into_iter().chain(whole_sae.buffers());
    let others = parts_sae.parameters().into_iter().chain(parts_sae.buffers());
    for ((name, a), (_, b)) in all.zip(others) {
        let (off, norm) = ((a - b).norm().double_value(&[]), a.norm().double_value(&[]));
        assert!(off <= 1e-3 * norm, "{name}: off by {off:e} of {norm:e}");
    }
    let (whole, parts) = (log(whole), log(parts));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        assert_eq!(a.step, b.step);
        assert!((a.loss - b.loss).abs() <= 1e-3 * a.loss, "step {}: {} {}", a.step, a.loss, b.loss);
    }
}

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
        let on_cpu = test_device() == Device::Cpu;
        let engine = if reference && on_cpu { "engine = 'reference'" } else { "" };
        let more = format!(
            "checkpoint_every = {checkpoint_every}\nkeep_checkpoints = 20\ndevice = '{}'\n{engine}",
            test_device_name()
        );
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
        if on_cpu {
            prop_assert_eq!(files(&whole.join("checkpoint")), files(&parts.join("checkpoint")));
            prop_assert_eq!(log(&whole), log(&parts));
        } else {
            same_to_rounding(&whole, &parts);
        }
        let left = |out: &Path| states(out).into_iter().map(|(step, _)| step).collect::<Vec<_>>();
        let (left_whole, left_parts) = (left(&whole), left(&parts));
        prop_assert!(left_parts.len() <= 1);
        if killed || checkpoint_every == 0 {
            prop_assert_eq!(left_parts, left_whole);
        } else {
            // The state of the interruption may be newer.
            prop_assert!(left_parts >= left_whole, "{left_parts:?} {left_whole:?}");
        }
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
    assert!(matches!(train(&good, &out, false, u64::MAX), Err(Error::Exists { .. })));
    // Bookkeeping may change and defaults be written; what has ended is not run again.
    let free = config(&store, ARCHITECTURES[0], "keep_checkpoints = 1\nengine = 'fast'");
    assert!(train(&free, &out, true, u64::MAX).unwrap().last.is_some());
    let left = out.join("training/step-0000000019");
    std::fs::create_dir_all(&left).unwrap();
    let elsewhere = config(&store, ARCHITECTURES[0], "device = 'cuda:0'");
    assert!(train(&elsewhere, &out, true, u64::MAX).unwrap().last.is_none());
    assert!(!left.exists(), "states that a kill just before the end has left are removed");
    assert_eq!(states(&out).len(), 1, "the one that a longer run goes on from stays");
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

#[test]
fn stores_of_several_hook_points_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, hook: &str, bos: &str| {
        let store = dir.path().join(name);
        let mut spec = StoreSpec::new(D_MODEL, Dtype::F32);
        spec.provenance.host = "host".into();
        spec.provenance.hook_point = hook.into();
        spec.provenance.settings.insert("bos".into(), bos.into());
        let mut writer = StoreWriter::create(&store, spec).unwrap();
        for row in 0..40u32 {
            let values: Vec<f32> = (0..8).map(|i| ((row * 8 + i) as f32).sin()).collect();
            writer.append(&values, &[RowMeta { token_id: 0, document: 0, position: row }]).unwrap();
        }
        writer.finish().unwrap();
        store
    };
    let (a, b) = (write("a", "resid_post.7", "true"), write("b", "resid_post.7", "false"));
    let c = write("c", "resid_post.15", "true");
    let with = |stores: &[&Path]| {
        let mut config = config(&a, "name = 'topk', k = 3", "");
        config.data.store = "".into();
        let part = |path: &&Path| sae_config::WeightedStore { path: path.into(), weight: 1.0 };
        config.data.stores = stores.iter().map(part).collect();
        config
    };
    let out = dir.path().join("out");
    let message = train(&with(&[&a, &c]), &out, false, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("one hook point, got resid_post.7 and resid_post.15"), "{message}");
    let folder = config(dir.path(), "name = 'topk', k = 3", "");
    let message = train(&folder, &dir.path().join("x"), false, u64::MAX).unwrap_err().to_string();
    assert!(message.contains("one hook point"), "{message}");

    train(&with(&[&a, &b]), &out, false, u64::MAX).unwrap();
    let origin = sae_models::checkpoint_origin(&out.join("checkpoint")).unwrap();
    assert_eq!(origin.hook_point.as_deref(), Some("resid_post.7"));
    assert_eq!(origin.bos.as_deref(), Some("true and false"));
    assert_eq!(origin.dtype.as_deref(), Some("f32"));
    assert!(origin.data_hash.is_some());
}
