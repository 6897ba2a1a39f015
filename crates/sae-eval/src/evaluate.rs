//! An SAE on the rows of an activation store.

use sae_config::Evaluation;
use sae_data::ActivationStore;
use sae_models::Sae;
use tch::Tensor;

use crate::{Error, Metrics, Result};

/// How [`evaluate`] goes through a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// Rows encoded at once; decides speed and memory, not the result.
    pub batch_size: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        Self { batch_size: 1024 }
    }
}

/// Evaluates an SAE on every row of a store, once and in order.
///
/// `progress` is told the rows done and the rows in all, after each batch. The result has no
/// cross-entropy, which takes a host and text: [`cross_entropy`](crate::cross_entropy).
///
/// # Errors
/// [`Error::Dimension`] if the SAE is of another `d_model`; [`Error::Empty`] for a store without
/// rows; [`Error::Data`] for rows that cannot be read; those of [`Metrics::add`] and
/// [`Metrics::finish`].
pub fn evaluate(
    sae: &dyn Sae,
    store: &dyn ActivationStore,
    options: EvaluateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Evaluation> {
    let d_model = sae.config().d_model;
    if store.d_model() != d_model {
        return Err(Error::Dimension { expected: d_model, got: store.d_model(), of: "the store" });
    }
    if options.batch_size == 0 {
        let expected = "at least 1".to_owned();
        return Err(Error::Setting { name: "batch_size", expected, got: "0".to_owned() });
    }
    let mut metrics = Metrics::new(d_model, sae.config().n_features);
    let n_rows = store.n_rows();
    let mut buffer = vec![0.0f32; options.batch_size.min(n_rows as usize) * d_model];
    let mut done = 0;
    while done < n_rows {
        let n = (n_rows - done).min(options.batch_size as u64);
        let rows = &mut buffer[..n as usize * d_model];
        store.read_rows(done, rows)?;
        let x = Tensor::f_from_slice(rows)?
            .f_reshape([n as i64, d_model as i64])?
            .f_to_device(sae.base().device())?
            .f_to_kind(sae.base().kind())?;
        let encoded = sae.encode(&x)?;
        let x_hat = sae.decode(&encoded)?;
        metrics.add(&x, &x_hat, &encoded.features, encoded.k_hat.as_ref())?;
        done += n;
        progress(done, n_rows);
    }
    metrics.finish()
}
