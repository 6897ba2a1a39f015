//! Typed TOML configuration of softsae: runs, sweeps, hosts and results.
//!
//! Every file is read strictly: an unknown key, a wrong type or a value out of
//! range is an [`Error`] that names the file, the key, what was expected and
//! what came. [`RunConfig::resolve`] writes every default into the
//! configuration, so that the file saved beside a run says everything that
//! shaped it. This crate reaches no libtorch.

mod architecture;
mod error;
mod evaluation;
mod file;
mod run;
mod training;

pub use architecture::{
    ArchitectureConfig, AuxKConfig, BatchTopKConfig, Budget, GatedConfig, JumpReluConfig,
    KEstimator, MatryoshkaBatchTopKConfig, PAnnealConfig, SelectionGradient, SoftConfig,
    SparsityFunction, StandardAprilConfig, StandardConfig, TopKConfig,
};
pub use error::{Error, Result};
pub use evaluation::{
    CrossEntropy, Evaluation, KHatStatistics, Reconstruction, RunResult, RunStatus, Sparsity,
};
pub use file::{read_json, read_toml, write_json, write_toml};
pub use run::{DataConfig, Normalization, RunConfig, SaeConfig};
pub use training::{Engine, Parity, TrainingConfig};
