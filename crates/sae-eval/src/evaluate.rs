//! An SAE on the rows of an activation store.

use sae_config::Evaluation;
use sae_data::ActivationStore;
use sae_models::{Sae, SparseCoder};
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
    let mut metrics = Metrics::new(sae.config().d_model, sae.config().n_features);
    let mut coder = SparseCoder::applies(sae).then(SparseCoder::default);
    for_each_batch(sae, store, options, &mut |start, x| {
        if let Some(coder) = &mut coder {
            let encoded = coder.encode(sae, x)?;
            let x_hat = coder.decode(sae, &encoded)?;
            metrics.add_sparse(x, &x_hat, &encoded.codes, encoded.k_hat.as_ref())?;
        } else {
            let encoded = sae.encode(x)?;
            let x_hat = sae.decode(&encoded)?;
            metrics.add(x, &x_hat, &encoded.features, encoded.k_hat.as_ref())?;
        }
        progress(start + x.size()[0] as u64, store.n_rows());
        Ok(())
    })?;
    metrics.finish()
}

/// Reads a store in order for an SAE; `act` is given the number of the first row and the rows.
pub(crate) fn for_each_batch(
    sae: &dyn Sae,
    store: &dyn ActivationStore,
    options: EvaluateOptions,
    act: &mut dyn FnMut(u64, &Tensor) -> Result<()>,
) -> Result<()> {
    let d_model = sae.config().d_model;
    if store.d_model() != d_model {
        return Err(Error::Dimension { expected: d_model, got: store.d_model(), of: "the store" });
    }
    if options.batch_size == 0 {
        let expected = "at least 1".to_owned();
        return Err(Error::Setting { name: "batch_size", expected, got: "0".to_owned() });
    }
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
        act(done, &x)?;
        done += n;
    }
    Ok(())
}
