//! Tiny models of variants of each family against what the transformers library computes for them,
//! and the keys of the configurations that people have.

use std::path::{Path, PathBuf};

use sae_hosts::{HookPoint, HostInput, HostModel};
use serde_json::{Value, json};
use tch::{Device, Tensor};
use tempfile::TempDir;

use crate::support::max_difference;

const TOLERANCE: f64 = 1e-4;

const VARIANTS: [&str; 11] = [
    "clip_whole",
    "gemma2_untied",
    "gpt2_scaled",
    "gpt_neox_linear",
    "llama_biases",
    "llama_linear",
    "llama_llama3",
    "mistral_window",
    "qwen2_window",
    "qwen3_window",
    "siglip_whole",
];

pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/folders").join(name)
}

#[test]
fn every_variant_computes_what_transformers_does() {
    for name in VARIANTS {
        let host = HostModel::load(&folder(name), Device::Cpu).unwrap();
        let expected = Tensor::read_safetensors(folder(name).join("expected.safetensors")).unwrap();
        let get = |key: &str| &expected.iter().find(|(name, _)| name == key).unwrap().1;
        let images = matches!(host.info().input, HostInput::Images { .. });
        let input = get(if images { "pixel_values" } else { "input_ids" });
        let n_layers = host.info().n_layers;
        for layer in 0..n_layers {
            let hook: HookPoint = format!("resid_pre.{layer}").parse().unwrap();
            let got = host.activations(input, hook).unwrap();
            let difference = max_difference(&got, get(&format!("hidden_states.{layer}")));
            assert!(difference < TOLERANCE, "{name} {hook}: {difference}");
        }
        let (got, key) = if images {
            (host.image_embeddings(input).unwrap(), "image_embeds")
        } else {
            (host.logits(input).unwrap(), "logits")
        };
        let difference = max_difference(&got, get(key));
        assert!(difference < TOLERANCE, "{name} {key}: {difference}");
    }
}

#[test]
fn what_a_variant_says_matters() {
    for (name, key, value) in [
        ("mistral_window", "sliding_window", Value::Null),
        ("qwen2_window", "layer_types", json!(vec!["full_attention"; 3])),
        ("qwen2_window", "sliding_window", json!(5)),
        ("qwen3_window", "layer_types", json!(vec!["full_attention"; 3])),
        ("llama_biases", "hidden_act", json!("silu")),
        ("llama_linear", "rope_parameters", json!({"rope_type": "default"})),
        ("llama_llama3", "rope_parameters", json!({"rope_theta": 500.0})),
        ("gemma2_untied", "attn_logit_softcapping", json!(1.0)),
        ("gemma2_untied", "final_logit_softcapping", Value::Null),
        ("gpt2_scaled", "scale_attn_by_inverse_layer_idx", json!(false)),
        ("gpt2_scaled", "scale_attn_weights", json!(true)),
        ("gpt2_scaled", "activation_function", json!("gelu_new")),
        ("gpt_neox_linear", "use_parallel_residual", json!(true)),
        (
            "gpt_neox_linear",
            "rope_parameters",
            json!({"rope_type": "linear", "factor": 2.0, "rope_theta": 100.0}),
        ),
    ] {
        let copy = TempDir::new().unwrap();
        let weights = "model.safetensors";
        std::fs::copy(folder(name).join(weights), copy.path().join(weights)).unwrap();
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(folder(name).join("config.json")).unwrap())
                .unwrap();
        config[key] = value;
        std::fs::write(copy.path().join("config.json"), config.to_string()).unwrap();
        let host = HostModel::load(copy.path(), Device::Cpu).unwrap();
        let expected = Tensor::read_safetensors(folder(name).join("expected.safetensors")).unwrap();
        let get = |key: &str| &expected.iter().find(|(name, _)| name == key).unwrap().1;
        let difference = max_difference(&host.logits(get("input_ids")).unwrap(), get("logits"));
        assert!(difference > 10.0 * TOLERANCE, "{name} {key}: {difference}");
    }
}

/// The keys of sizes, which a tiny model has otherwise than the real one.
const SIZES: [&str; 21] = [
    "head_dim",
    "hidden_act",
    "hidden_size",
    "image_size",
    "intermediate_size",
    "layer_types",
    "max_position_embeddings",
    "n_ctx",
    "n_embd",
    "n_head",
    "n_layer",
    "n_positions",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "patch_size",
    "projection_dim",
    "rotary_pct",
    "scale_attn_weights",
    "tie_word_embeddings",
    "vocab_size",
];

/// The settings of a real model with the sizes of a tiny one.
fn shrunk(real: &Value, tiny: &Value) -> Value {
    let mut shrunk = real.clone();
    for key in SIZES {
        if let Some(object) = shrunk.as_object_mut() {
            object.remove(key);
        }
        if !tiny[key].is_null() {
            shrunk[key] = tiny[key].clone();
        }
    }
    for key in ["vision_config", "vision_config_dict"] {
        if real[key].is_object() {
            shrunk[key] = self::shrunk(&real[key], &tiny["vision_config"]);
        }
    }
    shrunk
}

#[test]
fn the_configurations_that_people_have_are_read() {
    let text = std::fs::read(folder("real_configs.json")).unwrap();
    let all: serde_json::Map<String, Value> = serde_json::from_slice(&text).unwrap();
    let golden = |name: &str| crate::support::golden(&format!("hosts/{name}"));
    for (name, real) in all {
        let tiny = match real["model_type"].as_str().unwrap() {
            "clip" => folder("clip_whole"),
            "siglip" => folder("siglip_whole"),
            "mistral" => folder("mistral_window"),
            other => golden(other),
        };
        let config: Value =
            serde_json::from_slice(&std::fs::read(tiny.join("config.json")).unwrap()).unwrap();
        let copy = TempDir::new().unwrap();
        let weights = "model.safetensors";
        std::fs::copy(tiny.join(weights), copy.path().join(weights)).unwrap();
        let text = shrunk(&real, &config).to_string();
        std::fs::write(copy.path().join("config.json"), text).unwrap();
        let host = HostModel::load(copy.path(), Device::Cpu);
        assert!(host.is_ok(), "{name}: {}", host.unwrap_err());
    }
}
