//! Sparse codes of a batch, row by row (CSR).

mod chunks;
mod dense;

use std::ops::Range;

use rayon::prelude::*;

pub(crate) use self::chunks::{RowChunk, split_by_rows};
use crate::error::check_len;
use crate::{Error, Result};

/// Share of active codes from which dense products are faster (`docs/performance.md` of the
/// repository).
pub const DENSE_FROM: f64 = 0.2;

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

    /// Puts `value(feature, activation)` in the place of every activation.
    pub fn map(&mut self, value: impl Fn(usize, f32) -> f32 + Sync) {
        let entries = self.values.par_iter_mut().zip(&self.indices);
        entries.for_each(|(v, &f)| *v = value(f as usize, *v));
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

    /// Where the entries of some consecutive rows lie.
    ///
    /// # Panics
    /// If there are no such rows.
    #[must_use]
    pub fn entries(&self, rows: Range<usize>) -> Range<usize> {
        self.indptr[rows.start]..self.indptr[rows.end]
    }

    /// Forgets all rows, keeping the buffers.
    pub fn clear(&mut self) {
        self.indptr.truncate(1);
        self.indices.clear();
        self.values.clear();
    }

    /// Appends the rows of other codes.
    ///
    /// # Errors
    /// [`Error::Size`] if they are over another dictionary.
    pub fn extend(&mut self, other: &Self) -> Result<()> {
        check_len("codes (their number of features)", self.n_features, other.n_features)?;
        let nnz = self.nnz();
        self.indptr.extend(other.indptr[1..].iter().map(|end| nnz + end));
        self.indices.extend_from_slice(&other.indices);
        self.values.extend_from_slice(&other.values);
        Ok(())
    }

    /// Drops all but the `total` largest activations, of equal ones the last in the batch.
    ///
    /// Returns the least that is kept, or 0 where nothing had to be dropped: an activation that
    /// comes later has to exceed it. Activations have to be positive.
    pub fn keep_largest(&mut self, total: usize) -> f32 {
        if self.nnz() <= total {
            return 0.0;
        }
        if total == 0 {
            self.indptr.fill(0);
            self.indices.clear();
            self.values.clear();
            return f32::INFINITY;
        }
        let mut bits: Vec<u32> = self.values.iter().map(|v| v.to_bits()).collect();
        let least = *bits.select_nth_unstable_by(total - 1, |a, b| b.cmp(a)).1;
        let least = f32::from_bits(least);
        let above = self.values.iter().filter(|v| **v > least).count();
        let mut n_equal = total - above;
        let (mut start, mut kept) = (0, 0);
        for end in &mut self.indptr[1..] {
            for i in start..*end {
                let v = self.values[i];
                let equal = v == least && n_equal > 0;
                n_equal -= usize::from(equal);
                self.values[kept] = v;
                self.indices[kept] = self.indices[i];
                kept += usize::from(v > least || equal);
            }
            start = *end;
            *end = kept;
        }
        self.values.truncate(kept);
        self.indices.truncate(kept);
        least
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
    fn parts_of_a_batch_are_joined_and_cut_to_the_largest() {
        let part = |values: &[f32]| {
            SparseCodes::from_parts(4, vec![0, 2], vec![1, 3], values.to_vec()).unwrap()
        };
        let mut codes = SparseCodes::new(4);
        codes.extend(&part(&[2.0, 5.0])).unwrap();
        assert_eq!(codes.keep_largest(2), 0.0);
        codes.extend(&part(&[2.0, 3.0])).unwrap();
        assert_eq!((codes.indptr(), codes.entries(1..2)), (&[0, 2, 4][..], 2..4));
        assert_eq!(codes.keep_largest(3), 2.0);
        assert_eq!((codes.row(0).1, codes.row(1).1), (&[2.0, 5.0][..], &[3.0][..]));
        assert_eq!(codes.keep_largest(0), f32::INFINITY);
        assert_eq!((codes.n_rows(), codes.nnz()), (2, 0));
        codes.clear();
        assert_eq!(codes, SparseCodes::new(4));
        assert!(codes.extend(&SparseCodes::new(5)).is_err());
    }

    #[test]
    fn dense_and_back() {
        let codes = parts(&[0, 2, 2, 3], &[0, 3, 1]).unwrap();
        let mut dense = [9.0; 12];
        codes.write_dense(&mut dense).unwrap();
        assert_eq!(dense, [1., 0., 0., 1., 0., 0., 0., 0., 0., 1., 0., 0.]);
        codes.scatter(&[7.0, 8.0, 9.0], 1..3, &mut dense[4..]).unwrap();
        assert_eq!(dense, [1., 0., 0., 1., 0., 0., 0., 0., 0., 9., 0., 0.]);
        let numbers: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let mut out = [0.0; 3];
        codes.gather(&numbers, 0..3, &mut out).unwrap();
        assert_eq!(out, [0.0, 3.0, 9.0]);
        codes.gather(&numbers[4..], 1..3, &mut out[..1]).unwrap();
        assert_eq!(out[0], 9.0);
        assert!(codes.gather(&numbers, 1..4, &mut out).is_err());
        assert!(codes.write_dense(&mut [0.0; 5]).is_err());
    }
}
