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
    let error = message(folder.path());
    assert!(error.ends_with(
        "weights: expected `model.safetensors`, or shards with `model.safetensors.index.json`, got none"
    ));
    std::fs::write(folder.path().join("pytorch_model.bin"), "").unwrap();
    let error = message(folder.path());
    assert!(error.contains("got pytorch_model.bin; convert with: python3 -c \""), "{error}");
    std::fs::rename(
        folder.path().join("pytorch_model.bin"),
        folder.path().join("model.fp16.safetensors"),
    )
    .unwrap();
    assert!(message(folder.path()).ends_with("got model.fp16.safetensors"));
    std::fs::remove_file(folder.path().join("config.json")).unwrap();
    assert!(message(folder.path()).starts_with("config.json: No such file"));
}

#[test]
fn configurations_that_do_not_fit_are_named() {
    assert_eq!(
        with_config("model_type", "mamba".into()),
        "config.json: `model_type`: expected one of `clip`, `clip_vision_model`, `dinov2`, \
         `gemma2`, `gpt2`, `gpt_neox`, `llama`, `mistral`, `qwen2`, `qwen3`, `siglip`, \
         `siglip_vision_model`, `vit`, got `mamba`"
    );
    let text = std::fs::read(golden("hosts/llama/config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let size = |key: &str| config[key].as_u64().unwrap();
    let heads = size("num_attention_heads");
    assert_eq!(
        with_config("num_key_value_heads", (heads - 1).into()),
        format!(
            "config.json: `num_key_value_heads`: expected a divisor of {heads}, got {}",
            heads - 1
        )
    );
    assert_eq!(
        with_config("head_dim", 7.into()),
        "config.json: `head_dim`: expected an even size of at most 7 for rotary embedding, got 7"
    );
    assert_eq!(
        with_config("rope_parameters", serde_json::json!({"rope_type": "yarn"})),
        "config.json: `rope_parameters.rope_type`: expected `default`, `linear` or `llama3`, got `yarn`"
    );
    let layers = size("num_hidden_layers");
    assert_eq!(
        with_config("num_hidden_layers", (layers + 1).into()),
        format!(
            "model.safetensors: tensor `model.layers.{layers}.self_attn.q_proj.weight`: \
             expected it in the file, got none"
        )
    );
    let (d_model, d_mlp) = (size("hidden_size"), size("intermediate_size"));
    assert_eq!(
        with_config("intermediate_size", (d_mlp + 1).into()),
        format!(
            "model.safetensors: tensor `model.layers.0.mlp.gate_proj.weight`: \
             expected shape [{}, {d_model}], got [{d_mlp}, {d_model}]",
            d_mlp + 1
        )
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
fn the_single_file_wins_over_a_stale_index() {
    let folder = llama();
    let index = folder.path().join("model.safetensors.index.json");
    std::fs::write(index, r#"{"weight_map": {"gone": "model-00001-of-00002.safetensors"}}"#)
        .unwrap();
    let ids = &tensors("hosts/llama/expected.safetensors")["input_ids"];
    let got = HostModel::load(folder.path(), Device::Cpu).unwrap().logits(ids).unwrap();
    let expected = HostModel::load(&golden("hosts/llama"), Device::Cpu).unwrap();
    assert_eq!(got, expected.logits(ids).unwrap());
}

#[test]
fn shards_that_are_not_what_the_index_says_are_named() {
    let folder = llama();
    let all = tensors("hosts/llama/model.safetensors");
    let all: Vec<_> = all.into_iter().collect();
    std::fs::remove_file(folder.path().join("model.safetensors")).unwrap();
    let (norm, embedding) = ("model.norm.weight", "model.embed_tokens.weight");
    let write = |file: &str, keep: &dyn Fn(&str) -> bool| {
        let kept: Vec<_> = all.iter().filter(|(name, _)| keep(name)).map(|(n, t)| (n, t)).collect();
        tch::Tensor::write_safetensors(&kept, folder.path().join(file)).unwrap();
    };
    let index = |skip: &str| {
        let mut map = serde_json::Map::new();
        for (name, _) in all.iter().filter(|(name, _)| name != skip) {
            let file = if name == norm { "b.safetensors" } else { "a.safetensors" };
            map.insert(name.clone(), file.into());
        }
        let text = serde_json::json!({ "weight_map": map }).to_string();
        std::fs::write(folder.path().join("model.safetensors.index.json"), text).unwrap();
    };
    index("");
    write("a.safetensors", &|name| name != norm);
    write("b.safetensors", &|name| name == norm);
    assert!(HostModel::load(folder.path(), Device::Cpu).is_ok());
    let start = "model.safetensors.index.json: `model.";
    // In both files, in none, and in a file without being in the index.
    write("a.safetensors", &|_| true);
    assert_eq!(
        message(folder.path()),
        format!("{start}norm.weight`: expected a.safetensors, got b.safetensors")
    );
    write("a.safetensors", &|name| name != norm && name != embedding);
    assert_eq!(
        message(folder.path()),
        format!("{start}embed_tokens.weight`: expected it in `a.safetensors`, got none")
    );
    write("a.safetensors", &|name| name != norm);
    index(embedding);
    assert_eq!(
        message(folder.path()),
        format!("{start}embed_tokens.weight`: expected a.safetensors, got no such tensor")
    );
}

#[test]
fn an_adapter_beside_the_weights_is_refused() {
    let folder = llama();
    std::fs::write(folder.path().join("adapter_config.json"), "{}").unwrap();
    let error = message(folder.path());
    assert!(error.contains("adapter_config.json: expected no adapter"), "{error}");
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
