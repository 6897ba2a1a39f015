//! The image half of CLIP (Radford et al. 2021): a norm before the layers, the class token
//! projected to the space shared with texts.

use std::ops::ControlFlow;

use tch::Tensor;

use super::{Family, Loader, Tap, finish, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::{EncoderLayer, EncoderNames, LayerNorm, Linear, Past, PatchEmbedding};
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

pub(super) const VISION: Loader = Loader {
    name: "clip_vision_model",
    load: |config, weights| load(config, weights, config),
    defaults,
    ignored: &["tie_word_embeddings"],
    is_unused,
};

/// A model of images and texts, of which the image half is loaded.
pub(super) const WHOLE: Loader = Loader {
    name: "clip",
    load: load_whole,
    defaults: || serde_json::json!({"projection_dim": 512}),
    ignored: OF_TEXTS,
    is_unused,
};

/// Keys of the text half and of what both share.
pub(super) const OF_TEXTS: &[&str] =
    &["logit_scale_init_value", "text_config", "text_config_dict", "tie_word_embeddings"];

fn defaults() -> serde_json::Value {
    serde_json::json!({
        "hidden_act": "quick_gelu", "hidden_size": 768, "image_size": 224,
        "intermediate_size": 3072, "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
        "num_attention_heads": 12, "num_channels": 3, "num_hidden_layers": 12, "patch_size": 32,
        "projection_dim": 512,
    })
}

/// The text half, the scale of its scores with images, positions by number, a classifier.
pub(super) fn is_unused(name: &str) -> bool {
    ["classifier.", "logit_", "text_model.", "text_projection."]
        .iter()
        .any(|start| name.starts_with(start))
        || name.ends_with("embeddings.position_ids")
}

struct Clip {
    patches: PatchEmbedding,
    class: Tensor,
    positions: Tensor,
    first_norm: LayerNorm,
    layers: Vec<EncoderLayer>,
    last_norm: LayerNorm,
    projection: Option<Linear>,
}

fn load_whole(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let mut vision = vision_config(config, defaults())?;
    // As transformers reads these two: the second counts, its defaults too.
    if let Some(second) = config.section("vision_config_dict")? {
        vision = vision.updated(&second.with_defaults(defaults()));
    }
    // The whole model always has one.
    weights.rows("visual_projection.weight")?;
    let host = load(&vision, weights, config)?;
    finish(&vision, VISION.ignored)?;
    Ok(host)
}

/// The settings of the image half.
pub(super) fn vision_config(
    config: &HostConfig,
    defaults: serde_json::Value,
) -> Result<HostConfig> {
    let vision = config.section("vision_config")?;
    Ok(vision.unwrap_or_else(|| config.empty()).with_defaults(defaults))
}

/// The size of the space shared with texts is a key of `whole`.
fn load(
    config: &HostConfig,
    weights: &Weights,
    whole: &HostConfig,
) -> Result<(HostInfo, Box<dyn Family>)> {
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
    // The image half alone has it too.
    let (size, _) = (whole.size("projection_dim")?, config.has("projection_dim"));
    let projection = if weights.contains("visual_projection.weight") {
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
    fn embed(&self, input: &Tensor, _: i64, _: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let x = super::after_class(&self.class, &self.patches.forward(input)) + &self.positions;
        ControlFlow::Continue(self.first_norm.forward(&x))
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
        let class = self.last_norm.forward(&x.select(1, 0));
        match &self.projection {
            Some(projection) => projection.forward(&class),
            None => class,
        }
    }
}
