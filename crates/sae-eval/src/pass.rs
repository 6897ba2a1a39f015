//! One pass over a store: each batch is read, encoded and decoded once, and every observer sees it.

use sae_data::{ActivationStore, Ports};
use sae_models::{ModelConfig, Sae, SparseCoder, SparseCodes};
use tch::{Kind, Tensor};

use crate::metrics::to_f64s;
use crate::{Error, Result};

/// How a store is gone through.
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

/// Rows of a store, and what an SAE makes of them.
#[derive(Debug, Clone, Copy)]
pub struct EvalBatch<'a> {
    /// Number of the first row in the store.
    pub first_row: u64,
    /// The rows, `[batch, d_model]`.
    pub x: &'a Tensor,
    /// What is to be rebuilt of them, `[batch, d_out]`: x itself, but for a transcoder.
    pub target: &'a Tensor,
    /// The reconstructions, `[batch, d_out]`.
    pub x_hat: &'a Tensor,
    /// Their features, batch × n_features.
    pub features: Features<'a>,
    /// `[batch]`: the number of features chosen for each row, before rounding, where the
    /// architecture chooses one.
    pub k_hat: Option<&'a Tensor>,
}

/// The features of a batch, as the model's engine gives them.
#[derive(Debug, Clone, Copy)]
pub enum Features<'a> {
    /// The features that are not 0, row by row.
    Sparse(&'a SparseCodes),
    /// `[batch, n_features]`.
    Dense(&'a Tensor),
}

impl Features<'_> {
    /// The number of active features of each row: those that are not 0.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn l0(&self) -> Result<Vec<f64>> {
        match self {
            Self::Sparse(codes) => {
                let active = |row| codes.row(row).1.iter().filter(|value| **value != 0.0).count();
                Ok((0..codes.n_rows()).map(|row| active(row) as f64).collect())
            }
            Self::Dense(features) => {
                let active = features.f_ne(0.0)?;
                to_f64s(&active.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?)
            }
        }
    }

    /// Calls `found` with the row and the number of every active feature, row by row.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn for_each_active(&self, mut found: impl FnMut(usize, usize)) -> Result<()> {
        self.for_each_value(|row, feature, _| found(row, feature))
    }

    /// As [`Self::for_each_active`], with the feature's activation.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn for_each_value(&self, mut found: impl FnMut(usize, usize, f32)) -> Result<()> {
        match self {
            Self::Sparse(codes) => {
                for row in 0..codes.n_rows() {
                    let (indices, values) = codes.row(row);
                    let active = indices.iter().zip(values).filter(|(_, value)| **value != 0.0);
                    active.for_each(|(&feature, &value)| found(row, feature as usize, value));
                }
            }
            Self::Dense(features) => {
                let features = features.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?;
                let places = features.f_ne(0.0)?.f_nonzero()?;
                let places = Vec::<i64>::try_from(places.f_flatten(0, -1)?)?;
                let values = Vec::<f32>::try_from(features.f_masked_select(&features.f_ne(0.0)?)?)?;
                for (at, value) in places.chunks_exact(2).zip(values) {
                    found(at[0] as usize, at[1] as usize, value);
                }
            }
        }
        Ok(())
    }
}

/// What measures something of every batch of a pass.
pub trait Observer {
    /// Takes in a batch; batches come in the order of the store, each once.
    ///
    /// # Errors
    /// A batch that does not fit or is not finite. After an error the observer is of no use.
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()>;
}

/// Encodes and decodes every row of a store, once and in order, and shows each batch to all
/// observers; of a transcoder with the rows of its target, as [`zip`](fn@sae_data::zip) gives them.
///
/// `progress` is told the rows done and the rows in all, after each batch.
///
/// # Errors
/// [`Error::Dimension`] if the SAE is of other dimensions, [`Error::Ports`] for a transcoder without
/// a target or an SAE with one; [`Error::Data`] for rows that cannot be
/// read; those of the observers.
pub fn observe<'a>(
    sae: &Sae,
    stores: impl Into<Ports<&'a dyn ActivationStore>>,
    options: EvaluateOptions,
    observers: &mut [&mut dyn Observer],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    observe_from(0, sae, stores, options, observers, progress)
}

/// As [`observe`], from a row on: observers have seen those before it, in batches of the same size.
///
/// # Errors
/// As [`observe`].
pub fn observe_from<'a>(
    first_row: u64,
    sae: &Sae,
    stores: impl Into<Ports<&'a dyn ActivationStore>>,
    options: EvaluateOptions,
    observers: &mut [&mut dyn Observer],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let stores = stores.into();
    check_ports(sae.config(), &stores)?;
    if options.batch_size == 0 {
        let expected = "at least 1".to_owned();
        return Err(Error::Setting { name: "batch_size", expected, got: "0".to_owned() });
    }
    let n_rows = stores.input.n_rows();
    let mut buffer = Vec::new();
    let mut forward = Forward::new(sae);
    let mut done = first_row;
    while done < n_rows {
        let n = (n_rows - done).min(options.batch_size as u64);
        let batch = stores.try_map(|store| {
            buffer.resize(n as usize * store.d_model(), 0.0_f32);
            store.read_rows(done, &mut buffer)?;
            let rows = Tensor::f_from_slice(&buffer)?
                .f_reshape([n as i64, store.d_model() as i64])?
                .f_to_device(sae.device())?
                .f_to_kind(sae.kind())?;
            Ok::<_, Error>(rows)
        })?;
        let (x, target) = (&batch.input, batch.output());
        forward.apply(sae, x, |x_hat, features, k_hat| {
            let batch = EvalBatch { first_row: done, x, target, x_hat, features, k_hat };
            observers.iter_mut().try_for_each(|observer| observer.see(&batch))
        })?;
        done += n;
        progress(done, n_rows);
    }
    Ok(())
}

/// Checks that there is a store for each port of a model, of its dimension, and as many targets as
/// inputs.
fn check_ports(config: &ModelConfig, stores: &Ports<&dyn ActivationStore>) -> Result<()> {
    let (expected, got) = (config.d_model, stores.input.d_model());
    if expected != got {
        return Err(Error::Dimension { expected, got, of: "the store" });
    }
    match (config.d_out, stores.target) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(Error::Ports { expected: "a target: the model is a transcoder" }),
        (None, Some(_)) => {
            Err(Error::Ports { expected: "no target: the model rebuilds its input" })
        }
        (Some(expected), Some(target)) => {
            let got = target.d_model();
            if expected != got {
                return Err(Error::Dimension { expected, got, of: "the target" });
            }
            match target.n_rows() == stores.input.n_rows() {
                true => Ok(()),
                false => {
                    Err(Error::Ports { expected: "as many rows of the target as of the input" })
                }
            }
        }
    }
}

/// Encodes and decodes by sparse kernels where they apply, else by the model's tensors.
pub(crate) struct Forward(Option<SparseCoder>);

impl Forward {
    pub(crate) fn new(sae: &Sae) -> Self {
        Self(SparseCoder::applies(sae).then(SparseCoder::default))
    }

    /// Gives `then` reconstructions, features and k̂ of x `[batch, d_model]`.
    pub(crate) fn apply<T>(
        &mut self,
        sae: &Sae,
        x: &Tensor,
        then: impl FnOnce(&Tensor, Features<'_>, Option<&Tensor>) -> Result<T>,
    ) -> Result<T> {
        if let Some(coder) = &mut self.0 {
            let encoded = coder.encode(sae, x)?;
            let x_hat = coder.decode(sae, &encoded)?;
            return then(&x_hat, Features::Sparse(&encoded.codes), encoded.k_hat.as_ref());
        }
        let _guard = tch::no_grad_guard();
        let encoded = sae.encode(x)?;
        let x_hat = sae.decode(&encoded)?;
        then(&x_hat, Features::Dense(&encoded.features), encoded.k_hat.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn sparse_and_dense_features_tell_the_same(
            values in prop::collection::vec(prop_oneof![3 => Just(0.0_f32), 1 => -1.0_f32..2.0], 24),
        ) {
            let at: Vec<usize> = (0..24).filter(|&at| values[at] != 0.0).collect();
            let indptr = (0..=4).map(|row| at.partition_point(|at| *at < 6 * row)).collect();
            let indices = at.iter().map(|at| (at % 6) as u32).collect();
            let kept = at.iter().map(|at| values[*at]).collect();
            let codes = SparseCodes::from_parts(6, indptr, indices, kept).unwrap();
            let dense = Tensor::from_slice(&values).reshape([4, 6]);
            let expected: Vec<(usize, usize)> =
                (0..24).filter(|&at| values[at] != 0.0).map(|at| (at / 6, at % 6)).collect();
            for features in [Features::Sparse(&codes), Features::Dense(&dense)] {
                let mut active = Vec::new();
                features.for_each_active(|row, feature| active.push((row, feature))).unwrap();
                prop_assert_eq!(&active, &expected);
                let count = |row| active.iter().filter(|at| at.0 == row).count() as f64;
                prop_assert_eq!(features.l0().unwrap(), (0..4).map(count).collect::<Vec<_>>());
            }
        }
    }
}
