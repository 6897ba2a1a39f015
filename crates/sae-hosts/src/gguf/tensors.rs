//! The tensors of a GGUF file under the names and in the layout of Hugging Face.
//!
//! llama.cpp's converter changes two things, which reading undoes. In a Llama it permutes the rows of
//! the query and key projections so that rotary pairs are adjacent: row `(head, i, half)` holds what
//! was row `(head, half, i)`. In a Gemma it adds 1 to the weights of the norms.

use std::path::Path;

use super::GgufFile;
use super::model::{Architecture, Heads};
use crate::weights::TensorSource;
use crate::{Error, Result};

pub(super) struct HostTensors {
    gguf: GgufFile,
    architecture: Architecture,
    heads: Heads,
}

impl HostTensors {
    pub(super) fn new(gguf: GgufFile, architecture: Architecture, heads: Heads) -> Self {
        Self { gguf, architecture, heads }
    }

    /// The name in the file of a tensor that Hugging Face calls `name`.
    fn gguf_name(&self, name: &str) -> Option<String> {
        match name {
            "model.embed_tokens.weight" => return Some("token_embd.weight".to_owned()),
            "model.norm.weight" => return Some("output_norm.weight".to_owned()),
            "lm_head.weight" => return Some("output.weight".to_owned()),
            _ => {}
        }
        let gemma = self.architecture == Architecture::Gemma2;
        let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
        let (module, parameter) = rest.rsplit_once('.')?;
        let module = match module {
            "input_layernorm" => "attn_norm",
            "post_attention_layernorm" if gemma => "post_attention_norm",
            "pre_feedforward_layernorm" if gemma => "ffn_norm",
            "post_feedforward_layernorm" if gemma => "post_ffw_norm",
            "post_attention_layernorm" => "ffn_norm",
            "self_attn.q_proj" => "attn_q",
            "self_attn.k_proj" => "attn_k",
            "self_attn.v_proj" => "attn_v",
            "self_attn.o_proj" => "attn_output",
            "self_attn.q_norm" => "attn_q_norm",
            "self_attn.k_norm" => "attn_k_norm",
            "mlp.gate_proj" => "ffn_gate",
            "mlp.up_proj" => "ffn_up",
            "mlp.down_proj" => "ffn_down",
            _ => return None,
        };
        Some(format!("blk.{layer}.{module}.{parameter}"))
    }

    /// The rows of a tensor whose absence means zeros: a bias of a projection that is there.
    fn zero_bias(&self, gguf_name: &str) -> Option<u64> {
        let module = gguf_name.strip_suffix(".bias")?;
        let absent = self.gguf.shape(gguf_name).is_none();
        let weight = self.gguf.shape(&format!("{module}.weight"))?;
        weight.first().copied().filter(|_| absent && self.architecture.has_optional_biases())
    }

    fn unpermuted(&self, gguf_name: &str, weights: &[f32], n_heads: u64) -> Result<Vec<f32>> {
        let n_rows = self.gguf.shape(gguf_name).and_then(|shape| shape.first()).copied();
        match n_rows {
            Some(rows) if rows > 0 && rows.is_multiple_of(2 * n_heads) => {
                Ok(halves_first(weights, rows as usize, (rows / n_heads) as usize))
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

impl TensorSource for HostTensors {
    fn path(&self) -> &Path {
        &self.gguf.path
    }

    fn stored_names(&self) -> Vec<String> {
        // The factors are used as settings.
        let is_setting =
            |name: &str| name == Architecture::FACTORS && self.architecture.has_factors();
        let names = self.gguf.tensor_names().filter(|name| !is_setting(name));
        names.map(str::to_owned).collect()
    }

    fn stored_shape(&self, stored_name: &str) -> Option<Vec<u64>> {
        self.gguf.shape(stored_name).map(<[u64]>::to_vec)
    }

    fn stored_name(&self, name: &str) -> String {
        self.gguf_name(name).unwrap_or_else(|| name.to_owned())
    }

    fn shape(&self, name: &str) -> Option<Vec<u64>> {
        let name = self.gguf_name(name)?;
        let zeros = || self.zero_bias(&name).map(|rows| vec![rows]);
        self.gguf.shape(&name).map(<[u64]>::to_vec).or_else(zeros)
    }

    fn read_f32(&self, name: &str) -> Result<Vec<f32>> {
        let gguf_name = self.stored_name(name);
        if let Some(rows) = self.zero_bias(&gguf_name) {
            return Ok(vec![0.0; rows as usize]);
        }
        let mut weights = self.gguf.read_f32(&gguf_name)?;
        let module = gguf_name.split('.').nth(2);
        match (self.architecture, module) {
            (Architecture::Llama, Some("attn_q")) => {
                weights = self.unpermuted(&gguf_name, &weights, self.heads.queries)?;
            }
            (Architecture::Llama, Some("attn_k")) => {
                weights = self.unpermuted(&gguf_name, &weights, self.heads.keys)?;
            }
            (Architecture::Gemma2, _) if gguf_name.ends_with("norm.weight") => {
                weights.iter_mut().for_each(|weight| *weight -= 1.0);
            }
            _ => {}
        }
        Ok(weights)
    }
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
}
