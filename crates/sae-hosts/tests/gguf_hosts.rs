//! The golden hosts written as GGUF, as llama.cpp's converter would, against the golden numbers.

mod rotary;

use std::collections::HashMap;

use proptest::prelude::*;
use sae_hosts::{HookPoint, HostModel};
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tempfile::NamedTempFile;

use crate::gguf_builder::GgufBuilder;
use crate::support::{golden, max_difference, tensors};

const TOLERANCE: f64 = 1e-4;
pub(crate) const FAMILIES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma2"];

/// Names of the tensors of a layer here and there.
const NAMES: [(&str, &str); 14] = [
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

fn config(family: &str) -> Value {
    let text = std::fs::read(golden(&format!("hosts/{family}/config.json"))).unwrap();
    serde_json::from_slice(&text).unwrap()
}

/// Rows of each head from `(half, pair)` to `(pair, half)`, the converter's order.
fn permuted(rows: &Tensor, heads: i64) -> Tensor {
    let shape = rows.size();
    let split = rows.reshape([heads, 2, shape[0] / heads / 2, -1]);
    split.transpose(1, 2).reshape(shape.as_slice())
}

/// A file with the settings of a golden host and these tensors.
fn converted(family: &str, weights: &HashMap<String, Tensor>) -> GgufBuilder {
    let config = config(family);
    let number = |key: &str| config[key].as_u64().unwrap() as u32;
    let key = |part: &str| format!("{family}.{part}");
    let (heads, kv_heads) = (number("num_attention_heads"), number("num_key_value_heads"));
    let tokens: Vec<String> = (0..number("vocab_size")).map(|id| format!("t{id}")).collect();
    let mut types = vec![1; tokens.len()];
    types[0] = 3;
    let mut builder = GgufBuilder::default()
        .string("general.architecture", family)
        .u32(&key("block_count"), number("num_hidden_layers"))
        .u32(&key("embedding_length"), number("hidden_size"))
        .u32(&key("feed_forward_length"), number("intermediate_size"))
        .u32(&key("context_length"), number("max_position_embeddings"))
        .u32(&key("attention.head_count"), heads)
        .u32(&key("attention.head_count_kv"), kv_heads)
        .f32(&key("attention.layer_norm_rms_epsilon"), 1e-6)
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .strings("tokenizer.ggml.merges", &[] as &[&str]);
    if family == "gemma2" {
        builder = builder
            .u32(&key("attention.sliding_window"), number("sliding_window"))
            .f32(&key("attn_logit_softcapping"), 50.0)
            .f32(&key("final_logit_softcapping"), 30.0);
    } else {
        builder = builder.f32(&key("rope.freq_base"), 10_000.0);
    }
    if config["head_dim"].is_u64() {
        let head_dim = number("head_dim");
        builder = builder
            .u32(&key("attention.key_length"), head_dim)
            .u32(&key("attention.value_length"), head_dim);
    }
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    for name in names {
        let converted = converted_name(name, family == "gemma2");
        let mut tensor = weights[name].to_kind(Kind::Float);
        if family == "llama" && converted.contains(".attn_q.") {
            tensor = permuted(&tensor, heads.into());
        } else if family == "llama" && converted.contains(".attn_k.") {
            tensor = permuted(&tensor, kv_heads.into());
        } else if family == "gemma2" && converted.ends_with("norm.weight") {
            tensor += 1.0;
        }
        builder = builder.copy_of(&converted, &tensor);
    }
    builder
}

fn converted_name(name: &str, gemma: bool) -> String {
    match name {
        "model.embed_tokens.weight" => return "token_embd.weight".to_owned(),
        "model.norm.weight" => return "output_norm.weight".to_owned(),
        "lm_head.weight" => return "output.weight".to_owned(),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.").unwrap().split_once('.').unwrap();
    let (module, parameter) = rest.rsplit_once('.').unwrap();
    let fits = |(here, there): &&(&str, &str)| {
        *there == module && (module != "post_attention_layernorm" || (*here == "ffn_norm") != gemma)
    };
    let (here, _) = NAMES.iter().find(fits).unwrap();
    format!("blk.{layer}.{here}.{parameter}")
}

pub(crate) fn golden_host(family: &str) -> GgufBuilder {
    converted(family, &tensors(&format!("hosts/{family}/model.safetensors")))
}

/// The golden Llama with biases on these modules, as GGUF and as a folder, which has them on all.
fn biased(modules: &[&str], all: &[&str]) -> (GgufBuilder, HostModel) {
    let mut weights = tensors("hosts/llama/model.safetensors");
    let mut with_zeros = tensors("hosts/llama/model.safetensors");
    tch::manual_seed(3);
    for layer in 0..3 {
        for module in all {
            let name = format!("model.layers.{layer}.{module}");
            let rows = weights[&format!("{name}.weight")].size()[0];
            let bias = Tensor::randn([rows], (Kind::Float, Device::Cpu)) * 0.1;
            let name = format!("{name}.bias");
            if modules.contains(module) {
                weights.insert(name.clone(), bias.shallow_clone());
                with_zeros.insert(name, bias);
            } else {
                with_zeros.insert(name, bias.zeros_like());
            }
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let mut config = config("llama");
    config["attention_bias"] = all.contains(&"self_attn.o_proj").into();
    config["mlp_bias"] = all.contains(&"mlp.up_proj").into();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let named: Vec<_> = with_zeros.into_iter().collect();
    Tensor::write_safetensors(&named, folder.path().join("model.safetensors")).unwrap();
    (converted("llama", &weights), HostModel::load(folder.path(), Device::Cpu).unwrap())
}

fn ids() -> Tensor {
    tensors("hosts/llama/expected.safetensors")["input_ids"].shallow_clone()
}

#[test]
fn every_architecture_gives_the_golden_numbers() {
    for family in FAMILIES {
        let host = golden_host(family).load().unwrap();
        let folder = HostModel::load(&golden(&format!("hosts/{family}")), Device::Cpu).unwrap();
        assert_eq!(host.info(), folder.info());
        let expected = tensors(&format!("hosts/{family}/expected.safetensors"));
        let ids = &expected["input_ids"];
        for layer in 0..host.info().n_layers {
            for (hook, key) in [
                ("resid_pre", format!("hidden_states.{layer}")),
                ("attn_out", format!("module.model.layers.{layer}.self_attn")),
                ("mlp_out", format!("module.model.layers.{layer}.mlp")),
            ] {
                let hook: HookPoint = format!("{hook}.{layer}").parse().unwrap();
                let difference =
                    max_difference(&host.activations(ids, hook).unwrap(), &expected[&key]);
                assert!(difference < TOLERANCE, "{family} {hook}: {difference}");
            }
        }
        let difference = max_difference(&host.logits(ids).unwrap(), &expected["logits"]);
        assert!(difference < TOLERANCE, "{family} logits: {difference}");
    }
}

#[test]
fn a_llama_is_the_same_to_the_bit_from_gguf_and_from_a_folder() {
    let gguf = golden_host("llama").load().unwrap();
    let folder = HostModel::load(&golden("hosts/llama"), Device::Cpu).unwrap();
    assert_eq!(gguf.logits(&ids()).unwrap(), folder.logits(&ids()).unwrap());
}

#[test]
fn biases_are_used_and_absent_ones_are_zero() {
    let attention =
        ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"];
    let mlp = ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"];
    let both = [&attention[..], &mlp[..]].concat();
    let plain = golden_host("llama").load().unwrap().logits(&ids()).unwrap();
    for (modules, all) in
        [(&attention[..3], &attention[..]), (&attention, &attention), (&mlp, &mlp), (&both, &both)]
    {
        let (gguf, folder) = biased(modules, all);
        let logits = gguf.load().unwrap().logits(&ids()).unwrap();
        assert!(max_difference(&logits, &folder.logits(&ids()).unwrap()) < 1e-6, "{modules:?}");
        assert!(max_difference(&logits, &plain) > 1e-3, "{modules:?} have no effect");
    }
}

#[test]
fn an_untied_head_is_read() {
    let rows = tensors("hosts/llama/model.safetensors")["model.embed_tokens.weight"].size()[0];
    let head = Tensor::ones([rows, 32], (Kind::Float, Device::Cpu));
    let host = golden_host("llama").copy_of("output.weight", &head).load().unwrap();
    let logits = host.logits(&ids()).unwrap();
    let spread = logits.std_dim([-1].as_slice(), false, false).max().double_value(&[]);
    assert!(spread < 1e-5, "equal rows give equal logits");
}

/// Weights that Q8_0 holds exactly compute what they do as F32.
#[test]
fn a_quantised_host_computes_what_its_weights_say() {
    let mut weights = tensors("hosts/llama/model.safetensors");
    let scale = half::f16::from_f32(0.004);
    let integers = |tensor: &Tensor| (tensor / f64::from(scale)).round().clamp(-127.0, 127.0);
    let matrices: Vec<String> =
        weights.iter().filter(|(_, w)| w.dim() == 2).map(|(name, _)| name.clone()).collect();
    for name in &matrices {
        let rounded = integers(&weights[name]) * f64::from(scale);
        weights.insert(name.clone(), rounded);
    }
    let plain = converted("llama", &weights);
    let mut packed = plain.clone();
    for name in &matrices {
        let name = converted_name(name, false);
        let (shape, values) = plain.f32_values(&name);
        let blocks: Vec<u8> = values
            .chunks(32)
            .flat_map(|block| {
                let quants = block.iter().map(|w| ((w / scale.to_f32()).round() as i8) as u8);
                scale.to_le_bytes().into_iter().chain(quants).collect::<Vec<_>>()
            })
            .collect();
        packed = packed.without(&name).tensor(&name, &shape, 8, &blocks);
    }
    let logits = packed.load().unwrap().logits(&ids()).unwrap();
    assert_eq!(logits, plain.load().unwrap().logits(&ids()).unwrap());
}

proptest! {
    /// Whatever bytes of the header change, the host is loaded and computes, or there is an error.
    #[test]
    fn a_corrupt_host_never_panics(
        changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6),
    ) {
        let mut bytes = golden_host("llama").build();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        if let Ok(host) = HostModel::load(file.path(), Device::Cpu) {
            let ids = Tensor::from_slice(&[1_i64, 2]).unsqueeze(0);
            prop_assert!(host.logits(&ids).is_ok());
            prop_assert!(host.tokenizer().unwrap().encode("t1 t2").is_ok());
        }
    }
}
