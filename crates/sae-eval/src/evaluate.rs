//! Fidelity and sparsity of an SAE on the rows of an activation store.

use sae_config::Evaluation;
use sae_data::{ActivationStore, Ports};
use sae_models::Sae;

use crate::{EvaluateOptions, Metrics, Result, observe};

/// Evaluates an SAE on every row of a store, once and in order: fidelity, sparsity and k̂.
///
/// What takes other observers ([`observe`]) or a host and text
/// ([`cross_entropy`](crate::cross_entropy)) is absent. `progress` is told the rows done and the rows
/// in all, after each batch.
///
/// # Errors
/// Those of [`observe`] and of [`Metrics`]; [`Error::Empty`](crate::Error::Empty) for a store
/// without rows.
pub fn evaluate<'a>(
    sae: &Sae,
    stores: impl Into<Ports<&'a dyn ActivationStore>>,
    options: EvaluateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Evaluation> {
    let mut metrics = Metrics::new(sae.config().output_dimension(), sae.config().n_features);
    observe(sae, stores, options, &mut [&mut metrics], progress)?;
    metrics.finish()
}
