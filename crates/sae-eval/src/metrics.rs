//! All metrics of rows, reconstructions and features, batch by batch.

use sae_config::{Evaluation, KHatStatistics};
use sae_models::SparseCodes;
use tch::{Device, Kind, Tensor};

use crate::moments::Moments;
use crate::reconstruction::ReconstructionSums;
use crate::sparsity::SparsityCounts;
use crate::{Error, EvalBatch, Features, Observer, Result};

/// Metrics of everything given so far, in one pass and in f64.
///
/// How rows are cut into batches changes nothing, their order nothing but rounding.
#[derive(Debug, Clone)]
pub struct Metrics {
    d_model: usize,
    n_features: usize,
    n_rows: u64,
    reconstruction: ReconstructionSums,
    sparsity: SparsityCounts,
    k_hat: Option<KHat>,
}

#[derive(Debug, Clone)]
struct KHat {
    moments: Moments,
    min: f64,
    max: f64,
}

impl Observer for Metrics {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        match batch.features {
            Features::Sparse(codes) => {
                self.add_sparse(batch.target, batch.x_hat, codes, batch.k_hat)
            }
            Features::Dense(features) => self.add(batch.target, batch.x_hat, features, batch.k_hat),
        }
    }
}

impl Metrics {
    /// Metrics of no rows yet.
    #[must_use]
    pub fn new(d_model: usize, n_features: usize) -> Self {
        Self {
            d_model,
            n_features,
            n_rows: 0,
            reconstruction: ReconstructionSums::new(d_model),
            sparsity: SparsityCounts::new(n_features),
            k_hat: None,
        }
    }

    /// Adds a batch. A feature is active where its value is not 0.
    ///
    /// # Shapes
    /// x, x̂ `[batch, d_model]`, features `[batch, n_features]`, k̂ `[batch]`; any float kind, any
    /// device.
    ///
    /// # Errors
    /// [`Error::Shape`]; [`Error::NotFinite`] names the tensor and the row, counted over all
    /// batches, of a NaN or an infinity. After an error the metrics are of no use.
    pub fn add(
        &mut self,
        x: &Tensor,
        x_hat: &Tensor,
        features: &Tensor,
        k_hat: Option<&Tensor>,
    ) -> Result<()> {
        let n = x.size().first().copied().unwrap_or_default();
        check_shape("features", features, &[n, self.n_features as i64])?;
        let _guard = tch::no_grad_guard();
        self.add_rows(n, x, x_hat, k_hat, |metrics| metrics.add_features(features))
    }

    /// Adds a batch whose features are sparse codes.
    ///
    /// # Shapes
    /// x, x̂ `[batch, d_model]`, codes batch × n_features, k̂ `[batch]`.
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn add_sparse(
        &mut self,
        x: &Tensor,
        x_hat: &Tensor,
        codes: &SparseCodes,
        k_hat: Option<&Tensor>,
    ) -> Result<()> {
        let n = codes.n_rows() as i64;
        if codes.n_features() != self.n_features {
            let expected = vec![n, self.n_features as i64];
            let got = vec![n, codes.n_features() as i64];
            return Err(Error::Shape { name: "features", expected, got });
        }
        let _guard = tch::no_grad_guard();
        self.add_rows(n, x, x_hat, k_hat, |metrics| metrics.add_codes(codes))
    }

    fn add_rows(
        &mut self,
        n: i64,
        x: &Tensor,
        x_hat: &Tensor,
        k_hat: Option<&Tensor>,
        add_features: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        check_shape("x", x, &[n, self.d_model as i64])?;
        check_shape("x_hat", x_hat, &[n, self.d_model as i64])?;
        if let Some(k_hat) = k_hat {
            check_shape("k_hat", k_hat, &[n])?;
        }
        let (x, x_hat) = (to_f64s(x)?, to_f64s(x_hat)?);
        for (x, x_hat) in x.chunks_exact(self.d_model).zip(x_hat.chunks_exact(self.d_model)) {
            self.reconstruction.add(x, x_hat)?;
        }
        add_features(self)?;
        if let Some(k_hat) = k_hat {
            self.add_k_hat(&to_f64s(k_hat)?)?;
        }
        self.n_rows += n as u64;
        Ok(())
    }

    /// Share of rows in which each feature is active.
    #[must_use]
    pub fn firing_rates(&self) -> Vec<f64> {
        self.sparsity.firing_rates()
    }

    /// The metrics of all rows given, without cross-entropy and ground truth.
    ///
    /// # Errors
    /// [`Error::Empty`] if there was none; [`Error::NoVariance`] if all were equal.
    pub fn finish(&self) -> Result<Evaluation> {
        if self.n_rows == 0 {
            return Err(Error::Empty { what: "rows" });
        }
        Ok(Evaluation {
            n_rows: self.n_rows,
            reconstruction: self.reconstruction.finish()?,
            sparsity: self.sparsity.finish(),
            k_hat: self.k_hat.as_ref().map(|k_hat| KHatStatistics {
                mean: k_hat.moments.mean(0),
                sd: k_hat.moments.standard_deviation(0),
                min: k_hat.min,
                max: k_hat.max,
            }),
            allocation: None,
            complexity: None,
            profile: None,
            cross_entropy: None,
            images: None,
            ground_truth: None,
            scores: sae_config::Scores::new(),
            probes: Vec::new(),
            interventions: None,
            vision: None,
            suites: std::collections::BTreeMap::new(),
            elsewhere: false,
            differences: Vec::new(),
        })
    }

    /// Counts where the features lie; only one number a row and one a feature leave the device.
    fn add_features(&mut self, features: &Tensor) -> Result<()> {
        let l1 = to_f64s(&features.f_abs()?.f_sum_dim_intlist(1, false, Kind::Double)?)?;
        if let Some(row) = l1.iter().position(|l1| !l1.is_finite()) {
            let got = l1[row];
            return Err(Error::NotFinite { name: "features", row: self.n_rows + row as u64, got });
        }
        let active = features.f_ne(0.0)?;
        let l0: Vec<usize> = to_counts(&active.f_sum_dim_intlist(1, false, Kind::Int64)?)?;
        let fired: Vec<u64> = to_counts(&active.f_sum_dim_intlist(0, false, Kind::Int64)?)?;
        self.sparsity.add(&l0, &l1, &fired);
        Ok(())
    }

    fn add_codes(&mut self, codes: &SparseCodes) -> Result<()> {
        let mut fired = vec![0; self.n_features];
        let (mut l0, mut l1) = (Vec::new(), Vec::new());
        for row in 0..codes.n_rows() {
            let (indices, values) = codes.row(row);
            let sum = values.iter().map(|v| f64::from(v.abs())).sum::<f64>();
            if !sum.is_finite() {
                let row = self.n_rows + row as u64;
                return Err(Error::NotFinite { name: "features", row, got: sum });
            }
            let mut n_active = 0;
            for (&f, _) in indices.iter().zip(values).filter(|(_, v)| **v != 0.0) {
                fired[f as usize] += 1;
                n_active += 1;
            }
            l0.push(n_active);
            l1.push(sum);
        }
        self.sparsity.add(&l0, &l1, &fired);
        Ok(())
    }

    fn add_k_hat(&mut self, values: &[f64]) -> Result<()> {
        let fresh =
            || KHat { moments: Moments::new(1), min: f64::INFINITY, max: f64::NEG_INFINITY };
        let k_hat = self.k_hat.get_or_insert_with(fresh);
        for (row, &got) in (self.n_rows..).zip(values) {
            if !got.is_finite() {
                return Err(Error::NotFinite { name: "k_hat", row, got });
            }
            k_hat.moments.add(&[got]);
            k_hat.min = k_hat.min.min(got);
            k_hat.max = k_hat.max.max(got);
        }
        Ok(())
    }
}

pub(crate) fn check_shape(name: &'static str, tensor: &Tensor, expected: &[i64]) -> Result<()> {
    let got = tensor.size();
    if got != expected {
        return Err(Error::Shape { name, expected: expected.to_vec(), got });
    }
    Ok(())
}

pub(crate) fn to_f64s(tensor: &Tensor) -> Result<Vec<f64>> {
    let flat = tensor.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_flatten(0, -1)?;
    Ok(Vec::try_from(flat)?)
}

pub(crate) fn to_counts<T: TryFrom<i64> + Default>(tensor: &Tensor) -> Result<Vec<T>> {
    let counts = Vec::<i64>::try_from(tensor.f_to_device(Device::Cpu)?)?;
    // Counts of active features are never negative.
    Ok(counts.into_iter().map(|count| T::try_from(count).unwrap_or_default()).collect())
}
