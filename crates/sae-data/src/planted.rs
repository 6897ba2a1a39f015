//! Activations made of known features, to measure what an SAE finds against what is there.
//!
//! A row is Σ_j a_j d_j + manifold + offset + noise, where the d_j are unit vectors and the number
//! of active features varies from row to row; or one of SynthSAEBench's distributions, whose
//! features are correlated, form a hierarchy and fire as often as Zipf's law says.

mod config;
mod forest;
mod generator;
mod normal;
mod orthogonal;
mod random;
mod saelens;
mod sampler;
mod synth;
mod torch_random;
mod truth;
mod world;

pub use config::{Manifolds, PlantedConfig};
pub use generator::PlantStage;
pub use synth::SynthConfig;
pub use truth::PlantedTruth;

/// The host, and the hook point, of planted rows.
pub(crate) const PLANTED: &str = "planted";
