//! Weight gradients of features with many entries, strip by strip of columns.
//!
//! A strip is eight columns of the output gradient beside the same columns of the encoder's input:
//! one cache line a row of the batch, so that the strip of a whole batch stays in cache while every
//! feature picks its rows from it, and the sums of a feature stay in registers.

use rayon::prelude::*;

use super::Source;
use crate::simd::dispatch;
use crate::{Entry, Matrix};

/// Columns of a strip.
const COLUMNS: usize = 8;

/// A row of a strip: columns of the output gradient, then of the input.
const LINE: usize = 2 * COLUMNS;

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
                let first = first + i * range;
                for (s, strip) in strips.chunks_exact(n_rows * LINE).enumerate() {
                    dispatch(|| sum_strip(source, first, s * COLUMNS, strip, d, decoder, encoder));
                }
            });
        first = end;
    }
}

/// Lays out strips of `output`, from column `offset` on, and `input`; columns beyond the last are 0.
fn pack(output: Matrix<'_>, offset: usize, input: Matrix<'_>, strips: &mut [f32]) {
    let d = input.n_cols();
    strips.par_chunks_mut(input.n_rows() * LINE).enumerate().for_each(|(s, strip)| {
        let column = s * COLUMNS;
        let n = COLUMNS.min(d - column);
        for (row, line) in strip.chunks_exact_mut(LINE).enumerate() {
            line.fill(0.0);
            line[..n].copy_from_slice(&output.row(row)[offset + column..][..n]);
            line[COLUMNS..COLUMNS + n].copy_from_slice(&input.row(row)[column..][..n]);
        }
    });
}

/// Sums one strip for the features from `first` on, whose gradients are given.
#[inline(always)]
fn sum_strip(
    source: &Source<'_>,
    first: usize,
    column: usize,
    strip: &[f32],
    d: usize,
    decoder: &mut [f32],
    encoder: &mut [f32],
) {
    let n = COLUMNS.min(d - column);
    let lines = strip.as_chunks::<LINE>().0;
    let rows = decoder.chunks_exact_mut(d).zip(encoder.chunks_exact_mut(d));
    for (i, (decoder, encoder)) in rows.enumerate() {
        let entries = source.codes.feature(first + i);
        let mut sums = [[0.0_f32; LINE]; 2];
        let pairs = entries.chunks_exact(2);
        let odd = pairs.remainder();
        for pair in pairs {
            for (entry, sum) in pair.iter().zip(&mut sums) {
                add(entry, lines, sum);
            }
        }
        for entry in odd {
            add(entry, lines, &mut sums[0]);
        }
        let [even, odd] = sums;
        let sum: [f32; LINE] = std::array::from_fn(|j| even[j] + odd[j]);
        decoder[column..column + n].copy_from_slice(&sum[..n]);
        encoder[column..column + n].copy_from_slice(&sum[COLUMNS..COLUMNS + n]);
    }
}

#[inline(always)]
fn add(entry: &Entry, lines: &[[f32; LINE]], sum: &mut [f32; LINE]) {
    let line = &lines[entry.row as usize];
    for j in 0..COLUMNS {
        sum[j] += entry.value * line[j];
        sum[COLUMNS + j] += entry.gradient * line[COLUMNS + j];
    }
}
