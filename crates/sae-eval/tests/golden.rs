//! Metrics of planted data, computed elsewhere by their definitions.
//!
//! `SOFTSAE_GOLDEN` names another folder of the same form.

use std::path::PathBuf;

use sae_eval::Metrics;
use serde_json::Value;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

pub(crate) fn golden(name: &str) -> PathBuf {
    let default = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden");
    std::env::var_os("SOFTSAE_GOLDEN").map_or(default, PathBuf::from).join(name)
}

pub(crate) fn tensor(name: &str) -> Tensor {
    let path = golden("metrics.safetensors");
    let tensors = Tensor::read_safetensors(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    tensors
        .into_iter()
        .find(|(key, _)| key == name)
        .expect("a golden tensor")
        .1
        .to_device(test_device())
}

pub(crate) fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden("metrics.json")).unwrap()).unwrap()
}

pub(crate) fn check(golden: &Value, got: &Value, tolerance: f64, path: &str) -> usize {
    let Value::Object(fields) = golden else {
        let (golden, got) = (golden.as_f64().unwrap(), got.as_f64().unwrap());
        let close = (golden - got).abs() <= tolerance * golden.abs().max(1.0);
        assert!(close, "{path}: expected {golden}, got {got}");
        return 1;
    };
    fields
        .iter()
        .map(|(key, value)| check(value, &got[key], tolerance, &format!("{path}.{key}")))
        .sum()
}

#[test]
fn reconstruction_and_sparsity() {
    let (x, x_hat, features) = (tensor("x"), tensor("x_hat"), tensor("features"));
    let mut metrics = Metrics::new(x.size()[1] as usize, features.size()[1] as usize);
    metrics.add(&x, &x_hat, &features, None).unwrap();
    let evaluation = metrics.finish().unwrap();
    assert_eq!(evaluation.n_rows, x.size()[0] as u64);
    assert_eq!((evaluation.k_hat, evaluation.cross_entropy), (None, None));
    assert_eq!(evaluation.ground_truth, None);

    let expected = expected();
    let reconstruction = serde_json::to_value(evaluation.reconstruction).unwrap();
    let sparsity = serde_json::to_value(evaluation.sparsity).unwrap();
    let compared = check(&expected["reconstruction"], &reconstruction, 1e-9, "reconstruction")
        + check(&expected["sparsity"], &sparsity, 1e-9, "sparsity");
    assert!(compared >= 15, "only {compared} golden metrics");

    let density = Vec::<f64>::try_from(tensor("density").to_kind(Kind::Double)).unwrap();
    for (feature, (expected, got)) in density.iter().zip(metrics.firing_rates()).enumerate() {
        assert!((expected - got).abs() < 1e-7, "feature {feature}: expected {expected}, got {got}");
    }
}
