//! Activation stores, exact statistics and a shuffled, resumable loader.

#![doc = include_str!("../README.md")]

mod concatenation;
mod directory;
mod dtype;
mod error;
mod flat;
mod loader;
mod manifest;
mod native;
mod norms;
mod npy;
mod plan;
mod prefetch;
mod scratch;
mod selection;
mod shard;
mod source;
mod statistics;
mod store;
mod writer;

pub use concatenation::Concatenation;
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use loader::{Loader, LoaderConfig, LoaderPosition};
pub use manifest::{Manifest, Shard};
pub use npy::{NpyHeader, NpyMismatch};
pub use selection::Selection;
pub use statistics::Statistics;
pub use store::{ActivationStore, Provenance, RowMeta, open_store};
pub use writer::{StoreSpec, StoreWriter};
