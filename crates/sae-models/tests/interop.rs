//! Files of other tools: those they wrote, read to their numbers; ours, read back to the same model.

mod files;
mod refusals;
mod round_trips;

use std::path::{Path, PathBuf};

use sae_models::{Format, Sae, import, read_tensors};
use tch::Tensor;

const TOLERANCE: f64 = 1e-5;

fn testdata(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(folder)
}

/// The largest difference, relative to the largest element or to 1.
fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let scale = a.abs().max().double_value(&[]).max(1.0);
    (a - b).abs().max().double_value(&[]) / scale
}

/// Features and reconstructions of `x`.
fn forward(sae: &Sae, x: &Tensor) -> (Tensor, Tensor) {
    let encoded = sae.encode(x).unwrap();
    let x_hat = sae.decode(&encoded).unwrap();
    (encoded.features, x_hat)
}

fn rows_of(dir: &Path) -> Tensor {
    read_tensors(&dir.join("expected.safetensors")).unwrap().remove("x").unwrap()
}

fn copied(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn refusal(dir: &Path, format: Format) -> String {
    import(dir, format).err().expect("a refusal").to_string()
}

/// The same settings with others, by a dotted path; null removes.
fn edit(dir: &Path, file: &str, path: &str, value: serde_json::Value) {
    let file = dir.join(file);
    let mut settings: serde_json::Value = sae_config::read_json(&file).unwrap();
    let mut at = &mut settings;
    for key in path.split('.') {
        at = &mut at[key];
    }
    *at = value;
    sae_config::write_json(&file, &settings).unwrap();
}
