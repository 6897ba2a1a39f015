//! A Llama model in a GGUF file, presented under the names and in the layout of Hugging Face.
//!
//! llama.cpp's converter permutes the rows of the query and key projections so that rotary pairs
//! are adjacent: row `(head, i, half)` holds what was row `(head, half, i)`. Reading undoes it.

use std::path::Path;

use serde_json::{Map, Value};

use super::{GgufFile, GgufValue};
use crate::config::HostConfig;
use crate::tokenizer::HostTokenizer;
use crate::weights::TensorSource;
use crate::{Error, Result};

/// Opens a GGUF file of architecture `llama`: its settings, weights and tokenizer.
pub(crate) fn open_llama(
    path: &Path,
) -> Result<(HostConfig, Box<dyn TensorSource>, HostTokenizer)> {
    let gguf = GgufFile::open(path)?;
    let architecture = gguf.string("general.architecture")?;
    if architecture != "llama" {
        return Err(Error::file(path, "general.architecture", "`llama`", architecture));
    }
    let rotary_scaling = gguf.tensor_names().find(|name| name.starts_with("rope_freqs"));
    if let Some(name) = rotary_scaling {
        return Err(Error::file(path, name, "no scaling of rotary frequencies", "this tensor"));
    }
    let tokenizer = HostTokenizer::from_gguf(&gguf)?;
    let config = config(&gguf)?;
    let source = LlamaSource {
        n_heads: config.size("num_attention_heads")?.unsigned_abs(),
        n_kv_heads: config.size("num_key_value_heads")?.unsigned_abs(),
        gguf,
    };
    Ok((config, Box::new(source), tokenizer))
}

/// The metadata as a Hugging Face `config.json`.
fn config(gguf: &GgufFile) -> Result<HostConfig> {
    let integer = |key: &str| -> Result<Option<Value>> {
        let Some(value) = gguf.value(key) else { return Ok(None) };
        let wrong = || Error::file(&gguf.path, key, "an integer", value.kind_name());
        value.as_u64().map(|value| Some(value.into())).ok_or_else(wrong)
    };
    let required = |key: &str| {
        integer(key)?.ok_or_else(|| Error::file(&gguf.path, key, "an integer", "no such key"))
    };
    let mut values = Map::new();
    let mut set = |key: &str, value: Value| values.insert(key.to_owned(), value);
    set("model_type", "llama".into());
    set("num_hidden_layers", required("llama.block_count")?);
    set("hidden_size", required("llama.embedding_length")?);
    set("intermediate_size", required("llama.feed_forward_length")?);
    set("max_position_embeddings", required("llama.context_length")?);
    let n_heads = required("llama.attention.head_count")?;
    set(
        "num_key_value_heads",
        integer("llama.attention.head_count_kv")?.unwrap_or(n_heads.clone()),
    );
    set("num_attention_heads", n_heads);
    if let Some(head_dim) = integer("llama.attention.key_length")? {
        set("head_dim", head_dim);
    }
    for (key, name) in [
        ("llama.attention.layer_norm_rms_epsilon", "rms_norm_eps"),
        ("llama.rope.freq_base", "rope_theta"),
    ] {
        match gguf.value(key).map(|value| (value, value.as_f64())) {
            Some((_, Some(value))) => drop(set(name, decimal(value).into())),
            Some((other, None)) => {
                return Err(Error::file(&gguf.path, key, "a float", other.kind_name()));
            }
            None => {}
        }
    }
    if let Some(scaling) = gguf.value("llama.rope.scaling.type").and_then(GgufValue::as_str)
        && scaling != "none"
    {
        return Err(Error::file(&gguf.path, "llama.rope.scaling.type", "`none`", scaling));
    }
    set("tie_word_embeddings", (!gguf.tensors.contains_key("output.weight")).into());
    Ok(HostConfig::new(&gguf.path, values))
}

/// An f32 of the file as the decimal number that was meant: 1e-5, not 9.99999974e-6.
fn decimal(value: f64) -> f64 {
    (value as f32).to_string().parse().unwrap_or(value)
}

struct LlamaSource {
    gguf: GgufFile,
    n_heads: u64,
    n_kv_heads: u64,
}

impl TensorSource for LlamaSource {
    fn path(&self) -> &Path {
        &self.gguf.path
    }

    fn stored_names(&self) -> Vec<String> {
        self.gguf.tensor_names().map(str::to_owned).collect()
    }

    fn stored_name(&self, name: &str) -> String {
        gguf_name(name).unwrap_or_else(|| name.to_owned())
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        self.gguf.shape(&gguf_name(name)?).map(<[u64]>::to_vec)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let gguf_name = self.stored_name(name);
        let weights = self.gguf.read_f32(&gguf_name)?;
        let n_heads = match gguf_name.split('.').nth(2) {
            Some("attn_q") => self.n_heads,
            Some("attn_k") => self.n_kv_heads,
            _ => return Ok(weights),
        };
        let n_rows = self.gguf.shape(&gguf_name).and_then(|shape| shape.first()).copied();
        match n_rows {
            Some(rows) if rows > 0 && rows.is_multiple_of(2 * n_heads) => {
                Ok(halves_first(&weights, rows as usize, (rows / n_heads) as usize))
            }
            rows => Err(Error::file(
                &self.gguf.path,
                format!("tensor `{gguf_name}`"),
                format!("a multiple of {} rows, two for each head", 2 * n_heads),
                rows.unwrap_or(0),
            )),
        }
    }
}

/// The name in the file of a tensor that Hugging Face calls `name`.
fn gguf_name(name: &str) -> Option<String> {
    match name {
        "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
        "model.norm.weight" => return Some("output_norm.weight".to_owned()),
        "lm_head.weight" => return Some("output.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (module, parameter) = rest.rsplit_once('.')?;
    let module = match module {
        "input_layernorm" => "attn_norm",
        "post_attention_layernorm" => "ffn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{module}.{parameter}"))
}

/// Reorders the rows of each head from `(i, half)` to `(half, i)`.
fn halves_first(weights: &[f32], rows: usize, head_dim: usize) -> Vec<f32> {
    let width = weights.len() / rows;
    let half = head_dim / 2;
    (0..rows)
        .flat_map(|row| {
            let (head, at) = (row / head_dim, row % head_dim);
            let from = head * head_dim + 2 * (at % half) + at / half;
            weights[from * width..(from + 1) * width].iter().copied()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_each_head_go_back_to_halves() {
        let pairs: Vec<f32> = (0..8).flat_map(|row| [row as f32, row as f32 + 0.5]).collect();
        let rows: Vec<f32> = halves_first(&pairs, 8, 4).into_iter().step_by(2).collect();
        assert_eq!(rows, [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
    }

    #[test]
    fn decimals_of_f32_are_those_that_were_meant() {
        assert_eq!(decimal(f64::from(1e-5_f32)), 1e-5);
        assert_eq!(decimal(100_000.0), 100_000.0);
    }
}
