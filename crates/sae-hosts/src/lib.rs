#![doc = include_str!("../README.md")]

mod config;
mod error;
mod families;
mod gguf;
mod hook;
mod host;
mod huggingface;
mod layers;
mod tokenizer;
mod weights;

pub use error::{Error, Result};
pub use gguf::{GgufArray, GgufFile, GgufValue};
pub use hook::{HookKind, HookPoint};
pub use host::{HostInfo, HostInput, HostModel, Prefix};
pub use tokenizer::HostTokenizer;
