//! What a file must not say, or only what changes nothing.

use super::{Heads, Sizes};
use crate::Result;
use crate::gguf::keys::Keys;

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

/// Refuses files that hold no whole model, or whose quantised tensors mean something else.
pub(super) fn check_general(keys: &Keys<'_>) -> Result<()> {
    keys.only("general.type", "`model`", |value| value.as_str() == Some("model"))?;
    keys.only_number("general.quantization_version", 2.0)?;
    keys.only_number("split.no", 0.0)?;
    keys.only("split.count", "a file that is not split", |value| {
        value.as_u64().is_some_and(|count| count <= 1)
    })?;
    keys.only_number("split.tensors.count", keys.gguf.tensors.len() as f64)
}

/// Refuses sizes that the tensors do not have, so that memory is taken in proportion to the file.
pub(super) fn check_layers(keys: &Keys<'_>, sizes: &Sizes) -> Result<()> {
    let &Sizes { n_layers, head_dim, heads: Heads { queries: n_heads, .. }, .. } = sizes;
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

/// Refuses settings of other architectures that are not neutral.
pub(super) fn check_neutral(keys: &Keys<'_>, key: &impl Fn(&str) -> String) -> Result<()> {
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
pub(super) fn check_vocabulary(keys: &Keys<'_>, key: &str) -> Result<()> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    let Some(rows) = keys.gguf.shape("token_embd.weight").and_then(|shape| shape.first()) else {
        return Ok(());
    };
    keys.only_number(key, *rows as f64)?;
    let expected = format!("{rows} tokens, one a row of `token_embd.weight`");
    keys.only(TOKENS, expected, |value| value.as_array().is_some_and(|a| a.len() == *rows))
}
