//! Logarithms of the weights of all rows, forward and backward.
//!
//! ln p is z − ln 2 below the threshold, finite where p itself has underflowed, and
//! ln(1 − ½e^−z) above. With r = d ln p/dz = t/p, t = ½e^−|z| and an incoming gradient v:
//! grad k = q = Σ r·v/Σ t, grad x = (r·v − t·q)/alpha, grad alpha = Σ r·v·(z̄ − z)/alpha.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::entry::Entry;
use super::gap::Gap;
use super::real::Real;
use super::row::{Scratch, threshold};
use super::scale::{Point, Scale};
use super::{BadRow, budget, first, rows_per_task};

/// Entries further from the threshold, in units of alpha, are so far for the gradient of alpha.
const FARTHEST: f64 = 1e300;

/// The threshold of a row, and the gap around it where that is wide.
type Threshold<T> = (Point<T>, Option<Gap<T>>);

/// What backward needs: the threshold of each row.
#[derive(Clone, Debug, Default)]
pub(crate) struct LogState<T> {
    points: Vec<Threshold<T>>,
    alpha: T,
    pub(crate) n: usize,
}

impl<T> LogState<T> {
    /// How many rows there were.
    pub(crate) fn rows(&self) -> usize {
        self.points.len()
    }
}

/// Writes ln p of all rows to `out`.
pub(crate) fn log_forward<E: Entry>(
    x: &[E],
    n: usize,
    k: &[E::Real],
    alpha: E::Real,
    out: &mut [E::Real],
    state: &mut LogState<E::Real>,
) -> BadRow {
    let per_task = rows_per_task(n);
    (state.alpha, state.n) = (alpha, n);
    state.points.resize(x.len() / n, (Point::default(), None));
    let (arch, scale) = (Arch::new(), Scale::new(alpha));
    x.par_chunks(per_task * n)
        .zip(out.par_chunks_mut(per_task * n))
        .zip(state.points.par_chunks_mut(per_task))
        .enumerate()
        .map_init(Scratch::default, |scratch, (task, ((x, out), points))| {
            let start = task * per_task;
            arch.dispatch(Forward { x, out, points, n, k, start, scale, scratch })
        })
        .reduce(|| None, first)
}

struct Forward<'a, E: Entry> {
    x: &'a [E],
    out: &'a mut [E::Real],
    points: &'a mut [Threshold<E::Real>],
    n: usize,
    k: &'a [E::Real],
    start: usize,
    scale: Scale<E::Real>,
    scratch: &'a mut Scratch<E::Real>,
}

impl<E: Entry> WithSimd for Forward<'_, E> {
    type Output = BadRow;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> BadRow {
        let Forward { x, out, points, n, k, start, scale, scratch } = self;
        let mut room = Vec::new();
        let rows = x.chunks_exact(n).zip(out.chunks_exact_mut(n)).zip(points);
        for (i, ((x, out), point)) in rows.enumerate() {
            let x = E::row(x, &mut room);
            match threshold(x, budget(k, start + i), scale, scratch) {
                Ok(found) => *point = found,
                Err(_) => return Some(start + i),
            }
            for (&x, out) in x.iter().zip(out) {
                *out = E::Real::from_f64(log_weight(units(x, point.0, scale)));
            }
        }
        None
    }
}

/// Writes the gradient for x to `grad` and for each k to `grad_k`, and returns that for alpha.
pub(crate) fn log_backward<E: Entry>(
    state: &LogState<E::Real>,
    x: &[E],
    v: &[E::Real],
    grad: &mut [E::Real],
    grad_k: &mut [E::Real],
) -> f64 {
    let (n, scale) = (state.n, Scale::new(state.alpha));
    let rows = x.par_chunks(n).zip(v.par_chunks(n)).zip(grad.par_chunks_mut(n));
    let alphas: Vec<f64> = rows
        .zip(grad_k)
        .zip(&state.points)
        .with_min_len(rows_per_task(n))
        .map_init(Vec::new, |room, ((((x, v), grad), grad_k), point)| {
            let (k, alpha) = backward_row(E::row(x, room), v, *point, scale, grad);
            *grad_k = E::Real::from_f64(k);
            alpha
        })
        .collect();
    alphas.iter().sum()
}

fn backward_row<T: Real>(
    x: &[T],
    v: &[T],
    point: Threshold<T>,
    scale: Scale<T>,
    grad: &mut [T],
) -> (f64, f64) {
    // Tails relative to that of the nearest entry, so that their sum does not vanish in a wide gap.
    let (theta, gap) = point;
    let nearest = match &gap {
        Some(gap) => gap.nearest,
        None => x.iter().map(|x| units(*x, theta, scale).abs()).fold(f64::INFINITY, f64::min),
    };
    let slope = |x: T| match &gap {
        Some(gap) => {
            let (above, further) = gap.place(x, scale);
            let size = gap.nearest + further;
            slope(if above { size } else { -size }, further)
        }
        None => {
            let z = units(x, theta, scale);
            slope(z, z.abs() - nearest)
        }
    };
    let (mut sum_t, mut sum_tz, mut sum_rv, mut sum_rvz) = (0.0, 0.0, 0.0, 0.0);
    for (&x, &v) in x.iter().zip(v) {
        let Slope { z, tail, ratio } = slope(x);
        sum_t += tail;
        sum_tz += if tail > 0.0 { tail * z } else { 0.0 };
        sum_rv += ratio * v.to_f64();
        sum_rvz += if ratio > 0.0 { ratio * v.to_f64() * z } else { 0.0 };
    }
    let share = sum_rv / sum_t;
    for ((grad, &x), &v) in grad.iter_mut().zip(x).zip(v) {
        let Slope { tail, ratio, .. } = slope(x);
        *grad = T::from_f64((ratio * v.to_f64() - tail * share) / scale.alpha);
    }
    // In a gap so wide that its tails underflow, ln p is infinitely steep in k.
    let grad_k = if share == 0.0 { 0.0 } else { share / (-nearest).exp() };
    (grad_k, (sum_tz / sum_t * sum_rv - sum_rvz) / scale.alpha)
}

/// (x − θ)/alpha.
fn units<T: Real>(x: T, point: Point<T>, scale: Scale<T>) -> f64 {
    (x.to_f64() - point.pivot.to_f64()) / scale.alpha - point.offset
}

/// ln p.
fn log_weight(z: f64) -> f64 {
    if z < 0.0 { z - std::f64::consts::LN_2 } else { (-0.5 * (-z).exp()).ln_1p() }
}

/// z, t relative to that of the nearest entry, and t/p.
struct Slope {
    z: f64,
    tail: f64,
    ratio: f64,
}

/// The slope at z, `further` from the threshold than the nearest entry.
fn slope(z: f64, further: f64) -> Slope {
    let ratio = if z < 0.0 {
        1.0
    } else {
        let tail = 0.5 * (-z).exp();
        tail / (1.0 - tail)
    };
    Slope { z: z.clamp(-FARTHEST, FARTHEST), tail: 0.5 * (-further).exp(), ratio }
}
