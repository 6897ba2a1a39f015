//! Llama (Touvron et al. 2023) and the models that differ from it by a bias or a norm: root mean
//! square norms, rotary positions, shared key and value heads, gated SiLU MLPs. Mistral (Jiang et al.
//! 2023) has a sliding window.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Loader, Tap, language_info, unembedding};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{Activation, Attention, Linear, Mask, Past, RmsNorm, Rotary, RotaryKeys, add};
use crate::weights::Weights;
use crate::{HookKind, Result};

pub(super) const LOADER: Loader = Loader {
    name: "llama",
    load,
    defaults: || serde_json::json!({}),
    // Not read by transformers either.
    ignored: &["max_sequence_length"],
    is_unused,
};

pub(super) const MISTRAL: Loader = Loader {
    name: "mistral",
    load: load_mistral,
    defaults: || serde_json::json!({"num_key_value_heads": 8, "sliding_window": 4096}),
    ignored: &[],
    is_unused,
};

/// Frequencies that old versions saved; they are computed from the configuration.
pub(super) fn is_unused(name: &str) -> bool {
    name.ends_with(".rotary_emb.inv_freq")
}

/// In what a model differs from Llama.
#[derive(Debug, Clone)]
pub(super) struct Variant {
    pub(super) qkv_bias: bool,
    pub(super) attention_out_bias: bool,
    pub(super) mlp_bias: bool,
    /// Norms of each head's queries and keys.
    pub(super) head_norms: bool,
    /// The dimension of a head where the configuration does not say.
    pub(super) head_dim: Option<i64>,
    /// Of each layer.
    pub(super) masks: Vec<Mask>,
}

struct Llama {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    unembedding: Linear,
    shape: Shape,
    rotary: Rotary,
    activation: Activation,
}

struct Layer {
    attention: Attention,
    attention_norm: RmsNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
    /// Of each head's queries and keys.
    head_norms: Option<(RmsNorm, RmsNorm)>,
    attention_out: Linear,
    mlp_norm: RmsNorm,
    /// Gate and up projections side by side.
    gate_up: Linear,
    down: Linear,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    d_model: i64,
    d_mlp: i64,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("rope_interleaved", false)?;
    let attention_bias = config.bool_or("attention_bias", false)?;
    let variant = Variant {
        qkv_bias: attention_bias,
        attention_out_bias: attention_bias,
        mlp_bias: config.bool_or("mlp_bias", false)?,
        head_norms: false,
        head_dim: None,
        masks: vec![Mask::Causal; config.count("num_hidden_layers")?],
    };
    load_variant(config, weights, variant)
}

fn load_mistral(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let window = config.size_optional("sliding_window")?;
    let mask = window.map_or(Mask::Causal, Mask::Window);
    let variant = Variant {
        qkv_bias: false,
        attention_out_bias: false,
        mlp_bias: false,
        head_norms: false,
        head_dim: None,
        masks: vec![mask; config.count("num_hidden_layers")?],
    };
    load_variant(config, weights, variant)
}

pub(super) fn load_variant(
    config: &HostConfig,
    weights: &Weights,
    variant: Variant,
) -> Result<(HostInfo, Box<dyn Family>)> {
    let d_model = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.size_optional("num_key_value_heads")?.unwrap_or(heads);
    config.divides("num_key_value_heads", heads, kv_heads)?;
    let head_dim = match config.size_optional("head_dim")?.or(variant.head_dim) {
        None => config.divides("num_attention_heads", d_model, heads)?,
        Some(size) => size,
    };
    let d_mlp = config.size("intermediate_size")?;
    let shape = Shape { d_model, d_mlp, heads, kv_heads, head_dim };
    let eps = config.float_or("rms_norm_eps", 1e-6)?;
    let rotary = Rotary::new(config, head_dim, RotaryKeys::default(), weights.device())?;

    let prefix = weights.prefix(&["model.", ""], "embed_tokens.weight")?;
    let vocabulary = weights.rows(&format!("{prefix}embed_tokens.weight"))?;
    let info = language_info(config, super::KEYS, vocabulary)?;
    let embedding =
        weights.take(&format!("{prefix}embed_tokens.weight"), &[vocabulary, d_model])?;
    let unembedding = unembedding(config, weights, "lm_head", &embedding, false)?;
    let scale = (head_dim as f64).sqrt().recip();
    let layers = variant
        .masks
        .iter()
        .enumerate()
        .map(|(layer, mask)| {
            let name = format!("{prefix}layers.{layer}");
            let attention = Attention { mask: *mask, scale, softcap: None };
            Layer::load(weights, &name, &variant, attention, shape, eps, &rotary)
        })
        .collect::<Result<_>>()?;
    let norm = RmsNorm::load(weights, &format!("{prefix}norm"), d_model, eps)?;
    let activation = Activation::read(config, "hidden_act", Activation::Silu)?;
    let host = Llama { embedding, layers, norm, unembedding, shape, rotary, activation };
    Ok((info, Box::new(host)))
}

impl Layer {
    fn load(
        weights: &Weights,
        name: &str,
        variant: &Variant,
        attention: Attention,
        shape: Shape,
        eps: f64,
        rotary: &Rotary,
    ) -> Result<Self> {
        let Shape { d_model, d_mlp, heads, kv_heads, head_dim } = shape;
        let &Variant { qkv_bias, attention_out_bias, mlp_bias, head_norms, .. } = variant;
        let load = |part: &str, inputs, outputs, bias| {
            Linear::load(weights, &format!("{name}.{part}"), inputs, outputs, bias)
        };
        let norm = |part: &str| RmsNorm::load(weights, &format!("{name}.{part}"), d_model, eps);
        let head_norm = |part: &str| -> Result<RmsNorm> {
            let norm = RmsNorm::load(weights, &format!("{name}.{part}"), head_dim, eps)?;
            Ok(norm.map_weight(|weight| rotary.pair(weight)))
        };
        let head_norms = if head_norms {
            Some((head_norm("self_attn.q_norm")?, head_norm("self_attn.k_norm")?))
        } else {
            None
        };
        let queries = load("self_attn.q_proj", d_model, heads * head_dim, qkv_bias)?;
        let keys = load("self_attn.k_proj", d_model, kv_heads * head_dim, qkv_bias)?;
        let values = load("self_attn.v_proj", d_model, kv_heads * head_dim, qkv_bias)?;
        let gate = load("mlp.gate_proj", d_model, d_mlp, mlp_bias)?;
        let up = load("mlp.up_proj", d_model, d_mlp, mlp_bias)?;
        Ok(Self {
            attention,
            attention_norm: norm("input_layernorm")?,
            qkv: Linear::stack(&[&rotary.pair_rows(&queries), &rotary.pair_rows(&keys), &values]),
            head_norms,
            attention_out: load("self_attn.o_proj", heads * head_dim, d_model, attention_out_bias)?,
            mlp_norm: norm("post_attention_layernorm")?,
            gate_up: Linear::stack(&[&gate, &up]),
            down: load("mlp.down_proj", d_mlp, d_model, mlp_bias)?,
        })
    }
}

impl Llama {
    fn attend(&self, number: usize, x: &Tensor, past: &mut Past) -> Tensor {
        let layer = &self.layers[number];
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let (batch, positions, _) = x.size3().expect("a residual stream has three dimensions");
        let mut qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let by_head = [batch, positions, heads + 2 * kv_heads, head_dim];
        if let Some((query_norm, key_norm)) = &layer.head_norms {
            let part = |start, n| qkv.view(by_head).narrow(2, start, n);
            let queries = query_norm.forward(&part(0, heads)).flatten(2, 3);
            let keys = key_norm.forward(&part(heads, kv_heads)).flatten(2, 3);
            let values = part(heads + kv_heads, kv_heads).flatten(2, 3);
            qkv = Tensor::cat(&[queries, keys, values], 2);
        }
        let qk = self.rotary.forward(&mut qkv, heads + kv_heads, past);
        let qkv = qkv.view(by_head);
        let now = [qk.narrow(2, heads, kv_heads), qkv.narrow(2, heads + kv_heads, kv_heads)];
        let [keys, values] = past.join(number, now);
        let out = layer.attention.forward(&qk.narrow(2, 0, heads), &keys, &values);
        layer.attention_out.forward(&out)
    }

    fn mlp(&self, layer: &Layer, x: &Tensor) -> Tensor {
        let gate_up = layer.gate_up.forward(&layer.mlp_norm.forward(x));
        layer.down.forward(&self.activation.gated(gate_up))
    }
}

impl Family for Llama {
    fn embed(&self, input: &Tensor, _: i64, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        tap(HookKind::Embed, Tensor::embedding(&self.embedding, input, -1, false, false))
    }

    fn layer(
        &self,
        layer: usize,
        x: &Tensor,
        past: &mut Past,
        tap: Tap<'_>,
    ) -> ControlFlow<Tensor, Tensor> {
        let x = add(x, tap(HookKind::AttnOut, self.attend(layer, x, past))?);
        let layer = &self.layers[layer];
        let read = tap(HookKind::MlpIn, x.shallow_clone())?;
        let mlp = tap(HookKind::MlpOut, self.mlp(layer, &read))?;
        ControlFlow::Continue(add(&x, mlp))
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.unembedding.forward(&self.norm.forward(x))
    }
}
