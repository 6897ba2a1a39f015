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
    /// The least z ≥ 0.
    pub(crate) next_above: f64,
    /// The least −z > 0.
    pub(crate) next_below: f64,
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
}

/// The sums over `x` at `point`.
#[inline(always)]
pub(crate) fn sums<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>) -> Sums {
    let (pivot, offset, inverse) = (point.pivot, T::from_f64(point.offset), scale.inverse);
    let mut total = Sums::default();
    let mut next_above = [T::INFINITY; LANES];
    let mut next_below = [T::INFINITY; LANES];
    let (mut z, mut tails) = ([T::ZERO; BLOCK], [T::ZERO; BLOCK]);
    for block in x.chunks(BLOCK) {
        for ((&x, z), tail) in block.iter().zip(&mut z).zip(&mut tails) {
            *z = distance(x, pivot, offset, inverse);
            *tail = T::exp_neg(z.abs());
        }
        let mut above = [T::ZERO; LANES];
        let mut upper = [T::ZERO; LANES];
        let mut lower = [T::ZERO; LANES];
        let mut add = |lane: usize, z: T, tail: T| {
            let high = z >= T::ZERO;
            above[lane] += if high { T::ONE } else { T::ZERO };
            upper[lane] += if high { tail } else { T::ZERO };
            lower[lane] += if high { T::ZERO } else { tail };
            let (up, down) = if high { (z, T::INFINITY) } else { (T::INFINITY, -z) };
            next_above[lane] = if up < next_above[lane] { up } else { next_above[lane] };
            next_below[lane] = if down < next_below[lane] { down } else { next_below[lane] };
        };
        let (z_chunks, z_rest) = z[..block.len()].as_chunks::<LANES>();
        let (tail_chunks, tail_rest) = tails[..block.len()].as_chunks::<LANES>();
        for (z, tails) in z_chunks.iter().zip(tail_chunks) {
            for lane in 0..LANES {
                add(lane, z[lane], tails[lane]);
            }
        }
        for (lane, (&z, &tail)) in z_rest.iter().zip(tail_rest).enumerate() {
            add(lane, z, tail);
        }
        total.above += sum(above);
        total.upper += sum(upper);
        total.lower += sum(lower);
    }
    total.next_above = least(next_above);
    total.next_below = least(next_below);
    total
}

#[inline(always)]
fn sum<T: Real>(lanes: [T; LANES]) -> f64 {
    lanes.iter().map(|lane| lane.to_f64()).sum()
}

#[inline(always)]
fn least<T: Real>(lanes: [T; LANES]) -> f64 {
    lanes.iter().map(|lane| lane.to_f64()).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::{Sums, sums};
    use crate::engine::scale::{Point, Scale};

    #[test]
    fn the_sums_follow_their_definition() {
        let x: Vec<f64> = (0..531).map(|i| ((i * 37) % 101) as f64 / 50.0 - 1.0).collect();
        let (theta, alpha) = (0.21, 0.13);
        let got = sums(&x, Point::at(theta), Scale::new(alpha));
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
