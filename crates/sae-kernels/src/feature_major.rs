//! The same codes feature by feature (CSC), by a counting sort without atomics.

use rayon::prelude::*;

use crate::error::check_len;
use crate::{Result, SparseCodes};

/// Ranges of features that are sorted at the same time.
const N_RANGES: usize = 16;

/// Entries of a range, in the mean, up to which a row is cut by passing through it.
const SCANNED: usize = 24;

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
    /// Of each row, where the ranges of features begin, and the end.
    cuts: Vec<[usize; N_RANGES + 1]>,
}

impl FeatureMajor {
    /// No entries over a dictionary of `n_features`.
    #[must_use]
    pub fn new(n_features: usize) -> Self {
        Self { indptr: vec![0; n_features + 1], entries: Vec::new(), cuts: Vec::new() }
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
    /// Each thread owns a range of features, whose part of every row was found before: it counts,
    /// and then writes to its own part of the result.
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
        self.cuts.resize(codes.n_rows(), [0; N_RANGES + 1]);
        self.cuts.par_iter_mut().enumerate().for_each(|(b, cuts)| cut_row(codes, b, width, cuts));
        let cuts = &self.cuts;
        self.indptr[1..].par_chunks_mut(width).enumerate().for_each(|(range, counts)| {
            let first = range * width;
            for cuts in cuts {
                for &i in &codes.indices()[cuts[range]..cuts[range + 1]] {
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
        tasks.into_par_iter().enumerate().for_each(|(range, (first, indptr, part))| {
            let mut next: Vec<usize> = indptr.iter().map(|&at| at - indptr[0]).collect();
            for (b, cuts) in cuts.iter().enumerate() {
                let entries = cuts[range]..cuts[range + 1];
                let (values, gradients) =
                    (&codes.values()[entries.clone()], &gradients[entries.clone()]);
                for ((&i, &value), &gradient) in
                    codes.indices()[entries].iter().zip(values).zip(gradients)
                {
                    let at = &mut next[i as usize - first];
                    part[*at] = Entry { row: b as u32, value, gradient };
                    *at += 1;
                }
            }
        });
        Ok(())
    }
}

/// Where the entries of row `b` in each range of `width` features begin, and the end of the last.
fn cut_row(codes: &SparseCodes, b: usize, width: usize, cuts: &mut [usize; N_RANGES + 1]) {
    let offset = codes.indptr()[b];
    let indices = codes.row(b).0;
    let mut at = 0;
    for (range, cut) in cuts.iter_mut().enumerate() {
        let rest = &indices[at..];
        // A short rest is passed through faster than it is bisected.
        at += if rest.len() < SCANNED * (N_RANGES + 1 - range) {
            rest.iter().take_while(|&&i| (i as usize) < range * width).count()
        } else {
            rest.partition_point(|&i| (i as usize) < range * width)
        };
        *cut = offset + at;
    }
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
