//! The image half of SigLIP (Zhai et al. 2023): no class token; a learned query attends to all
//! patches for the pooled output.

use std::ops::ControlFlow;

use tch::Tensor;

use super::clip::{NAMES, OF_TEXTS, is_unused, vision_config};
use super::{Family, Loader, Tap, finish, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{
    Activation, Attention, EncoderLayer, LayerNorm, Linear, Mask, Past, PatchEmbedding,
};
use crate::weights::Weights;

pub(super) const VISION: Loader = Loader {
    name: "siglip_vision_model",
    load,
    defaults,
    ignored: &["tie_word_embeddings"],
    is_unused,
};

/// A model of images and texts, of which the image half is loaded.
pub(super) const WHOLE: Loader = Loader {
    name: "siglip",
    load: load_whole,
    defaults: || serde_json::json!({}),
    ignored: OF_TEXTS,
    is_unused,
};

fn defaults() -> serde_json::Value {
    serde_json::json!({
        "hidden_act": "gelu_pytorch_tanh", "hidden_size": 768, "image_size": 224,
        "intermediate_size": 3072, "layer_norm_eps": 1e-6, "model_type": "siglip_vision_model",
        "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 16,
        "vision_use_head": true,
    })
}

struct Siglip {
    patches: PatchEmbedding,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    pooler: Pooler,
}

/// Attention of one learned query over all positions, then an MLP.
struct Pooler {
    query: Tensor,
    /// From the learned query, and from the positions to keys and values.
    to_query: Linear,
    to_keys_values: Linear,
    out: Linear,
    norm: LayerNorm,
    up: Linear,
    down: Linear,
    heads: i64,
    attention: Attention,
    activation: Activation,
}

fn load_whole(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let vision = vision_config(config, defaults())?;
    let host = load(&vision, weights)?;
    finish(&vision, VISION.ignored)?;
    Ok(host)
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("vision_use_head", true)?;
    let info = image_info(config, false)?;
    let d_model = config.size("hidden_size")?;
    let d_mlp = config.size("intermediate_size")?;
    let prefix = weights.prefix(&["vision_model.", ""], "embeddings.patch_embedding.weight")?;
    let name = |part: &str| format!("{prefix}{part}");
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = name(&format!("encoder.layers.{layer}"));
            EncoderLayer::load(config, weights, &name, NAMES, d_mlp)
        })
        .collect::<Result<_>>()?;
    let n_positions = PatchEmbedding::n_patches(config)?;
    let eps = config.float("layer_norm_eps")?;
    let patches = name("embeddings.patch_embedding");
    let positions = name("embeddings.position_embedding.weight");
    let host = Siglip {
        patches: PatchEmbedding::load(config, weights, &patches, true)?,
        positions: weights.take(&positions, &[n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &name("post_layernorm"), d_model, eps)?,
        pooler: Pooler::load(config, weights, &name("head"), d_mlp)?,
    };
    Ok((info, Box::new(host)))
}

impl Pooler {
    fn load(config: &HostConfig, weights: &Weights, name: &str, d_mlp: i64) -> Result<Self> {
        let d_model = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let head_dim = config.divides("num_attention_heads", d_model, heads)?;
        let part = |part: &str, shape: &[i64]| {
            weights.take(&format!("{name}.attention.in_proj_{part}"), shape)
        };
        let weight = part("weight", &[3 * d_model, d_model])?;
        let joint = Linear::new(&weight, Some(part("bias", &[3 * d_model])?));
        let linear = |part: &str, inputs, outputs| {
            Linear::load(weights, &format!("{name}.{part}"), inputs, outputs, true)
        };
        let eps = config.float("layer_norm_eps")?;
        Ok(Self {
            query: weights.take(&format!("{name}.probe"), &[1, 1, d_model])?,
            to_query: joint.select(|rows| rows.narrow(0, 0, d_model)),
            to_keys_values: joint.select(|rows| rows.narrow(0, d_model, 2 * d_model)),
            out: linear("attention.out_proj", d_model, d_model)?,
            norm: LayerNorm::load(weights, &format!("{name}.layernorm"), d_model, eps)?,
            up: linear("mlp.fc1", d_model, d_mlp)?,
            down: linear("mlp.fc2", d_mlp, d_model)?,
            heads,
            attention: Attention {
                mask: Mask::Full,
                scale: (head_dim as f64).sqrt().recip(),
                softcap: None,
            },
            activation: Activation::read(config, "hidden_act", Activation::GeluTanh)?,
        })
    }

    /// # Shapes
    /// `[batch, positions, d_model]` to `[batch, d_model]`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let (batch, positions, d_model) =
            x.size3().expect("a residual stream has three dimensions");
        let head_dim = d_model / self.heads;
        let query = self.to_query.forward(&self.query).view([1, 1, self.heads, head_dim]);
        let query = query.expand([batch, 1, self.heads, head_dim], false);
        let keys_values = self.to_keys_values.forward(x);
        let keys_values = keys_values.view([batch, positions, 2, self.heads, head_dim]);
        let pooled =
            self.attention.forward(&query, &keys_values.select(2, 0), &keys_values.select(2, 1));
        let pooled = self.out.forward(&pooled);
        let hidden = self.activation.forward(self.up.forward(&self.norm.forward(&pooled)));
        (pooled + self.down.forward(&hidden)).select(1, 0)
    }
}

impl Family for Siglip {
    fn embed(&self, input: &Tensor, _: i64, _: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        ControlFlow::Continue(self.patches.forward(input) + &self.positions)
    }

    fn layer(
        &self,
        layer: usize,
        x: &Tensor,
        _: &mut Past,
        tap: Tap<'_>,
    ) -> ControlFlow<Tensor, Tensor> {
        self.layers[layer].forward(x, tap)
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.pooler.forward(&self.norm.forward(x))
    }
}
