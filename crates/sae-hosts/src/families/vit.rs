//! ViT (Dosovitskiy et al. 2021): a class token before the patches, pooled by it.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Loader, Tap, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{EncoderLayer, EncoderNames, LayerNorm, Linear, Past, PatchEmbedding};
use crate::weights::Weights;

const NAMES: EncoderNames = EncoderNames {
    attention_norm: "layernorm_before",
    queries: "attention.attention.query",
    keys: "attention.attention.key",
    values: "attention.attention.value",
    attention_out: "attention.output.dense",
    mlp_norm: "layernorm_after",
    up: "intermediate.dense",
    down: "output.dense",
    scales: None,
};

pub(super) const LOADER: Loader = Loader {
    name: "vit",
    load,
    defaults: || {
        serde_json::json!({
            "hidden_act": "gelu", "hidden_size": 768, "image_size": 224, "intermediate_size": 3072,
            "layer_norm_eps": 1e-12, "num_attention_heads": 12, "num_channels": 3,
            "num_hidden_layers": 12, "patch_size": 16, "qkv_bias": true,
        })
    },
    // Of the head that predicts masked patches.
    ignored: &["encoder_stride", "tie_word_embeddings"],
    is_unused,
};

/// Heads for classification and for masked patches.
fn is_unused(name: &str) -> bool {
    name.starts_with("classifier.")
        || name.starts_with("decoder.")
        || name.ends_with("embeddings.mask_token")
}

struct Vit {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
    pooler: Option<Linear>,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("pooler_act", "tanh")?;
    let info = image_info(config, true)?;
    let d_model = config.size("hidden_size")?;
    let d_mlp = config.size("intermediate_size")?;
    let prefix = weights.prefix(&["vit.", ""], "embeddings.cls_token")?;
    let name = |part: &str| format!("{prefix}{part}");
    let layers = (0..info.n_layers)
        .map(|layer| {
            let name = name(&format!("encoder.layer.{layer}"));
            EncoderLayer::load(config, weights, &name, NAMES, d_mlp)
        })
        .collect::<Result<_>>()?;
    let pooled = config.size_or("pooler_output_size", d_model)?;
    let pooler = name("pooler.dense");
    let pooler = weights
        .contains(&format!("{pooler}.weight"))
        .then(|| Linear::load(weights, &pooler, d_model, pooled, true))
        .transpose()?;
    let projection = name("embeddings.patch_embeddings.projection");
    let n_positions = 1 + PatchEmbedding::n_patches(config)?;
    let eps = config.float("layer_norm_eps")?;
    let host = Vit {
        patches: PatchEmbedding::load(config, weights, &projection, true)?,
        class: weights.take(&name("embeddings.cls_token"), &[1, 1, d_model])?,
        positions: weights
            .take(&name("embeddings.position_embeddings"), &[1, n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &name("layernorm"), d_model, eps)?,
        pooler,
    };
    Ok((info, Box::new(host)))
}

impl Family for Vit {
    fn embed(&self, input: &Tensor, _: i64, _: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let x = super::after_class(&self.class, &self.patches.forward(input)) + &self.positions;
        ControlFlow::Continue(x)
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
        let class = self.norm.forward(&x.select(1, 0));
        match &self.pooler {
            Some(pooler) => pooler.forward(&class).tanh(),
            None => class,
        }
    }
}
