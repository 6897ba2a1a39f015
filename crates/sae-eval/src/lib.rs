//! Evaluation of sparse autoencoders: fidelity, sparsity, cross-entropy recovered.
#![doc = include_str!("../README.md")]

mod allocation;
mod assignment;
mod cholesky;
mod complexity;
mod correlation;
mod cross_entropy;
mod error;
mod evaluate;
mod features;
mod ground_truth;
mod images;
mod interventions;
mod intrinsic_dimension;
mod latent_scores;
mod metrics;
mod moments;
mod monosemanticity;
mod pass;
mod probes;
mod probing;
mod profile;
mod reconstruction;
mod sparsity;
mod splice;
mod stability;
mod steering;
mod suites;
#[cfg(test)]
mod tied;
mod tpp;
mod worthless;

pub use allocation::AllocationObserver;
pub use complexity::ComplexityObserver;
pub use cross_entropy::{CrossEntropyOptions, cross_entropy, cross_entropy_of_tokens};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use features::{DescribeOptions, FeatureDescriber, FeatureObserver};
pub use ground_truth::{TruthMetrics, TruthObserver};
pub use images::{
    ImageEncoder, ImageSpliceOptions, splice_images, splice_images_of, vision_scores,
    vision_scores_of,
};
pub use interventions::{
    AttributeOptions, AttributeTable, FirstLetterOptions, FirstLetters, LossOptions, LossReport,
    disentanglement, first_letter, image_scores, intervention_scores, rebuilt_scores,
    splice_losses,
};
pub use metrics::Metrics;
pub use monosemanticity::monosemanticity;
pub use pass::{EvalBatch, EvaluateOptions, Features, Observer, observe, observe_from};
pub use probes::{LEAST_DOCUMENTS, PROBED, PooledFeatures, PoolingObserver, Probed, probe_tasks};
pub use probing::{Probe, ProbeScores, SparseProbe, sparse_probing};
pub use profile::ProfileObserver;
pub use stability::{ActiveFeatures, compare};
pub use steering::{SteerOptions, steer};
pub use suites::{CoreObserver, decoder_cosine, decoder_projection, stability_scores};
pub use tpp::{Perturbation, targeted_probe_perturbation};
pub use worthless::worthless;
