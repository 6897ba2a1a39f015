//! Every key and tensor of a GGUF file is used, neutral, known not to matter, or refused by name.

use proptest::prelude::*;

use crate::gguf_builder::GgufBuilder;
use crate::gguf_hosts::{FAMILIES, golden_host};

/// Checks the message of each file that cannot be read.
fn check(cases: &[(GgufBuilder, &str)]) {
    for (bad, expected) in cases {
        assert_eq!(bad.message(), *expected);
    }
}

/// A llama whose key has another value.
fn swapped(key: &str, value: &str) -> GgufBuilder {
    golden_host("llama").without(key).string(key, value)
}

fn number(key: &str, value: u32) -> GgufBuilder {
    golden_host("llama").without(key).u32(key, value)
}

#[test]
fn sizes_that_are_missing_or_not_supported_are_named() {
    let good = golden_host("llama");
    check(&[
        (
            swapped("general.architecture", "mamba"),
            "general.architecture: expected one of `llama`, `qwen2`, `qwen3`, `gemma2`, \
             got `mamba`",
        ),
        (
            swapped("llama.block_count", "3"),
            "llama.block_count: expected an integer from 1 to 2^31, got `3`",
        ),
        (
            good.clone().without("llama.block_count"),
            "llama.block_count: expected an integer from 1 to 2^31, got no such key",
        ),
        (
            number("llama.block_count", 4),
            "tensor `blk.3.attn_q.weight`: expected it in the file, got none",
        ),
        (
            number("llama.block_count", 2),
            "tensor `blk.2.attn_k.weight`: expected no such tensor in this model, \
             got it in the file",
        ),
        (
            number("llama.feed_forward_length", 95),
            "tensor `blk.0.ffn_gate.weight`: expected shape [95, 32], got [96, 32]",
        ),
        (
            number("llama.attention.head_count", 0),
            "llama.attention.head_count: expected an integer from 1 to 2^31, got 0",
        ),
        (
            good.clone()
                .without("llama.attention.head_count")
                .i32s("llama.attention.head_count", &[4, 4, 2]),
            "llama.attention.head_count: expected an integer from 1 to 2^31, \
             got an array of 3 values",
        ),
        (
            golden_host("qwen2").f32_tensor("blk.0.attn_output.bias", &[32], &[1.0; 32]),
            "tensor `blk.0.attn_output.bias`: expected no such tensor in this model, \
             got it in the file",
        ),
        (
            golden_host("qwen2").without("blk.0.attn_q.bias"),
            "tensor `blk.0.attn_q.bias`: expected it in the file, got none",
        ),
        (
            good.clone().string("general.type", "adapter"),
            "general.type: expected `model`, got `adapter`",
        ),
        (
            good.clone().u32("split.count", 2),
            "split.count: expected a file that is not split, got 2",
        ),
    ]);
}

#[test]
fn rotary_settings_that_are_not_supported_are_named() {
    let good = golden_host("llama");
    check(&[
        (
            good.clone().string("llama.rope.scaling.type", "yarn"),
            "llama.rope.scaling.type: expected `none` or `linear`, got `yarn`",
        ),
        (
            good.clone()
                .string("llama.rope.scaling.type", "none")
                .f32("llama.rope.scale_linear", 2.0),
            "llama.rope.scale_linear: expected no factor, as `llama.rope.scaling.type` is `none`, \
             got 2",
        ),
        (
            good.clone().f32("llama.rope.scaling.factor", 4.0).f32("llama.rope.scale_linear", 2.0),
            "llama.rope.scale_linear: expected 4, as `llama.rope.scaling.factor` has it, got 2",
        ),
        (
            good.clone().f32("llama.rope.scaling.factor", -2.0),
            "llama.rope.scaling.factor: expected a factor above 0, got -2",
        ),
        (
            good.clone().f32_tensor("rope_freqs.weight", &[3], &[1.0; 3]),
            "tensor `rope_freqs.weight`: expected shape [4], got [3]",
        ),
        (
            good.clone().f32_tensor("rope_freqs.weight", &[4], &[1.0, 1.0, 0.0, 1.0]),
            "tensor `rope_freqs.weight`: expected finite numbers above 0, got 0",
        ),
        (
            golden_host("qwen2").f32_tensor("rope_freqs.weight", &[4], &[1.0; 4]),
            "tensor `rope_freqs.weight`: expected no such tensor in this model, got it in the file",
        ),
    ]);
}

#[test]
fn tokenizers_that_are_missing_or_not_supported_are_named() {
    let good = golden_host("llama");
    check(&[
        (
            swapped("tokenizer.ggml.model", "bert"),
            "tokenizer.ggml.model: expected `gpt2` (byte-level BPE) or `llama` (sentencepiece), \
             got `bert`",
        ),
        (
            swapped("tokenizer.ggml.pre", "tekken"),
            "tokenizer.ggml.pre: expected one of `gpt-2`, `smollm`, `llama-bpe`, `llama3`, \
             `llama-v3`, `falcon3`, `qwen2`, `deepseek-r1-qwen`, got `tekken`",
        ),
        (number("llama.vocab_size", 98), "llama.vocab_size: expected 97, got 98"),
        (
            good.clone().without("tokenizer.ggml.tokens").strings("tokenizer.ggml.tokens", &["a"]),
            "tokenizer.ggml.tokens: expected 97 tokens, one a row of `token_embd.weight`, \
             got an array of 1 values",
        ),
        (
            good.clone()
                .without("tokenizer.ggml.token_type")
                .i32s("tokenizer.ggml.token_type", &[1, 1]),
            "tokenizer.ggml.token_type: expected 97 values, one a token, got 2",
        ),
        (
            good.clone()
                .without("tokenizer.ggml.token_type")
                .i32s("tokenizer.ggml.token_type", &[7; 97]),
            "tokenizer.ggml.token_type: expected values from 1 to 6, got 7",
        ),
        (
            good.clone()
                .without("tokenizer.ggml.merges")
                .strings("tokenizer.ggml.merges", &["t1t2"]),
            "tokenizer.ggml.merges: expected two tokens and a space, got `t1t2`",
        ),
        (
            good.clone().bool("tokenizer.ggml.add_bos_token", true),
            "tokenizer.ggml.bos_token_id: expected the token that starts each text, \
             got no such key",
        ),
        (
            good.clone().u32("tokenizer.ggml.bos_token_id", 97),
            "tokenizer.ggml.bos_token_id: expected a token from 0 to 96, got 97",
        ),
    ]);
}

/// Keys of an architecture that change nothing at one value, with that and with another.
fn neutral(family: &str) -> Vec<(GgufBuilder, GgufBuilder, String)> {
    let good = golden_host(family);
    let head_dim: u32 = if family == "qwen3" || family == "gemma2" { 16 } else { 8 };
    let mut cases = Vec::new();
    let mut number = |key: String, value: u32, other: u32| {
        let plain = good.clone().without(&key);
        cases.push((plain.clone().u32(&key, value), plain.u32(&key, other), key));
    };
    let key = |part: &str| format!("{family}.{part}");
    number("general.quantization_version".to_owned(), 2, 1);
    number("split.no".to_owned(), 0, 1);
    number("split.count".to_owned(), 1, 2);
    number(key("attention.value_length"), head_dim, head_dim * 2);
    number(key("rope.dimension_count"), head_dim, head_dim / 2);
    number(key("vocab_size"), 97, 96);
    number(key("expert_count"), 0, 2);
    number(key("expert_used_count"), 0, 2);
    if family != "gemma2" {
        number(key("attention.sliding_window"), 64, 63);
        number(key("attention.sliding_window"), 0, 1);
    } else {
        number(key("attention.sliding_window_pattern"), 2, 6);
    }
    let mut float = |key: String, value: f32, other: f32| {
        cases.push((good.clone().f32(&key, value), good.clone().f32(&key, other), key));
    };
    float(key("attention.scale"), (head_dim as f32).sqrt().recip(), 0.5);
    float(key("attention.clamp_kqv"), 0.0, 8.0);
    float(key("attention.max_alibi_bias"), 0.0, 8.0);
    float(key("embedding_scale"), 1.0, 12.0);
    float(key("logit_scale"), 1.0, 0.5);
    float(key("residual_scale"), 1.0, 0.5);
    float(key("rope.scaling.attn_factor"), 1.0, 1.2);
    if family == "gemma2" {
        float(key("rope.freq_base_swa"), 10_000.0, 20_000.0);
    }
    for (key, value) in [
        (key("attention.causal"), true),
        (key("use_parallel_residual"), false),
        ("tokenizer.ggml.add_eos_token".to_owned(), false),
        ("tokenizer.ggml.add_sep_token".to_owned(), false),
        ("tokenizer.ggml.add_space_prefix".to_owned(), false),
        ("tokenizer.ggml.remove_extra_whitespaces".to_owned(), false),
    ] {
        cases.push((good.clone().bool(&key, value), good.clone().bool(&key, !value), key));
    }
    let layout = key("tensor_data_layout");
    cases.push((
        good.clone().string(&layout, "Meta AI original pth"),
        good.clone().string(&layout, "transposed"),
        layout,
    ));
    cases
}

#[test]
fn each_neutral_key_is_accepted_at_its_value_and_refused_at_another() {
    for family in FAMILIES {
        for (fine, other, key) in neutral(family) {
            assert!(fine.load().is_ok(), "{key}: {}", fine.message());
            let message = other.message();
            assert!(message.starts_with(&format!("{key}: expected ")), "{key}: {message}");
        }
    }
}

#[test]
fn keys_that_change_nothing_are_ignored() {
    let builder = golden_host("qwen2")
        .string("general.name", "name")
        .string("general.base_model.0.name", "base")
        .u32("general.file_type", 3)
        .string("quantize.imatrix.file", "file")
        .string("tokenizer.chat_template", "{{ template }}")
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("qwen2.pooling_type", 1)
        .u32("qwen2.rope.scaling.original_context_length", 32);
    assert!(builder.load().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_unknown_key_is_refused_by_name_and_value(
        family in prop::sample::select(FAMILIES.to_vec()),
        namespace in prop::sample::select(vec![
            "general", "tokenizer", "tokenizer.ggml", "split", "adapter", "other", "own", "own.rope",
            "own.attention", "own.rope.scaling",
        ]),
        name in "[a-z]{3,8}_[a-z]{3,8}x",
        value in any::<u32>(),
    ) {
        let key = format!("{namespace}.{name}").replace("own", family);
        prop_assert_eq!(
            golden_host(family).u32(&key, value).message(),
            format!("{key}: expected no such key in this model, got {value}")
        );
    }

    #[test]
    fn any_unknown_tensor_is_refused_by_name(
        family in prop::sample::select(FAMILIES.to_vec()),
        place in prop::sample::select(vec![
            "", "blk.0.", "blk.1.attn_", "blk.2.ffn_", "blk.3.attn_q.", "output.", "token_embd.",
        ]),
        name in "[a-z]{3,8}x\\.(weight|bias|scale)",
    ) {
        let name = format!("{place}{name}");
        prop_assert_eq!(
            golden_host(family).f32_tensor(&name, &[2], &[0.0, 0.0]).message(),
            format!("tensor `{name}`: expected no such tensor in this model, got it in the file")
        );
    }
}
