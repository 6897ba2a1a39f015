//! Model files of SAELens: those that are refused, and what stores keep of them.

use std::path::Path;

use sae_data::{Dtype, PlantedConfig, open_store};
use serde_json::Value;

use super::{golden, of_model, read_json};

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
