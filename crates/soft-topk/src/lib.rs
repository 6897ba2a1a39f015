//! Differentiable soft top-k (LapSum): weights in [0, 1] that sum to k.
#![doc = include_str!("../README.md")]

mod bottom;
mod check;
mod dense;
mod engine;
mod error;
mod hard;
mod log;
mod sparse;
#[cfg(feature = "tch")]
pub mod tensor;

pub use bottom::{SoftBottomK, soft_bottomk};
pub use dense::{Gradients, Saved, SoftTopK, soft_topk};
pub use engine::{Entry, Real};
pub use error::{Error, Result};
pub use hard::{HardTopK, hard_topk};
pub use log::{LogSoftTopK, log_soft_topk};
pub use sparse::{SparseGradients, SparseTopK, soft_topk_sparse};

pub use ndarray;
#[cfg(feature = "tch")]
pub use tch;
