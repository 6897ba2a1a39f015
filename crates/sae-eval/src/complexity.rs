//! Whether inputs that are more complex get more features.

use sae_config::Complexity;
use tch::{Kind, Tensor};

use crate::correlation::spearman;
use crate::intrinsic_dimension::intrinsic_dimension;
use crate::{EvalBatch, Observer, Result};

/// Rows that are looked at, evenly spread: each is compared with all.
const MAX_ROWS: u64 = 16_384;

/// Intrinsic dimension of the rows of a store, and its rank correlation with numbers of features.
///
/// At most 16,384 rows, evenly spread over the store, are looked at, and kept.
#[derive(Debug)]
pub struct ComplexityObserver {
    stride: u64,
    rows: Vec<Tensor>,
    /// Active features of each row.
    counts: Vec<f64>,
}

impl ComplexityObserver {
    /// To observe a pass over a store of `n_rows`.
    #[must_use]
    pub fn new(n_rows: u64) -> Self {
        let stride = n_rows.div_ceil(MAX_ROWS).max(1);
        Self { stride, rows: Vec::new(), counts: Vec::new() }
    }

    /// What was found; none where every row has the same number of active features, or where rows
    /// are fewer than three or none differs from its nearest.
    ///
    /// # Errors
    /// [`Error::Torch`](crate::Error::Torch).
    pub fn finish(self) -> Result<Option<Complexity>> {
        let counts = self.counts;
        if counts.iter().all(|count| *count == counts[0]) {
            return Ok(None);
        }
        let dimension = intrinsic_dimension(&Tensor::f_cat(&self.rows, 0)?)?;
        let Some(dimension) = dimension.filter(|dimension| dimension.of_all.is_finite()) else {
            return Ok(None);
        };
        let known = counts.iter().zip(&dimension.of_rows).filter(|(_, d)| d.is_finite());
        let (counts, dimensions): (Vec<f64>, Vec<f64>) = known.unzip();
        Ok(Some(Complexity {
            n_rows: dimension.of_rows.len() as u64,
            dimension: dimension.of_all,
            spearman_l0_dimension: spearman(&counts, &dimensions),
        }))
    }
}

impl Observer for ComplexityObserver {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let first = batch.first_row.next_multiple_of(self.stride) - batch.first_row;
        if (first as i64) < batch.x.size()[0] {
            let l0 = batch.features.l0()?;
            self.counts.extend(l0.into_iter().skip(first as usize).step_by(self.stride as usize));
            let rows = batch.x.f_slice(0, first as i64, None, self.stride as i64)?;
            // A copy: a view would keep the whole batch.
            self.rows.push(rows.f_to_dtype(Kind::Float, false, true)?);
        }
        Ok(())
    }
}
