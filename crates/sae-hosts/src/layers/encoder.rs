//! The vision transformer's parts (Dosovitskiy et al. 2021): patches, and layers of attention over
//! all of them.

use std::ops::ControlFlow;

use tch::Tensor;

use crate::config::HostConfig;
use crate::families::Tap;
use crate::layers::{Activation, Attention, LayerNorm, Linear, Mask, add, scaled};
use crate::weights::Weights;
use crate::{HookKind, Result};

/// Cuts images into patches and maps each to the residual stream.
#[derive(Debug)]
pub(crate) struct PatchEmbedding {
    projection: Linear,
    patch_size: i64,
}

impl PatchEmbedding {
    pub(crate) fn load(
        config: &HostConfig,
        weights: &Weights,
        name: &str,
        bias: bool,
    ) -> Result<Self> {
        let (d_model, patch_size) = (config.size("hidden_size")?, config.size("patch_size")?);
        let channels = config.size_or("num_channels", 3)?;
        let shape = [d_model, channels, patch_size, patch_size];
        let weight = weights.take(&format!("{name}.weight"), &shape)?;
        let bias = bias.then(|| weights.take(&format!("{name}.bias"), &[d_model])).transpose()?;
        let projection = Linear::new(&weight.flatten(1, -1), bias);
        Ok(Self { projection, patch_size })
    }

    /// The number of patches of an image.
    pub(crate) fn n_patches(config: &HostConfig) -> Result<i64> {
        let (image, patch) = (config.size("image_size")?, config.size("patch_size")?);
        if image < patch {
            return Err(config.wrong("patch_size", format!("at most {image}"), patch));
        }
        Ok((image / patch) * (image / patch))
    }

    /// # Shapes
    /// `[batch, channels, size, size]` to `[batch, patches, d_model]`.
    pub(crate) fn forward(&self, pixels: &Tensor) -> Tensor {
        let (size, edge) = (pixels.size(), self.patch_size);
        let (rows, columns) = (size[2] / edge, size[3] / edge);
        let whole = pixels.narrow(2, 0, rows * edge).narrow(3, 0, columns * edge);
        let patches = whole.reshape([size[0], size[1], rows, edge, columns, edge]);
        let patches = patches.permute([0, 2, 4, 1, 3, 5]).flatten(3, -1).flatten(1, 2);
        // Not a convolution: libtorch lets cuDNN round its factors to TF32.
        self.projection.forward(&patches)
    }
}

/// What a family calls the parts of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncoderNames {
    pub(crate) attention_norm: &'static str,
    pub(crate) queries: &'static str,
    pub(crate) keys: &'static str,
    pub(crate) values: &'static str,
    pub(crate) attention_out: &'static str,
    pub(crate) mlp_norm: &'static str,
    pub(crate) up: &'static str,
    pub(crate) down: &'static str,
    /// Scales of what the attention and MLP blocks return, of families that have them.
    pub(crate) scales: Option<(&'static str, &'static str)>,
}

/// A layer: attention over all positions, then an MLP, each after a layer norm.
#[derive(Debug)]
pub(crate) struct EncoderLayer {
    attention_norm: LayerNorm,
    qkv: Linear,
    attention_out: Linear,
    mlp_norm: LayerNorm,
    up: Linear,
    down: Linear,
    scales: Option<(Tensor, Tensor)>,
    heads: i64,
    attention: Attention,
    activation: Activation,
}

impl EncoderLayer {
    /// Loads the layer `name`, whose MLP has the width `d_mlp`.
    pub(crate) fn load(
        config: &HostConfig,
        weights: &Weights,
        name: &str,
        names: EncoderNames,
        d_mlp: i64,
    ) -> Result<Self> {
        let d_model = config.size("hidden_size")?;
        let heads = config.size("num_attention_heads")?;
        let head_dim = config.divides("num_attention_heads", d_model, heads)?;
        let eps = config.float("layer_norm_eps")?;
        let qkv_bias = config.bool_or("qkv_bias", true)?;
        let norm = |part: &str| LayerNorm::load(weights, &format!("{name}.{part}"), d_model, eps);
        let linear = |part: &str, inputs, outputs, bias| {
            Linear::load(weights, &format!("{name}.{part}"), inputs, outputs, bias)
        };
        let scale = |part: &str| weights.take(&format!("{name}.{part}"), &[d_model]);
        let scales = match names.scales {
            Some((attention, mlp)) => Some((scale(attention)?, scale(mlp)?)),
            None => None,
        };
        Ok(Self {
            attention_norm: norm(names.attention_norm)?,
            qkv: Linear::stack(&[
                &linear(names.queries, d_model, d_model, qkv_bias)?,
                &linear(names.keys, d_model, d_model, qkv_bias)?,
                &linear(names.values, d_model, d_model, qkv_bias)?,
            ]),
            attention_out: linear(names.attention_out, d_model, d_model, true)?,
            mlp_norm: norm(names.mlp_norm)?,
            up: linear(names.up, d_model, d_mlp, true)?,
            down: linear(names.down, d_mlp, d_model, true)?,
            scales,
            heads,
            attention: Attention {
                mask: Mask::Full,
                scale: (head_dim as f64).sqrt().recip(),
                softcap: None,
            },
            activation: Activation::read(config, "hidden_act", Activation::Gelu)?,
        })
    }

    /// # Shapes
    /// `[batch, positions, d_model]` to the same.
    pub(crate) fn forward(&self, x: &Tensor, tap: Tap<'_>) -> ControlFlow<Tensor, Tensor> {
        let (batch, positions, d_model) =
            x.size3().expect("a residual stream has three dimensions");
        let qkv = self.qkv.forward(&self.attention_norm.forward(x));
        let qkv = qkv.view([batch, positions, 3, self.heads, d_model / self.heads]);
        let part = |part| qkv.select(2, part);
        let attended = self.attention.forward(&part(0), &part(1), &part(2));
        let attention = tap(HookKind::AttnOut, self.attention_out.forward(&attended))?;
        let x = add(x, scaled(attention, self.scales.as_ref().map(|(scale, _)| scale)));
        let read = tap(HookKind::MlpIn, x.shallow_clone())?;
        let hidden = self.activation.forward(self.up.forward(&self.mlp_norm.forward(&read)));
        let mlp = tap(HookKind::MlpOut, self.down.forward(&hidden))?;
        let mlp = scaled(mlp, self.scales.as_ref().map(|(_, scale)| scale));
        ControlFlow::Continue(add(&x, mlp))
    }
}
