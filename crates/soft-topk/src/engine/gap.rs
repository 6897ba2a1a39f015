//! The threshold inside a gap so wide that tails measured from the middle underflow.

use super::real::Real;
use super::scale::{Point, Scale};

/// The exact threshold between the entries that `is_above` names and the others, all of which
/// lie below them, when the root is known to lie in that gap.
///
/// Sums are taken relative to the entry on either side of the gap, w apart:
/// k = N − ½P·y + ½M·e^−w/y with y = e^(θ − upper neighbour)/alpha.
#[inline(always)]
pub(crate) fn between<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    is_above: impl Fn(T) -> bool,
) -> Point<T> {
    let (mut n_above, mut first, mut last) = (0_usize, T::INFINITY, -T::INFINITY);
    for &x in x {
        if is_above(x) {
            n_above += 1;
            first = if x < first { x } else { first };
        } else {
            last = if x > last { x } else { last };
        }
    }
    let inverse = scale.inverse.to_f64();
    let units = |from: T, to: T| (to.to_f64() - from.to_f64()) * inverse;
    let (mut upper, mut lower) = (0.0, 0.0);
    for &x in x {
        if is_above(x) {
            upper += tail(units(first, x));
        } else {
            lower += tail(-units(last, x));
        }
    }
    let excess = n_above as f64 - k;
    if n_above == 0 {
        return Point::at(last).moved((lower / (-2.0 * excess)).ln(), scale);
    }
    if n_above == x.len() {
        return Point::at(first).moved((2.0 * excess / upper).ln(), scale);
    }
    let width = units(last, first);
    let root = excess.hypot((upper * lower).sqrt() * (-0.5 * width).exp());
    if excess > 0.0 {
        Point::at(first).moved(((excess + root) / upper).ln(), scale)
    } else if excess < 0.0 {
        Point::at(last).moved((lower / (root - excess)).ln(), scale)
    } else {
        Point::at(first).moved(0.5 * ((lower / upper).ln() - width), scale)
    }
}

/// e^−a, and 0 where it is lost beside 1, as for most entries.
#[inline(always)]
fn tail(a: f64) -> f64 {
    if a < 100.0 { f64::exp_neg(a) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::between;
    use crate::engine::scale::Scale;

    #[test]
    fn the_middle_of_a_wide_gap_is_found() {
        let x = [5.0, 9.0, 1.0, 0.0];
        let point = between(&x, 2.0, Scale::new(1e-6), |x| x > 3.0);
        assert_eq!(point.pivot, 3.0);
        assert!(point.offset.abs() < 1e-6);
    }

    #[test]
    fn a_root_beside_the_last_entry_above_is_found() {
        let x = [5.0, 9.0, 1.0, 0.0];
        let point = between(&x, 1.75, Scale::new(1e-3), |x| x > 3.0);
        let z: f64 = (5.0 - point.pivot) / 1e-3 - point.offset;
        assert!((1.0 - 0.5 * (-z).exp() - 0.75).abs() < 1e-9);
    }
}
