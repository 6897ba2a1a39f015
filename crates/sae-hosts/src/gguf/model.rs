//! A language model in a GGUF file, presented as a folder of Hugging Face has it.
//!
//! What a key means and what stands for an absent one is what llama.cpp takes it for. Every key of
//! the file is used, has a value that changes nothing, is known not to matter, or is refused.

use std::path::Path;

use serde_json::{Map, Value};

use super::GgufFile;
use super::keys::Keys;
use super::tensors::HostTensors;
use crate::Result;
use crate::config::HostConfig;
use crate::tokenizer::HostTokenizer;
use crate::weights::TensorSource;

/// The architectures that are read, under the names that GGUF and Hugging Face share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Architecture {
    /// Mistral's too.
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
}

/// Settings of other architectures, with the value that changes nothing.
const NEUTRAL_NUMBERS: [(&str, f64); 8] = [
    ("attention.clamp_kqv", 0.0),
    ("attention.max_alibi_bias", 0.0),
    ("embedding_scale", 1.0),
    ("expert_count", 0.0),
    ("expert_used_count", 0.0),
    ("logit_scale", 1.0),
    ("residual_scale", 1.0),
    ("rope.scaling.attn_factor", 1.0),
];
const NEUTRAL_BOOLS: [(&str, bool); 2] =
    [("attention.causal", true), ("use_parallel_residual", false)];

/// Keys of an architecture that cannot change what is computed: how texts are pooled to one vector,
/// which is not done, and two that only describe the training of a scaled model.
const IGNORED: [&str; 3] =
    ["pooling_type", "rope.scaling.original_context_length", "rope.scaling.finetuned"];

/// The sizes that both the settings and the layout of the tensors depend on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) queries: u64,
    pub(super) keys: u64,
}

/// Opens a GGUF file: its settings, weights and tokenizer.
pub(crate) fn open(path: &Path) -> Result<(HostConfig, Box<dyn TensorSource>, HostTokenizer)> {
    let gguf = GgufFile::open(path)?;
    let keys = Keys::new(&gguf);
    check_general(&keys)?;
    let name = keys.required_string("general.architecture")?;
    let architecture = Architecture::named(name).ok_or_else(|| {
        let known = Architecture::ALL.map(|known| format!("`{}`", known.name())).join(", ");
        keys.wrong("general.architecture", format!("one of {known}"), format!("`{name}`"))
    })?;
    let (config, heads) = settings(&keys, architecture)?;
    let tokenizer = HostTokenizer::from_gguf(&keys)?;
    keys.finish()?;
    let config = HostConfig::new(path, config);
    Ok((config, Box::new(HostTensors::new(gguf, architecture, heads)), tokenizer))
}

/// Refuses files that hold no whole model, or whose quantised tensors mean something else.
fn check_general(keys: &Keys<'_>) -> Result<()> {
    keys.only("general.type", "`model`", |value| value.as_str() == Some("model"))?;
    keys.only_number("general.quantization_version", 2.0)?;
    keys.only_number("split.no", 0.0)?;
    keys.only("split.count", "a file that is not split", |value| {
        value.as_u64().is_some_and(|count| count <= 1)
    })?;
    keys.only_number("split.tensors.count", keys.gguf.tensors.len() as f64)
}

/// The metadata as `config.json` would have it.
fn settings(keys: &Keys<'_>, architecture: Architecture) -> Result<(Map<String, Value>, Heads)> {
    let key = |part: &str| format!("{}.{part}", architecture.name());
    let d_model = keys.required_size(&key("embedding_length"))?;
    let n_layers = keys.required_size(&key("block_count"))?;
    let context = keys.required_size(&key("context_length"))?;
    let d_mlp = keys.required_size(&key("feed_forward_length"))?;
    let heads_key = key("attention.head_count");
    let n_heads = keys.required_size(&heads_key)?;
    let n_kv_heads = keys.size(&key("attention.head_count_kv"))?.unwrap_or(n_heads);
    let head_dim = match keys.size(&key("attention.key_length"))? {
        Some(size) => size,
        None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
        None => return Err(keys.wrong(&heads_key, format!("a divisor of {d_model}"), n_heads)),
    };
    keys.only_number(&key("attention.value_length"), head_dim as f64)?;
    keys.only_number(&key("rope.dimension_count"), head_dim as f64)?;
    let eps_key = key("attention.layer_norm_rms_epsilon");
    let eps = keys
        .float(&eps_key)?
        .ok_or_else(|| keys.wrong(&eps_key, "a finite float", "no such key"))?;
    let theta = keys.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    check_layers(keys, n_layers, n_heads, head_dim)?;
    check_neutral(keys, &key)?;
    check_vocabulary(keys, &key("vocab_size"))?;

    let mut config = Map::new();
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("model_type", architecture.name().into());
    set("num_hidden_layers", n_layers.into());
    set("hidden_size", d_model.into());
    set("intermediate_size", d_mlp.into());
    set("max_position_embeddings", context.into());
    set("num_attention_heads", n_heads.into());
    set("num_key_value_heads", n_kv_heads.into());
    set("head_dim", head_dim.into());
    set("rms_norm_eps", decimal(eps).into());
    set("rope_theta", decimal(theta).into());
    set("tie_word_embeddings", (!keys.gguf.tensors.contains_key("output.weight")).into());
    if let Some(factors) = rotary_factors(keys, architecture, &key, head_dim)? {
        set("rope_factors", factors.into());
    }

    let window_key = key("attention.sliding_window");
    let scale_key = key("attention.scale");
    if architecture == Architecture::Gemma2 {
        // Of the model of 46 layers alone, queries are divided by another size than the head's.
        let scalar = if n_layers == 46 { d_model / n_heads } else { head_dim };
        keys.only_number(&scale_key, (scalar as f64).sqrt().recip())?;
        keys.only_number(&key("attention.sliding_window_pattern"), 2.0)?;
        keys.only_number(&key("rope.freq_base_swa"), theta)?;
        let cap = |name: &str, default: f64| -> Result<Value> {
            Ok(decimal(keys.float(&key(name))?.unwrap_or(default)).into())
        };
        set("attn_logit_softcapping", cap("attn_logit_softcapping", 50.0)?);
        set("final_logit_softcapping", cap("final_logit_softcapping", 30.0)?);
        set("query_pre_attn_scalar", scalar.into());
        set("sliding_window", keys.size(&window_key)?.unwrap_or(4096).into());
        set("hidden_activation", "gelu_pytorch_tanh".into());
    } else {
        keys.only_number(&scale_key, (head_dim as f64).sqrt().recip())?;
        let expected = format!("no window below the context length {context}");
        keys.only(&window_key, expected, |value| {
            value.as_u64().is_some_and(|window| window == 0 || window >= context)
        })?;
    }
    if architecture.has_optional_biases() {
        let any = |module: &str| {
            let bias = |name: &&str| name.contains(module) && name.ends_with(".bias");
            keys.gguf.tensor_names().any(|name| bias(&name))
        };
        set("attention_bias", any(".attn_").into());
        if architecture == Architecture::Llama {
            set("mlp_bias", any(".ffn_").into());
        }
    }
    Ok((config, Heads { queries: n_heads, keys: n_kv_heads }))
}

/// Refuses sizes that the tensors do not have, so that memory is taken in proportion to the file.
fn check_layers(keys: &Keys<'_>, n_layers: u64, n_heads: u64, head_dim: u64) -> Result<()> {
    let last = format!("blk.{}.attn_q.weight", n_layers - 1);
    let rows = keys.gguf.shape(&last).and_then(|shape| shape.first());
    let expected = n_heads.saturating_mul(head_dim);
    match rows {
        Some(rows) if *rows == expected => Ok(()),
        Some(rows) => {
            let expected = format!("{expected} rows, {head_dim} for each of {n_heads} heads");
            Err(keys.wrong(&format!("tensor `{last}`"), expected, rows))
        }
        None => Err(keys.wrong(&format!("tensor `{last}`"), "it in the file", "none")),
    }
}

fn check_neutral(keys: &Keys<'_>, key: &impl Fn(&str) -> String) -> Result<()> {
    for (name, value) in NEUTRAL_NUMBERS {
        keys.only_number(&key(name), value)?;
    }
    for (name, expected) in NEUTRAL_BOOLS {
        keys.only(&key(name), expected, |value| value.as_bool() == Some(expected))?;
    }
    // Both of llama.cpp's layouts have adjacent rotary pairs.
    const LAYOUT: &str = "Meta AI original pth";
    keys.only(&key("tensor_data_layout"), format!("`{LAYOUT}`"), |value| {
        value.as_str() == Some(LAYOUT)
    })?;
    for name in IGNORED {
        keys.value(&key(name));
    }
    Ok(())
}

/// Refuses sizes of the vocabulary that are not the embedding's.
fn check_vocabulary(keys: &Keys<'_>, key: &str) -> Result<()> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let Some(rows) = keys.gguf.shape("token_embd.weight").and_then(|shape| shape.first()) else {
        return Ok(());
    };
    keys.only_number(key, *rows as f64)?;
    let expected = format!("{rows} tokens, one a row of `token_embd.weight`");
    keys.only(TOKENS, expected, |value| value.as_array().is_some_and(|a| a.len() == *rows))
}

/// What the frequency of each rotary pair is divided by, if anything: one number for all from the
/// keys, and one for each from a tensor (which Llama 3.1 and later have).
fn rotary_factors(
    keys: &Keys<'_>,
    architecture: Architecture,
    key: &impl Fn(&str) -> String,
    head_dim: u64,
) -> Result<Option<Vec<f64>>> {
    let (type_key, factor_key) = (key("rope.scaling.type"), key("rope.scaling.factor"));
    let old_key = key("rope.scale_linear");
    let kind = keys.string(&type_key)?;
    if !matches!(kind, None | Some("none" | "linear")) {
        let got = format!("`{}`", kind.unwrap_or_default());
        return Err(keys.wrong(&type_key, "`none` or `linear`", got));
    }
    let factor = |key: &str| match keys.float(key)? {
        Some(value) if value < 0.0 => Err(keys.wrong(key, "a factor above 0", value)),
        // llama.cpp takes 0 for 1.
        Some(0.0) => Ok(Some(1.0)),
        other => Ok(other.map(decimal)),
    };
    let (new, old) = (factor(&factor_key)?, factor(&old_key)?);
    if let (Some(new), Some(old)) = (new, old)
        && new != old
    {
        return Err(keys.wrong(&old_key, format!("{new}, as `{factor_key}` has it"), old));
    }
    let linear = new.or(old).unwrap_or(1.0);
    if kind == Some("none") && linear != 1.0 {
        let key = if new.is_some() { factor_key } else { old_key };
        return Err(keys.wrong(&key, format!("no factor, as `{type_key}` is `none`"), linear));
    }
    let factors = match keys.gguf.shape(Architecture::FACTORS) {
        Some(shape) if architecture.has_factors() => {
            if shape != [head_dim / 2] {
                let field = format!("tensor `{}`", Architecture::FACTORS);
                let expected = format!("shape [{}]", head_dim / 2);
                return Err(keys.wrong(&field, expected, format!("{shape:?}")));
            }
            keys.gguf.read_f32(Architecture::FACTORS)?
        }
        _ if linear == 1.0 => return Ok(None),
        _ => vec![1.0; (head_dim / 2) as usize],
    };
    if let Some(wrong) = factors.iter().find(|factor| !(factor.is_finite() && **factor > 0.0)) {
        let field = format!("tensor `{}`", Architecture::FACTORS);
        return Err(keys.wrong(&field, "finite numbers above 0", wrong));
    }
    Ok(Some(factors.into_iter().map(|factor| f64::from(factor) * linear).collect()))
}

/// An f32 of the file as the decimal number that was meant: 1e-5, not 9.99999974e-6.
fn decimal(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

impl Architecture {
    pub(super) const ALL: [Self; 4] = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma2];

    /// The tensor that divides rotary frequencies.
    pub(super) const FACTORS: &str = "rope_freqs.weight";

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|architecture| architecture.name() == name)
    }

    /// Whether rotary frequencies are divided by a tensor.
    pub(super) fn has_factors(self) -> bool {
        self == Self::Llama
    }

    /// Whether projections have biases if the file has them; an absent one is zero.
    pub(super) fn has_optional_biases(self) -> bool {
        matches!(self, Self::Llama | Self::Qwen3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_of_f32_are_those_that_were_meant() {
        assert_eq!(decimal(f64::from(1e-5_f32)), 1e-5);
        assert_eq!(decimal(100_000.0), 100_000.0);
    }
}
