//! Training of sparse autoencoders.

mod dead;
mod engine;
mod error;
mod fast;
mod geometric_median;
mod optimizer;
mod report;
mod rules;
mod schedule;
mod state;
mod trainer;

pub use error::{Error, Result};
pub use fast::Profile;
pub use report::{Step, StepReport};
pub use trainer::Trainer;
