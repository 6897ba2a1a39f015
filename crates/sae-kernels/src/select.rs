//! Which features of a row are kept, fused with bias and ReLU.
//!
//! A selection reads the pre-activations z once. With t a guess below the smallest
//! value that will be kept, one pass collects the candidates z + b > t, a quickselect
//! among them finds the exact boundary, and what is kept is written in the order of
//! the features. A guess comes from the rows before; when it was too high the row is
//! read again with a lower one, so a guess decides the time and never the result.

mod batch;
mod candidates;
mod row;

use rayon::prelude::*;

use crate::codes::RowChunk;
use crate::error::check_len;
use crate::simd::dispatch;
use crate::{Error, Matrix, Result, SparseCodes};
use batch::Batch;
use candidates::Scratch;
use row::SelectRow;

/// Rows of a batch that are selected one after the other.
const ROWS_PER_CHUNK: usize = 32;

/// How many features a row keeps.
#[derive(Debug, Clone, Copy)]
pub enum Count<'a> {
    /// The same number in every row.
    Same(usize),
    /// One number a row.
    PerRow(&'a [usize]),
}

impl Count<'_> {
    fn of_row(&self, row: usize) -> usize {
        match self {
            Self::Same(k) => *k,
            Self::PerRow(ks) => ks[row],
        }
    }

    fn check(&self, n_rows: usize, bound: usize) -> Result<()> {
        let largest = match self {
            Self::Same(k) => *k,
            Self::PerRow(ks) => {
                check_len("k", n_rows, ks.len())?;
                ks.iter().copied().max().unwrap_or(0)
            }
        };
        if largest > bound {
            return Err(Error::Bound { name: "k", bound, got: largest });
        }
        Ok(())
    }
}

/// By what activations are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rank {
    /// relu(z + b).
    Value,
    /// |z + b|; what is selected keeps its sign.
    Magnitude,
}

impl Rank {
    /// What is compared for z + b.
    #[inline(always)]
    fn key(self, activation: f32) -> f32 {
        match self {
            Self::Value => activation,
            Self::Magnitude => activation.abs(),
        }
    }
}

/// Selects features from pre-activations; owns the buffers and the guesses.
///
/// Activations are relu(z + b), or by [`Rank::Magnitude`] z + b. An entry whose rank is not
/// positive is never stored: it adds nothing to a reconstruction and receives no gradient. Among
/// equal ranks the lower index wins.
///
/// ```
/// use sae_kernels::{Count, Matrix, Rank, Selector, SparseCodes};
///
/// let z = [0.5, 3.0, -1.0, 2.0];
/// let mut codes = SparseCodes::new(4);
/// let mut selector = Selector::new();
/// let z = Matrix::new("z", &z, 4)?;
/// selector.top_k(z, &[0.0; 4], Count::Same(2), Rank::Value, &mut codes)?;
/// assert_eq!(codes.row(0), (&[1, 3][..], &[3.0, 2.0][..]));
/// # Ok::<(), sae_kernels::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Selector {
    chunks: Vec<Chunk>,
    batch: Batch,
}

/// The rows of a chunk, their codes and what is kept for speed.
#[derive(Debug, Default)]
struct Chunk {
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
    scratch: Scratch,
}

impl Chunk {
    fn clear(&mut self) {
        self.ends.clear();
        self.indices.clear();
        self.values.clear();
    }

    fn as_codes(&self) -> RowChunk<'_> {
        RowChunk { ends: &self.ends, indices: &self.indices, values: &self.values }
    }
}

impl Selector {
    /// A selector without buffers.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The k largest features of each row.
    ///
    /// # Shapes
    /// `z`: batch × n_features; `bias`: n_features.
    ///
    /// # Errors
    /// If sizes disagree or a count exceeds the number of features.
    pub fn top_k(
        &mut self,
        z: Matrix<'_>,
        bias: &[f32],
        k: Count<'_>,
        rank: Rank,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        check(z, bias, codes)?;
        k.check(z.n_rows(), z.n_cols())?;
        self.each_row(z.n_rows(), |row, chunk| {
            let (z, k) = (z.row(row), k.of_row(row));
            let Chunk { indices, values, scratch, .. } = chunk;
            dispatch(SelectRow { z, bias, k, rank, features: None, scratch, indices, values });
        });
        codes.assemble(self.chunks.iter().map(Chunk::as_codes));
        Ok(())
    }

    /// The k largest of some features of each row, as for dead features.
    ///
    /// # Shapes
    /// `z`: batch × n_features; `bias`: n_features; `features`: ascending.
    ///
    /// # Errors
    /// If sizes disagree, `features` does not ascend or is out of range, or k exceeds its length.
    pub fn top_k_among(
        &mut self,
        z: Matrix<'_>,
        bias: &[f32],
        features: &[u32],
        k: usize,
        rank: Rank,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        check(z, bias, codes)?;
        Count::Same(k).check(z.n_rows(), features.len())?;
        if let Some(i) = features.windows(2).position(|w| w[0] >= w[1]) {
            return Err(Error::Order { name: "features", position: i + 1 });
        }
        if let Some(&last) = features.last().filter(|&&f| f as usize >= z.n_cols()) {
            let bound = z.n_cols() - 1;
            return Err(Error::Bound { name: "features", bound, got: last as usize });
        }
        let features = Some(features);
        self.each_row(z.n_rows(), |row, chunk| {
            let Chunk { indices, values, scratch, .. } = chunk;
            let z = z.row(row);
            dispatch(SelectRow { z, bias, k, rank, features, scratch, indices, values });
        });
        codes.assemble(self.chunks.iter().map(Chunk::as_codes));
        Ok(())
    }

    /// The `total` largest activations of the whole batch.
    ///
    /// # Shapes
    /// `z`: batch × n_features; `bias`: n_features.
    ///
    /// # Errors
    /// If sizes disagree or `total` exceeds the number of elements.
    pub fn batch_top_k(
        &mut self,
        z: Matrix<'_>,
        bias: &[f32],
        total: usize,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        check(z, bias, codes)?;
        if total > z.data().len() {
            return Err(Error::Bound { name: "total", bound: z.data().len(), got: total });
        }
        batch::select(self, z, bias, total);
        codes.assemble(self.chunks.iter().map(Chunk::as_codes));
        Ok(())
    }

    /// All features for which `keep(feature, z + b)` holds, with z + b as their value.
    ///
    /// There is no ReLU here: what is kept is `keep`'s decision alone.
    ///
    /// # Shapes
    /// `z`: batch × n_features; `bias`: n_features.
    ///
    /// # Errors
    /// If sizes disagree.
    pub fn filter(
        &mut self,
        z: Matrix<'_>,
        bias: &[f32],
        keep: impl Fn(usize, f32) -> bool + Sync,
        codes: &mut SparseCodes,
    ) -> Result<()> {
        check(z, bias, codes)?;
        self.each_row(z.n_rows(), |row, chunk| {
            let z = z.row(row);
            let Chunk { indices, values, scratch, .. } = chunk;
            for &i in scratch.collect_where(z, bias, &keep) {
                indices.push(i);
                values.push(z[i as usize] + bias[i as usize]);
            }
        });
        codes.assemble(self.chunks.iter().map(Chunk::as_codes));
        Ok(())
    }

    /// Clears the chunks and lets `select` append the codes of each row to its chunk.
    fn each_row(&mut self, n_rows: usize, select: impl Fn(usize, &mut Chunk) + Sync) {
        self.chunks.resize_with(n_rows.div_ceil(ROWS_PER_CHUNK), Chunk::default);
        self.chunks.par_iter_mut().enumerate().for_each(|(c, chunk)| {
            chunk.clear();
            let first = c * ROWS_PER_CHUNK;
            for row in first..(first + ROWS_PER_CHUNK).min(n_rows) {
                select(row, chunk);
                chunk.ends.push(chunk.indices.len());
            }
        });
    }
}

fn check(z: Matrix<'_>, bias: &[f32], codes: &SparseCodes) -> Result<()> {
    check_len("bias", z.n_cols(), bias.len())?;
    check_len("codes (their number of features)", z.n_cols(), codes.n_features())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_arguments_are_named() {
        let z = [0.0; 8];
        let z = Matrix::new("z", &z, 4).unwrap();
        let mut codes = SparseCodes::new(4);
        let mut selector = Selector::new();
        let mut message = |bias: &[f32], k: Count<'_>| {
            selector.top_k(z, bias, k, Rank::Value, &mut codes).unwrap_err().to_string()
        };
        assert_eq!(message(&[0.0; 3], Count::Same(1)), "bias: expected 4 elements, got 3");
        assert_eq!(message(&[0.0; 4], Count::Same(5)), "k: expected at most 4, got 5");
        assert_eq!(message(&[0.0; 4], Count::PerRow(&[1])), "k: expected 2 elements, got 1");
        assert_eq!(
            selector.top_k_among(z, &[0.0; 4], &[1, 1], 1, Rank::Value, &mut codes).unwrap_err(),
            Error::Order { name: "features", position: 1 }
        );
        assert!(selector.batch_top_k(z, &[0.0; 4], 9, &mut codes).is_err());
    }

    #[test]
    fn equal_values_go_to_the_lower_index() {
        let z = vec![1.0; 200];
        let mut codes = SparseCodes::new(100);
        let mut selector = Selector::new();
        let z = Matrix::new("z", &z, 100).unwrap();
        let bias = [0.0; 100];
        for _ in 0..3 {
            selector.top_k(z, &bias, Count::Same(3), Rank::Value, &mut codes).unwrap();
            assert_eq!(codes.indices(), [0, 1, 2, 0, 1, 2]);
            selector.batch_top_k(z, &bias, 102, &mut codes).unwrap();
            assert_eq!(codes.indptr(), [0, 100, 102]);
        }
    }
}
