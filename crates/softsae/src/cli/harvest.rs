//! Arguments of `harvest`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use sae_data::Compression;

use super::corpus::CorpusArgs;

#[derive(Debug, Args)]
#[command(after_help = "Example:
  softsae harvest --host SmolLM2-135M-Instruct.Q4_1.gguf --text austen.txt \\
      --hook resid_post.15 --out stores/austen
  softsae harvest --host SmolLM2-135M-Instruct.Q4_1.gguf --corpus shards \\
      --files 'train-*.parquet' \\
      --shuffle 0 --split train --packed --hook resid_post.15 --out stores/web
  softsae harvest --host SmolLM2-135M-Instruct.Q4_1.gguf --text austen.txt \\
      --hook mlp_in.15 --hook mlp_out.15 --out stores/austen
  softsae harvest --host dinov2-small --images photos --hook resid_post.5 --out stores/photos
  softsae harvest --host vit_s_focus.onnx --images photos --background white --positions all \\
      --hook resid_post.8 --out stores/photos

Images need a host folder with preprocessor_config.json, or an ONNX file of DINOv2.")]
#[command(group(clap::ArgGroup::new("input").required(true).args(["text", "corpus", "images"])))]
pub(crate) struct HarvestArgs {
    /// Host model: a GGUF file, a folder with config.json and model.safetensors, or an ONNX file of
    /// DINOv2, local or on the hub (hf:OWNER/NAME, hf:OWNER/NAME/PATH@REVISION)
    #[arg(long, value_name = "PATH")]
    pub(crate) host: PathBuf,
    /// UTF-8 text file, for a language model; may be given several times
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Vec<PathBuf>,
    #[command(flatten)]
    pub(crate) corpus: CorpusArgs,
    /// Folder of images (PNG, JPEG, WebP, BMP; folders in it too), for a vision model
    #[arg(long, value_name = "DIR")]
    pub(crate) images: Option<PathBuf>,
    /// Hook point: embed, resid_pre.L, resid_post.L, attn_out.L, mlp_in.L or mlp_out.L, or
    /// TransformerLens's name of it (blocks.L.hook_resid_post); may be given several times, and with *
    /// in the place of the layer for all layers
    #[arg(long, value_name = "HOOK", required = true)]
    pub(crate) hook: Vec<String>,
    /// Folder of the new store; of several hook points or a *, folder of the stores, each named as its
    /// hook point. A harvest that was stopped goes on there
    #[arg(long, value_name = "DIR")]
    pub(crate) out: PathBuf,
    /// Tokens read of each text or document at most; default: all
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) max_tokens: Option<u64>,
    /// Tokens a context; default: 128, or as many as the host has positions
    #[arg(long, value_name = "N", conflicts_with = "images")]
    pub(crate) context_length: Option<usize>,
    /// First positions of each context left out of the store (position 0 carries massive activations)
    #[arg(long, value_name = "N", default_value_t = 1, conflicts_with = "images")]
    pub(crate) skip_positions: usize,
    /// Beginning-of-text token at the front of each context, as its position 0
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t = BosPolicy::Auto,
        default_missing_value = "always",
        num_args = 0..=1,
        conflicts_with = "images"
    )]
    pub(crate) bos: BosPolicy,
    /// Rows of special tokens that stand in the texts
    #[arg(
        long,
        value_enum,
        value_name = "WHAT",
        default_value_t = SpecialTokens::Drop,
        conflicts_with = "images"
    )]
    pub(crate) special_tokens: SpecialTokens,
    /// Element type of the store
    #[arg(long, value_enum, default_value_t = HarvestDtype::F32)]
    pub(crate) dtype: HarvestDtype,
    /// Compress the store: zstd or zstd:LEVEL, from 1 to 22
    #[arg(long, value_name = "zstd[:LEVEL]")]
    pub(crate) compress: Option<Compression>,
    /// Positions of each image that are stored
    #[arg(long, value_enum, default_value_t = Positions::Patches, conflicts_with_all = ["text", "corpus"])]
    pub(crate) positions: Positions,
    /// What is seen through transparent pixels
    #[arg(long, value_enum, default_value_t = Background::Stored, conflicts_with_all = ["text", "corpus"])]
    pub(crate) background: Background,
    /// Leave out images that cannot be decoded, count and list them, instead of stopping at the first
    #[arg(long, conflicts_with_all = ["text", "corpus"])]
    pub(crate) skip_broken: bool,
    /// Stop after this many images, by name
    #[arg(long, value_name = "N", conflicts_with_all = ["text", "corpus"])]
    pub(crate) max_images: Option<NonZeroUsize>,
    /// Where to compute: cpu, cuda or cuda:N
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: String,
}

/// When a host's beginning-of-text token leads each context.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum BosPolicy {
    /// Where the host's own tokenizer puts it before a text
    Auto,
    /// With every host that has one; others are refused
    Always,
    /// With none
    Never,
}

impl From<BosPolicy> for sae_hosts::Bos {
    fn from(policy: BosPolicy) -> Self {
        match policy {
            BosPolicy::Auto => Self::Auto,
            BosPolicy::Always => Self::Always,
            BosPolicy::Never => Self::Never,
        }
    }
}

/// What is done with special tokens that stand in a text.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum SpecialTokens {
    /// The host reads them, and that is all
    Drop,
    /// They are tokens like all others
    Keep,
}

impl From<SpecialTokens> for sae_hosts::SpecialTokens {
    fn from(what: SpecialTokens) -> Self {
        match what {
            SpecialTokens::Drop => Self::Dropped,
            SpecialTokens::Keep => Self::Kept,
        }
    }
}

/// An element type of stores that are harvested.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum HarvestDtype {
    F32,
    F16,
    Bf16,
    /// From -127 to 127, with a scale for each row
    Int8,
}

impl From<HarvestDtype> for sae_data::Dtype {
    fn from(dtype: HarvestDtype) -> Self {
        match dtype {
            HarvestDtype::F32 => Self::F32,
            HarvestDtype::F16 => Self::F16,
            HarvestDtype::Bf16 => Self::BF16,
            HarvestDtype::Int8 => Self::Int8,
        }
    }
}

/// Which positions of an image are stored.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Positions {
    /// The class token and the patches
    All,
    /// The class token
    Class,
    /// The patches
    Patches,
}

impl From<Positions> for sae_hosts::ImagePositions {
    fn from(positions: Positions) -> Self {
        match positions {
            Positions::All => Self::All,
            Positions::Class => Self::Class,
            Positions::Patches => Self::Patches,
        }
    }
}

/// What is seen through the transparent pixels of an image.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Background {
    /// The colours that the file has for them, as if all were opaque
    Stored,
    White,
    Black,
}

impl From<Background> for sae_hosts::Background {
    fn from(background: Background) -> Self {
        match background {
            Background::Stored => Self::Stored,
            Background::White => Self::White,
            Background::Black => Self::Black,
        }
    }
}
