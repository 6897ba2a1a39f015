//! Weight gradients of features with many entries, strip by strip of columns.
//!
//! A strip is eight columns of the output gradient beside the same columns of the encoder's input,
//! one cache line a row, for some rows of the batch: it stays in cache while every feature picks
//! its rows from it, and the sums of a feature stay in registers.

use rayon::prelude::*;

use super::Source;
use crate::simd::dispatch;
use crate::{Entry, Matrix};

/// Columns of a strip.
const COLUMNS: usize = 8;

/// A row of a strip: columns of the output gradient, then of the input.
const LINE: usize = 2 * COLUMNS;

/// Rows of a strip: 128 KiB of it.
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
    let d = input.n_cols();
    let n_rows = input.n_rows();
    strips.resize(d.div_ceil(COLUMNS) * n_rows * LINE, 0.0);
    let mut first = 0;
    let (mut decoder, mut encoder) = (decoder, encoder);
    for (g, &end) in source.groups.ends().iter().enumerate() {
        pack(source.output_gradient, g * d, input, strips);
        let len = (end - first) * d;
        let (own_decoder, rest) = std::mem::take(&mut decoder).split_at_mut(len);
        decoder = rest;
        let (own_encoder, rest) = std::mem::take(&mut encoder).split_at_mut(len);
        encoder = rest;
        let range = (end - first).div_ceil(N_RANGES);
        own_decoder
            .par_chunks_mut(range * d)
            .zip(own_encoder.par_chunks_mut(range * d))
            .enumerate()
            .for_each(|(i, (decoder, encoder))| {
                let range = Range { source, first: first + i * range, d, decoder, encoder };
                range.sum(strips, n_rows);
            });
        first = end;
    }
}

/// Lays out strips of `output`, from column `offset` on, and `input`: all of the first rows, then
/// all of the next. Columns beyond the last are 0.
fn pack(output: Matrix<'_>, offset: usize, input: Matrix<'_>, strips: &mut [f32]) {
    let (d, n_rows) = (input.n_cols(), input.n_rows());
    let n_strips = d.div_ceil(COLUMNS);
    for (chunk, strips) in strips.chunks_mut(n_strips * ROWS * LINE).enumerate() {
        let first = chunk * ROWS;
        let rows = ROWS.min(n_rows - first);
        strips.par_chunks_mut(rows * LINE).enumerate().for_each(|(s, strip)| {
            let column = s * COLUMNS;
            let n = COLUMNS.min(d - column);
            for (r, line) in strip.chunks_exact_mut(LINE).enumerate() {
                line.fill(0.0);
                line[..n].copy_from_slice(&output.row(first + r)[offset + column..][..n]);
                line[COLUMNS..COLUMNS + n].copy_from_slice(&input.row(first + r)[column..][..n]);
            }
        });
    }
}

/// Consecutive features and their gradients.
struct Range<'a> {
    source: &'a Source<'a>,
    first: usize,
    d: usize,
    decoder: &'a mut [f32],
    encoder: &'a mut [f32],
}

impl Range<'_> {
    fn sum(mut self, strips: &[f32], n_rows: usize) {
        let n_strips = self.d.div_ceil(COLUMNS);
        let features = self.first..self.first + self.decoder.len() / self.d;
        let mut rest: Vec<&[Entry]> = features.map(|f| self.source.codes.feature(f)).collect();
        let mut entries = vec![&[][..]; rest.len()];
        for (chunk, strips) in strips.chunks(n_strips * ROWS * LINE).enumerate() {
            let first_row = chunk * ROWS;
            let rows = ROWS.min(n_rows - first_row);
            for (entries, rest) in entries.iter_mut().zip(&mut rest) {
                let n = rest.partition_point(|e| (e.row as usize) < first_row + rows);
                (*entries, *rest) = rest.split_at(n);
            }
            for (s, strip) in strips.chunks_exact(rows * LINE).enumerate() {
                dispatch(|| self.sum_strip(&entries, s * COLUMNS, strip, first_row));
            }
        }
    }

    /// Adds one strip, whose first row is `first_row` of the batch, to the gradients.
    #[inline(always)]
    fn sum_strip(&mut self, entries: &[&[Entry]], column: usize, strip: &[f32], first_row: usize) {
        let n = COLUMNS.min(self.d - column);
        let lines = strip.as_chunks::<LINE>().0;
        let rows = self.decoder.chunks_exact_mut(self.d).zip(self.encoder.chunks_exact_mut(self.d));
        for ((decoder, encoder), entries) in rows.zip(entries) {
            let (mut even, mut odd) = ([0.0_f32; LINE], [0.0_f32; LINE]);
            let (pairs, last) = entries.as_chunks::<2>();
            for [first, second] in pairs {
                add(first, lines, first_row, &mut even);
                add(second, lines, first_row, &mut odd);
            }
            for entry in last {
                add(entry, lines, first_row, &mut even);
            }
            let mut sum: [f32; LINE] = std::array::from_fn(|j| even[j] + odd[j]);
            let (decoder, encoder) =
                (&mut decoder[column..column + n], &mut encoder[column..column + n]);
            if first_row > 0 {
                sum.iter_mut().zip(&*decoder).for_each(|(s, d)| *s += d);
                sum[COLUMNS..].iter_mut().zip(&*encoder).for_each(|(s, e)| *s += e);
            }
            decoder.copy_from_slice(&sum[..n]);
            encoder.copy_from_slice(&sum[COLUMNS..COLUMNS + n]);
        }
    }
}

#[inline(always)]
fn add(entry: &Entry, lines: &[[f32; LINE]], first_row: usize, sum: &mut [f32; LINE]) {
    let line = &lines[entry.row as usize - first_row];
    for j in 0..COLUMNS {
        sum[j] += entry.value * line[j];
        sum[COLUMNS + j] += entry.gradient * line[COLUMNS + j];
    }
}
