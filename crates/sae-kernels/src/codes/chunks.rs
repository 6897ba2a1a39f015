//! Chunks of consecutive rows, on which threads work side by side.

use rayon::prelude::*;

use super::SparseCodes;

impl SparseCodes {
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
