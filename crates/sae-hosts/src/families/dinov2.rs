//! DINOv2 (Oquab et al. 2023): ViT with a scale on what each block returns.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Tap, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{EncoderLayer, EncoderNames, LayerNorm, PatchEmbedding};
use crate::weights::Weights;

const NAMES: EncoderNames = EncoderNames {
    attention_norm: "norm1",
    queries: "attention.attention.query",
    keys: "attention.attention.key",
    values: "attention.attention.value",
    attention_out: "attention.output.dense",
    mlp_norm: "norm2",
    up: "mlp.fc1",
    down: "mlp.fc2",
    scales: Some(("layer_scale1.lambda1", "layer_scale2.lambda1")),
};

struct Dinov2 {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
}

pub(super) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_swiglu_ffn", false)?;
    let info = image_info(config, true)?;
    let d_model = config.size("hidden_size")?;
    let d_mlp = d_model * config.size_or("mlp_ratio", 4)?;
    let prefix = weights.prefix(&["dinov2.", ""], "embeddings.cls_token")?;
    let name = |part: &str| format!("{prefix}{part}");
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = name(&format!("encoder.layer.{layer}"));
            EncoderLayer::load(config, weights, &name, NAMES, d_mlp)
        })
        .collect::<Result<_>>()?;
    let projection = name("embeddings.patch_embeddings.projection");
    let n_positions = 1 + PatchEmbedding::n_patches(config)?;
    let eps = config.float("layer_norm_eps")?;
    let host = Dinov2 {
        patches: PatchEmbedding::load(config, weights, &projection, true)?,
        class: weights.take(&name("embeddings.cls_token"), &[1, 1, d_model])?,
        positions: weights
            .take(&name("embeddings.position_embeddings"), &[1, n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &name("layernorm"), d_model, eps)?,
    };
    Ok((info, Box::new(host)))
}

impl Family for Dinov2 {
    fn embed(&self, input: &Tensor) -> Tensor {
        super::after_class(&self.class, &self.patches.forward(input)) + &self.positions
    }

    fn layer(&self, layer: usize, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        self.layers[layer].forward(x, tap)
    }

    fn head(&self, x: &Tensor) -> Tensor {
        self.norm.forward(&x.select(1, 0))
    }
}
