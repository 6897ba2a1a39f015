//! Host families: one file each, all behind [`Family`].
//!
//! To add one: write its file beside the others from the parts in [`crate::layers`], and name it
//! in [`load`].

mod llama;

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
    match config.string("model_type")? {
        "llama" => llama::load(config, weights),
        other => Err(config.wrong("model_type", "`llama`", format!("`{other}`"))),
    }
}

/// The facts of a language model, from the keys that most families share.
fn language_info(config: &HostConfig, vocabulary: i64) -> Result<HostInfo> {
    Ok(HostInfo {
        family: config.string("model_type")?.to_owned(),
        n_layers: config.size("num_hidden_layers")?.unsigned_abs() as usize,
        d_model: config.size("hidden_size")?.unsigned_abs() as usize,
        input: HostInput::Tokens {
            vocabulary: vocabulary.unsigned_abs() as usize,
            max_positions: config.size("max_position_embeddings")?.unsigned_abs() as usize,
        },
    })
}
