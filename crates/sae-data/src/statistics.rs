//! Exact statistics of a store: one pass, sums in f64, the same on any number of threads.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::norms::{
    for_each_piece, norm, piece_rows, quantile_sorted, row_norms, sorted, squared_norm,
};
use crate::{ActivationStore, Error, Result, sidecar};

/// What training and reports need to know of a store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statistics {
    /// Number of rows.
    pub n_rows: u64,
    /// Mean row μ, `[d_model]`.
    pub mean: Vec<f64>,
    /// Variance of each dimension over rows (divided by the number of rows), `[d_model]`.
    pub variance: Vec<f64>,
    /// E‖x‖².
    pub mean_squared_norm: f64,
    /// E‖x − μ‖².
    pub mean_squared_centred_norm: f64,
    /// E‖x‖.
    pub mean_norm: f64,
    /// Median of ‖x‖ over all rows, those of zeros too.
    pub median_norm: f64,
    /// Smallest ‖x‖.
    pub min_norm: f64,
    /// Largest ‖x‖.
    pub max_norm: f64,
}

impl Statistics {
    /// Reads the whole store once.
    ///
    /// Centred sums are merged piece by piece (Chan, Golub & LeVeque 1983), so that a mean far
    /// from zero costs no digits.
    ///
    /// # Errors
    /// No rows; a row that cannot be read or is not finite.
    pub fn of(store: &dyn ActivationStore) -> Result<Self> {
        if store.n_rows() == 0 {
            return Err(Error::value("store", "at least one row", 0));
        }
        let d_model = store.d_model();
        let mut total = Moments::zero(d_model);
        let mut norms = Vec::new();
        for_each_piece(
            store,
            |start, rows| Ok((Moments::of(rows, d_model), row_norms(store, start, rows)?)),
            |(piece, piece_norms)| {
                total.merge(&piece);
                norms.extend(piece_norms);
            },
        )?;
        Ok(total.finish(&sorted(&norms)))
    }

    /// Of rows in memory: to the bit those of a store that holds them.
    ///
    /// # Shapes
    /// `rows` is `[n, d_model]`, row-major.
    ///
    /// # Errors
    /// No rows; the first that is not finite, or too large for its norm to be measured.
    pub fn of_rows(rows: &[f32], d_model: usize) -> Result<Self> {
        if rows.is_empty() || !rows.len().is_multiple_of(d_model) {
            let expected = format!("at least one row, and a multiple of d_model {d_model}");
            return Err(Error::value("rows.len()", expected, rows.len()));
        }
        let norms: Vec<f32> = rows.par_chunks(d_model).map(norm).collect();
        if let Some(row) = norms.iter().position(|norm| !norm.is_finite()) {
            let expected = format!("a norm of at most {:e}", f32::MAX);
            return Err(Error::value(format!("row {row}"), expected, norms[row]));
        }
        let pieces = rows.par_chunks(piece_rows(d_model) * d_model);
        let pieces: Vec<Moments> = pieces.map(|rows| Moments::of(rows, d_model)).collect();
        let mut total = Moments::zero(d_model);
        pieces.iter().for_each(|piece| total.merge(piece));
        Ok(total.finish(&sorted(&norms)))
    }

    /// The same, kept in a hidden file beside the store under the hash of its rows, so that a
    /// store is read once however often it is used. A store that cannot be written to is measured
    /// anew each time.
    ///
    /// # Errors
    /// As [`Statistics::of`].
    pub fn cached(store: &dyn ActivationStore) -> Result<Self> {
        let Some(path) = store.path() else { return Self::of(store) };
        let hash = store.content_hash()?;
        let sidecar = sidecar::path(path, &format!("statistics-{}.json", &hash[..16]));
        let belongs = |s: &Self| s.n_rows == store.n_rows() && s.mean.len() == store.d_model();
        if let Some(found) = sidecar::read(&sidecar).filter(belongs) {
            return Ok(found);
        }
        let statistics = Self::of(store)?;
        sidecar::write(&sidecar, &statistics);
        Ok(statistics)
    }
}

/// Count, mean and centred sums of squares of some rows.
pub(crate) struct Moments {
    pub(crate) n: f64,
    pub(crate) n_rows: u64,
    pub(crate) mean: Vec<f64>,
    /// Σ (x − mean)² for each dimension.
    pub(crate) centred: Vec<f64>,
    pub(crate) squared_norms: f64,
}

impl Moments {
    pub(crate) fn zero(d_model: usize) -> Self {
        let zeros = vec![0.0; d_model];
        Self { n: 0.0, n_rows: 0, mean: zeros.clone(), centred: zeros, squared_norms: 0.0 }
    }

    pub(crate) fn of(rows: &[f32], d_model: usize) -> Self {
        let mut moments = Self::zero(d_model);
        let n_rows = rows.len() / d_model;
        (moments.n, moments.n_rows) = (n_rows as f64, n_rows as u64);
        for row in rows.chunks(d_model) {
            moments.squared_norms += squared_norm(row);
            for (sum, &x) in moments.mean.iter_mut().zip(row) {
                *sum += f64::from(x);
            }
        }
        moments.mean.iter_mut().for_each(|sum| *sum /= moments.n);
        for row in rows.chunks(d_model) {
            for ((sum, &x), mean) in moments.centred.iter_mut().zip(row).zip(&moments.mean) {
                let difference = f64::from(x) - mean;
                *sum += difference * difference;
            }
        }
        moments
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        let n = self.n + other.n;
        let (share, weight) = (other.n / n, self.n * other.n / n);
        let means = self.mean.iter_mut().zip(&other.mean);
        for ((mean, other_mean), (sum, other_sum)) in
            means.zip(self.centred.iter_mut().zip(&other.centred))
        {
            let difference = other_mean - *mean;
            *mean += difference * share;
            *sum += other_sum + difference * difference * weight;
        }
        self.squared_norms += other.squared_norms;
        self.n = n;
        self.n_rows += other.n_rows;
    }

    fn finish(self, sorted_norms: &[f32]) -> Statistics {
        let variance: Vec<f64> = self.centred.iter().map(|sum| sum / self.n).collect();
        Statistics {
            n_rows: self.n_rows,
            mean: self.mean,
            mean_squared_norm: self.squared_norms / self.n,
            mean_squared_centred_norm: variance.iter().sum(),
            variance,
            mean_norm: sorted_norms.iter().map(|&v| f64::from(v)).sum::<f64>() / self.n,
            median_norm: quantile_sorted(sorted_norms, 0.5),
            min_norm: quantile_sorted(sorted_norms, 0.0),
            max_norm: quantile_sorted(sorted_norms, 1.0),
        }
    }
}
