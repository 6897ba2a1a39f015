//! One row, backward.
//!
//! With t = ½e^−|z|, d = t/alpha and an incoming gradient v (Struski et al., LapSum):
//! grad k = q = Σ t·v/Σ t, grad x = d·(v − q), grad alpha = Σ d·v·(z̄ − z), z̄ = Σ t·z/Σ t.

use super::lists::{Listed, Row};
use super::real::Real;
use super::scale::{Scale, distance};

const LANES: usize = 16;
const BLOCK: usize = 256;

/// The gradients of one row that are not those of its entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RowGradient {
    pub(crate) k: f64,
    pub(crate) alpha: f64,
}

/// Room for the backward pass of one row.
#[derive(Debug, Default)]
pub(crate) struct GradientScratch<T> {
    incoming: Vec<T>,
    outgoing: Vec<T>,
}

/// Σ t, Σ t·v, Σ t·z, Σ t·v·z.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    t: f64,
    tv: f64,
    tz: f64,
    tvz: f64,
}

impl Moments {
    fn gradient<T: Real>(self, row: &Row<T>, scale: Scale<T>) -> RowGradient {
        let mean = self.tz / self.t;
        let alpha = row.damping.to_f64() * (mean * self.tv - self.tvz) / scale.alpha;
        RowGradient { k: self.tv / self.t, alpha }
    }
}

/// Gradients of a listed row; `v` and `grad` hold the listed entries only.
#[inline(always)]
pub(crate) fn listed_row<T: Real>(
    row: &Row<T>,
    listed: Listed<'_, T>,
    v: &[T],
    scale: Scale<T>,
    grad: &mut [T],
    want_alpha: bool,
) -> RowGradient {
    let half = |p: T| if p < T::HALF { p } else { T::ONE - p };
    for (grad, &p) in grad.iter_mut().zip(listed.values) {
        *grad = half(p);
    }
    for (&place, &tail) in listed.tail_places.iter().zip(listed.tails) {
        grad[place as usize] = tail;
    }
    let mut moments = Moments::default();
    (moments.t, moments.tv) = weigh(grad, v);
    moments.t += row.unlisted;
    if want_alpha {
        let shift = if row.damping > T::ZERO { -row.damping.to_f64().ln() } else { 0.0 };
        for ((&tail, &p), &v) in grad.iter().zip(listed.values).zip(v) {
            if tail > T::ZERO {
                let size = shift - (2.0 * tail.to_f64()).ln();
                let tz = tail.to_f64() * if p < T::HALF { -size } else { size };
                moments.tz += tz;
                moments.tvz += tz * v.to_f64();
            }
        }
    }
    let result = moments.gradient(row, scale);
    spread(grad, v, result.k, row.damping * scale.inverse);
    result
}

/// Gradients of a listed row; `v` and `grad` hold the whole row.
#[inline(always)]
pub(crate) fn scattered_row<T: Real>(
    row: &Row<T>,
    listed: Listed<'_, T>,
    v: &[T],
    scale: Scale<T>,
    grad: &mut [T],
    want_alpha: bool,
    scratch: &mut GradientScratch<T>,
) -> RowGradient {
    let GradientScratch { incoming, outgoing } = scratch;
    incoming.clear();
    incoming.extend(listed.indices.iter().map(|index| v[*index as usize]));
    outgoing.resize(row.len, T::ZERO);
    let result = listed_row(row, listed, incoming, scale, outgoing, want_alpha);
    grad.fill(T::ZERO);
    for (&index, &value) in listed.indices.iter().zip(&*outgoing) {
        grad[index as usize] = value;
    }
    result
}

/// Gradients of a row of which most entries matter, given its weights `p`.
///
/// A block of weights below ½ is one of tails. In a block with others the tails are computed anew,
/// in `grad`: 1 − p has lost their last digits.
#[inline(always)]
pub(crate) fn whole_row<T: Real>(
    (x, p): (&[T], &[T]),
    row: &Row<T>,
    v: &[T],
    scale: Scale<T>,
    grad: &mut [T],
    want_alpha: bool,
) -> RowGradient {
    let (pivot, offset) = (row.point.pivot, row.point.shift());
    let units = |x: T| distance(x, pivot, offset, scale.inverse);
    let mut moments = Moments::default();
    let mut room = [T::ZERO; BLOCK];
    let blocks = grad.chunks_mut(BLOCK).zip(p.chunks(BLOCK));
    for ((grad, p), (x, v)) in blocks.zip(x.chunks(BLOCK).zip(v.chunks(BLOCK))) {
        let tails = if all_below(p) {
            p
        } else {
            for (tail, &x) in grad.iter_mut().zip(x) {
                *tail = T::HALF * T::exp_neg(units(x).abs());
            }
            grad
        };
        let (t, tv) = weigh(tails, v);
        moments.t += t;
        moments.tv += tv;
        if want_alpha {
            let weighted = &mut room[..x.len()];
            for ((tz, &tail), &x) in weighted.iter_mut().zip(tails).zip(x) {
                *tz = if tail > T::ZERO { tail * units(x) } else { T::ZERO };
            }
            let (tz, tvz) = weigh(weighted, v);
            moments.tz += tz;
            moments.tvz += tvz;
        }
    }
    let result = moments.gradient(row, scale);
    let blocks = grad.chunks_mut(BLOCK).zip(p.chunks(BLOCK));
    for ((grad, p), v) in blocks.zip(v.chunks(BLOCK)) {
        if all_below(p) {
            let q = T::from_f64(result.k);
            for ((grad, &p), &v) in grad.iter_mut().zip(p).zip(v) {
                *grad = p * scale.inverse * (v - q);
            }
        } else {
            spread(grad, v, result.k, scale.inverse);
        }
    }
    result
}

#[inline(always)]
fn all_below<T: Real>(p: &[T]) -> bool {
    !p.iter().fold(false, |any, p| any | (*p >= T::HALF))
}

/// Σ t and Σ t·v, in a pass each: lanes of two sums in one pass would be paired with each other.
#[inline(always)]
fn weigh<T: Real>(t: &[T], v: &[T]) -> (f64, f64) {
    let mut total = (0.0, 0.0);
    for (t, v) in t.chunks(BLOCK).zip(v.chunks(BLOCK)) {
        total.0 += in_lanes(t, t, |t, _| t);
        total.1 += in_lanes(t, v, |t, v| t * v);
    }
    total
}

/// The sum of `term` over a block.
#[inline(always)]
fn in_lanes<T: Real>(t: &[T], v: &[T], term: impl Fn(T, T) -> T) -> f64 {
    let mut sums = [T::ZERO; LANES];
    let (t_chunks, t_rest) = t.as_chunks::<LANES>();
    let (v_chunks, v_rest) = v.as_chunks::<LANES>();
    for (t, v) in t_chunks.iter().zip(v_chunks) {
        for lane in 0..LANES {
            sums[lane] += term(t[lane], v[lane]);
        }
    }
    for (lane, (&t, &v)) in t_rest.iter().zip(v_rest).enumerate() {
        sums[lane] += term(t, v);
    }
    sums.iter().map(|lane| lane.to_f64()).sum()
}

/// From tails in `grad` to gradients.
#[inline(always)]
fn spread<T: Real>(grad: &mut [T], v: &[T], q: f64, factor: T) {
    let q = T::from_f64(q);
    for (grad, &v) in grad.iter_mut().zip(v) {
        *grad = *grad * factor * (v - q);
    }
}
