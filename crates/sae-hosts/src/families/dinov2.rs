//! DINOv2 (Oquab et al. 2023): ViT with a scale on what each block returns.

use std::ops::ControlFlow;

use tch::{Kind, Tensor};

use super::{Family, Loader, Tap, image_info};
use crate::Result;
use crate::config::HostConfig;
use crate::host::{HostInfo, HostInput};
use crate::layers::{EncoderLayer, EncoderNames, LayerNorm, Past, PatchEmbedding};
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

pub(super) const LOADER: Loader = Loader {
    name: "dinov2",
    load,
    defaults: || {
        serde_json::json!({
            "hidden_act": "gelu", "hidden_size": 768, "image_size": 224, "layer_norm_eps": 1e-6,
            "mlp_ratio": 4, "num_attention_heads": 12, "num_channels": 3,
            "num_hidden_layers": 12, "patch_size": 14, "qkv_bias": true,
        })
    },
    ignored: &[
        "tie_word_embeddings",
        // Which layers a backbone returns, and in what form.
        "apply_layernorm",
        "out_features",
        "out_indices",
        "reshape_hidden_states",
        "stage_names",
        // Training only.
        "use_mask_token",
    ],
    is_unused: |name| name.starts_with("classifier.") || name.ends_with("embeddings.mask_token"),
};

struct Dinov2 {
    patches: PatchEmbedding,
    patch_size: i64,
    class: Tensor,
    /// `[1, 1 + patches, d_model]`, of images of the configured size.
    positions: Tensor,
    layers: Vec<EncoderLayer>,
    norm: LayerNorm,
}

fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_swiglu_ffn", false)?;
    let mut info = image_info(config, true)?;
    let patch_size = config.count("patch_size")?;
    if let HostInput::Images { multiple_of, .. } = &mut info.input {
        *multiple_of = Some(patch_size);
    }
    let d_model = config.size("hidden_size")?;
    let d_mlp = d_model * config.size("mlp_ratio")?;
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
        patch_size: patch_size as i64,
        class: weights.take(&name("embeddings.cls_token"), &[1, 1, d_model])?,
        positions: weights
            .take(&name("embeddings.position_embeddings"), &[1, n_positions, d_model])?,
        layers,
        norm: LayerNorm::load(weights, &name("layernorm"), d_model, eps)?,
    };
    Ok((info, Box::new(host)))
}

impl Dinov2 {
    /// The position embeddings of `grid` patches by height and width: bicubic between those of the
    /// configured size, as transformers does.
    fn positions(&self, grid: [i64; 2]) -> Tensor {
        let [_, n, d_model] = self.positions.size()[..] else { unreachable!("three dimensions") };
        let edge = ((n - 1) as f64).sqrt().round() as i64;
        if grid == [edge; 2] {
            return self.positions.shallow_clone();
        }
        let (class, patches) = (self.positions.narrow(1, 0, 1), self.positions.narrow(1, 1, n - 1));
        let patches = patches.view([1, edge, edge, d_model]).permute([0, 3, 1, 2]);
        let resized = patches.to_kind(Kind::Float).upsample_bicubic2d(grid, false, None, None);
        let resized = resized.permute([0, 2, 3, 1]).reshape([1, grid[0] * grid[1], d_model]);
        Tensor::cat(&[class, resized.to_kind(self.positions.kind())], 1)
    }
}

impl Family for Dinov2 {
    fn embed(&self, input: &Tensor, _: i64, _: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let size = input.size();
        let grid = [size[2] / self.patch_size, size[3] / self.patch_size];
        let x = super::after_class(&self.class, &self.patches.forward(input));
        ControlFlow::Continue(x + self.positions(grid))
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
        self.norm.forward(&x.select(1, 0))
    }
}
