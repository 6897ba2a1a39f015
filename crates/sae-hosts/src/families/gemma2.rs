//! Gemma 2 (Gemma Team 2024): norms before and after each block, capped scores and logits, every
//! other layer with a sliding window, a scaled embedding.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, KEYS, Loader, Tap, language_info, masks, unembedding};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{Activation, Attention, Linear, Past, RmsNorm, Rotary, RotaryKeys, add};
use crate::weights::Weights;
use crate::{HookKind, Result};

pub(super) const LOADER: Loader = Loader {
    name: "gemma2",
    load,
    defaults: || {
        serde_json::json!({
            "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "head_dim": 256,
            "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096,
        })
    },
    ignored: &[],
    is_unused: super::llama::is_unused,
};

struct Gemma2 {
    embedding: Tensor,
    unembedding: Linear,
    layers: Vec<Layer>,
    norm: RmsNorm,
    shape: Shape,
    logit_cap: Option<f64>,
    rotary: Rotary,
    activation: Activation,
}

struct Layer {
    attention: Attention,
    attention_norm: RmsNorm,
    qkv: Linear,
    attention_out: Linear,
    attention_post_norm: RmsNorm,
    mlp_norm: RmsNorm,
    gate_up: Linear,
    down: Linear,
    mlp_post_norm: RmsNorm,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    d_model: i64,
    d_mlp: i64,
    heads: i64,
    kv_heads: i64,
    head_dim: i64,
    /// Whether the projections of attention have biases.
    bias: bool,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_bidirectional_attention", false)?;
    let activation = Activation::read(config, "hidden_activation", Activation::GeluTanh)?;
    // Files have it for other tools; transformers reads the other key.
    if Activation::read(config, "hidden_act", activation)? != activation {
        let got = config.string("hidden_act")?;
        return Err(config.wrong("hidden_act", "the same as `hidden_activation`", got));
    }
    let heads = config.size("num_attention_heads")?;
    let shape = Shape {
        d_model: config.size("hidden_size")?,
        d_mlp: config.size("intermediate_size")?,
        heads,
        kv_heads: config.size("num_key_value_heads")?,
        head_dim: config.size("head_dim")?,
        bias: config.bool_or("attention_bias", false)?,
    };
    config.divides("num_key_value_heads", heads, shape.kv_heads)?;
    let eps = config.float_or("rms_norm_eps", 1e-6)?;
    let rotary = Rotary::new(config, shape.head_dim, RotaryKeys::default(), weights.device())?;

    let prefix = weights.prefix(&["model.", ""], "embed_tokens.weight")?;
    let embedding = format!("{prefix}embed_tokens.weight");
    let vocabulary = weights.rows(&embedding)?;
    let info = language_info(config, KEYS, vocabulary)?;
    // The first and then every other layer has a window.
    let window = config.size("sliding_window")?;
    config.only_number("sliding_window_size", window as f64)?;
    let scale = config.float("query_pre_attn_scalar")?.sqrt().recip();
    let softcap = config.float_optional("attn_logit_softcapping")?;
    let layers = masks(config, info.n_layers, Some(window), |layer| layer % 2 == 0)?
        .into_iter()
        .enumerate()
        .map(|(layer, mask)| {
            let attention = Attention { mask, scale, softcap };
            Layer::load(weights, &format!("{prefix}layers.{layer}"), attention, shape, eps, &rotary)
        })
        .collect::<Result<_>>()?;
    let embedding = weights.take(&embedding, &[vocabulary, shape.d_model])?;
    let host = Gemma2 {
        unembedding: unembedding(config, weights, "lm_head", &embedding, true)?,
        embedding,
        layers,
        norm: norm(weights, &format!("{prefix}norm"), shape.d_model, eps)?,
        shape,
        logit_cap: config.float_optional("final_logit_softcapping")?,
        rotary,
        activation,
    };
    Ok((info, Box::new(host)))
}

/// Gemma's files hold the weight of a norm less 1.
fn norm(weights: &Weights, name: &str, size: i64, eps: f64) -> Result<RmsNorm> {
    Ok(RmsNorm::load(weights, name, size, eps)?.map_weight(|weight| weight + 1.0))
}

impl Layer {
    fn load(
        weights: &Weights,
        name: &str,
        attention: Attention,
        shape: Shape,
        eps: f64,
        rotary: &Rotary,
    ) -> Result<Self> {
        let Shape { d_model, d_mlp, heads, kv_heads, head_dim, bias } = shape;
        let load = |part: &str, inputs, outputs, bias| {
            Linear::load(weights, &format!("{name}.{part}"), inputs, outputs, bias)
        };
        let norm = |part: &str| norm(weights, &format!("{name}.{part}"), d_model, eps);
        let queries = load("self_attn.q_proj", d_model, heads * head_dim, bias)?;
        let keys = load("self_attn.k_proj", d_model, kv_heads * head_dim, bias)?;
        let values = load("self_attn.v_proj", d_model, kv_heads * head_dim, bias)?;
        let gate = load("mlp.gate_proj", d_model, d_mlp, false)?;
        let up = load("mlp.up_proj", d_model, d_mlp, false)?;
        Ok(Self {
            attention,
            attention_norm: norm("input_layernorm")?,
            qkv: Linear::stack(&[&rotary.pair_rows(&queries), &rotary.pair_rows(&keys), &values]),
            attention_out: load("self_attn.o_proj", heads * head_dim, d_model, bias)?,
            attention_post_norm: norm("post_attention_layernorm")?,
            mlp_norm: norm("pre_feedforward_layernorm")?,
            gate_up: Linear::stack(&[&gate, &up]),
            down: load("mlp.down_proj", d_mlp, d_model, false)?,
            mlp_post_norm: norm("post_feedforward_layernorm")?,
        })
    }
}

impl Gemma2 {
    fn attend(&self, number: usize, x: &Tensor, past: &mut Past) -> Tensor {
        let layer = &self.layers[number];
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let (batch, positions, _) = x.size3().expect("a residual stream has three dimensions");
        let mut qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let qk = self.rotary.forward(&mut qkv, heads + kv_heads, past);
        let qkv = qkv.view([batch, positions, heads + 2 * kv_heads, head_dim]);
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

impl Family for Gemma2 {
    fn embed(&self, input: &Tensor, _: i64, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let scale = Tensor::from((self.shape.d_model as f64).sqrt()).to_kind(self.embedding.kind());
        let scale = scale.to_device(self.embedding.device());
        let tokens = Tensor::embedding(&self.embedding, input, -1, false, false) * scale;
        tap(HookKind::Embed, tokens)
    }

    fn layer(
        &self,
        layer: usize,
        x: &Tensor,
        past: &mut Past,
        tap: Tap<'_>,
    ) -> ControlFlow<Tensor, Tensor> {
        let attention = tap(HookKind::AttnOut, self.attend(layer, x, past))?;
        let layer = &self.layers[layer];
        let x = add(x, layer.attention_post_norm.forward(&attention));
        let read = tap(HookKind::MlpIn, x.shallow_clone())?;
        let mlp = tap(HookKind::MlpOut, self.mlp(layer, &read))?;
        ControlFlow::Continue(add(&x, layer.mlp_post_norm.forward(&mlp)))
    }

    fn head(&self, x: &Tensor) -> Tensor {
        let logits = self.unembedding.forward(&self.norm.forward(x));
        match self.logit_cap {
            Some(cap) => (logits / cap).tanh() * cap,
            None => logits,
        }
    }
}
