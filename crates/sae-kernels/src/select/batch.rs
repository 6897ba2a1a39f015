//! The largest activations of a whole batch.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use super::candidates::Scratch;
use super::{Chunk, Selector};
use crate::Matrix;
use crate::simd::dispatch;

/// Bins of the histogram that narrows the boundary down.
const N_BINS: usize = 4096;

/// Rows from which a first guess is made.
const SAMPLE_ROWS: usize = 16;

/// What a batch leaves for the next one.
#[derive(Debug)]
pub(super) struct Batch {
    /// The boundary of the last batch, NaN if there is none.
    last: f32,
    /// How far below it the next guess lies, relative to it.
    margin: f32,
    sample: Vec<u32>,
    boundary_bin: Vec<u32>,
}

impl Default for Batch {
    fn default() -> Self {
        Self { last: f32::NAN, margin: 0.1, sample: Vec::new(), boundary_bin: Vec::new() }
    }
}

/// Leaves the `total` largest activations of the batch in the chunks of the selector.
pub(super) fn select(selector: &mut Selector, z: Matrix<'_>, bias: &[f32], total: usize) {
    let mut threshold = if selector.batch.last.is_nan() {
        selector.batch.guess_from_sample(z, bias, total)
    } else {
        selector.batch.last * (1.0 - selector.batch.margin)
    };
    let mut n = collect(selector, z, bias, threshold);
    if n < total && threshold > 0.0 {
        selector.batch.margin = (selector.batch.margin * 1.5).min(0.6);
        let sampled = selector.batch.guess_from_sample(z, bias, total);
        threshold = if sampled < threshold { sampled } else { 0.0 };
        n = collect(selector, z, bias, threshold);
        if n < total && threshold > 0.0 {
            threshold = 0.0;
            n = collect(selector, z, bias, threshold);
        }
    }
    if n <= total {
        selector.batch.last = f32::NAN;
        return;
    }
    if n > total + total / 2 {
        selector.batch.margin = (selector.batch.margin * 0.8).max(0.005);
    }
    if total == 0 {
        selector.chunks.iter_mut().for_each(|c| c.keep(f32::INFINITY, 0));
        return;
    }
    let boundary = boundary(selector, threshold, total);
    selector.batch.last = boundary;
    let counts: Vec<(usize, usize)> = selector
        .chunks
        .par_iter()
        .map(|c| {
            c.values.iter().fold((0, 0), |(above, equal), &v| {
                (above + usize::from(v > boundary), equal + usize::from(v == boundary))
            })
        })
        .collect();
    let mut n_equal = total - counts.iter().map(|c| c.0).sum::<usize>();
    let allowances: Vec<usize> = counts
        .iter()
        .map(|&(_, equal)| {
            let of_chunk = equal.min(n_equal);
            n_equal -= of_chunk;
            of_chunk
        })
        .collect();
    selector.chunks.par_iter_mut().zip(allowances).for_each(|(c, n)| c.keep(boundary, n));
}

/// Collects the candidates of all rows and counts them.
fn collect(selector: &mut Selector, z: Matrix<'_>, bias: &[f32], threshold: f32) -> usize {
    selector.each_row(z.n_rows(), |row, chunk| {
        let z = z.row(row);
        let Chunk { indices, values, scratch, .. } = chunk;
        dispatch(CollectRow { z, bias, threshold, scratch, indices, values });
    });
    selector.chunks.iter().map(|c| c.indices.len()).sum()
}

/// The `total`-th largest of the candidates, all of which are above `threshold` ≥ 0.
///
/// Positive floats are ordered as their bits are: a histogram of them finds the bin
/// of the boundary, and a quickselect within the bin the boundary itself.
fn boundary(selector: &mut Selector, threshold: f32, total: usize) -> f32 {
    let base = threshold.to_bits();
    let largest = selector
        .chunks
        .par_iter()
        .map(|c| c.values.iter().map(|v| v.to_bits()).max().unwrap_or(base))
        .max()
        .unwrap_or(base);
    let mut shift = 0;
    while ((largest - base) >> shift) as usize >= N_BINS {
        shift += 1;
    }
    let bin = |v: f32| ((v.to_bits() - base) >> shift) as usize;
    let groups: Vec<Vec<u32>> = selector
        .chunks
        .par_chunks(16)
        .map(|chunks| {
            let mut bins = vec![0_u32; N_BINS];
            for v in chunks.iter().flat_map(|c| &c.values) {
                bins[bin(*v)] += 1;
            }
            bins
        })
        .collect();
    let mut rest = total;
    let mut wanted = N_BINS - 1;
    loop {
        let in_bin: usize = groups.iter().map(|bins| bins[wanted] as usize).sum();
        if in_bin >= rest {
            break;
        }
        rest -= in_bin;
        wanted -= 1;
    }
    let Selector { chunks, batch } = selector;
    let members = &mut batch.boundary_bin;
    members.clear();
    for chunk in chunks.iter() {
        members.extend(chunk.values.iter().filter(|v| bin(**v) == wanted).map(|v| v.to_bits()));
    }
    f32::from_bits(*members.select_nth_unstable_by(rest - 1, |a, b| b.cmp(a)).1)
}

impl Batch {
    /// A guess from evenly spread rows: about 1.3 `total` activations lie above it.
    fn guess_from_sample(&mut self, z: Matrix<'_>, bias: &[f32], total: usize) -> f32 {
        self.sample.clear();
        let step = z.n_rows().div_ceil(SAMPLE_ROWS).max(1);
        for row in (0..z.n_rows()).step_by(step) {
            let activations = z.row(row).iter().zip(bias).map(|(z, b)| (z + b).max(0.0).to_bits());
            self.sample.extend(activations);
        }
        let n = self.sample.len();
        let rank = (1.3 * total as f64 * n as f64 / z.data().len().max(1) as f64) as usize + 64;
        if rank >= n {
            return 0.0;
        }
        f32::from_bits(*self.sample.select_nth_unstable_by(rank, |a, b| b.cmp(a)).1)
    }
}

impl Chunk {
    /// Drops what lies below `boundary`, and all but the first `n_equal` that equal it.
    fn keep(&mut self, boundary: f32, mut n_equal: usize) {
        let (mut start, mut kept) = (0, 0);
        for end in &mut self.ends {
            for i in start..*end {
                let v = self.values[i];
                let equal = v == boundary && n_equal > 0;
                n_equal -= usize::from(equal);
                self.values[kept] = v;
                self.indices[kept] = self.indices[i];
                kept += usize::from(v > boundary || equal);
            }
            start = *end;
            *end = kept;
        }
        self.values.truncate(kept);
        self.indices.truncate(kept);
    }
}

struct CollectRow<'a> {
    z: &'a [f32],
    bias: &'a [f32],
    threshold: f32,
    scratch: &'a mut Scratch,
    indices: &'a mut Vec<u32>,
    values: &'a mut Vec<f32>,
}

impl WithSimd for CollectRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { z, bias, threshold, scratch, indices, values } = self;
        let n = scratch.collect(simd, z, bias, threshold);
        let candidates = &scratch.candidates[..n];
        indices.extend_from_slice(candidates);
        values.extend(candidates.iter().map(|&i| z[i as usize] + bias[i as usize]));
    }
}
