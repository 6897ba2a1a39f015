//! Sparse codes of a batch, row by row (CSR).

use rayon::prelude::*;

use crate::error::check_len;
use crate::{Error, Result};

/// The non-zero features of each row of a batch: compressed sparse rows.
///
/// Row b's features are `indices[indptr[b]..indptr[b + 1]]`, ascending, and their
/// activations lie at the same positions of `values`. The buffers are kept when
/// the codes are computed anew.
///
/// ```
/// use sae_kernels::SparseCodes;
///
/// let codes = SparseCodes::from_parts(4, vec![0, 2, 3], vec![0, 3, 1], vec![5.0, 6.0, 7.0])?;
/// assert_eq!(codes.row(0), (&[0, 3][..], &[5.0, 6.0][..]));
/// assert_eq!(codes.nnz(), 3);
/// # Ok::<(), sae_kernels::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SparseCodes {
    n_features: usize,
    indptr: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

impl SparseCodes {
    /// Codes of no rows over a dictionary of `n_features`.
    #[must_use]
    pub fn new(n_features: usize) -> Self {
        Self { n_features, indptr: vec![0], indices: Vec::new(), values: Vec::new() }
    }

    /// Codes from their three arrays.
    ///
    /// # Errors
    /// If the lengths disagree, `indptr` or the indices of a row do not ascend, or
    /// an index is not less than `n_features`.
    pub fn from_parts(
        n_features: usize,
        indptr: Vec<usize>,
        indices: Vec<u32>,
        values: Vec<f32>,
    ) -> Result<Self> {
        check_parts(n_features, &indptr, &indices, &values)?;
        Ok(Self { n_features, indptr, indices, values })
    }

    /// Takes a copy of other codes' arrays, keeping the buffers.
    ///
    /// # Errors
    /// As [`SparseCodes::from_parts`]; the codes are then unchanged.
    pub fn assign(&mut self, indptr: &[usize], indices: &[u32], values: &[f32]) -> Result<()> {
        check_parts(self.n_features, indptr, indices, values)?;
        self.indptr.clear();
        self.indptr.extend_from_slice(indptr);
        self.indices.clear();
        self.indices.extend_from_slice(indices);
        self.values.clear();
        self.values.extend_from_slice(values);
        Ok(())
    }

    /// The number of rows of the batch.
    #[must_use]
    pub fn n_rows(&self) -> usize {
        self.indptr.len() - 1
    }

    /// The size of the dictionary.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.n_features
    }

    /// The number of stored entries.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.indices.len()
    }

    /// Where each row begins, and the number of entries at the end.
    #[must_use]
    pub fn indptr(&self) -> &[usize] {
        &self.indptr
    }

    /// The features of all rows.
    #[must_use]
    pub fn indices(&self) -> &[u32] {
        &self.indices
    }

    /// The activations of all rows.
    #[must_use]
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The activations of all rows, to be changed in place.
    #[must_use]
    pub fn values_mut(&mut self) -> &mut [f32] {
        &mut self.values
    }

    /// The features and activations of row `b`.
    ///
    /// # Panics
    /// If `b` is not less than the number of rows.
    #[inline]
    #[must_use]
    pub fn row(&self, b: usize) -> (&[u32], &[f32]) {
        let range = self.indptr[b]..self.indptr[b + 1];
        (&self.indices[range.clone()], &self.values[range])
    }

    /// Writes the codes as a dense matrix.
    ///
    /// # Shapes
    /// `dense`: n_rows × n_features, overwritten.
    ///
    /// # Errors
    /// [`Error::Size`] if `dense` has another length.
    pub fn write_dense(&self, dense: &mut [f32]) -> Result<()> {
        self.scatter(&self.values, dense)
    }

    /// Writes other values, one for each entry, as a dense matrix with zeros elsewhere.
    ///
    /// # Shapes
    /// `values`: one an entry; `dense`: n_rows × n_features, overwritten.
    ///
    /// # Errors
    /// [`Error::Size`] if a length differs.
    pub fn scatter(&self, values: &[f32], dense: &mut [f32]) -> Result<()> {
        check_len("values", self.nnz(), values.len())?;
        check_len("dense", self.n_rows() * self.n_features, dense.len())?;
        if self.n_features == 0 {
            return Ok(());
        }
        dense.par_chunks_mut(self.n_features).enumerate().for_each(|(b, out)| {
            out.fill(0.0);
            let range = self.indptr[b]..self.indptr[b + 1];
            for (&i, &v) in self.indices[range.clone()].iter().zip(&values[range]) {
                out[i as usize] = v;
            }
        });
        Ok(())
    }

    /// Reads, at the place of each entry, the element of a dense matrix into `out`.
    ///
    /// # Shapes
    /// `dense`: n_rows × n_features; `out`: resized to the number of entries.
    ///
    /// # Errors
    /// [`Error::Size`] if `dense` has another length.
    pub fn gather(&self, dense: &[f32], out: &mut Vec<f32>) -> Result<()> {
        check_len("dense", self.n_rows() * self.n_features, dense.len())?;
        out.resize(self.nnz(), 0.0);
        let rows = split_by_rows(&self.indptr, 1, out);
        rows.into_par_iter().for_each(|(row, out)| {
            let dense = &dense[row * self.n_features..][..self.n_features];
            for (o, &i) in out.iter_mut().zip(self.row(row).0) {
                *o = dense[i as usize];
            }
        });
        Ok(())
    }

    /// Takes new contents from chunks of consecutive rows.
    pub(crate) fn assemble<'a>(&mut self, chunks: impl Iterator<Item = RowChunk<'a>> + Clone) {
        self.indptr.clear();
        self.indptr.push(0);
        let mut nnz = 0;
        for chunk in chunks.clone() {
            for &end in chunk.ends {
                self.indptr.push(nnz + end);
            }
            nnz += chunk.indices.len();
        }
        self.indices.resize(nnz, 0);
        self.values.resize(nnz, 0.0);
        let mut places = Vec::new();
        let (mut indices, mut values) = (self.indices.as_mut_slice(), self.values.as_mut_slice());
        for chunk in chunks {
            let (i, rest) = std::mem::take(&mut indices).split_at_mut(chunk.indices.len());
            indices = rest;
            let (v, rest) = std::mem::take(&mut values).split_at_mut(chunk.values.len());
            values = rest;
            places.push((chunk, i, v));
        }
        places.into_par_iter().for_each(|(chunk, indices, values)| {
            indices.copy_from_slice(chunk.indices);
            values.copy_from_slice(chunk.values);
        });
    }
}

/// Checks what [`SparseCodes`] promises of its arrays.
fn check_parts(n_features: usize, indptr: &[usize], indices: &[u32], values: &[f32]) -> Result<()> {
    check_len("values", indices.len(), values.len())?;
    if indptr.first() != Some(&0) {
        return Err(Error::Order { name: "indptr", position: 0 });
    }
    check_len("indptr (its last entry)", indices.len(), indptr[indptr.len() - 1])?;
    for row in 0..indptr.len() - 1 {
        let (start, end) = (indptr[row], indptr[row + 1]);
        if start > end || end > indices.len() {
            return Err(Error::Order { name: "indptr", position: row + 1 });
        }
        let of_row = &indices[start..end];
        if let Some(i) = of_row.windows(2).position(|w| w[0] >= w[1]) {
            return Err(Error::Order { name: "indices", position: start + i + 1 });
        }
        if let Some(&last) = of_row.last().filter(|&&i| i as usize >= n_features) {
            let bound = n_features.saturating_sub(1);
            return Err(Error::Bound { name: "indices", bound, got: last as usize });
        }
    }
    Ok(())
}

/// The codes of some consecutive rows, with the end of each row relative to the chunk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowChunk<'a> {
    pub(crate) ends: &'a [usize],
    pub(crate) indices: &'a [u32],
    pub(crate) values: &'a [f32],
}

/// Splits a buffer with one element an entry into chunks of `n` rows: (first row, its part).
pub(crate) fn split_by_rows<'a, T>(
    indptr: &[usize],
    n: usize,
    buffer: &'a mut [T],
) -> Vec<(usize, &'a mut [T])> {
    let n_rows = indptr.len() - 1;
    let mut rest = buffer;
    (0..n_rows)
        .step_by(n)
        .map(|first| {
            let len = indptr[(first + n).min(n_rows)] - indptr[first];
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            (first, part)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(indptr: &[usize], indices: &[u32]) -> Result<SparseCodes> {
        SparseCodes::from_parts(4, indptr.to_vec(), indices.to_vec(), vec![1.0; indices.len()])
    }

    #[test]
    fn bad_parts_are_named() {
        let message = |r: Result<SparseCodes>| r.unwrap_err().to_string();
        assert_eq!(
            message(parts(&[0, 2], &[3, 1])),
            "indices: expected ascending values, got a descent at position 1"
        );
        assert_eq!(message(parts(&[0, 2], &[1, 4])), "indices: expected at most 3, got 4");
        assert_eq!(
            message(parts(&[0, 2, 1, 2], &[1, 3])),
            "indptr: expected ascending values, got a descent at position 2"
        );
        assert!(parts(&[0, 3], &[1, 3]).is_err());
        assert!(parts(&[], &[]).is_err());
    }

    #[test]
    fn dense_and_back() {
        let codes = parts(&[0, 2, 2, 3], &[0, 3, 1]).unwrap();
        let mut dense = [9.0; 12];
        codes.write_dense(&mut dense).unwrap();
        assert_eq!(dense, [1., 0., 0., 1., 0., 0., 0., 0., 0., 1., 0., 0.]);
        codes.scatter(&[7.0, 8.0, 9.0], &mut dense).unwrap();
        assert_eq!(dense, [7., 0., 0., 8., 0., 0., 0., 0., 0., 9., 0., 0.]);
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = Vec::new();
        codes.gather(&numbers, &mut out).unwrap();
        assert_eq!(out, [0.0, 3.0, 9.0]);
        assert!(codes.write_dense(&mut [0.0; 5]).is_err());
    }
}
