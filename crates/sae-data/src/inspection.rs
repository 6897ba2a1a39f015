//! A look at a store that may be faulty: norms, non-finite values, outliers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::norms::{median_norm, row_norms, sorted};
use crate::store::to_usize;
use crate::{ActivationStore, Error, Result, RowMeta};

/// Bytes of f32 read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Bins of the histogram of norms.
const N_BINS: usize = 20;

/// A dimension whose root mean square exceeds this multiple of the median one is an outlier.
const OUTLIER_DIMENSION: f64 = 5.0;

/// A position whose mean norm exceeds this multiple of the median norm is an outlier.
const OUTLIER_POSITION: f64 = 3.0;

/// Outliers listed at most, the largest first.
const MAX_OUTLIERS: usize = 16;

/// What a store holds, rows with non-finite values counted and then left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inspection {
    /// Rows.
    pub n_rows: u64,
    /// Rows with a value that is NaN or infinite.
    pub n_non_finite_rows: u64,
    /// Share of values that are NaN or infinite.
    pub non_finite_fraction: f64,
    /// Rows of zeros.
    pub n_zero_rows: u64,
    /// Mean norm.
    pub mean_norm: f64,
    /// Median norm of the rows that are not zero, as that of [`crate::Selection::by_norm`].
    pub median_norm: f64,
    /// Histogram of norms: bins equally wide in log norm from the smallest to the largest.
    pub norms: Vec<NormBin>,
    /// Dimensions with a root mean square above 5 times the median one of those that are not zero
    /// throughout, at most 16.
    pub outlier_dimensions: Vec<OutlierDimension>,
    /// Positions with a mean norm above 3 times the median norm, at most 16.
    pub outlier_positions: Vec<OutlierPosition>,
}

/// A bin of the histogram of norms.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NormBin {
    /// Smallest norm of the bin.
    pub from: f64,
    /// Where the next bin begins.
    pub to: f64,
    /// Rows in it.
    pub n_rows: u64,
}

/// A dimension much larger than most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierDimension {
    /// The dimension.
    pub dimension: usize,
    /// Its root mean square over the median one.
    pub ratio: f64,
}

/// A position whose rows are much larger than most.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutlierPosition {
    /// The position.
    pub position: u32,
    /// Its mean norm over the median norm.
    pub ratio: f64,
    /// Rows at this position.
    pub n_rows: u64,
}

impl Inspection {
    /// Reads the whole store once.
    ///
    /// # Errors
    /// A row that cannot be read or does not match its checksum.
    pub fn of(store: &dyn ActivationStore) -> Result<Self> {
        let d_model = store.d_model();
        let rows_at_once = (PIECE_BYTES / (4 * d_model)).max(1) as u64;
        let (mut rows, mut meta) = (Vec::new(), Vec::new());
        let mut seen = Seen { squares: vec![0.0; d_model], ..Seen::default() };
        let mut start = 0;
        while start < store.n_rows() {
            let n = rows_at_once.min(store.n_rows() - start);
            rows.resize(to_usize(n) * d_model, 0.0);
            meta.resize(to_usize(n), RowMeta::default());
            store.read_rows_raw(start, &mut rows)?;
            let has_meta = match store.read_meta(start, &mut meta) {
                Err(Error::NoMetadata { .. }) => false,
                other => other.map(|()| true)?,
            };
            for (row, (values, meta)) in (start..).zip(rows.chunks(d_model).zip(&meta)) {
                seen.add(store, row, values, has_meta.then_some(meta))?;
            }
            start += n;
        }
        Ok(seen.finish(store.n_rows()))
    }
}

#[derive(Default)]
struct Seen {
    norms: Vec<f32>,
    squares: Vec<f64>,
    /// Sum of norms and number of rows of each position.
    positions: BTreeMap<u32, (f64, u64)>,
    n_non_finite: u64,
    n_non_finite_rows: u64,
}

impl Seen {
    fn add(
        &mut self,
        store: &dyn ActivationStore,
        row: u64,
        values: &[f32],
        meta: Option<&RowMeta>,
    ) -> Result<()> {
        let n_non_finite = values.iter().filter(|v| !v.is_finite()).count();
        if n_non_finite > 0 {
            self.n_non_finite += n_non_finite as u64;
            self.n_non_finite_rows += 1;
            return Ok(());
        }
        let norm = row_norms(store, row, values)?[0];
        self.norms.push(norm);
        for (sum, &x) in self.squares.iter_mut().zip(values) {
            *sum += f64::from(x) * f64::from(x);
        }
        if let Some(meta) = meta {
            let (sum, n) = self.positions.entry(meta.position).or_default();
            *sum += f64::from(norm);
            *n += 1;
        }
        Ok(())
    }

    fn finish(self, n_rows: u64) -> Inspection {
        let n_values = n_rows as f64 * self.squares.len() as f64;
        let sorted_norms = sorted(&self.norms);
        let median_norm = median_norm(&sorted_norms).unwrap_or_default();
        let sum: f64 = sorted_norms.iter().map(|&v| f64::from(v)).sum();
        Inspection {
            n_rows,
            n_non_finite_rows: self.n_non_finite_rows,
            non_finite_fraction: self.n_non_finite as f64 / n_values,
            n_zero_rows: sorted_norms.partition_point(|&norm| norm <= 0.0) as u64,
            mean_norm: sum / sorted_norms.len().max(1) as f64,
            median_norm,
            norms: histogram(&sorted_norms),
            outlier_dimensions: outlier_dimensions(&self.squares),
            outlier_positions: outlier_positions(&self.positions, median_norm),
        }
    }
}

fn histogram(sorted_norms: &[f32]) -> Vec<NormBin> {
    let positive = &sorted_norms[sorted_norms.partition_point(|&v| v <= 0.0)..];
    let (Some(&min), Some(&max)) = (positive.first(), positive.last()) else {
        return Vec::new();
    };
    let (min, max) = (f64::from(min), f64::from(max));
    let edge = |i: usize| match i {
        0 => 0.0,
        N_BINS => f64::INFINITY,
        _ => min * (max / min).powf(i as f64 / N_BINS as f64),
    };
    let before = |edge: f64| sorted_norms.partition_point(|&v| f64::from(v) < edge) as u64;
    let bin = |i| NormBin {
        from: edge(i).max(f64::from(sorted_norms[0])),
        to: edge(i + 1).min(max),
        n_rows: before(edge(i + 1)) - before(edge(i)),
    };
    (0..N_BINS).map(bin).collect()
}

fn outlier_dimensions(squares: &[f64]) -> Vec<OutlierDimension> {
    let mut ascending: Vec<f64> = squares.iter().copied().filter(|&square| square > 0.0).collect();
    ascending.sort_by(f64::total_cmp);
    let Some(median) = ascending.get(ascending.len() / 2) else { return Vec::new() };
    let all = squares.iter().enumerate();
    let mut outliers: Vec<_> = all
        .map(|(dimension, square)| OutlierDimension { dimension, ratio: (square / median).sqrt() })
        .filter(|outlier| outlier.ratio > OUTLIER_DIMENSION)
        .collect();
    outliers.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    outliers.truncate(MAX_OUTLIERS);
    outliers
}

fn outlier_positions(
    positions: &BTreeMap<u32, (f64, u64)>,
    median_norm: f64,
) -> Vec<OutlierPosition> {
    if median_norm <= 0.0 {
        return Vec::new();
    }
    let mut outliers: Vec<_> = positions
        .iter()
        .map(|(&position, &(sum, n_rows))| OutlierPosition {
            position,
            ratio: sum / n_rows as f64 / median_norm,
            n_rows,
        })
        .filter(|outlier| outlier.ratio > OUTLIER_POSITION)
        .collect();
    outliers.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    outliers.truncate(MAX_OUTLIERS);
    outliers
}
