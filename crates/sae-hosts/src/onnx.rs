//! DINOv2 as an ONNX file: torch's export of `Dinov2Model`, whatever a head makes of its final norm.
//!
//! An ONNX file is a program. Everything that the final norm depends on is compared, node by node,
//! with what the export of `Dinov2Model` is known to compute, so that nothing is left out or
//! computed otherwise; what comes after the final norm is another model's head, and is left aside.

mod graph;
mod proto;
mod weights;
mod wire;

use std::path::Path;

use serde_json::json;

use self::graph::Sizes;
use self::proto::Model;
use self::weights::OnnxWeights;
use crate::config::HostConfig;
use crate::images::ImageProcessor;
use crate::weights::TensorSource;
use crate::{Error, Result};

/// Whether a path is taken for an ONNX file.
pub(crate) fn is_onnx(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "onnx")
}

/// Opens a file: its settings, as `config.json` would have them, and its weights.
pub(crate) fn open(path: &Path) -> Result<(HostConfig, Box<dyn TensorSource>)> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let broken = |got: String| Error::file(path, "ONNX", "a model that can be read in full", got);
    let model = Model::read(&bytes).map_err(broken)?;
    let sizes = Sizes::of(&model)
        .map_err(|got| Error::file(path, "graph", "DINOv2 as torch exports it", got))?;
    graph::check(&model, &sizes).map_err(|(node, expected, got)| {
        let field = format!("node `{node}`");
        Error::file(path, field, format!("`{expected}`, as in DINOv2"), format!("`{got}`"))
    })?;
    let values = json!({
        "model_type": "dinov2", "hidden_size": sizes.d_model, "hidden_act": "gelu",
        "num_hidden_layers": sizes.n_layers, "num_attention_heads": sizes.n_heads,
        "mlp_ratio": sizes.mlp_ratio, "patch_size": sizes.patch_size,
        "image_size": sizes.grid * sizes.patch_size, "layer_norm_eps": 1e-6, "qkv_bias": true,
    });
    let serde_json::Value::Object(values) = values else { unreachable!("an object") };
    let weights = OnnxWeights::new(path, &model, &sizes)
        .map_err(|got| Error::file(path, "graph", "weights of DINOv2", got))?;
    Ok((HostConfig::new(path, values), Box::new(weights)))
}

/// How images are prepared: fitted into a square of 224 pixels, with the mean and deviation of
/// ImageNet, since the file does not say it.
pub(crate) fn image_processor() -> ImageProcessor {
    ImageProcessor::fitting(224, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
}
