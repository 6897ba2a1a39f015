//! Activation stores, exact statistics and a shuffled, resumable loader.

#![doc = include_str!("../README.md")]

mod concatenation;
mod convert;
mod directory;
mod dtype;
mod error;
mod file_hash;
mod flat;
mod foreign;
mod header;
mod inspection;
mod loader;
mod manifest;
mod native;
mod natural;
mod norms;
mod npy;
mod npy_writer;
mod output_lock;
mod plan;
mod planted;
mod prefetch;
mod range;
mod row_list;
mod saev;
mod safetensors_header;
mod scratch;
mod selection;
mod shard;
mod sidecar;
mod source;
mod statistics;
mod store;
mod writer;

pub use concatenation::Concatenation;
pub use convert::{Format, convert};
pub use dtype::Dtype;
pub use error::{Error, Result};
pub use file_hash::file_hash;
pub use header::{FlatHeader, HeaderMismatch};
pub use inspection::{Inspection, NormBin, OutlierDimension, OutlierPosition};
pub use loader::{Loader, LoaderConfig, LoaderPosition};
pub use manifest::{Manifest, Shard};
pub use npy_writer::NpyWriter;
pub use output_lock::OutputLock;
pub use planted::{Manifolds, PlantedConfig, PlantedTruth, SynthConfig};
pub use row_list::read_row_list;
pub use selection::Selection;
pub use statistics::Statistics;
pub use store::{ActivationStore, Provenance, RowMeta, open_store};
pub use writer::{StoreSpec, StoreWriter};
