//! Live sources that are refused.

use std::path::Path;

use sae_data::BatchSource as _;
use sae_hosts::Live;
use tch::{Device, Tensor};

use super::{data, folder, open};
use crate::support::{golden, tensors};

fn refusal(folder: &Path, more: &str) -> String {
    Live::open(&data(folder, more), 4, 0, Device::Cpu).unwrap_err().to_string()
}

#[test]
fn places_of_other_streams_are_refused_by_name() {
    let folder = folder();
    let data = data(folder.path(), "");
    let place = open(&data, 4, 1).position();
    let json = serde_json::to_value(&place).unwrap();
    let with = |key: &str, value: u64| {
        let mut json = json.clone();
        json["live"][key] = value.into();
        open(&data, 4, 1).resume(&serde_json::from_value(json).unwrap())
    };
    assert!(with("seed", 1).is_ok());
    for (key, value) in [("seed", 2), ("window_rows", 9), ("d_model", 3)] {
        let error = with(key, value).unwrap_err().to_string();
        assert!(error.starts_with(&format!("live position: {key}: expected ")), "{error}");
    }
    let mut beyond = json.clone();
    beyond["live"]["row"] = 1_000_000.into();
    let mut live = open(&data, 4, 1);
    live.resume(&serde_json::from_value(beyond).unwrap()).unwrap();
    let mut rows = vec![0.0; 4 * live.ports().input.dimension];
    let error = live.next_batch(rows.as_mut_slice().into()).unwrap_err().to_string();
    assert!(error.starts_with("live position: row: expected at most "), "{error}");
    let loader = serde_json::json!({ "loader": {} });
    let error = live.resume(&serde_json::from_value(loader).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "stream position: expected that of a `live`, got `loader`");
}

#[test]
fn settings_that_do_not_fit_are_refused_by_key() {
    let folder = folder();
    let at = folder.path();
    let d_model = open(&data(at, ""), 1, 0).host().info().d_model;
    let least = 4 * d_model * 16 * 4;
    for (more, expected) in [
        (
            format!("window_bytes = {}", least - 1),
            format!("data.window_bytes: expected at least {least}, "),
        ),
        (
            format!("window_bytes = {least}\nstatistics_rows = 65"),
            "data.statistics_rows: expected at most 64, the rows of a window, got 65".into(),
        ),
        ("hook = 'resid.1'".into(), "hook point: expected `embed`, or".into()),
        ("hook = 'resid_post.99'".into(), "hook point `resid_post.99`: expected a layer".into()),
        ("target_hook = 'mlp_out.99'".into(), "hook point `mlp_out.99`: expected a layer".into()),
        ("context_length = 100000".into(), "context_length: expected 1 to ".into()),
        ("bos = 'always'".into(), "bos: expected ".into()),
    ] {
        let error = refusal(at, &more);
        assert!(error.starts_with(&expected), "{more}: {error}");
    }
    let images = golden("hosts/vit");
    let error = refusal(at, &format!("host = {images:?}"));
    assert!(!error.is_empty());
}

#[test]
fn a_corpus_without_rows_and_tokens_that_the_host_lacks_are_refused() {
    let folder = folder();
    let first = |more: &str| {
        let mut live = open(&data(folder.path(), more), 4, 0);
        let mut rows = vec![0.0; 4 * live.ports().input.dimension];
        let error = live.next_batch(rows.as_mut_slice().into()).unwrap_err();
        let after = live.next_batch(rows.as_mut_slice().into()).unwrap_err();
        assert!(matches!(after, sae_data::Error::Stopped), "{after}");
        error.to_string()
    };
    let none = first("min_position = 5");
    assert!(none.starts_with("data.corpus: expected tokens after the first"), "{none}");

    let path = folder.path().join("ids.npy");
    let ids = Tensor::from_slice(&[1_i64, 2, 3, 100_000]);
    ids.to_kind(tch::Kind::Int).write_npy(&path).unwrap();
    let lacks = first(&format!("corpus.path = {path:?}"));
    assert!(lacks.contains("expected ids from 0 to") && lacks.contains("100000"), "{lacks}");
}

#[test]
fn a_value_that_is_not_finite_is_named() {
    let folder = folder();
    let path = folder.path().join("host/model.safetensors");
    let mut weights = tensors("hosts/llama/model.safetensors");
    let name = "model.layers.1.mlp.down_proj.weight";
    let broken = weights[name].copy();
    let _ = broken.get(3).fill_(f64::NAN);
    weights.insert(name.into(), broken);
    let named: Vec<_> = weights.iter().collect();
    Tensor::write_safetensors(&named, &path).unwrap();
    let mut live = open(&data(folder.path(), ""), 4, 0);
    let mut rows = vec![0.0; 4 * live.ports().input.dimension];
    let error = live.next_batch(rows.as_mut_slice().into()).unwrap_err().to_string();
    assert_eq!(
        error,
        "activations at `resid_post.1` of document 0, position 1, dimension 3: expected a finite \
         value, got NaN"
    );
}
