//! GPT-NeoX (Black et al. 2022), the family of Pythia: attention and MLP side by side on the same
//! residual stream, rotary positions on a part of each head.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, KEYS, Loader, Tap, language_info, unembedding};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{
    Activation, Attention, LayerNorm, Linear, Mask, Past, Rotary, RotaryKeys, add,
};
use crate::weights::Weights;
use crate::{HookKind, Result};

pub(super) const LOADER: Loader = Loader {
    name: "gpt_neox",
    load,
    defaults: || serde_json::json!({}),
    ignored: &[],
    // Causal masks and frequencies, which old versions saved.
    is_unused: |name| {
        [".attention.bias", ".attention.masked_bias", ".rotary_emb.inv_freq"]
            .iter()
            .any(|end| name.ends_with(end))
    },
};

struct GptNeoX {
    embedding: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    unembedding: Linear,
    heads: i64,
    /// Whether the MLP reads the stream from before the attention block.
    parallel: bool,
    rotary: Rotary,
    attention: Attention,
    activation: Activation,
}

struct Layer {
    attention_norm: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let activation = Activation::read(config, "hidden_act", Activation::Gelu)?;
    let d_model = config.size("hidden_size")?;
    let heads = config.size("num_attention_heads")?;
    let head_dim = config.divides("num_attention_heads", d_model, heads)?;
    let d_mlp = config.size("intermediate_size")?;
    let eps = config.float_or("layer_norm_eps", 1e-5)?;
    let bias = config.bool_or("attention_bias", true)?;
    let keys = RotaryKeys { theta: "rotary_emb_base", share: Some(("rotary_pct", 0.25)) };
    let rotary = Rotary::new(config, head_dim, keys, weights.device())?;

    let prefix = weights.prefix(&["gpt_neox.", ""], "embed_in.weight")?;
    let vocabulary = weights.rows(&format!("{prefix}embed_in.weight"))?;
    let info = language_info(config, KEYS, vocabulary)?;
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = |part: &str| format!("{prefix}layers.{layer}.{part}");
            let norm = |part: &str| LayerNorm::load(weights, &name(part), d_model, eps);
            let linear = |part: &str, inputs, outputs, bias| {
                Linear::load(weights, &name(part), inputs, outputs, bias)
            };
            let joint = linear("attention.query_key_value", d_model, 3 * d_model, bias)?;
            Ok(Layer {
                attention_norm: norm("input_layernorm")?,
                qkv: parts_first(&joint, heads, head_dim, &rotary),
                attention_out: linear("attention.dense", d_model, d_model, bias)?,
                mlp_norm: norm("post_attention_layernorm")?,
                up: linear("mlp.dense_h_to_4h", d_model, d_mlp, true)?,
                down: linear("mlp.dense_4h_to_h", d_mlp, d_model, true)?,
            })
        })
        .collect::<Result<_>>()?;
    let embedding = weights.take(&format!("{prefix}embed_in.weight"), &[vocabulary, d_model])?;
    let unembedding = unembedding(config, weights, "embed_out", &embedding, false)?;
    let scale = (head_dim as f64).sqrt().recip();
    let host = GptNeoX {
        embedding,
        layers,
        norm: LayerNorm::load(weights, &format!("{prefix}final_layer_norm"), d_model, eps)?,
        unembedding,
        heads,
        parallel: config.bool_or("use_parallel_residual", true)?,
        rotary,
        attention: Attention { mask: Mask::Causal, scale, softcap: None },
        activation,
    };
    Ok((info, Box::new(host)))
}

/// Reorders rows from `(head, part, dimension)` to `(part, head, dimension)`, parts being queries,
/// keys and values, and pairs the dimensions of the first two.
fn parts_first(joint: &Linear, heads: i64, head_dim: i64, rotary: &Rotary) -> Linear {
    let part = |part: i64| {
        joint.select(|rows| {
            let shape = rows.size();
            let split = rows.reshape([heads, 3, head_dim, -1]).select(1, part);
            split.reshape([&[heads * head_dim], &shape[1..]].concat())
        })
    };
    Linear::stack(&[&rotary.pair_rows(&part(0)), &rotary.pair_rows(&part(1)), &part(2)])
}

impl Family for GptNeoX {
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
        let (number, layer) = (layer, &self.layers[layer]);
        let (batch, positions, d_model) =
            x.size3().expect("a residual stream has three dimensions");
        let mut qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let qk = self.rotary.forward(&mut qkv, 2 * self.heads, past);
        let qkv = qkv.view([batch, positions, 3 * self.heads, d_model / self.heads]);
        let heads = self.heads;
        let [keys, values] =
            past.join(number, [qk.narrow(2, heads, heads), qkv.narrow(2, 2 * heads, heads)]);
        let attended = self.attention.forward(&qk.narrow(2, 0, heads), &keys, &values);
        let attention = tap(HookKind::AttnOut, layer.attention_out.forward(&attended))?;
        let after = add(x, attention);
        let read = if self.parallel { x } else { &after };
        let read = tap(HookKind::MlpIn, read.shallow_clone())?;
        let hidden = self.activation.forward(layer.up.forward(&layer.mlp_norm.forward(&read)));
        let mlp = tap(HookKind::MlpOut, layer.down.forward(&hidden))?;
        ControlFlow::Continue(add(&after, mlp))
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.unembedding.forward(&self.norm.forward(x))
    }
}
