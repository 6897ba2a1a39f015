//! Attention in f32 on the CPU, a block of positions at a time.

use std::ops::Range;

use pulp::Arch;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
use tch_autograd::{Factor, View, multiply, view, view_mut};

use super::super::attention::{Attention, Mask};
use super::is_ours;
use super::rows::{N_LANES, exp, sum};

/// Positions whose scores a task holds at a time.
const BLOCK: usize = 64;

/// softmax(c·tanh(s·q kᵀ / c)) v; queries are of the last positions.
///
/// # Shapes
/// Queries `[batch, positions, heads, head_dim]`, keys and values
/// `[batch, keys, kv_heads, head_dim]`; returns `[batch, positions, heads · head_dim]`.
pub(crate) fn attention(
    of: &Attention,
    queries: &Tensor,
    keys: &Tensor,
    values: &Tensor,
) -> Option<Tensor> {
    if !fit_together(of.mask, queries, keys, values) {
        return None;
    }
    let (batch, positions, width) = (queries.size()[0], queries.size()[1], row(queries));
    let [queries, keys, values] = [queries, keys, values].map(Heads::new);
    let (queries, keys, values) = (queries?, keys?, values?);
    let mut out = Tensor::empty([batch, positions, width], (Kind::Float, Device::Cpu));
    let [positions, width] = [positions, width].map(|n| n.unsigned_abs() as usize);
    if out.numel() == 0 {
        return Some(out);
    }
    let shared = queries.heads / keys.heads;
    let before = keys.positions.saturating_sub(positions);
    let rows = view_mut::<f32>(&mut out).ok()?;
    let blocks = rows.par_chunks_mut(positions * width).enumerate().flat_map(|(sequence, rows)| {
        let blocks = rows.par_chunks_mut(BLOCK * width).enumerate();
        blocks.map(move |(block, rows)| (sequence, block * BLOCK, rows))
    });
    blocks
        .map_init(Vec::new, |scores, (sequence, first, rows)| {
            let of_queries = first..first + rows.len() / width;
            let at = before + of_queries.start..before + of_queries.end;
            let seen = seen(of.mask, &at, keys.positions);
            scores.resize(at.len() * seen.len(), 0.0);
            for head in 0..queries.heads {
                let keys = keys.matrix(sequence, head / shared, seen.clone());
                let turned = Factor {
                    shape: [keys.shape[1], keys.shape[0]],
                    strides: [1, keys.strides[0]],
                    ..keys
                };
                let query = queries.matrix(sequence, head, of_queries.clone());
                multiply(query, turned, scores, seen.len()).ok()?;
                Arch::new().dispatch(|| {
                    for (at, row) in at.clone().zip(scores.chunks_exact_mut(seen.len())) {
                        weigh(row, &attended(of.mask, at, &seen), of);
                    }
                });
                let shape = [at.len(), seen.len()];
                let weights = Factor { data: scores, shape, strides: [seen.len(), 1] };
                let values = values.matrix(sequence, head / shared, seen.clone());
                multiply(weights, values, &mut rows[head * queries.head_dim..], width).ok()?;
            }
            Some(())
        })
        .collect::<Option<()>>()?;
    Some(out)
}

/// Whether each query has its keys and values, all of one dimension.
fn fit_together(mask: Mask, queries: &Tensor, keys: &Tensor, values: &Tensor) -> bool {
    let (&[batch, positions, heads, head_dim], &[_, n_keys, kv_heads, _]) =
        (queries.size().as_slice(), keys.size().as_slice())
    else {
        return false;
    };
    keys.size() == [batch, n_keys, kv_heads, head_dim]
        && values.size() == keys.size()
        && kv_heads > 0
        && heads % kv_heads == 0
        && (mask == Mask::Full || n_keys >= positions)
}

/// The width of all heads of a position.
fn row(heads: &Tensor) -> i64 {
    heads.size()[2..].iter().product()
}

/// The elements of heads `[batch, positions, heads, head_dim]`, of whatever strides.
struct Heads {
    elements: View<f32>,
    positions: usize,
    heads: usize,
    head_dim: usize,
    strides: [usize; 3],
}

impl Heads {
    fn new(heads: &Tensor) -> Option<Self> {
        let &[batch, positions, n_heads, head_dim] = heads.size().as_slice() else { return None };
        let strides = heads.stride();
        if !is_ours(heads) || strides[3] != 1 || strides.iter().any(|stride| *stride < 0) {
            return None;
        }
        let shape = [batch, positions, n_heads, head_dim];
        let steps = shape.iter().zip(&strides).map(|(n, stride)| (n - 1).max(0) * stride);
        let span = if shape.contains(&0) { 0 } else { steps.sum::<i64>() + 1 };
        let elements = view::<f32>(&heads.as_strided([span], [1], None)).ok()?;
        let [positions, n_heads, head_dim] =
            [positions, n_heads, head_dim].map(|n| n.unsigned_abs() as usize);
        let strides = [strides[0], strides[1], strides[2]].map(|n| n.unsigned_abs() as usize);
        Some(Self { elements, positions, heads: n_heads, head_dim, strides })
    }

    /// A head of some positions of a sequence.
    fn matrix(&self, sequence: usize, head: usize, positions: Range<usize>) -> Factor<'_> {
        let [sequences, rows, heads] = self.strides;
        let start = sequence * sequences + positions.start * rows + head * heads;
        let data = &self.elements[start..];
        Factor { data, shape: [positions.len(), self.head_dim], strides: [rows, 1] }
    }
}

/// The positions that any of some positions attends to.
fn seen(mask: Mask, at: &Range<usize>, n_keys: usize) -> Range<usize> {
    match mask {
        Mask::Full => 0..n_keys,
        Mask::Causal => 0..at.end,
        Mask::Window(_) => attended(mask, at.start, &(0..at.end)).start..at.end,
    }
}

/// The positions that a position attends to.
fn attended(mask: Mask, at: usize, seen: &Range<usize>) -> Range<usize> {
    match mask {
        Mask::Full => seen.clone(),
        Mask::Causal => seen.start..at + 1,
        Mask::Window(window) => {
            let first = (at + 1).saturating_sub(window.unsigned_abs() as usize);
            let first = first.max(seen.start) - seen.start;
            first..at + 1 - seen.start
        }
    }
}

/// The scores of a position become its weights, 0 outside of what it attends to.
#[inline(always)]
fn weigh(row: &mut [f32], attended: &Range<usize>, of: &Attention) {
    row[..attended.start].fill(0.0);
    row[attended.end..].fill(0.0);
    let row = &mut row[attended.clone()];
    let scale = of.scale as f32;
    match of.softcap {
        None => row.iter_mut().for_each(|x| *x *= scale),
        Some(cap) => {
            let cap = cap as f32;
            row.iter_mut().for_each(|x| *x = cap * tanh(*x * scale / cap));
        }
    }
    let highest = maximum(row);
    row.iter_mut().for_each(|x| *x = exp(*x - highest));
    let inverse = sum(row, |x| x).recip();
    row.iter_mut().for_each(|x| *x *= inverse);
}

/// tanh to three units in the last place: by its series near 0, elsewhere by the exponential of −2|x|.
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let square = x * x;
    let near = x + x * square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0)));
    let tail = exp(-2.0 * x.abs());
    let far = ((1.0 - tail) / (1.0 + tail)).copysign(x);
    if x.abs() < 0.15 { near } else { far }
}

/// The largest element; one that is no number if there is such a one.
#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let larger = |a: f32, b: f32| if b > a || b.is_nan() { b } else { a };
    let mut lanes = [f32::NEG_INFINITY; N_LANES];
    let (whole, rest) = row.as_chunks::<N_LANES>();
    for part in whole {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane = larger(*lane, *x);
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |a, b| larger(a, *b))
}

#[cfg(test)]
mod tests {
    use super::{maximum, tanh};

    #[test]
    fn tanh_is_exact_to_three_units() {
        for i in -20_000..20_000 {
            let x = i as f32 * 1e-3;
            for x in [x, x * 1e-4] {
                let (got, expected) = (f64::from(tanh(x)), f64::from(x).tanh());
                assert!((got - expected).abs() <= 3.6e-7 * expected.abs(), "tanh({x}): {got}");
            }
        }
        assert!(tanh(f32::NAN).is_nan());
        assert_eq!([tanh(f32::INFINITY), tanh(f32::NEG_INFINITY)], [1.0, -1.0]);
    }

    #[test]
    fn the_largest_is_found_and_what_is_no_number_kept() {
        let row: Vec<f32> = (0..75).map(|i| ((i * 37 % 75) as f32) - 80.0).collect();
        for n in 1..row.len() {
            let expected = row[..n].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(maximum(&row[..n]), expected);
            let mut damaged = row[..n].to_vec();
            damaged[n / 2] = f32::NAN;
            assert!(maximum(&damaged).is_nan());
        }
    }
}
