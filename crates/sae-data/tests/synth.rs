//! Rows of SynthSAEBench's kind: golden statistics of SAELens' own sampler, the hierarchy's rules,
//! files that are refused.
//!
//! `SOFTSAE_GOLDEN` names another folder of the form of `testdata/golden`.

use std::collections::HashMap;
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

fn statistics() -> HashMap<String, Vec<f64>> {
    let bytes = std::fs::read(golden().join("statistics.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let is_f64 = |(_, t): &(String, safetensors::tensor::TensorView<'_>)| t.dtype().bitsize() == 64;
    let values = |data: &[u8]| {
        data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    tensors.tensors().into_iter().filter(is_f64).map(|(k, t)| (k, values(t.data()))).collect()
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

/// Differences of two samples' statistics over their standard errors.
#[derive(Default)]
struct Differences(Vec<f64>);

impl Differences {
    fn add(&mut self, expected: f64, got: f64, variance: f64) {
        if variance > 0.0 {
            self.0.push((got - expected) / variance.sqrt());
        } else {
            assert_eq!(expected, got, "what does not vary");
        }
    }

    /// Of normal differences, one in 10⁶ is beyond 4.9; the mean of their squares is 1. Pairs of
    /// features depend on each other: over 12 seeds the mean of their squares had the deviation
    /// 0.033, that of 1800 differences that do not.
    fn check(&self, name: &str) {
        let (place, largest) = (0..)
            .zip(self.0.iter().map(|z| z.abs()))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or_default();
        let mean_square = self.0.iter().map(|z| z * z).sum::<f64>() / self.0.len() as f64;
        println!(
            "{name}: {} statistics, largest |z| {largest:.2} at {place}, mean z² {mean_square:.3}",
            self.0.len()
        );
        assert!(largest < 4.9, "{name}: largest z {largest}");
        let bound = 1.0 + 5.0 * (2.0 / self.0.len().min(1800) as f64).sqrt();
        assert!(mean_square < bound, "{name}: mean z² {mean_square}");
    }
}

#[test]
fn statistics_are_those_of_saelens_own_sampler() {
    let config = of_model(400_000);
    let expected = statistics();
    let n_expected = read_json(&golden().join("scores.json"))["n_samples"].as_f64().unwrap();
    let (rows, truth) = generate(&config);
    let (n, n_features) = (config.n_rows as f64, config.n_features);
    let inverse_n = 1.0 / n + 1.0 / n_expected;

    let mut together = vec![0.0; n_features * n_features];
    let mut histogram = vec![0.0; n_features + 1];
    let mut powers = vec![[0.0; 4]; n_features];
    for row in 0..truth.n_rows() {
        let (features, activations) = truth.active(row);
        histogram[features.len()] += 1.0 / n;
        for (&i, &a) in features.iter().zip(activations) {
            let a = f64::from(a);
            for (power, sum) in (1..).zip(&mut powers[i as usize]) {
                *sum += a.powi(power);
            }
            features
                .iter()
                .for_each(|&j| together[i as usize * n_features + j as usize] += 1.0 / n);
        }
    }
    let share = |expected: &[f64], got: &[f64], name: &str| {
        let mut differences = Differences::default();
        for (&expected, &got) in expected.iter().zip(got) {
            let pooled = (expected * n_expected + got * n) / (n_expected + n);
            // Counts too small to be normal tell nothing here.
            if pooled * n > 30.0 {
                differences.add(expected, got, pooled * (1.0 - pooled) * inverse_n);
            } else {
                assert!((got - expected) * n < 60.0, "{name}: {expected} and {got}");
            }
        }
        differences.check(name);
    };
    let diagonal: Vec<f64> = (0..n_features).map(|i| together[i * n_features + i]).collect();
    share(&expected["firing_rate"], &diagonal, "firing rates");
    // Each pair once.
    let pairs = |all: &[f64]| -> Vec<f64> {
        (0..n_features).flat_map(|i| all[i * n_features..][i + 1..n_features].to_vec()).collect()
    };
    share(&pairs(&expected["co_firing"]), &pairs(&together), "co-firing");
    share(&expected["l0_histogram"], &histogram, "histogram of L0");

    let (mut means, mut squares) = (Differences::default(), Differences::default());
    for (feature, sums) in powers.iter().enumerate() {
        let count = diagonal[feature] * n;
        let moment = |power: usize| sums[power - 1] / count;
        let inverse = 1.0 / count + 1.0 / (expected["firing_rate"][feature] * n_expected);
        let variance =
            |power: usize| (moment(2 * power) - moment(power).powi(2)).max(0.0) * inverse;
        means.add(expected["magnitude_mean"][feature], moment(1), variance(1));
        squares.add(expected["magnitude_mean_square"][feature], moment(2), variance(2));
    }
    means.check("mean magnitudes");
    squares.check("mean squares of magnitudes");

    let mut x_mean = Differences::default();
    for (column, &expected) in expected["x_mean"].iter().enumerate() {
        let values = || rows.iter().skip(column).step_by(config.d_model).map(|&v| f64::from(v));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        x_mean.add(expected, mean, variance * inverse_n);
    }
    x_mean.check("mean of rows");
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
fn independent_roots_fire_as_zipf_says() {
    let synth = SynthConfig {
        roots: 0,
        correlation_rank: 0,
        min_probability: 0.02,
        spread_mean: 0.0,
        spread_sd: 0.0,
        ..SynthConfig::default()
    };
    let config = PlantedConfig { n_rows: 40_000, synth: Some(synth), ..small() };
    let (_, truth) = generate(&config);
    let mut counts = vec![0.0; 60];
    for row in 0..truth.n_rows() {
        let (features, activations) = truth.active(row);
        for (&f, &a) in features.iter().zip(activations) {
            counts[f as usize] += 1.0;
            assert!((f64::from(a) - (5.0 - f64::from(f) / 59.0)).abs() < 1e-5);
        }
    }
    let last = 60f64.powf(-0.5);
    let mut differences = Differences::default();
    for (i, count) in counts.iter().enumerate() {
        let p = 0.02 + 0.38 * (((i + 1) as f64).powf(-0.5) - last) / (1.0 - last);
        differences.add(p, count / 40_000.0, p * (1.0 - p) / 40_000.0);
    }
    differences.check("Zipf");
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

/// Writes a copy of the golden model with one JSON file changed.
fn changed(file: &str, change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden().join("model")).unwrap() {
        let entry = entry.unwrap();
        let bytes = std::fs::read(entry.path()).unwrap();
        std::fs::write(dir.path().join(entry.file_name()), bytes).unwrap();
    }
    let mut value = read_json(&dir.path().join(file));
    change(&mut value);
    std::fs::write(dir.path().join(file), value.to_string()).unwrap();
    dir
}

fn refusal(model: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = PlantedConfig { model: Some(model.to_owned()), ..of_model(10) };
    config.write(&dir.path().join("store"), Dtype::F32).unwrap_err().to_string()
}

#[test]
fn model_files_that_mean_something_else_are_refused() {
    const CONFIG: &str = "synthetic_model_config.json";
    type Change = fn(&mut Value);
    let cases: [(&str, Change, &str); 17] = [
        (CONFIG, |v| v["unknown"] = 1.into(), "unknown"),
        (CONFIG, |v| v["hierarchy"]["unknown"] = 1.into(), "unknown"),
        (CONFIG, |v| v["correlation"]["unknown"] = 1.into(), "unknown"),
        (CONFIG, |v| v["orthogonalization"]["unknown"] = 1.into(), "unknown"),
        (CONFIG, |v| v["firing_probability"]["unknown"] = 1.into(), "unknown"),
        (CONFIG, |v| v["firing_probability"]["generator_name"] = "random".into(), "random"),
        (CONFIG, |v| v["firing_probability"]["max_prob"] = 0.3.into(), "firing_probabilities[0]"),
        (CONFIG, |v| v["hierarchy"]["compensate_probabilities"] = false.into(), "firing_prob"),
        (CONFIG, |v| v["mean_firing_magnitudes"]["generator_name"] = "x".into(), "magnitudes"),
        (CONFIG, |v| v["mean_firing_magnitudes"] = 0.0.into(), "mean_firing_magnitudes"),
        (CONFIG, |v| v["dtype"] = "bfloat16".into(), "dtype float32, got bfloat16"),
        (CONFIG, |v| v["seed"] = Value::Null, "seed null"),
        (CONFIG, |v| v["correlation"] = Value::Null, "no correlation_factor"),
        (CONFIG, |v| v["correlation"]["rank"] = 4.into(), "correlation_factor"),
        ("hierarchy.json", |v| v["roots"][0]["unknown"] = 1.into(), "unknown"),
        ("hierarchy.json", |v| v["roots"][1]["feature_index"] = 0.into(), "0 twice"),
        ("hierarchy.json", |v| v["roots"][1]["feature_index"] = 96.into(), "below num_features"),
    ];
    for (file, change, words) in cases {
        let dir = changed(file, change);
        let message = refusal(dir.path());
        assert!(message.contains(words), "{words} in {message}");
        assert!(message.contains(".json") || message.contains(".safetensors"), "{message}");
    }
    let lonely = changed("hierarchy.json", |v| {
        let children = v["roots"][0]["children"].as_array_mut().unwrap();
        children.truncate(1);
    });
    assert!(refusal(lonely.path()).contains("at least 2 children"));
    let without = changed("hierarchy.json", |_| ());
    std::fs::remove_file(without.path().join("hierarchy.json")).unwrap();
    assert!(refusal(without.path()).contains("hierarchy null"));
}

/// A store is finished only with the settings it was begun with, so that these tell models apart.
#[test]
fn stores_of_two_models_in_one_folder_differ_in_their_settings() {
    let out = tempfile::tempdir().unwrap();
    let model = changed("hierarchy.json", |_| ());
    let settings = |name: &str, is_scaled: bool| {
        let other = changed("hierarchy.json", |v| {
            v["roots"][0]["scale_children_by_parent"] = is_scaled.into();
        });
        std::fs::copy(other.path().join("hierarchy.json"), model.path().join("hierarchy.json"))
            .unwrap();
        let config = PlantedConfig { model: Some(model.path().to_owned()), ..of_model(10) };
        config.write(&out.path().join(name), Dtype::F32).unwrap();
        open_store(&out.path().join(name)).unwrap().provenance().unwrap().settings.clone()
    };
    let (first, second, same) = (settings("a", true), settings("b", false), settings("c", true));
    assert_eq!(first["config"], second["config"]);
    assert_ne!(first["model_blake3"], second["model_blake3"]);
    assert_eq!(first, same);
}
