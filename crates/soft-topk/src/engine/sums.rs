//! One pass over a row: what the equation Σp = k looks like at a trial threshold.

use super::real::Real;
use super::scale::{Point, Scale, distance};

const LANES: usize = 8;
/// Entries added up in the row's own precision before the sum goes on in `f64`.
const BLOCK: usize = 256;

/// The sums of LapSum's closed form at a point θ, with z = (x − θ)/alpha.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    /// The number of entries with z ≥ 0.
    pub(crate) above: f64,
    /// Σ e^−z over them.
    pub(crate) upper: f64,
    /// Σ e^z over the others.
    pub(crate) lower: f64,
    /// The least z ≥ 0, infinite beyond the cut.
    pub(crate) next_above: f64,
    /// The least −z > 0, infinite beyond the cut.
    pub(crate) next_below: f64,
    /// Whether the tail of some entry is 0.
    pub(crate) some_vanish: bool,
}

impl Sums {
    /// The step s, in units of alpha, to the root of
    /// k = above − ½·upper·e^s + ½·lower·e^−s (Struski et al., LapSum): the solution as long as
    /// no entry lies between the point and the root, and otherwise nearer than the point and on
    /// the same side. Infinite where the sums have underflowed, NaN where both have and
    /// above = k.
    pub(crate) fn step(&self, k: f64) -> f64 {
        let excess = self.above - k;
        let root = excess.hypot((self.upper * self.lower).sqrt());
        if excess > 0.0 {
            ((excess + root) / self.upper).ln()
        } else if excess < 0.0 {
            (self.lower / (root - excess)).ln()
        } else {
            0.5 * (self.lower / self.upper).ln()
        }
    }

    /// Whether no entry lies between the point and the point `step` further.
    pub(crate) fn is_free(&self, step: f64) -> bool {
        -self.next_below < step && step <= self.next_above
    }

    /// Whether the entry nearest to the point `step` further is so far from it that products with
    /// its tail could underflow.
    pub(crate) fn is_gap(&self, step: f64) -> bool {
        (self.next_above - step).min(self.next_below + step) > 30.0
    }
}

/// Writes e^−|z| of every entry to `tails`, with the sign of z.
#[inline(always)]
pub(crate) fn signed_tails<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>, tails: &mut [T]) {
    let (pivot, offset, inverse) = (point.pivot, point.shift(), scale.inverse);
    for (&x, tail) in x.iter().zip(tails) {
        let z = distance(x, pivot, offset, inverse);
        *tail = T::exp_neg(z.abs()).signed_like(z);
    }
}

/// The sums over `x` at `point`; its signed tails are left in `tails`, which is as long.
#[inline(always)]
pub(crate) fn sums<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>, tails: &mut [T]) -> Sums {
    let mut total = Sums::default();
    let (mut top_above, mut top_below) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let mut least = [T::ONE; LANES];
    for (x, tails) in x.chunks(BLOCK).zip(tails.chunks_mut(BLOCK)) {
        signed_tails(x, point, scale, tails);
        let mut signs = [T::ZERO; LANES];
        let mut upper = [T::ZERO; LANES];
        let mut lower = [T::ZERO; LANES];
        let greater = |a: T, b: T| if a > b { a } else { b };
        let mut add = |lane: usize, signed: T| {
            let (up, low) = (greater(signed, T::ZERO), greater(-signed, T::ZERO));
            signs[lane] += T::ONE.signed_like(signed);
            upper[lane] += up;
            lower[lane] += low;
            top_above[lane] = greater(up, top_above[lane]);
            top_below[lane] = greater(low, top_below[lane]);
            least[lane] = if signed.abs() < least[lane] { signed.abs() } else { least[lane] };
        };
        let (chunks, rest) = tails.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &signed) in chunk.iter().enumerate() {
                add(lane, signed);
            }
        }
        for (lane, &signed) in rest.iter().enumerate() {
            add(lane, signed);
        }
        total.above += 0.5 * (tails.len() as f64 + sum(signs));
        total.upper += sum(upper);
        total.lower += sum(lower);
    }
    total.next_above = -largest(top_above).ln();
    total.next_below = -largest(top_below).ln();
    total.some_vanish = least.contains(&T::ZERO);
    total
}

#[inline(always)]
fn sum<T: Real>(lanes: [T; LANES]) -> f64 {
    lanes.iter().map(|lane| lane.to_f64()).sum()
}

#[inline(always)]
fn largest<T: Real>(lanes: [T; LANES]) -> f64 {
    lanes.iter().map(|lane| lane.to_f64()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::{Sums, sums};
    use crate::engine::scale::{Point, Scale};

    #[test]
    fn the_sums_follow_their_definition() {
        let x: Vec<f64> = (0..531).map(|i| ((i * 37) % 101) as f64 / 50.0 - 1.0).collect();
        let (theta, alpha) = (0.21, 0.13);
        let got = sums(&x, Point::at(theta), Scale::new(alpha), &mut vec![0.0; x.len()]);
        let z = || x.iter().map(|x| (x - theta) / alpha);
        let above = z().filter(|z| *z >= 0.0).count() as f64;
        let upper: f64 = z().filter(|z| *z >= 0.0).map(|z| (-z).exp()).sum();
        let lower: f64 = z().filter(|z| *z < 0.0).map(f64::exp).sum();
        assert_eq!(got.above, above);
        assert!((got.upper - upper).abs() < 1e-12 * upper);
        assert!((got.lower - lower).abs() < 1e-12 * lower);
        let next = z().filter(|z| *z >= 0.0).fold(f64::INFINITY, f64::min);
        assert!((got.next_above - next).abs() < 1e-12);
    }

    #[test]
    fn the_step_solves_the_closed_form() {
        for (above, k) in [(7.0, 3.5), (3.0, 3.5), (4.0, 4.0)] {
            let sums = Sums { above, upper: 2.3, lower: 1.7, ..Sums::default() };
            let s = sums.step(k);
            let sum = above - 0.5 * sums.upper * s.exp() + 0.5 * sums.lower * (-s).exp();
            assert!((sum - k).abs() < 1e-12, "{above} {k}: {sum}");
        }
    }
}
