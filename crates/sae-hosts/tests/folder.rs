//! Hugging Face folders that are incomplete, truncated, or of something else.

use std::path::Path;

use sae_hosts::HostModel;
use tch::{Device, Kind};
use tempfile::TempDir;

use crate::support::{golden, max_difference, tensors};

/// A copy of the golden Llama.
fn llama() -> TempDir {
    let folder = TempDir::new().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(golden("hosts/llama").join(name), folder.path().join(name)).unwrap();
    }
    folder
}

/// What is wrong with a folder, without its random path.
fn message(folder: &Path) -> String {
    let error = HostModel::load(folder, Device::Cpu).unwrap_err().to_string();
    error.replace(&format!("{}/", folder.display()), "")
}

/// The message after one key of `config.json` has another value.
fn with_config(key: &str, value: serde_json::Value) -> String {
    let folder = llama();
    let path = folder.path().join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    config[key] = value;
    std::fs::write(&path, config.to_string()).unwrap();
    message(folder.path())
}

#[test]
fn missing_and_truncated_files_are_named() {
    let folder = llama();
    let weights = folder.path().join("model.safetensors");
    let whole = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &whole[..whole.len() - 1]).unwrap();
    assert_eq!(
        message(folder.path()),
        format!("model.safetensors: size: expected {} bytes, got {}", whole.len(), whole.len() - 1)
    );
    std::fs::write(&weights, &whole[..7]).unwrap();
    assert_eq!(message(folder.path()), "model.safetensors: size: expected at least 8 bytes, got 7");
    let mut huge = whole.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&weights, &huge).unwrap();
    assert!(message(folder.path()).starts_with("model.safetensors: size: expected at least"));
    let mut garbled = whole;
    garbled[9] = b'!';
    std::fs::write(&weights, &garbled).unwrap();
    let error = message(folder.path());
    assert!(error.starts_with("model.safetensors: header: expected a safetensors"), "{error}");
    std::fs::remove_file(&weights).unwrap();
    assert!(message(folder.path()).starts_with("model.safetensors: No such file"));
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(message(folder.path()).starts_with("config.json: No such file"));
}

#[test]
fn configurations_that_do_not_fit_are_named() {
    assert_eq!(
        with_config("model_type", "mamba".into()),
        "config.json: `model_type`: expected one of `clip_vision_model`, `dinov2`, `gemma2`, \
         `gpt2`, `gpt_neox`, `llama`, `qwen2`, `qwen3`, `siglip_vision_model`, `vit`, got `mamba`"
    );
    assert_eq!(
        with_config("hidden_act", "relu".into()),
        "config.json: `hidden_act`: expected \"silu\", got \"relu\""
    );
    assert_eq!(
        with_config("num_key_value_heads", 3.into()),
        "config.json: `num_key_value_heads`: expected a divisor of 4, got 3"
    );
    assert_eq!(
        with_config("head_dim", 7.into()),
        "config.json: `head_dim`: expected an even size of at most 7 for rotary embedding, got 7"
    );
    assert_eq!(
        with_config("rope_scaling", serde_json::json!({"rope_type": "llama3"})),
        "config.json: `rope_scaling`: expected null, got {\"rope_type\":\"llama3\"}"
    );
    assert_eq!(
        with_config("num_hidden_layers", 4.into()),
        "model.safetensors: tensor `model.layers.3.self_attn.q_proj.weight`: \
         expected it in the file, got none"
    );
    assert_eq!(
        with_config("intermediate_size", 64.into()),
        "model.safetensors: tensor `model.layers.0.mlp.gate_proj.weight`: \
         expected shape [64, 32], got [96, 32]"
    );
}

#[test]
fn weights_in_several_files_are_those_of_one() {
    let folder = llama();
    let all = tensors("hosts/llama/model.safetensors");
    let mut map = serde_json::Map::new();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for (index, (name, tensor)) in all.into_iter().enumerate() {
        let (file, shard) = if index % 2 == 0 { ("a", &mut first) } else { ("b", &mut second) };
        map.insert(name.clone(), format!("{file}.safetensors").into());
        shard.push((name, tensor));
    }
    tch::Tensor::write_safetensors(&first, folder.path().join("a.safetensors")).unwrap();
    tch::Tensor::write_safetensors(&second, folder.path().join("b.safetensors")).unwrap();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();

    let ids = &tensors("hosts/llama/expected.safetensors")["input_ids"];
    let sharded = HostModel::load(folder.path(), Device::Cpu).unwrap().logits(ids).unwrap();
    let single = HostModel::load(&golden("hosts/llama"), Device::Cpu).unwrap().logits(ids).unwrap();
    assert_eq!(sharded, single);

    map.insert("extra".to_owned(), "../a.safetensors".into());
    std::fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    assert_eq!(
        message(folder.path()),
        "model.safetensors.index.json: weight_map: expected file names without folders, \
         got ../a.safetensors"
    );
}

#[test]
fn bf16_computes_close_to_f32_and_other_kinds_are_refused() {
    let path = golden("hosts/llama");
    let host = HostModel::load_as(&path, Device::Cpu, Kind::BFloat16).unwrap();
    let expected = tensors("hosts/llama/expected.safetensors");
    let hook = "resid_post.1".parse().unwrap();
    let got = host.activations(&expected["input_ids"], hook).unwrap();
    assert_eq!(got.kind(), Kind::BFloat16);
    let scale = expected["hidden_states.2"].abs().max().double_value(&[]);
    let difference = max_difference(&got, &expected["hidden_states.2"]);
    assert!(difference < 0.05 * scale, "{difference} of {scale}");

    let error = HostModel::load_as(&path, Device::Cpu, Kind::Double).unwrap_err();
    assert_eq!(error.to_string(), "kind: expected Float, Half or BFloat16, got Double");
}
