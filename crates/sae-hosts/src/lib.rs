//! Host models over libtorch with hook points: read, replace and harvest activations.

#![doc = include_str!("../README.md")]

mod config;
mod contexts;
pub mod corpus;
mod error;
mod families;
mod gguf;
mod harvest;
mod hook;
mod host;
mod hub;
mod huggingface;
mod images;
mod layers;
mod live;
mod onnx;
mod text;
mod tokenizer;
mod weights;

pub use contexts::{Context, ContextPosition, ContextRows, Contexts, Cut};
pub use error::{Error, Result};
pub use gguf::{GgufArray, GgufFile, GgufValue};
pub use harvest::of_host as host_provenance;
pub use harvest::{
    HarvestOptions, HarvestProgress, HostRows, ImageOptions, harvest, harvest_at, harvest_corpus,
    harvest_images, harvest_images_at,
};
pub use hook::{HookKind, HookPoint};
pub use host::{HostInfo, HostInput, HostModel, Prefix};
pub use hub::pin_host;
pub use images::{Background, Image, ImageProcessor};
pub use layers::Past;
pub use live::Live;
pub use sae_config::ImagePositions;
pub use text::Text;
pub use tokenizer::{Bos, HostTokenizer, SpecialTokens};
