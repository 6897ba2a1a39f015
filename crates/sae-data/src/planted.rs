//! Activations made of known features, to measure what an SAE finds against what is there.
//!
//! A row is Σ_j a_j d_j + manifold + offset + noise, where the d_j are unit vectors and the number
//! of active features varies from row to row.

mod config;
mod generator;
mod truth;

pub use config::{Manifolds, PlantedConfig};
pub use truth::PlantedTruth;
