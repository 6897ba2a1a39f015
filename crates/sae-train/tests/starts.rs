//! Runs that start from the weights of a checkpoint.

use std::path::Path;

use sae_config::{ArchitectureConfig, RunConfig};

use crate::support::{config, train, write_store};

const ALL_ARCHITECTURES: [&str; ArchitectureConfig::NAMES.len()] = [
    "name = 'topk', k = 3",
    "name = 'abs_topk', k = 3",
    "name = 'batch_topk', k = 3",
    "name = 'matryoshka_batch_topk', k = 2, group_fractions = [0.25, 0.75]",
    "name = 'soft', k = 3",
    "name = 'jumprelu', target_l0 = 3.0, bandwidth = 0.1",
    "name = 'gated', l1_penalty = 0.1",
    "name = 'standard', l1_penalty = 0.1",
    "name = 'standard_april', l1_penalty = 0.1",
    "name = 'p_anneal', initial_sparsity_penalty = 0.1, anneal_start = 4",
];

#[test]
fn every_architecture_starts_from_the_weights_of_a_checkpoint_on_both_engines() {
    let dir = tempfile::tempdir().unwrap();
    let (store, other) = (dir.path().join("store"), dir.path().join("other"));
    write_store(&store, 7);
    write_store(&other, 8);
    for (i, architecture) in ALL_ARCHITECTURES.iter().enumerate() {
        assert!(architecture.starts_with(&format!("name = '{}'", ArchitectureConfig::NAMES[i])));
        let first = dir.path().join(format!("first-{i}"));
        train(&config(&store, architecture, ""), &first, false, u64::MAX).unwrap();
        let init = first.join("checkpoint");
        for engine in ["reference", "fast"] {
            if engine == "fast" && i >= 6 {
                continue;
            }
            // With a learning rate of next to nothing, the model stays what it was.
            let more = format!("init = {init:?}\nengine = '{engine}'");
            let mut config = config(&other, architecture, &more);
            config.training.lr = Some(1e-12);
            let out = dir.path().join(format!("tuned-{i}-{engine}"));
            train(&config, &out, false, u64::MAX).unwrap();
            let read = |folder: &Path| {
                let device = tch::Device::Cpu;
                sae_models::load_checkpoint(folder, device).unwrap()
            };
            let (before, after) = (read(&init), read(&out.join("checkpoint")));
            for ((name, before), (_, after)) in before.parameters().iter().zip(after.parameters()) {
                let off = (*before - after).abs().max().double_value(&[]);
                assert!(off < 1e-5, "{architecture}, {engine}: {name} off by {off}");
            }
            // The normalisation is that of the checkpoint, not of the other store.
            let scale = |sae: &sae_models::Sae| match &sae.normalizer {
                sae_models::Normalizer::ShiftScale { scale, .. } => *scale,
                other => panic!("{other:?}"),
            };
            assert_eq!(scale(&before), scale(&after));
            assert!(after.trained_on.init.is_some());
        }
    }
}

#[test]
fn a_checkpoint_to_start_from_must_fit_and_stay_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    write_store(&store, 7);
    let first = dir.path().join("first");
    let topk = ALL_ARCHITECTURES[0];
    train(&config(&store, topk, ""), &first, false, u64::MAX).unwrap();
    let init = first.join("checkpoint");
    let more = format!("init = {init:?}");
    let out = dir.path().join("out");
    let refused = |config: &RunConfig, words: &str| {
        let message = train(config, &out, true, u64::MAX).unwrap_err().to_string();
        assert!(message.contains("training.init") && message.contains(words), "{message}");
    };
    refused(&config(&store, ALL_ARCHITECTURES[2], &more), "expected batch_topk, got topk");
    let mut wide = config(&store, topk, &more);
    wide.sae.n_features = 32;
    refused(&wide, "n_features: expected 32, got 24");
    let mut plain = config(&store, topk, &more);
    plain.sae.normalization = sae_config::Normalization::None;
    refused(&plain, "`sae.normalization`");

    // The weights it started from are part of the run.
    let good = config(&store, topk, &more);
    train(&good, &out, true, 5).unwrap_err();
    refused(&config(&store, topk, ""), "got the checkpoint of hash");
    let second = config(&store, topk, "seed = 9");
    std::fs::remove_dir_all(&first).unwrap();
    train(&second, &first, false, u64::MAX).unwrap();
    refused(&good, "expected the checkpoint of hash");
}
