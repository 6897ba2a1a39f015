//! Weight gradients of features with many entries, strip by strip of columns.
//!
//! A strip is some columns of the output gradient, or of the encoder's input, for some rows of the
//! batch: it stays in cache while every feature picks its rows from it, and the sums of a feature
//! stay in registers.

use std::ops::Range;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::Source;
use crate::simd::dispatch;
use crate::{Entry, Matrix};

/// Columns of a strip: two cache lines a row.
const COLUMNS: usize = 32;

/// Rows of a strip: 256 KiB of it.
const ROWS: usize = 2048;

/// Ranges of features that are summed at the same time.
const N_RANGES: usize = 8;

/// Writes Σ value·(output gradient) and Σ gradient·input of each feature with entries.
pub(super) fn write(
    source: &Source<'_>,
    input: Matrix<'_>,
    decoder: &mut [f32],
    encoder: &mut [f32],
    strips: &mut Vec<f32>,
) {
    let (d_in, n_rows) = (input.n_cols(), input.n_rows());
    let d = source.output_gradient.n_cols() / source.groups.len();
    let len = |d: usize| d.div_ceil(COLUMNS) * n_rows * COLUMNS;
    strips.resize(len(d.max(d_in)), 0.0);
    let of_output = &mut strips[..len(d)];
    let mut first = 0;
    let mut decoder = decoder;
    for (g, &end) in source.groups.ends().iter().enumerate() {
        pack(source.output_gradient, g * d..(g + 1) * d, of_output);
        let (own, rest) = std::mem::take(&mut decoder).split_at_mut((end - first) * d);
        decoder = rest;
        sums(source, first, own, d, of_output, n_rows, |entry| entry.value);
        first = end;
    }
    let of_input = &mut strips[..len(d_in)];
    pack(input, 0..d_in, of_input);
    sums(source, 0, encoder, d_in, of_input, n_rows, |entry| entry.gradient);
}

/// Lays out strips of some columns: all of the first rows, then all of the next. What is beyond
/// the last column is 0.
fn pack(matrix: Matrix<'_>, columns: Range<usize>, strips: &mut [f32]) {
    let n_rows = matrix.n_rows();
    let n_strips = columns.len().div_ceil(COLUMNS);
    for (chunk, strips) in strips.chunks_mut(n_strips * ROWS * COLUMNS).enumerate() {
        let first = chunk * ROWS;
        let rows = ROWS.min(n_rows - first);
        strips.par_chunks_mut(rows * COLUMNS).enumerate().for_each(|(s, strip)| {
            let start = columns.start + s * COLUMNS;
            let n = COLUMNS.min(columns.end - start);
            for (r, line) in strip.chunks_exact_mut(COLUMNS).enumerate() {
                line[..n].copy_from_slice(&matrix.row(first + r)[start..][..n]);
                line[n..].fill(0.0);
            }
        });
    }
}

/// Writes Σ coefficient·row of the matrix that `strips` holds for consecutive features.
fn sums(
    source: &Source<'_>,
    first: usize,
    out: &mut [f32],
    d: usize,
    strips: &[f32],
    n_rows: usize,
    coefficient: impl Fn(&Entry) -> f32 + Sync + Copy,
) {
    let range = (out.len() / d).div_ceil(N_RANGES).max(1);
    out.par_chunks_mut(range * d).enumerate().for_each(|(i, out)| {
        let features = first + i * range..first + i * range + out.len() / d;
        let mut rest: Vec<&[Entry]> = features.map(|f| source.codes.feature(f)).collect();
        let mut entries = vec![&[][..]; rest.len()];
        let n_strips = d.div_ceil(COLUMNS);
        for (chunk, strips) in strips.chunks(n_strips * ROWS * COLUMNS).enumerate() {
            let first_row = chunk * ROWS;
            let rows = ROWS.min(n_rows - first_row);
            for (entries, rest) in entries.iter_mut().zip(&mut rest) {
                let n = rest.partition_point(|e| (e.row as usize) < first_row + rows);
                (*entries, *rest) = rest.split_at(n);
            }
            for (s, lines) in strips.chunks_exact(rows * COLUMNS).enumerate() {
                let column = s * COLUMNS;
                dispatch(Strip {
                    entries: &entries,
                    lines,
                    first_row,
                    column,
                    d,
                    out,
                    coefficient,
                });
            }
        }
    });
}

/// A strip, whose first row is `first_row` of the batch, and the features that pick from it.
struct Strip<'a, C> {
    entries: &'a [&'a [Entry]],
    lines: &'a [f32],
    first_row: usize,
    column: usize,
    d: usize,
    out: &'a mut [f32],
    coefficient: C,
}

impl<C: Fn(&Entry) -> f32> WithSimd for Strip<'_, C> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let n = COLUMNS.min(self.d - self.column);
        for (out, entries) in self.out.chunks_exact_mut(self.d).zip(self.entries) {
            let out = &mut out[self.column..][..n];
            let mut sum = [0.0_f32; COLUMNS];
            if self.first_row > 0 {
                sum[..n].copy_from_slice(out);
            }
            add_lines(simd, entries, self.lines, self.first_row, &self.coefficient, &mut sum);
            out.copy_from_slice(&sum[..n]);
        }
    }
}

/// Adds each entry's line, times its coefficient, to `sum`.
#[inline(always)]
fn add_lines<S: Simd>(
    simd: S,
    entries: &[Entry],
    lines: &[f32],
    first_row: usize,
    coefficient: &impl Fn(&Entry) -> f32,
    sum: &mut [f32; COLUMNS],
) {
    let n = COLUMNS / S::F32_LANES;
    let sum = S::as_mut_simd_f32s(sum).0;
    let line = |entry: &Entry| {
        let at = (entry.row as usize - first_row) * COLUMNS;
        S::as_simd_f32s(&lines[at..at + COLUMNS]).0
    };
    let mut even = [simd.splat_f32s(0.0); COLUMNS];
    let mut odd = [simd.splat_f32s(0.0); COLUMNS];
    let (pairs, last) = entries.as_chunks::<2>();
    for [first, second] in pairs {
        let (a, b) = (line(first), line(second));
        let by_a = simd.splat_f32s(coefficient(first));
        let by_b = simd.splat_f32s(coefficient(second));
        for j in 0..n {
            even[j] = simd.mul_add_e_f32s(by_a, a[j], even[j]);
            odd[j] = simd.mul_add_e_f32s(by_b, b[j], odd[j]);
        }
    }
    for entry in last {
        let (a, by) = (line(entry), simd.splat_f32s(coefficient(entry)));
        for j in 0..n {
            even[j] = simd.mul_add_e_f32s(by, a[j], even[j]);
        }
    }
    for j in 0..n {
        sum[j] = simd.add_f32s(sum[j], simd.add_f32s(even[j], odd[j]));
    }
}
