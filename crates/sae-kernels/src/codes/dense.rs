//! Between sparse codes and dense matrices.

use std::ops::Range;

use rayon::prelude::*;

use super::{SparseCodes, split_by_rows};
use crate::error::check_len;
use crate::{Error, Result};

impl SparseCodes {
    /// Writes the codes as a dense matrix.
    ///
    /// # Shapes
    /// `dense`: n_rows × n_features, overwritten.
    ///
    /// # Errors
    /// [`Error::Size`] if `dense` has another length.
    pub fn write_dense(&self, dense: &mut [f32]) -> Result<()> {
        self.scatter(&self.values, 0..self.n_rows(), dense)
    }

    /// Writes some rows as a dense matrix, of the codes or of other values at their places, with
    /// zeros elsewhere.
    ///
    /// # Shapes
    /// `values`: one an entry, of all rows; `dense`: rows × n_features, overwritten.
    ///
    /// # Errors
    /// [`Error::Size`] if a length differs, [`Error::Bound`] if there are no such rows.
    pub fn scatter(&self, values: &[f32], rows: Range<usize>, dense: &mut [f32]) -> Result<()> {
        check_len("values", self.nnz(), values.len())?;
        self.check_rows(&rows, dense.len())?;
        if self.n_features == 0 {
            return Ok(());
        }
        dense.par_chunks_mut(self.n_features).zip(rows).for_each(|(out, b)| {
            out.fill(0.0);
            let range = self.indptr[b]..self.indptr[b + 1];
            for (&i, &v) in self.indices[range.clone()].iter().zip(&values[range]) {
                out[i as usize] = v;
            }
        });
        Ok(())
    }

    /// Reads, at the place of each entry of some rows, the element of a dense matrix into `out`.
    ///
    /// # Shapes
    /// `dense`: rows × n_features; `out`: one an entry of these rows.
    ///
    /// # Errors
    /// [`Error::Size`] if a length differs, [`Error::Bound`] if there are no such rows.
    pub fn gather(&self, dense: &[f32], rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        self.check_rows(&rows, dense.len())?;
        check_len("out", self.entries(rows.clone()).len(), out.len())?;
        let parts = split_by_rows(&self.indptr[rows.start..=rows.end], 1, out);
        parts.into_par_iter().for_each(|(i, out)| {
            let dense = &dense[i * self.n_features..][..self.n_features];
            for (o, &f) in out.iter_mut().zip(self.row(rows.start + i).0) {
                *o = dense[f as usize];
            }
        });
        Ok(())
    }

    fn check_rows(&self, rows: &Range<usize>, len: usize) -> Result<()> {
        if rows.end > self.n_rows() {
            return Err(Error::Bound { name: "rows", bound: self.n_rows(), got: rows.end });
        }
        check_len("dense", rows.len() * self.n_features, len)
    }
}
