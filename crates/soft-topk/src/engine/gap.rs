//! Rows whose threshold lies in a gap so wide that what is measured from there underflows or is lost
//! to rounding.

use super::real::Real;
use super::scale::{Point, Scale};

/// Tails of entries so much further than another are lost beside its own.
const LOST: f64 = 100.0;

/// Where a threshold lies between the entries above and below it, relative to the nearest of both.
///
/// With `first` the least of N entries above and `last` the greatest of the others,
/// P = Σ e^(first − x)/alpha over the former and M = Σ e^(x − last)/alpha over the latter,
/// Σp = N − ½P·e^a + ½M·e^b = k, where a = (θ − first)/alpha, b = (last − θ)/alpha and
/// −(a + b) is the width of the gap. The tails ½e^−|z| are ½e^(a + (first − x)/alpha) above and
/// ½e^(b + (x − last)/alpha) below: they follow from k, and θ itself need not be known so exactly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gap<T> {
    first: T,
    last: T,
    /// a + nearest, and b + nearest.
    above: f64,
    below: f64,
    /// |z| of the nearest entry.
    pub(crate) nearest: f64,
    /// ½(ln M/P), where θ lies that far from the middle.
    from_middle: Option<f64>,
}

impl<T: Real> Gap<T> {
    /// The gap between the entries that `is_above` names and the others, all of which lie below
    /// them, when the root of Σp = k is known to lie there.
    #[inline(always)]
    pub(crate) fn find(x: &[T], k: f64, scale: Scale<T>, is_above: impl Fn(T) -> bool) -> Self {
        let (mut n_above, mut first, mut last) = (0_usize, T::INFINITY, -T::INFINITY);
        for &x in x {
            if is_above(x) {
                n_above += 1;
                first = if x < first { x } else { first };
            } else {
                last = if x > last { x } else { last };
            }
        }
        // Beyond these tails are lost beside that of the entry next to the gap.
        let reach = LOST * scale.alpha;
        let highest = T::from_f64(first.to_f64() + reach);
        let lowest = T::from_f64(last.to_f64() - reach);
        let (mut upper, mut lower) = (0.0, 0.0);
        for &x in x {
            if x >= first {
                upper += if x > highest { 0.0 } else { tail(units(first, x, scale)) };
            } else if x >= lowest {
                lower += tail(units(x, last, scale));
            }
        }
        let excess = n_above as f64 - k;
        let found = |a: f64, b: f64| {
            let nearest = -a.max(b);
            let (above, below) = (a + nearest, b + nearest);
            Self { first, last, above, below, nearest, from_middle: None }
        };
        if n_above == 0 {
            return found(-f64::INFINITY, (-2.0 * excess / lower).ln());
        }
        if n_above == x.len() {
            return found((2.0 * excess / upper).ln(), -f64::INFINITY);
        }
        let width = units(last, first, scale);
        let root = excess.hypot((upper * lower).sqrt() * (-0.5 * width).exp());
        if excess > 0.0 {
            let a = ((excess + root) / upper).ln();
            found(a, -width - a)
        } else if excess < 0.0 {
            let b = ((root - excess) / lower).ln();
            found(-width - b, b)
        } else {
            let half = 0.5 * (lower / upper).ln();
            let (above, below) = (half - half.abs(), -half - half.abs());
            let nearest = 0.5 * width - half.abs();
            Self { first, last, above, below, nearest, from_middle: Some(half) }
        }
    }

    /// θ.
    pub(crate) fn point(&self, scale: Scale<T>) -> Point<T> {
        if let Some(half) = self.from_middle {
            let (a, b) = (0.5 * self.first.to_f64(), 0.5 * self.last.to_f64());
            let middle = a + b;
            // What the sum has lost to rounding (Knuth's two-sum).
            let moved = middle - a;
            let lost = (a - (middle - moved)) + (b - moved);
            let pivot = T::from_f64(middle);
            let rest = (middle - pivot.to_f64()) + lost;
            return Point::new(pivot, rest / scale.alpha).moved(half, scale);
        }
        if self.above >= self.below {
            Point::at(self.first).moved(self.above - self.nearest, scale)
        } else {
            Point::at(self.last).moved(self.nearest - self.below, scale)
        }
    }

    /// Whether an entry lies above θ, and how much further from it than the nearest one.
    #[inline(always)]
    pub(crate) fn place(&self, x: T, scale: Scale<T>) -> (bool, f64) {
        if x >= self.first {
            (true, units(self.first, x, scale) - self.above)
        } else {
            (false, units(x, self.last, scale) - self.below)
        }
    }
}

/// How far one number lies above another, in units of alpha.
#[inline(always)]
fn units<T: Real>(from: T, to: T, scale: Scale<T>) -> f64 {
    (to.to_f64() - from.to_f64()) * scale.inverse.to_f64()
}

/// e^−a, and 0 where it is lost beside 1.
#[inline(always)]
fn tail(a: f64) -> f64 {
    if a < LOST { f64::exp_neg(a) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::Gap;
    use crate::engine::scale::Scale;

    #[test]
    fn the_middle_of_a_wide_gap_is_found() {
        let x = [5.0, 9.0, 1.0, 0.0];
        let scale = Scale::new(1e-6);
        let point = Gap::find(&x, 2.0, scale, |x| x > 3.0).point(scale);
        assert_eq!(point.pivot, 3.0);
        assert!(point.offset.abs() < 1e-6);
    }

    #[test]
    fn a_root_beside_the_last_entry_above_is_found() {
        let x = [5.0, 9.0, 1.0, 0.0];
        let scale = Scale::new(1e-3);
        let point = Gap::find(&x, 1.75, scale, |x| x > 3.0).point(scale);
        let z: f64 = (5.0 - point.pivot) / 1e-3 - point.offset;
        assert!((1.0 - 0.5 * (-z).exp() - 0.75).abs() < 1e-9);
    }

    #[test]
    fn both_sides_of_an_integer_gap_have_the_same_share() {
        let scale = Scale::new(1.0);
        for x in [[1e17, 3.0, 1.0, 0.0], [1e300, 1e299, -1e300, -1e301]] {
            let gap = Gap::find(&x, 1.0, scale, |e| e == x[0]);
            let tail = |x: f64| (-gap.place(x, scale).1).exp();
            let below: f64 = x[1..].iter().map(|x| tail(*x)).sum();
            assert!((tail(x[0]) - below).abs() < 1e-12, "{x:?}: {} {below}", tail(x[0]));
        }
    }
}
