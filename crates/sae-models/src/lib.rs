//! Sparse autoencoders over libtorch tensors: architectures, normalisation, checkpoints.

#![doc = include_str!("../README.md")]

mod architectures;
mod build;
mod checkpoint;
mod codes;
mod config;
mod error;
mod init;
mod interop;
mod normalizer;
mod parameters;
mod sae;
mod select;
mod selection;
mod sparse;
mod tensors;
mod trained_on;

pub use architectures::Estimator;
pub use build::{build, init, init_ports, rebuild};
pub use checkpoint::{
    CONFIG_FILE, WEIGHTS_FILE, checkpoint_hash, checkpoint_origin, load_checkpoint, save_checkpoint,
};
pub use codes::Codes;
pub use config::ModelConfig;
pub use error::{Error, Result};
pub use init::InitRng;
pub use interop::{Exported, Format, Imported, Origin, export, import};
pub use normalizer::{Normalizer, RowScale};
pub use parameters::{Parameters, Role};
pub use sae::{Encoded, Sae};
pub use sae_kernels::SparseCodes;
pub use select::{top_k_of_batch_mask, top_k_of_rows_mask, top_k_rows_mask};
pub use selection::{Largest, Selection};
pub use sparse::{Products, SparseCoder, SparseEncoded};
pub use tensors::{Tensors, read_tensors, read_tensors_of_hash, write_tensors};
pub use trained_on::{OriginDifference, TrainedOn};
