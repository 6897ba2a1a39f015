//! The image half of CLIP (Radford et al. 2021): a norm before the layers, the class token
//! projected to the space shared with texts.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Tap, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{EncoderLayer, EncoderNames, LayerNorm, Linear, PatchEmbedding};
use crate::weights::Weights;

pub(super) const NAMES: EncoderNames = EncoderNames {
    attention_norm: "layer_norm1",
    queries: "self_attn.q_proj",
    keys: "self_attn.k_proj",
    values: "self_attn.v_proj",
    attention_out: "self_attn.out_proj",
    mlp_norm: "layer_norm2",
    up: "mlp.fc1",
    down: "mlp.fc2",
    scales: None,
};

struct Clip {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    first_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    last_norm: LayerNorm,
    projection: Option<Linear>,
}

pub(super) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let info = image_info(config, true)?;
    let d_model = config.size("hidden_size")?;
    let d_mlp = config.size("intermediate_size")?;
    let prefix = weights.prefix(&["vision_model.", ""], "embeddings.class_embedding")?;
    let name = |part: &str| format!("{prefix}{part}");
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = name(&format!("encoder.layers.{layer}"));
            EncoderLayer::load(config, weights, &name, NAMES, d_mlp)
        })
        .collect::<Result<_>>()?;
    let projection = if weights.contains("visual_projection.weight") {
        let size = config.size("projection_dim")?;
        Some(Linear::load(weights, "visual_projection", d_model, size, false)?)
    } else {
        None
    };
    let patches = name("embeddings.patch_embedding");
    let n_positions = 1 + PatchEmbedding::n_patches(config)?;
    let eps = config.float("layer_norm_eps")?;
    let positions = name("embeddings.position_embedding.weight");
    let host = Clip {
        patches: PatchEmbedding::load(config, weights, &patches, false)?,
        class: weights.take(&name("embeddings.class_embedding"), &[d_model])?,
        positions: weights.take(&positions, &[n_positions, d_model])?,
        // The files spell it so.
        first_norm: LayerNorm::load(weights, &name("pre_layrnorm"), d_model, eps)?,
        layers,
        last_norm: LayerNorm::load(weights, &name("post_layernorm"), d_model, eps)?,
        projection,
    };
    Ok((info, Box::new(host)))
}

impl Family for Clip {
    fn embed(&self, input: &Tensor) -> Tensor {
        let x = super::after_class(&self.class, &self.patches.forward(input)) + &self.positions;
        self.first_norm.forward(&x)
    }

    fn layer(&self, layer: usize, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        self.layers[layer].forward(x, tap)
    }

    fn head(&self, x: &Tensor) -> Tensor {
        let class = self.last_norm.forward(&x.select(1, 0));
        match &self.projection {
            Some(projection) => projection.forward(&class),
            None => class,
        }
    }
}
