//! Llama (Touvron et al. 2023) and the models that differ from it by a bias or a norm: root mean
//! square norms, rotary positions, shared key and value heads, gated SiLU MLPs.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Tap, language_info};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{Attention, Linear, Mask, RmsNorm, Rotary};
use crate::weights::Weights;
use crate::{HookKind, Result};

pub(crate) struct Llama {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    unembedding: Linear,
    shape: Shape,
    rotary: Rotary,
    attention: Attention,
}

struct Layer {
    attention_norm: RmsNorm,
    /// Queries, keys and values side by side.
    qkv: Linear,
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

pub(super) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("hidden_act", "silu")?;
    let d_model = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let kv_heads = config.size_or("num_key_value_heads", heads)?;
    config.divides("num_key_value_heads", heads, kv_heads)?;
    let head_dim = match config.size_or("head_dim", 0)? {
        0 => config.divides("num_attention_heads", d_model, heads)?,
        size => size,
    };
    let d_mlp = config.size("intermediate_size")?;
    let shape = Shape { d_model, d_mlp, heads, kv_heads, head_dim };
    let eps = config.float_or("rms_norm_eps", 1e-6)?;
    let rotary = Rotary::new(config, head_dim, head_dim, weights.device())?;

    let prefix = weights.prefix(&["model.", ""], "embed_tokens.weight")?;
    let vocabulary = weights.rows(&format!("{prefix}embed_tokens.weight"))?;
    let info = language_info(config, vocabulary)?;
    let embedding =
        weights.take(&format!("{prefix}embed_tokens.weight"), &[vocabulary, d_model])?;
    let unembedding = if config.bool_or("tie_word_embeddings", false)? {
        Linear { weight: embedding.shallow_clone(), bias: None }
    } else {
        Linear::load(weights, "lm_head", d_model, vocabulary, false)?
    };
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = format!("{prefix}layers.{layer}");
            Layer::load(config, weights, &name, shape, eps, &rotary)
        })
        .collect::<Result<_>>()?;
    let norm = RmsNorm::load(weights, &format!("{prefix}norm"), d_model, eps)?;
    let scale = (head_dim as f64).sqrt().recip();
    let attention = Attention { mask: Mask::Causal, scale, softcap: None };
    let host = Llama { embedding, layers, norm, unembedding, shape, rotary, attention };
    Ok((info, Box::new(host)))
}

impl Layer {
    fn load(
        config: &HostConfig,
        weights: &Weights,
        name: &str,
        shape: Shape,
        eps: f64,
        rotary: &Rotary,
    ) -> Result<Self> {
        let Shape { d_model, d_mlp, heads, kv_heads, head_dim } = shape;
        let attention_bias = config.bool_or("attention_bias", false)?;
        let mlp_bias = config.bool_or("mlp_bias", false)?;
        let load = |part: &str, inputs, outputs, bias| {
            Linear::load(weights, &format!("{name}.{part}"), inputs, outputs, bias)
        };
        let norm = |part: &str| RmsNorm::load(weights, &format!("{name}.{part}"), d_model, eps);
        let queries = load("self_attn.q_proj", d_model, heads * head_dim, attention_bias)?;
        let keys = load("self_attn.k_proj", d_model, kv_heads * head_dim, attention_bias)?;
        let values = load("self_attn.v_proj", d_model, kv_heads * head_dim, attention_bias)?;
        let gate = load("mlp.gate_proj", d_model, d_mlp, mlp_bias)?;
        let up = load("mlp.up_proj", d_model, d_mlp, mlp_bias)?;
        Ok(Self {
            attention_norm: norm("input_layernorm")?,
            qkv: Linear::stack(&[&rotary.pair_rows(queries), &rotary.pair_rows(keys), &values]),
            attention_out: load("self_attn.o_proj", heads * head_dim, d_model, attention_bias)?,
            mlp_norm: norm("post_attention_layernorm")?,
            gate_up: Linear::stack(&[&gate, &up]),
            down: load("mlp.down_proj", d_mlp, d_model, mlp_bias)?,
        })
    }
}

impl Llama {
    fn attend(&self, layer: &Layer, x: &Tensor) -> Tensor {
        let Shape { heads, kv_heads, head_dim, .. } = self.shape;
        let (batch, positions, _) = x.size3().expect("a residual stream has three dimensions");
        let qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let qkv = qkv.view([batch, positions, heads + 2 * kv_heads, head_dim]);
        let qk = self.rotary.forward(&qkv.narrow(2, 0, heads + kv_heads));
        let out = self.attention.forward(
            &qk.narrow(2, 0, heads),
            &qk.narrow(2, heads, kv_heads),
            &qkv.narrow(2, heads + kv_heads, kv_heads),
        );
        layer.attention_out.forward(&out)
    }

    fn mlp(&self, layer: &Layer, x: &Tensor) -> Tensor {
        let gate_up = layer.gate_up.forward(&layer.mlp_norm.forward(x));
        let d_mlp = self.shape.d_mlp;
        let hidden = gate_up.narrow(-1, 0, d_mlp).silu() * gate_up.narrow(-1, d_mlp, d_mlp);
        layer.down.forward(&hidden)
    }
}

impl Family for Llama {
    fn embed(&self, input: &Tensor) -> Tensor {
        Tensor::embedding(&self.embedding, input, -1, false, false)
    }

    fn layer(&self, layer: usize, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let layer = &self.layers[layer];
        let x = x + tap(HookKind::AttnOut, self.attend(layer, x))?;
        let mlp = tap(HookKind::MlpOut, self.mlp(layer, &x))?;
        ControlFlow::Continue(x + mlp)
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.unembedding.forward(&self.norm.forward(x))
    }
}
