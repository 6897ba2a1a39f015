//! Host families: one file each, all behind [`Family`].
//!
//! To add one: write its file beside the others from the parts in [`crate::layers`], and name its
//! [`Loader`] in [`LOADERS`].

mod clip;
mod dinov2;
mod gemma2;
mod gpt2;
mod gpt_neox;
mod ignored;
mod llama;
mod qwen;
mod siglip;
mod vit;

use std::ops::ControlFlow;

use tch::Tensor;

use crate::config::HostConfig;
use crate::host::{HostInfo, HostInput};
use crate::layers::{Linear, Mask, Past};
use crate::weights::Weights;
use crate::{HookKind, Result};
use ignored::IGNORED;

/// Sees the embedding of tokens, what each attention block returns, what each MLP block reads and
/// what it returns: the pass goes on with the tensor that it returns, or breaks off with it.
pub(crate) type Tap<'a> = &'a mut dyn FnMut(HookKind, Tensor) -> ControlFlow<Tensor, Tensor>;

/// A host as a stack of residual layers.
pub(crate) trait Family: Send {
    /// The residual stream before layer 0, or what `tap` broke off with; tokens begin at position
    /// `first`.
    ///
    /// # Shapes
    /// Token ids `[batch, positions]` or pixels `[batch, channels, height, width]` to
    /// `[batch, positions, d_model]`.
    fn embed(&self, input: &Tensor, first: i64, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor>;

    /// The residual stream after layer `layer`, or what `tap` broke off with; its positions come after
    /// those of `past`, which images do not have.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to the same.
    fn layer(
        &self,
        layer: usize,
        x: &Tensor,
        past: &mut Past,
        tap: Tap<'_>,
    ) -> ControlFlow<Tensor, Tensor>;

    /// What follows the last layer.
    ///
    /// # Shapes
    /// `[batch, positions, d_model]` to logits `[batch, positions, vocabulary]` or to one
    /// embedding for each image `[batch, size]`.
    fn head(&self, x: &Tensor) -> Tensor;
}

/// Builds a family from settings and weights.
type Load = fn(&HostConfig, &Weights) -> Result<(HostInfo, Box<dyn Family>)>;

/// How a family is loaded.
struct Loader {
    /// `model_type` in `config.json`.
    name: &'static str,
    load: Load,
    /// What transformers takes for a key that is absent.
    defaults: fn() -> serde_json::Value,
    /// Keys that are ignored beside those of every family.
    ignored: &'static [&'static str],
    /// Whether a tensor of this name is not needed for what is computed here.
    is_unused: fn(&str) -> bool,
}

const LOADERS: [&Loader; 13] = [
    &clip::WHOLE,
    &clip::VISION,
    &dinov2::LOADER,
    &gemma2::LOADER,
    &gpt2::LOADER,
    &gpt_neox::LOADER,
    &llama::LOADER,
    &llama::MISTRAL,
    &qwen::QWEN2,
    &qwen::QWEN3,
    &siglip::WHOLE,
    &siglip::VISION,
    &vit::LOADER,
];

/// Builds the family that `model_type` names; every key and every tensor is used, or known to
/// change nothing, or refused.
pub(crate) fn load(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let wanted = config.string("model_type")?;
    let Some(loader) = LOADERS.iter().find(|loader| loader.name == wanted) else {
        let known: Vec<_> = LOADERS.iter().map(|loader| format!("`{}`", loader.name)).collect();
        let expected = format!("one of {}", known.join(", "));
        return Err(config.wrong("model_type", expected, format!("`{wanted}`")));
    };
    let config = config.with_defaults((loader.defaults)());
    weights.check_memory(loader.is_unused)?;
    let host = (loader.load)(&config, weights)?;
    finish(&config, loader.ignored)?;
    weights.finish(loader.is_unused)?;
    Ok(host)
}

/// Whether what a block returns is changed before it is added to the residual stream.
pub(crate) fn changes_outputs(family: &str) -> bool {
    [gemma2::LOADER.name, dinov2::LOADER.name].contains(&family)
}

/// Checks the keys that every family has, then that no other is left.
fn finish(config: &HostConfig, ignored: &[&str]) -> Result<()> {
    for key in ["add_cross_attention", "is_encoder_decoder", "tie_encoder_decoder"] {
        config.only(key, false)?;
    }
    config.only("pruned_heads", serde_json::json!({}))?;
    for (key, expected) in [
        ("quantization_config", "weights in F32, F16 or BF16"),
        ("auto_map", "a model without code of its own"),
    ] {
        if config.has(key) {
            return Err(config.wrong(key, expected, "this key"));
        }
    }
    config.finish(&[IGNORED, ignored].concat())
}

/// The keys of the number of layers, the dimension of the residual stream and the longest sequence
/// that most families use.
const KEYS: [&str; 3] = ["num_hidden_layers", "hidden_size", "max_position_embeddings"];

/// The facts of a language model.
fn language_info(config: &HostConfig, keys: [&str; 3], vocabulary: i64) -> Result<HostInfo> {
    let [n_layers, d_model, max_positions] = keys;
    config.only_number("vocab_size", vocabulary as f64)?;
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

/// The map to logits: `{name}.weight`, or the embedding where the two are tied (`tied` if the
/// configuration does not say so).
fn unembedding(
    config: &HostConfig,
    weights: &Weights,
    name: &str,
    embedding: &Tensor,
    tied: bool,
) -> Result<Linear> {
    let (vocabulary, d_model) = embedding.size2().expect("an embedding has two dimensions");
    if !config.bool_or("tie_word_embeddings", tied)? {
        return Linear::load(weights, name, d_model, vocabulary, false);
    }
    // transformers 4 leaves it out, transformers 5 uses it.
    let own = format!("{name}.weight");
    if weights.contains(&own) && weights.take(&own, &[vocabulary, d_model])? != *embedding {
        let expected = "the values of the embedding, as `tie_word_embeddings` is true";
        return Err(weights.wrong(&own, expected, "others"));
    }
    Ok(Linear::shared(embedding))
}

/// The mask of each layer: what `layer_types` says, or where it is absent a window in the layers
/// that `slides` names.
fn masks(
    config: &HostConfig,
    n_layers: usize,
    window: Option<i64>,
    slides: impl Fn(usize) -> bool,
) -> Result<Vec<Mask>> {
    let Some(types) = config.strings("layer_types")? else {
        let mask = |layer| window.filter(|_| slides(layer)).map_or(Mask::Causal, Mask::Window);
        return Ok((0..n_layers).map(mask).collect());
    };
    if types.len() != n_layers {
        return Err(config.wrong("layer_types", format!("{n_layers} values"), types.len()));
    }
    let mask = |kind| match (kind, window) {
        ("full_attention", _) => Ok(Mask::Causal),
        ("sliding_attention", Some(window)) => Ok(Mask::Window(window)),
        ("sliding_attention", None) => {
            Err(config.wrong("layer_types", "`full_attention` without a sliding window", kind))
        }
        _ => {
            let expected = "`sliding_attention` or `full_attention`";
            Err(config.wrong("layer_types", expected, format!("`{kind}`")))
        }
    };
    types.into_iter().map(mask).collect()
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
