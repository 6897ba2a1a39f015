//! A language model in a GGUF file, presented as a folder of Hugging Face has it.
//!
//! What a key means and what stands for an absent one is what llama.cpp takes it for. Every key of
//! the file is used, has a value that changes nothing, is known not to matter, or is refused.

mod checks;

use std::path::Path;

use serde_json::{Map, Value};

use self::checks::{check_general, check_layers, check_neutral, check_vocabulary};
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

/// The sizes of a model.
struct Sizes {
    d_model: u64,
    n_layers: u64,
    context: u64,
    d_mlp: u64,
    heads: Heads,
    head_dim: u64,
}

impl Sizes {
    fn read(keys: &Keys<'_>, key: &impl Fn(&str) -> String) -> Result<Self> {
        let d_model = keys.required_size(&key("embedding_length"))?;
        let n_layers = keys.required_size(&key("block_count"))?;
        let context = keys.required_size(&key("context_length"))?;
        let d_mlp = keys.required_size(&key("feed_forward_length"))?;
        let heads_key = key("attention.head_count");
        let queries = keys.required_size(&heads_key)?;
        let heads =
            Heads { queries, keys: keys.size(&key("attention.head_count_kv"))?.unwrap_or(queries) };
        let head_dim = match keys.size(&key("attention.key_length"))? {
            Some(size) => size,
            None if d_model.is_multiple_of(queries) => d_model / queries,
            None => return Err(keys.wrong(&heads_key, format!("a divisor of {d_model}"), queries)),
        };
        keys.only_number(&key("attention.value_length"), head_dim as f64)?;
        keys.only_number(&key("rope.dimension_count"), head_dim as f64)?;
        Ok(Self { d_model, n_layers, context, d_mlp, heads, head_dim })
    }
}

/// The metadata as `config.json` would have it.
fn settings(keys: &Keys<'_>, architecture: Architecture) -> Result<(Map<String, Value>, Heads)> {
    let key = |part: &str| format!("{}.{part}", architecture.name());
    let sizes = Sizes::read(keys, &key)?;
    let eps_key = key("attention.layer_norm_rms_epsilon");
    let eps = keys
        .float(&eps_key)?
        .ok_or_else(|| keys.wrong(&eps_key, "a finite float", "no such key"))?;
    let theta = keys.float(&key("rope.freq_base"))?.unwrap_or(10_000.0);
    check_layers(keys, &sizes)?;
    check_neutral(keys, &key)?;
    check_vocabulary(keys, &key("vocab_size"))?;

    let mut config = Map::new();
    let mut set = |name: &str, value: Value| config.insert(name.to_owned(), value);
    set("model_type", architecture.name().into());
    set("num_hidden_layers", sizes.n_layers.into());
    set("hidden_size", sizes.d_model.into());
    set("intermediate_size", sizes.d_mlp.into());
    set("max_position_embeddings", sizes.context.into());
    set("num_attention_heads", sizes.heads.queries.into());
    set("num_key_value_heads", sizes.heads.keys.into());
    set("head_dim", sizes.head_dim.into());
    set("rms_norm_eps", decimal(eps).into());
    set("rope_theta", decimal(theta).into());
    set("tie_word_embeddings", (!keys.gguf.tensors.contains_key("output.weight")).into());
    if let Some(factors) = rotary_factors(keys, architecture, &key, sizes.head_dim)? {
        set("rope_factors", factors.into());
    }
    if architecture == Architecture::Gemma2 {
        config.extend(gemma2(keys, &key, &sizes, theta)?);
    } else {
        check_attention(keys, &key, &sizes)?;
    }
    if architecture.has_optional_biases() {
        let any = |module: &str| {
            let bias = |name: &&str| name.contains(module) && name.ends_with(".bias");
            keys.gguf.tensor_names().any(|name| bias(&name))
        };
        config.insert("attention_bias".to_owned(), any(".attn_").into());
        if architecture == Architecture::Llama {
            config.insert("mlp_bias".to_owned(), any(".ffn_").into());
        }
    }
    Ok((config, sizes.heads))
}

/// What Gemma 2 has beside the others.
fn gemma2(
    keys: &Keys<'_>,
    key: &impl Fn(&str) -> String,
    sizes: &Sizes,
    theta: f64,
) -> Result<Map<String, Value>> {
    // Of the model of 46 layers alone, queries are divided by another size than the head's.
    let scalar =
        if sizes.n_layers == 46 { sizes.d_model / sizes.heads.queries } else { sizes.head_dim };
    keys.only_number(&key("attention.scale"), (scalar as f64).sqrt().recip())?;
    keys.only_number(&key("attention.sliding_window_pattern"), 2.0)?;
    keys.only_number(&key("rope.freq_base_swa"), theta)?;
    let cap = |name: &str, default: f64| -> Result<Value> {
        Ok(decimal(keys.float(&key(name))?.unwrap_or(default)).into())
    };
    let settings = [
        ("attn_logit_softcapping", cap("attn_logit_softcapping", 50.0)?),
        ("final_logit_softcapping", cap("final_logit_softcapping", 30.0)?),
        ("query_pre_attn_scalar", scalar.into()),
        ("sliding_window", keys.size(&key("attention.sliding_window"))?.unwrap_or(4096).into()),
        ("hidden_activation", "gelu_pytorch_tanh".into()),
    ];
    Ok(settings.map(|(name, value)| (name.to_owned(), value)).into_iter().collect())
}

/// Refuses another scale of attention than the head's, and windows that cut contexts.
fn check_attention(keys: &Keys<'_>, key: &impl Fn(&str) -> String, sizes: &Sizes) -> Result<()> {
    keys.only_number(&key("attention.scale"), (sizes.head_dim as f64).sqrt().recip())?;
    let context = sizes.context;
    let expected = format!("no window below the context length {context}");
    keys.only(&key("attention.sliding_window"), expected, |value| {
        value.as_u64().is_some_and(|window| window == 0 || window >= context)
    })
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
