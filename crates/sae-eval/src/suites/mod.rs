//! The scores of the suites, each with its interval.

mod bootstrap;
mod core;
mod l0;
mod stability;

pub(crate) use self::bootstrap::{N_DRAWS, Resampler, quantiles, ratio_interval};
pub use self::core::CoreObserver;
pub use l0::{decoder_cosine, decoder_projection};
pub use stability::stability_scores;
