//! The golden Llama written as GGUF, as llama.cpp's converter would, against its own folder; and
//! what a GGUF file may lack or have wrong.

use proptest::prelude::*;
use sae_hosts::{HostModel, Result};
use tch::{Device, Kind, Tensor};
use tempfile::NamedTempFile;

use crate::gguf_builder::GgufBuilder;
use crate::support::{golden, tensors};

const VOCABULARY: usize = 97;

/// Rows of each head from `(half, pair)` to `(pair, half)`, the converter's order.
fn permuted(rows: &Tensor, heads: i64) -> Tensor {
    let shape = rows.size();
    let split = rows.view([heads, 2, shape[0] / heads / 2, shape[1]]);
    split.transpose(1, 2).reshape(shape.as_slice())
}

fn golden_llama() -> GgufBuilder {
    let tokens: Vec<String> = (0..VOCABULARY).map(|id| format!("t{id}")).collect();
    let mut types = [1; VOCABULARY];
    types[0] = 3;
    let mut builder = GgufBuilder::default()
        .string("general.architecture", "llama")
        .u32("llama.block_count", 3)
        .u32("llama.embedding_length", 32)
        .u32("llama.feed_forward_length", 96)
        .u32("llama.context_length", 64)
        .u32("llama.attention.head_count", 4)
        .u32("llama.attention.head_count_kv", 2)
        .f32("llama.attention.layer_norm_rms_epsilon", 1e-6)
        .f32("llama.rope.freq_base", 10_000.0)
        .string("tokenizer.ggml.model", "gpt2")
        .string("tokenizer.ggml.pre", "smollm")
        .strings("tokenizer.ggml.tokens", &tokens)
        .i32s("tokenizer.ggml.token_type", &types)
        .strings("tokenizer.ggml.merges", &[] as &[&str]);
    let weights = tensors("hosts/llama/model.safetensors");
    let mut add = |name: String, key: &str, heads: i64| {
        let tensor = &weights[key];
        let tensor = if heads > 0 { permuted(tensor, heads) } else { tensor.shallow_clone() };
        let values: Vec<f32> = tensor.reshape([-1]).try_into().unwrap();
        let shape: Vec<u64> = tensor.size().iter().map(|size| *size as u64).collect();
        builder = std::mem::take(&mut builder).f32_tensor(&name, &shape, &values);
    };
    add("token_embd.weight".to_owned(), "model.embed_tokens.weight", 0);
    add("output_norm.weight".to_owned(), "model.norm.weight", 0);
    for layer in 0..3 {
        for (name, key, heads) in [
            ("attn_norm", "input_layernorm", 0),
            ("ffn_norm", "post_attention_layernorm", 0),
            ("attn_q", "self_attn.q_proj", 4),
            ("attn_k", "self_attn.k_proj", 2),
            ("attn_v", "self_attn.v_proj", 0),
            ("attn_output", "self_attn.o_proj", 0),
            ("ffn_gate", "mlp.gate_proj", 0),
            ("ffn_up", "mlp.up_proj", 0),
            ("ffn_down", "mlp.down_proj", 0),
        ] {
            let key = format!("model.layers.{layer}.{key}.weight");
            add(format!("blk.{layer}.{name}.weight"), &key, heads);
        }
    }
    builder
}

fn load(builder: &GgufBuilder) -> Result<HostModel> {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), builder.build()).unwrap();
    HostModel::load(file.path(), Device::Cpu)
}

/// What is wrong with a file, without its random path.
fn message(builder: &GgufBuilder) -> String {
    let error = load(builder).unwrap_err().to_string();
    error.split_once(": ").expect("the file is named").1.to_owned()
}

#[test]
fn the_same_weights_from_gguf_and_from_a_folder_compute_the_same() {
    let gguf = load(&golden_llama()).unwrap();
    let folder = HostModel::load(&golden("hosts/llama"), Device::Cpu).unwrap();
    assert_eq!(gguf.info(), folder.info());
    let ids = &tensors("hosts/llama/expected.safetensors")["input_ids"];
    assert_eq!(gguf.logits(ids).unwrap(), folder.logits(ids).unwrap());
}

#[test]
fn an_untied_head_is_read() {
    let head = Tensor::ones([VOCABULARY as i64, 32], (Kind::Float, Device::Cpu));
    let values: Vec<f32> = head.reshape([-1]).try_into().unwrap();
    let builder = golden_llama().f32_tensor("output.weight", &[VOCABULARY as u64, 32], &values);
    let ids = Tensor::from_slice(&[5_i64, 6]).unsqueeze(0);
    let logits = load(&builder).unwrap().logits(&ids).unwrap();
    let spread = logits.std_dim([-1].as_slice(), false, false).max().double_value(&[]);
    assert!(spread < 1e-5, "equal rows give equal logits");
}

#[test]
fn what_is_missing_or_not_supported_is_named() {
    let good = golden_llama();
    let swapped = |key: &str, value: &str| good.clone().without(key).string(key, value);
    for (bad, expected) in [
        (
            swapped("general.architecture", "mamba"),
            "general.architecture: expected `llama`, got mamba",
        ),
        (
            swapped("tokenizer.ggml.model", "llama"),
            "tokenizer.ggml.model: expected `gpt2` (byte-level BPE), got llama",
        ),
        (
            swapped("tokenizer.ggml.pre", "qwen2"),
            "tokenizer.ggml.pre: expected `gpt-2` or `smollm`, got qwen2",
        ),
        (swapped("llama.block_count", "3"), "llama.block_count: expected an integer, got a string"),
        (
            good.clone().without("llama.block_count"),
            "llama.block_count: expected an integer, got no such key",
        ),
        (
            good.clone().without("llama.block_count").u32("llama.block_count", 4),
            "tensor `blk.3.attn_q.weight`: expected it in the file, got none",
        ),
        (
            good.clone().without("llama.feed_forward_length").u32("llama.feed_forward_length", 95),
            "tensor `blk.0.ffn_gate.weight`: expected shape [95, 32], got [96, 32]",
        ),
        (
            good.clone().without("llama.attention.head_count").u32("llama.attention.head_count", 0),
            "`num_attention_heads`: expected an integer from 1 to 2^31, got 0",
        ),
        (
            good.clone().string("llama.rope.scaling.type", "yarn"),
            "llama.rope.scaling.type: expected `none`, got yarn",
        ),
        (
            good.clone().f32_tensor("rope_freqs.weight", &[4], &[1.0; 4]),
            "rope_freqs.weight: expected no scaling of rotary frequencies, got this tensor",
        ),
        (
            good.clone()
                .without("tokenizer.ggml.token_type")
                .i32s("tokenizer.ggml.token_type", &[1, 1]),
            "tokenizer.ggml.token_type: expected 97 values, one a token, got 2",
        ),
        (
            good.clone()
                .without("tokenizer.ggml.merges")
                .strings("tokenizer.ggml.merges", &["t1t2"]),
            "tokenizer.ggml.merges: expected two tokens and a space, got t1t2",
        ),
    ] {
        assert_eq!(message(&bad), expected);
    }
}

proptest! {
    /// Whatever bytes of the header change, the host is loaded and computes, or there is an error.
    #[test]
    fn a_corrupt_host_never_panics(
        changes in prop::collection::vec((0_usize..6000, any::<u8>()), 1..6),
    ) {
        let mut bytes = golden_llama().build();
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
