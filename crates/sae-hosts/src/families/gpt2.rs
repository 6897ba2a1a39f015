//! GPT-2 (Radford et al. 2019): layer norms, learned positions, one projection to queries, keys
//! and values, a GELU MLP.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Tap, language_info};
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{Activation, Attention, LayerNorm, Linear, Mask};
use crate::weights::Weights;
use crate::{HookKind, Result};

struct Gpt2 {
    embedding: Tensor,
    positions: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    heads: i64,
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

pub(super) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("scale_attn_by_inverse_layer_idx", false)?;
    config.only("scale_attn_weights", true)?;
    config.only("tie_word_embeddings", true)?;
    let activation = Activation::read(config, "activation_function")?;
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
            Ok(Layer {
                attention_norm: LayerNorm::load(weights, &name("ln_1"), d_model, eps)?,
                qkv: linear("attn.c_attn", d_model, 3 * d_model)?,
                attention_out: linear("attn.c_proj", d_model, d_model)?,
                mlp_norm: LayerNorm::load(weights, &name("ln_2"), d_model, eps)?,
                up: linear("mlp.c_fc", d_model, d_mlp)?,
                down: linear("mlp.c_proj", d_mlp, d_model)?,
            })
        })
        .collect::<Result<_>>()?;
    let scale = (head_dim as f64).sqrt().recip();
    let n_positions = config.size("n_positions")?;
    let host = Gpt2 {
        embedding: weights.take(&format!("{prefix}wte.weight"), &[vocabulary, d_model])?,
        positions: weights.take(&format!("{prefix}wpe.weight"), &[n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &format!("{prefix}ln_f"), d_model, eps)?,
        heads,
        attention: Attention { mask: Mask::Causal, scale, softcap: None },
        activation,
    };
    Ok((info, Box::new(host)))
}

impl Family for Gpt2 {
    fn embed(&self, input: &Tensor) -> Tensor {
        let tokens = Tensor::embedding(&self.embedding, input, -1, false, false);
        tokens + self.positions.narrow(0, 0, input.size()[1])
    }

    fn layer(&self, layer: usize, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let layer = &self.layers[layer];
        let (batch, positions, d_model) =
            x.size3().expect("a residual stream has three dimensions");
        let qkv = layer.qkv.forward(&layer.attention_norm.forward(x));
        let qkv = qkv.view([batch, positions, 3, self.heads, d_model / self.heads]);
        let part = |part| qkv.select(2, part);
        let attended = self.attention.forward(&part(0), &part(1), &part(2));
        let x = x + tap(HookKind::AttnOut, layer.attention_out.forward(&attended))?;
        let hidden = self.activation.forward(&layer.up.forward(&layer.mlp_norm.forward(&x)));
        let mlp = tap(HookKind::MlpOut, layer.down.forward(&hidden))?;
        ControlFlow::Continue(x + mlp)
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.norm.forward(x).linear(&self.embedding, None::<&Tensor>)
    }
}
