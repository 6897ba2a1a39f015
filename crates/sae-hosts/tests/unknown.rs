//! Any unknown key or tensor that is added to a good folder is refused by name, in every family.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sae_hosts::HostModel;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;

use crate::support::golden;
use crate::variants::folder;

/// A folder of each family.
fn families() -> Vec<PathBuf> {
    let of_golden = [
        "llama",
        "qwen2",
        "qwen3",
        "gemma2",
        "gpt2",
        "gpt_neox",
        "vit",
        "dinov2",
        "clip_vision",
        "siglip_vision",
    ];
    let others = ["mistral_window", "clip_whole", "siglip_whole"];
    let of_golden = of_golden.into_iter().map(|name| golden(&format!("hosts/{name}")));
    of_golden.chain(others.into_iter().map(folder)).collect()
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

/// What is wrong with a folder's weights under other settings.
fn with_config(good: &Path, config: &Value) -> Result<(), String> {
    let copy = TempDir::new().unwrap();
    let weights = "model.safetensors";
    std::fs::copy(good.join(weights), copy.path().join(weights)).unwrap();
    std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
    HostModel::load(copy.path(), Device::Cpu).map(drop).map_err(|error| error.to_string())
}

/// What is wrong with a folder that has another tensor.
fn with_tensor(good: &Path, name: &str) -> Result<(), String> {
    let copy = TempDir::new().unwrap();
    std::fs::copy(good.join("config.json"), copy.path().join("config.json")).unwrap();
    let mut tensors = Tensor::read_safetensors(good.join("model.safetensors")).unwrap();
    tensors.push((name.to_owned(), Tensor::zeros([4], (Kind::Float, Device::Cpu))));
    Tensor::write_safetensors(&tensors, copy.path().join("model.safetensors")).unwrap();
    HostModel::load(copy.path(), Device::Cpu).map(drop).map_err(|error| error.to_string())
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z]{0,6}".prop_map(Value::from),
        Just(json!([])),
        Just(json!({"a": 1})),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn an_unknown_key_is_refused_by_name_and_value(key in "zz_[a-z0-9_]{0,12}", value in any_value()) {
        for good in families() {
            let mut other = config(&good);
            other[&key] = value.clone();
            let error = with_config(&good, &other).unwrap_err();
            let expected = format!("`{key}`: expected no such key in this model, got {value}");
            prop_assert!(error.ends_with(&expected), "{error}");
            for section in ["rope_parameters", "vision_config"] {
                let mut other = config(&good);
                if other[section].is_object() {
                    other[section][&key] = value.clone();
                    let error = with_config(&good, &other).unwrap_err();
                    prop_assert!(error.contains(&format!("`{section}.{key}`: ")), "{error}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_tensor_is_refused_by_name(name in "zz[a-z0-9_.]{0,16}", place in 0..3_usize) {
        let name = [name.clone(), format!("model.layers.0.{name}"), format!("{name}.weight")][place].clone();
        for good in families() {
            let error = with_tensor(&good, &name).unwrap_err();
            let expected = format!("tensor `{name}`: expected no such tensor in this model");
            prop_assert!(error.contains(&expected), "{error}");
        }
    }
}

#[test]
fn the_good_folders_are_good() {
    for good in families() {
        assert_eq!(with_config(&good, &config(&good)), Ok(()), "{}", good.display());
    }
}

#[test]
fn biases_that_the_configuration_denies_are_refused() {
    for (family, name) in [
        ("llama", "model.layers.0.self_attn.q_proj.bias"),
        ("llama", "model.layers.1.mlp.down_proj.bias"),
        ("qwen2", "model.layers.0.self_attn.o_proj.bias"),
        ("qwen3", "model.layers.2.self_attn.k_proj.bias"),
        ("gemma2", "model.layers.0.self_attn.v_proj.bias"),
        ("llama", "lm_head.bias"),
        ("clip_vision", "visual_projection.bias"),
    ] {
        let error = with_tensor(&golden(&format!("hosts/{family}")), name).unwrap_err();
        assert!(error.contains(&format!("tensor `{name}`: expected no such tensor")), "{error}");
    }
}

#[test]
fn tensors_that_change_nothing_are_left_out() {
    for (family, name) in [
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "h.0.attn.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
        ("gpt_neox", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("vit", "classifier.weight"),
        ("dinov2", "classifier.bias"),
        ("clip_vision", "vision_model.embeddings.position_ids"),
        ("clip_vision", "text_model.embeddings.position_ids"),
        ("siglip_vision", "logit_bias"),
    ] {
        assert_eq!(with_tensor(&golden(&format!("hosts/{family}")), name), Ok(()), "{name}");
    }
}

#[test]
fn settings_that_change_the_computation_are_refused_by_name_and_value() {
    let mla = json!({"full_attention": {"rope_theta": 1e6, "rope_type": "default"}});
    for (family, key, value, part) in [
        ("llama", "quantization_config", json!({"bits": 4}), "weights in F32, F16 or BF16"),
        ("llama", "auto_map", json!({"AutoModel": "x.Y"}), "a model without code of its own"),
        ("llama", "num_local_experts", json!(8), "no such key in this model, got 8"),
        ("llama", "sliding_window", json!(8), "no such key in this model, got 8"),
        ("llama", "rope_interleaved", json!(true), "expected false, got true"),
        ("llama", "rope_factors", json!([1.0, 1.0]), "no such key in this model"),
        ("llama", "partial_rotary_factor", json!(0.5), "expected 1, got 0.5"),
        ("llama", "hidden_act", json!("gelu_10"), "got `gelu_10`"),
        ("llama", "vocab_size", json!(5), "`vocab_size`: expected "),
        ("llama", "rope_parameters", mla, "`rope_parameters.full_attention`: expected no such key"),
        ("llama", "add_cross_attention", json!(true), "expected false, got true"),
        ("llama", "pruned_heads", json!({"0": [1]}), "expected {}, got {\"0\":[1]}"),
        ("qwen2", "use_mrope", json!(true), "expected false, got true"),
        ("qwen2", "layer_types", json!(["full_attention"]), "`layer_types`: expected "),
        ("gemma2", "use_bidirectional_attention", json!(true), "expected false, got true"),
        ("gemma2", "hidden_act", json!("gelu"), "the same as `hidden_activation`"),
        ("gpt2", "n_ctx", json!(7), "`n_ctx`: expected "),
        ("gpt_neox", "rotary_emb_base", json!(500), "`rotary_emb_base`: expected 10000, got 500"),
        ("dinov2", "use_swiglu_ffn", json!(true), "expected false, got true"),
        ("siglip_vision", "vision_use_head", json!(false), "expected true, got false"),
    ] {
        let good = golden(&format!("hosts/{family}"));
        let mut other = config(&good);
        other[key] = value;
        let error = with_config(&good, &other).unwrap_err();
        assert!(error.contains(&format!("`{key}")) && error.contains(part), "{family}: {error}");
    }
}

#[test]
fn a_tied_head_of_its_own_is_refused_unless_it_is_the_embedding() {
    let good = golden("hosts/llama");
    let copy = TempDir::new().unwrap();
    std::fs::copy(good.join("config.json"), copy.path().join("config.json")).unwrap();
    let weights = copy.path().join("model.safetensors");
    let mut tensors = Tensor::read_safetensors(good.join("model.safetensors")).unwrap();
    let (_, embedding) =
        tensors.iter().find(|(name, _)| name.ends_with("embed_tokens.weight")).unwrap();
    let head = embedding.copy();
    tensors.push(("lm_head.weight".to_owned(), head.shallow_clone()));
    Tensor::write_safetensors(&tensors, &weights).unwrap();
    assert!(HostModel::load(copy.path(), Device::Cpu).is_ok());
    let _ = tensors.last_mut().unwrap().1.get(0).fill_(9.0);
    Tensor::write_safetensors(&tensors, &weights).unwrap();
    let error = HostModel::load(copy.path(), Device::Cpu).unwrap_err().to_string();
    assert!(
        error.contains("tensor `lm_head.weight`: expected the values of the embedding"),
        "{error}"
    );
}
