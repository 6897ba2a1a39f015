//! Trainings that version 0.1.0 (revision 73dada4) began: their states are gone on from.

use std::path::{Path, PathBuf};

use sae_config::{ArchitectureConfig, RunConfig};
use sae_models::read_tensors;
use sae_train::Error;
use tch::Kind;

use crate::support::train;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/version1")
}

/// A run of that version after 20 of 30 steps, in a folder of its own.
fn begun(name: &str) -> (tempfile::TempDir, RunConfig) {
    let from = testdata().join(name);
    let out = tempfile::tempdir().unwrap();
    let state = "training/step-0000000020";
    std::fs::create_dir_all(out.path().join(state)).unwrap();
    let files = ["position", "sae", "trainer"].map(|file| format!("{state}/{file}.json"));
    let tensors = ["sae", "trainer"].map(|file| format!("{state}/{file}.safetensors"));
    let others = ["run.toml".to_owned(), "metrics.jsonl".to_owned()];
    for file in files.into_iter().chain(tensors).chain(others) {
        std::fs::copy(from.join(&file), out.path().join(&file)).unwrap();
    }
    let mut config = RunConfig::read(&from.join("run.toml")).unwrap();
    // Statistics are kept beside a store, which is none of ours.
    config.data.store = out.path().join("store");
    std::fs::create_dir(&config.data.store).unwrap();
    for file in ["manifest.json", "shard-00000.safetensors"] {
        let from = testdata().join("store").join(file);
        std::fs::copy(from, config.data.store.join(file)).unwrap();
    }
    (out, config)
}

#[test]
fn trainings_are_gone_on_from_to_the_same_model() {
    let mut missing = ArchitectureConfig::NAMES.to_vec();
    for entry in std::fs::read_dir(testdata()).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap();
        if name == "store" {
            continue;
        }
        let (out, config) = begun(name);
        missing.retain(|missing| *missing != config.architecture.name());
        let summary = train(&config, out.path(), true, u64::MAX).unwrap();
        assert_eq!(summary.resumed_at, Some(20), "{name}");
        let expected = read_tensors(&folder.join("expected.safetensors")).unwrap();
        let got = read_tensors(&summary.checkpoint.join("sae.safetensors")).unwrap();
        assert_eq!(expected.len(), got.len(), "{name}");
        for (tensor, expected) in expected {
            let off = (&got[&tensor] - &expected).to_kind(Kind::Double).norm();
            let scale = expected.to_kind(Kind::Double).norm().double_value(&[]).max(1e-3);
            let off = off.double_value(&[]) / scale;
            assert!(off < 1e-4, "{name}: {tensor} is off by {off:e} of its norm");
        }
        // What was filled in then is what is filled in now.
        let read = |folder: &Path| std::fs::read_to_string(folder.join("run.toml")).unwrap();
        let store = format!("store = {:?}\n", config.data.store);
        assert_eq!(
            read(out.path()),
            read(&folder).replace("store = \"store\"\n", &store),
            "{name}"
        );
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// A state whose model has another code than its training is that of no run.
#[test]
fn a_state_whose_files_disagree_is_refused() {
    let (out, config) = begun("topk");
    let path = out.path().join("training/step-0000000020/sae.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"k\": 3", "\"k\": 4")).unwrap();
    let error = train(&config, out.path(), true, u64::MAX).unwrap_err();
    assert!(matches!(error, Error::OtherRun { .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("sae.json") && message.contains("\"k\":4"), "{message}");
}
