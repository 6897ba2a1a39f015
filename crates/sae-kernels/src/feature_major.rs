//! The same codes feature by feature (CSC), by a counting sort without atomics.

use rayon::prelude::*;

use crate::error::check_len;
use crate::{Result, SparseCodes};

/// Ranges of features that are sorted at the same time.
const N_RANGES: usize = 16;

/// One activation, seen from its feature.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Entry {
    /// The row of the batch.
    pub row: u32,
    /// The activation: the coefficient of the decoder's gradient.
    pub value: f32,
    /// The gradient of the pre-activation: the coefficient of the encoder's gradient.
    pub gradient: f32,
}

/// The entries of each feature in the order of their rows: compressed sparse columns.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureMajor {
    indptr: Vec<usize>,
    entries: Vec<Entry>,
}

impl FeatureMajor {
    /// No entries over a dictionary of `n_features`.
    #[must_use]
    pub fn new(n_features: usize) -> Self {
        Self { indptr: vec![0; n_features + 1], entries: Vec::new() }
    }

    /// The size of the dictionary.
    #[must_use]
    pub fn n_features(&self) -> usize {
        self.indptr.len() - 1
    }

    /// The number of entries of all features.
    #[must_use]
    pub fn nnz(&self) -> usize {
        self.entries.len()
    }

    /// The entries of one feature.
    ///
    /// # Panics
    /// If `feature` is not less than the size of the dictionary.
    #[inline]
    #[must_use]
    pub fn feature(&self, feature: usize) -> &[Entry] {
        &self.entries[self.indptr[feature]..self.indptr[feature + 1]]
    }

    /// Sorts `codes` and the gradients of their pre-activations by feature.
    ///
    /// Each thread owns a range of features: it finds its part of every row by
    /// bisection, counts, and then writes to its own part of the result.
    ///
    /// # Shapes
    /// `gradients`: one for each entry of `codes`.
    ///
    /// # Errors
    /// [`crate::Error::Size`] if `gradients` has another length.
    pub fn rebuild(&mut self, codes: &SparseCodes, gradients: &[f32]) -> Result<()> {
        check_len("gradients", codes.nnz(), gradients.len())?;
        let n_features = codes.n_features();
        self.indptr.clear();
        self.indptr.resize(n_features + 1, 0);
        self.entries.resize(codes.nnz(), Entry::default());
        if n_features == 0 {
            return Ok(());
        }
        let width = n_features.div_ceil(N_RANGES);
        self.indptr[1..].par_chunks_mut(width).enumerate().for_each(|(range, counts)| {
            let first = range * width;
            for b in 0..codes.n_rows() {
                let (start, end) = part_of_row(codes, b, first, counts.len());
                for &i in &codes.indices()[start..end] {
                    counts[i as usize - first] += 1;
                }
            }
        });
        for f in 0..n_features {
            self.indptr[f + 1] += self.indptr[f];
        }
        let mut rest = self.entries.as_mut_slice();
        let mut tasks = Vec::with_capacity(N_RANGES);
        for first in (0..n_features).step_by(width) {
            let indptr = &self.indptr[first..=(first + width).min(n_features)];
            let len = indptr[indptr.len() - 1] - indptr[0];
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(len);
            rest = tail;
            tasks.push((first, indptr, part));
        }
        tasks.into_par_iter().for_each(|(first, indptr, part)| {
            let mut next: Vec<usize> = indptr.iter().map(|&at| at - indptr[0]).collect();
            for b in 0..codes.n_rows() {
                let (start, end) = part_of_row(codes, b, first, indptr.len() - 1);
                for e in start..end {
                    let at = &mut next[codes.indices()[e] as usize - first];
                    let (value, gradient) = (codes.values()[e], gradients[e]);
                    part[*at] = Entry { row: b as u32, value, gradient };
                    *at += 1;
                }
            }
        });
        Ok(())
    }
}

/// The entries of row `b` with features in `first..first + len`.
#[inline]
fn part_of_row(codes: &SparseCodes, b: usize, first: usize, len: usize) -> (usize, usize) {
    let offset = codes.indptr()[b];
    let indices = codes.row(b).0;
    let start = indices.partition_point(|&i| (i as usize) < first);
    let end = start + indices[start..].partition_point(|&i| (i as usize) < first + len);
    (offset + start, offset + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_list_their_rows_in_order() {
        let codes = SparseCodes::from_parts(
            3,
            vec![0, 2, 3, 5],
            vec![0, 2, 2, 0, 1],
            vec![1.0, 2.0, 3.0, 4.0, 5.0],
        )
        .unwrap();
        let mut sorted = FeatureMajor::new(3);
        sorted.rebuild(&codes, &[10.0, 20.0, 30.0, 40.0, 50.0]).unwrap();
        let entry = |row, value| Entry { row, value, gradient: value * 10.0 };
        assert_eq!(sorted.feature(0), [entry(0, 1.0), entry(2, 4.0)]);
        assert_eq!(sorted.feature(1), [entry(2, 5.0)]);
        assert_eq!(sorted.feature(2), [entry(0, 2.0), entry(1, 3.0)]);
        assert!(sorted.rebuild(&codes, &[0.0; 4]).is_err());
    }
}
