//! Rows of SynthSAEBench's kind: golden statistics of SAELens' own sampler, the hierarchy's rules,
//! files that are refused.
//!
//! `SOFTSAE_GOLDEN` names another folder of the form of `testdata/golden`.

mod model_files;
mod statistics;

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sae_data::{Dtype, PlantedConfig, PlantedTruth, SynthConfig, open_store};
use safetensors::SafeTensors;
use serde_json::{Value, json};

use crate::support::read_all;

fn golden() -> PathBuf {
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
    std::env::var_os("SOFTSAE_GOLDEN").map_or(default, PathBuf::from).join("synth")
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The golden model, with so many rows.
fn of_model(n_rows: u64) -> PlantedConfig {
    let model = golden().join("model");
    let config = read_json(&model.join("synthetic_model_config.json"));
    let size = |key: &str| config[key].as_u64().unwrap() as usize;
    PlantedConfig {
        n_rows,
        d_model: size("hidden_dim"),
        n_features: size("num_features"),
        model: Some(model),
        ..PlantedConfig::default()
    }
}

fn generate(config: &PlantedConfig) -> (Vec<f32>, PlantedTruth) {
    let dir = tempfile::tempdir().unwrap();
    config.write(dir.path(), Dtype::F32).unwrap();
    (read_all(&*open_store(dir.path()).unwrap()), PlantedTruth::load(dir.path()).unwrap())
}

#[test]
fn rows_are_bias_and_features() {
    let config = of_model(3000);
    let (rows, truth) = generate(&config);
    let d = config.d_model;
    let bytes = std::fs::read(golden().join("model/synthetic_model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let tensor = tensors.tensor(name).unwrap();
        tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let (bias, dictionary) = (floats("bias"), floats("feature_vectors"));
    assert_eq!(truth.dictionary(), dictionary);
    for (i, row) in rows.chunks(d).enumerate() {
        let (features, activations) = truth.active(i);
        assert!(features.is_sorted_by(|a, b| a < b) && activations.iter().all(|&a| a > 0.0));
        for (column, v) in row.iter().enumerate() {
            let terms = features.iter().zip(activations);
            let sum: f32 = terms.map(|(&f, a)| a * dictionary[f as usize * d + column]).sum();
            assert!((sum + bias[column] - v).abs() < 1e-4);
        }
    }
}

/// A small model of its own.
fn small() -> PlantedConfig {
    PlantedConfig {
        n_rows: 1000,
        d_model: 12,
        n_features: 60,
        synth: Some(SynthConfig { roots: 3, depth: 2, branching: 4, ..SynthConfig::default() }),
        ..PlantedConfig::default()
    }
}

/// Parent of a feature of [`small`], from the order in which trees are numbered.
fn parent(feature: u32) -> Option<u32> {
    match feature {
        3..15 => Some((feature - 3) / 4),
        15..60 => Some(3 + (feature - 15) / 4),
        _ => None,
    }
}

#[test]
fn any_range_of_rows_on_any_number_of_threads_is_the_same() {
    for config in [small(), PlantedConfig { n_rows: 1000, ..of_model(1000) }] {
        let (whole, truth) = generate(&config);
        for (first_row, n_rows, n_threads) in [(0, 1000, 1), (1, 999, 2), (317, 40, 3)] {
            let part = PlantedConfig { first_row, n_rows, ..config.clone() };
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
            let (rows, part) = pool.install(|| generate(&part));
            let start = first_row as usize * config.d_model;
            assert!(rows == whole[start..][..n_rows as usize * config.d_model]);
            assert_eq!(part.active(0), truth.active(first_row as usize));
        }
        let (other, _) = generate(&PlantedConfig { seed: 1, ..config });
        assert!(other != whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn children_come_with_parents_and_without_siblings(seed: u64, exclusive: bool, rank in 0..4usize) {
        let synth = small().synth.unwrap();
        let synth = SynthConfig { exclusive_siblings: exclusive, correlation_rank: rank, ..synth };
        let (_, truth) = generate(&PlantedConfig { seed, synth: Some(synth), ..small() });
        let mut n_siblings = 0;
        for row in 0..truth.n_rows() {
            let (features, _) = truth.active(row);
            let parents: Vec<u32> = features.iter().filter_map(|&f| parent(f)).collect();
            prop_assert!(parents.iter().all(|p| features.contains(p)));
            n_siblings += parents.windows(2).filter(|pair| pair[0] == pair[1]).count();
        }
        prop_assert_eq!(n_siblings == 0, exclusive, "{}", n_siblings);
    }
}

#[test]
fn settings_that_do_not_go_together_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let synth = |change: fn(&mut SynthConfig)| {
        let mut config = small();
        change(config.synth.as_mut().unwrap());
        config
    };
    for (config, field) in [
        (synth(|s| s.max_probability = 1.5), "synth.max_probability"),
        (synth(|s| s.min_probability = 0.4), "synth.min_probability"),
        (synth(|s| s.exponent = f64::NAN), "synth.exponent"),
        (synth(|s| s.roots = 61), "synth.roots"),
        (synth(|s| s.branching = 1), "synth.branching"),
        (synth(|s| s.depth = 0), "synth.depth"),
        (synth(|s| s.correlation_scale = -0.1), "synth.correlation_scale"),
        (synth(|s| s.last_magnitude = 0.0), "synth.last_magnitude"),
        (synth(|s| s.spread_sd = f64::INFINITY), "synth.spread_sd"),
        (PlantedConfig { noise: 0.1, ..small() }, "noise"),
        (PlantedConfig { k_max: 9, ..small() }, "k_max"),
        (PlantedConfig { children_per_parent: 2, ..small() }, "children_per_parent"),
        (PlantedConfig { model: Some("x".into()), ..small() }, "model"),
        (PlantedConfig { d_model: 23, ..of_model(10) }, "d_model"),
        (PlantedConfig { n_features: 95, ..of_model(10) }, "n_features"),
    ] {
        let error = config.write(&dir.path().join("store"), Dtype::F32).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: expected")), "{error}");
    }
    assert!(!dir.path().join("store").exists());
}

#[test]
fn settings_of_other_rows_are_written_as_before() {
    let written = serde_json::to_value(PlantedConfig::default()).unwrap();
    assert!(written.get("synth").is_none() && written.get("model").is_none());
    let read: PlantedConfig = serde_json::from_value(json!({ "synth": {} })).unwrap();
    assert_eq!(read.synth, Some(SynthConfig::default()));
}
