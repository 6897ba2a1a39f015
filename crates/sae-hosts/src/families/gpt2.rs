//! GPT-2 (Radford et al. 2019): layer norms, learned positions, one projection to queries, keys
//! and values, a GELU MLP.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Loader, Tap, language_info, unembedding};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{Activation, Attention, LayerNorm, Linear, Mask, Past, add};
use crate::weights::Weights;
use crate::{HookKind, Result};

pub(super) const LOADER: Loader = Loader {
    name: "gpt2",
    load,
    defaults: || serde_json::json!({}),
    ignored: &[
        // The same scores, computed in another order or in f32.
        "reorder_and_upcast_attn",
        // Of versions that had it.
        "predict_special_tokens",
        // A head for classification.
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ],
    // Causal masks, which old versions saved.
    is_unused: |name| name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias"),
};

struct Gpt2 {
    embedding: Tensor,
    unembedding: Linear,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    heads: i64,
    activation: Activation,
}

struct Layer {
    attention: Attention,
    attention_norm: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let activation = Activation::read(config, "activation_function", Activation::GeluTanh)?;
    let by_layer = config.bool_or("scale_attn_by_inverse_layer_idx", false)?;
    let by_width = config.bool_or("scale_attn_weights", true)?;
    let d_model = config.size("n_embd")?;
    let heads = config.size("n_head")?;
    let head_dim = config.divides("n_head", d_model, heads)?;
    let d_mlp = config.size_or("n_inner", 4 * d_model)?;
    let eps = config.float_or("layer_norm_epsilon", 1e-5)?;

    let prefix = weights.prefix(&["transformer.", ""], "wte.weight")?;
    let vocabulary = weights.rows(&format!("{prefix}wte.weight"))?;
    let keys = ["n_layer", "n_embd", "n_positions"];
    let info = language_info(config, keys, vocabulary)?;
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = |part: &str| format!("{prefix}h.{layer}.{part}");
            let linear = |part: &str, inputs, outputs| {
                Linear::load_transposed(weights, &name(part), inputs, outputs)
            };
            let width = if by_width { head_dim as f64 } else { 1.0 };
            let depth = if by_layer { layer as f64 + 1.0 } else { 1.0 };
            let scale = 1.0 / (width.sqrt() * depth);
            Ok(Layer {
                attention: Attention { mask: Mask::Causal, scale, softcap: None },
                attention_norm: LayerNorm::load(weights, &name("ln_1"), d_model, eps)?,
                qkv: linear("attn.c_attn", d_model, 3 * d_model)?,
                attention_out: linear("attn.c_proj", d_model, d_model)?,
                mlp_norm: LayerNorm::load(weights, &name("ln_2"), d_model, eps)?,
                up: linear("mlp.c_fc", d_model, d_mlp)?,
                down: linear("mlp.c_proj", d_mlp, d_model)?,
            })
        })
        .collect::<Result<_>>()?;
    let n_positions = config.size("n_positions")?;
    config.only_number("n_ctx", n_positions as f64)?;
    config.only("n_special", 0)?;
    let embedding = weights.take(&format!("{prefix}wte.weight"), &[vocabulary, d_model])?;
    let host = Gpt2 {
        unembedding: unembedding(config, weights, "lm_head", &embedding, true)?,
        embedding,
        positions: weights.take(&format!("{prefix}wpe.weight"), &[n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &format!("{prefix}ln_f"), d_model, eps)?,
        heads,
        activation,
    };
    Ok((info, Box::new(host)))
}

impl Family for Gpt2 {
    fn embed(&self, input: &Tensor, first: i64, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let tokens = Tensor::embedding(&self.embedding, input, -1, false, false);
        let tokens = tap(HookKind::Embed, tokens)?;
        ControlFlow::Continue(tokens + self.positions.narrow(0, first, input.size()[1]))
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
        let qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let qkv = qkv.view([batch, positions, 3, self.heads, d_model / self.heads]);
        let part = |part| qkv.select(2, part);
        let [keys, values] = past.join(number, [part(1), part(2)]);
        let attended = layer.attention.forward(&part(0), &keys, &values);
        let x = add(x, tap(HookKind::AttnOut, layer.attention_out.forward(&attended))?);
        let read = tap(HookKind::MlpIn, x.shallow_clone())?;
        let hidden = self.activation.forward(layer.up.forward(&layer.mlp_norm.forward(&read)));
        let mlp = tap(HookKind::MlpOut, layer.down.forward(&hidden))?;
        ControlFlow::Continue(add(&x, mlp))
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.unembedding.forward(&self.norm.forward(x))
    }
}
