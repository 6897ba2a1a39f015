//! Host families: one file each, all behind [`Family`].
//!
//! To add one: write its file beside the others from the parts in [`crate::layers`], and name it
//! in [`load`].

mod clip;
mod dinov2;
mod gemma2;
mod gpt2;
mod gpt_neox;
mod llama;
mod qwen;
mod siglip;
mod vit;

use std::ops::ControlFlow;

use tch::Tensor;

use crate::config::HostConfig;
use crate::host::{HostInfo, HostInput};
use crate::weights::Weights;
use crate::{HookKind, Result};

/// Sees what each attention and MLP block of a layer returns: goes on with the tensor it returns,
/// or breaks off with it.
pub(crate) type Tap<'a> = &'a mut dyn FnMut(HookKind, Tensor) -> ControlFlow<Tensor, Tensor>;

/// A host as a stack of residual layers.
pub(crate) trait Family: Send {
    /// The residual stream before layer 0.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` or pixels `[batch, channels, height, width]` to
    /// `[batch, positions, d_model]`.
    fn embed(&self, input: &Tensor) -> Tensor;

    /// The residual stream after layer `layer`, or what `tap` broke off with.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to the same.
    fn layer(&self, layer: usize, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor>;

    /// What follows the last layer.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to logits `[batch, positions, vocabulary]` or to one
    /// embedding for each image `[batch, size]`.
    fn head(&self, x: &Tensor) -> Tensor;
}

/// Builds the family that `model_type` names.
pub(crate) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    type Load = fn(&HostConfig, &Weights) -> Result<(HostInfo, Box<dyn Family>)>;
    const FAMILIES: [(&str, Load); 10] = [
        ("clip_vision_model", clip::load),
        ("dinov2", dinov2::load),
        ("gemma2", gemma2::load),
        ("gpt2", gpt2::load),
        ("gpt_neox", gpt_neox::load),
        ("llama", llama::load),
        ("qwen2", qwen::load_qwen2),
        ("qwen3", qwen::load_qwen3),
        ("siglip_vision_model", siglip::load),
        ("vit", vit::load),
    ];
    let wanted = config.string("model_type")?;
    match FAMILIES.iter().find(|(name, _)| *name == wanted) {
        Some((_, load)) => {
            let host = load(config, weights)?;
            weights.finish(|_| false)?;
            Ok(host)
        }
        None => {
            let known: Vec<_> = FAMILIES.iter().map(|(name, _)| format!("`{name}`")).collect();
            let expected = format!("one of {}", known.join(", "));
            Err(config.wrong("model_type", expected, format!("`{wanted}`")))
        }
    }
}

/// The keys of the number of layers, the dimension of the residual stream and the longest sequence
/// that most families use.
const KEYS: [&str; 3] = ["num_hidden_layers", "hidden_size", "max_position_embeddings"];

/// The facts of a language model.
fn language_info(config: &HostConfig, keys: [&str; 3], vocabulary: i64) -> Result<HostInfo> {
    let [n_layers, d_model, max_positions] = keys;
    Ok(HostInfo {
        family: config.string("model_type")?.to_owned(),
        n_layers: config.count(n_layers)?,
        d_model: config.count(d_model)?,
        input: HostInput::Tokens {
            vocabulary: vocabulary.unsigned_abs() as usize,
            max_positions: config.count(max_positions)?,
        },
    })
}

/// The facts of a vision model, which all give square images of `image_size`.
fn image_info(config: &HostConfig, class_token: bool) -> Result<HostInfo> {
    Ok(HostInfo {
        family: config.string("model_type")?.to_owned(),
        n_layers: config.count("num_hidden_layers")?,
        d_model: config.count("hidden_size")?,
        input: HostInput::Images {
            channels: config.size_or("num_channels", 3)?.unsigned_abs() as usize,
            size: config.count("image_size")?,
            class_token,
            multiple_of: None,
        },
    })
}

/// The class token of each image, then its patches.
fn after_class(class: &Tensor, patches: &Tensor) -> Tensor {
    let (batch, _, d_model) = patches.size3().expect("patches have three dimensions");
    Tensor::cat(&[&class.view([1, 1, d_model]).expand([batch, 1, d_model], false), patches], 1)
}
