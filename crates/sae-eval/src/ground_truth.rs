//! What an SAE finds against what is there, on planted data.

use sae_config::GroundTruth;
use sae_data::{ActivationStore, PlantedTruth};
use sae_models::Sae;
use tch::{Kind, Tensor};

use crate::assignment::assign;
use crate::correlation::{slope, spearman};
use crate::evaluate::{EvaluateOptions, for_each_batch};
use crate::metrics::{check_shape, to_counts, to_f64s};
use crate::{Error, Result};

/// Cosine above which a true feature counts as recovered.
const RECOVERED: f64 = 0.9;

/// Compares an SAE with the truth of a planted store, on every row, once and in order.
///
/// `progress` is told the rows done and the rows in all, after each batch.
///
/// # Errors
/// [`Error::Dimension`] and [`Error::Setting`] if SAE, store and truth do not belong together;
/// [`Error::Empty`] for a store without rows; [`Error::Data`] for rows that cannot be read; those
/// of [`TruthMetrics`].
pub fn ground_truth(
    sae: &dyn Sae,
    store: &dyn ActivationStore,
    truth: &PlantedTruth,
    options: EvaluateOptions,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<GroundTruth> {
    let expected = truth.d_model();
    if store.d_model() != expected {
        return Err(Error::Truth { name: "d_model", expected, got: store.d_model() });
    }
    if store.n_rows() != truth.n_rows() as u64 {
        let got = usize::try_from(store.n_rows()).unwrap_or(usize::MAX);
        return Err(Error::Truth { name: "rows", expected: truth.n_rows(), got });
    }
    let n_true = truth.n_features();
    let dictionary =
        Tensor::f_from_slice(truth.dictionary())?.f_reshape([n_true as i64, expected as i64])?;
    let mut metrics = TruthMetrics::new(&sae.base().weights.w_dec, &dictionary)?;
    for_each_batch(sae, store, options, &mut |start, x| {
        let encoded = sae.encode(x)?;
        let n = x.size()[0];
        let mut active = vec![false; n as usize * n_true];
        for (row, active) in active.chunks_mut(n_true).enumerate() {
            for &feature in truth.active(start as usize + row).0 {
                active[feature as usize] = true;
            }
        }
        let active = Tensor::f_from_slice(&active)?.f_reshape([n, n_true as i64])?;
        metrics.add(&encoded.features, &active, encoded.k_hat.as_ref())?;
        progress(start + n as u64, store.n_rows());
        Ok(())
    })?;
    metrics.finish()
}

/// Comparison of a decoder and its features with a known dictionary and its activations.
///
/// Each feature of the dictionary is matched to at most one feature of the SAE, such that the sum
/// of their absolute cosines is greatest.
#[derive(Debug)]
pub struct TruthMetrics {
    n_features: i64,
    n_true: i64,
    /// Matched features of the SAE and, in the same order, of the dictionary.
    features: Tensor,
    true_features: Tensor,
    /// Absolute cosine of each match.
    cosines: Vec<f64>,
    n_active: u64,
    n_truly_active: u64,
    n_both: u64,
    l0: Vec<f64>,
    true_k: Vec<f64>,
    k_hat: Vec<f64>,
}

impl TruthMetrics {
    /// Matches a decoder to a dictionary; no rows yet.
    ///
    /// # Shapes
    /// decoder `[n_features, d_model]`, dictionary `[n_true, d_model]`; any float kind, any device.
    ///
    /// # Errors
    /// [`Error::Shape`] and [`Error::Setting`]; [`Error::NotFinite`] for a direction with a NaN or an infinity.
    pub fn new(decoder: &Tensor, dictionary: &Tensor) -> Result<Self> {
        let (size, got) = (dictionary.size(), decoder.size());
        let &[n_true, d_model] = &size[..] else {
            let expected = "shape [n_true, d_model]".to_owned();
            return Err(Error::Setting { name: "dictionary", expected, got: format!("{size:?}") });
        };
        let n_features = got.first().copied().unwrap_or_default();
        check_shape("decoder", decoder, &[n_features, d_model])?;
        let (decoder, dictionary) =
            (unit_rows("decoder", decoder)?, unit_rows("dictionary", dictionary)?);
        // The assignment wants no more rows than columns.
        let is_wide = n_true <= n_features;
        let (rows, columns) =
            if is_wide { (&dictionary, &decoder) } else { (&decoder, &dictionary) };
        let (n_rows, n_columns) = (rows.size()[0] as usize, columns.size()[0] as usize);
        let weights = to_f64s(&rows.f_matmul(&columns.f_transpose(0, 1)?)?.f_abs()?)?;
        let assigned = assign(&weights, n_rows, n_columns);
        let matches = assigned.iter().enumerate();
        let cosines = matches.map(|(row, column)| weights[row * n_columns + column]).collect();
        let all: Vec<i64> = (0..n_rows as i64).collect();
        let assigned: Vec<i64> = assigned.into_iter().map(|column| column as i64).collect();
        let (all, assigned) = (Tensor::f_from_slice(&all)?, Tensor::f_from_slice(&assigned)?);
        let (features, true_features) = if is_wide { (assigned, all) } else { (all, assigned) };
        Ok(Self {
            n_features,
            n_true,
            features,
            true_features,
            cosines,
            n_active: 0,
            n_truly_active: 0,
            n_both: 0,
            l0: vec![],
            true_k: vec![],
            k_hat: vec![],
        })
    }

    /// Adds a batch. A feature, true or not, is active where its value is above 0.
    ///
    /// # Shapes
    /// features `[batch, n_features]`, truth `[batch, n_true]`, k̂ `[batch]`; any kind, any device.
    ///
    /// # Errors
    /// [`Error::Shape`]. After an error the metrics are of no use.
    pub fn add(&mut self, features: &Tensor, truth: &Tensor, k_hat: Option<&Tensor>) -> Result<()> {
        let n = features.size().first().copied().unwrap_or_default();
        check_shape("features", features, &[n, self.n_features])?;
        check_shape("truth", truth, &[n, self.n_true])?;
        if let Some(k_hat) = k_hat {
            check_shape("k_hat", k_hat, &[n])?;
            self.k_hat.extend(to_f64s(k_hat)?);
        }
        let _guard = tch::no_grad_guard();
        let active = features.f_gt(0.0)?.f_to_device(tch::Device::Cpu)?;
        let truly = truth.f_gt(0.0)?.f_to_device(tch::Device::Cpu)?;
        let both = active
            .f_index_select(1, &self.features)?
            .f_logical_and(&truly.f_index_select(1, &self.true_features)?)?;
        let of_rows = |mask: &Tensor| -> Result<Vec<u64>> {
            to_counts(&mask.f_sum_dim_intlist(1, false, Kind::Int64)?)
        };
        let (l0, true_k) = (of_rows(&active)?, of_rows(&truly)?);
        self.n_active += l0.iter().sum::<u64>();
        self.n_truly_active += true_k.iter().sum::<u64>();
        self.n_both += of_rows(&both)?.iter().sum::<u64>();
        self.l0.extend(l0.iter().map(|&l0| l0 as f64));
        self.true_k.extend(true_k.iter().map(|&k| k as f64));
        Ok(())
    }

    /// The comparison over all rows given.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was none.
    pub fn finish(&self) -> Result<GroundTruth> {
        if self.l0.is_empty() {
            return Err(Error::Empty { what: "rows" });
        }
        let n_recovered = self.cosines.iter().filter(|&&cosine| cosine > RECOVERED).count();
        let share = |n: f64, of: f64| if of > 0.0 { n / of } else { 0.0 };
        let has_k_hat = self.k_hat.len() == self.l0.len();
        let with_k_hat = |f: fn(&[f64], &[f64]) -> Option<f64>| {
            has_k_hat.then(|| f(&self.true_k, &self.k_hat)).flatten()
        };
        Ok(GroundTruth {
            n_true_features: self.n_true as u64,
            mean_matched_cosine: share(self.cosines.iter().sum(), self.n_true as f64),
            recovered_above_0_9: share(n_recovered as f64, self.n_true as f64),
            support_precision: share(self.n_both as f64, self.n_active as f64),
            support_recall: share(self.n_both as f64, self.n_truly_active as f64),
            spearman_l0_true_l0: spearman(&self.true_k, &self.l0),
            slope_l0: slope(&self.true_k, &self.l0),
            spearman_k_hat: with_k_hat(spearman),
            slope_k_hat: with_k_hat(slope),
        })
    }
}

/// Each row over its norm, in f64 on the CPU; a row of zeros stays one.
fn unit_rows(name: &'static str, matrix: &Tensor) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let matrix = matrix.f_detach()?.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Double)?;
    let norms = matrix.f_norm_scalaropt_dim(2.0, 1i64, true)?;
    if let Some((row, &got)) = (0..).zip(&to_f64s(&norms)?).find(|(_, norm)| !norm.is_finite()) {
        return Err(Error::NotFinite { name, row, got });
    }
    Ok(matrix.f_div(&norms.f_clamp_min(f64::MIN_POSITIVE)?)?)
}
