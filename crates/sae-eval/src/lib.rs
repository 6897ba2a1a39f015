//! Evaluation of sparse autoencoders: fidelity, sparsity, cross-entropy recovered.
#![doc = include_str!("../README.md")]

mod allocation;
mod assignment;
mod complexity;
mod correlation;
mod cross_entropy;
mod error;
mod evaluate;
mod features;
mod ground_truth;
mod images;
mod intrinsic_dimension;
mod latent_scores;
mod metrics;
mod moments;
mod monosemanticity;
mod pass;
mod probing;
mod profile;
mod reconstruction;
mod sparsity;
mod stability;
mod tpp;

pub use allocation::AllocationObserver;
pub use complexity::ComplexityObserver;
pub use cross_entropy::{CrossEntropyOptions, cross_entropy, cross_entropy_of_tokens};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use features::{DescribeOptions, FeatureDescriber, FeatureObserver};
pub use ground_truth::{TruthMetrics, TruthObserver};
pub use images::{ImageSpliceOptions, splice_images};
pub use metrics::Metrics;
pub use monosemanticity::monosemanticity;
pub use pass::{EvalBatch, EvaluateOptions, Features, Observer, observe, observe_from};
pub use probing::{Probe, ProbeScores, SparseProbe, sparse_probing};
pub use profile::ProfileObserver;
pub use stability::{ActiveFeatures, compare};
pub use tpp::{Perturbation, targeted_probe_perturbation};
