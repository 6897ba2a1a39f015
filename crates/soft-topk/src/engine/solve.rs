//! The threshold: the root of Σp = k, by closed-form steps near it and by selection far from it.

use super::gap::Gap;
use super::real::Real;
use super::scale::{Point, Scale, distance};
use super::sums::{Sums, sums};

/// Steps longer than this, in units of alpha, are taken by selection instead.
const FAR: f64 = 30.0;
/// Steps this long at most end the search when no entry is passed: rounding grows with them.
const NEAR: f64 = 8.0;
/// Closed-form steps in a row before selection has its turn.
const STEPS_IN_A_ROW: u32 = 6;
/// Up to this many entries the one of a given rank is found exactly, beyond by a sample.
const EXACT: usize = 512;

/// Selections by a sample before they are exact, which bounds the work on any row.
const SAMPLED: u32 = 3;

/// What `solve` needs room for.
#[derive(Debug, Default)]
pub(crate) struct SolveScratch<T> {
    active: Vec<T>,
    sample: Vec<T>,
    /// How many entries have been read.
    #[cfg(test)]
    read: usize,
}

/// The root of Σp = k, and where it was seen from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Solution<T> {
    /// θ.
    pub(crate) point: Point<T>,
    /// The point from which weights are to be computed.
    pub(crate) base: Point<T>,
    /// How far θ lies above it, in units of alpha; no entry lies between the two, or so near that it
    /// makes no difference.
    pub(crate) step: f64,
    /// The sums over all entries at the base, where they have been taken; the signed tails are then
    /// in the room for them.
    pub(crate) sums: Option<Sums>,
}

impl<T: Real> Solution<T> {
    /// A root of which nothing is known beside.
    fn at(point: Point<T>) -> Self {
        Self { point, base: point, step: 0.0, sums: None }
    }
}

/// The root of Σp = k over `x`; `first` is a guess, and may be far off. `tails` is as long as `x`.
///
/// A closed-form step never passes the root, and its error is at most the square of its length
/// (the entries that it passes are the ones that make the sum steep). From far away a step gains
/// little, so there the entries on the wrong side of the trial are dropped (their sums are kept)
/// and the next trial is the entry of the wanted rank, or the median, of those left, found by
/// selection: at first in a sample, which is nearly always good enough, then exactly, so that the
/// rows for which it is not are halved in every third round and the work stays linear.
#[inline(always)]
pub(crate) fn solve<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    first: Option<Point<T>>,
    scratch: &mut SolveScratch<T>,
    tails: &mut [T],
) -> Solution<T> {
    let SolveScratch { active, sample, .. } = scratch;
    let mut bracket = Bracket { low: None, high: None };
    let mut narrowed = false;
    let mut steps = 0;
    let mut selections = 0_u32;
    let mut point = first.unwrap_or_else(|| Point::at(ranked(x, k, sample, false)));
    loop {
        let left: &[T] = if narrowed { active } else { x };
        #[cfg(test)]
        {
            scratch.read += left.len();
        }
        let inner = sums(left, point, scale, &mut tails[..left.len()]);
        let total = bracket.complete(inner, point, scale);
        let step = total.step(k);
        if step.abs() <= T::STEP || (step.abs() <= NEAR && total.is_free(step)) {
            let root = point.moved(step, scale);
            if narrowed {
                return Solution::at(root);
            }
            return Solution { point: root, base: point, step, sums: Some(total) };
        }
        if step.is_nan() {
            let gap = Gap::find(x, k, scale, |x| is_above(x, point, scale));
            return Solution::at(gap.point(scale));
        }
        if step.abs() <= FAR && steps < STEPS_IN_A_ROW {
            point = point.moved(step, scale);
            steps += 1;
            continue;
        }
        steps = 0;
        let before = left.len();
        let up = step > 0.0;
        bracket.narrow(left, &total, point, scale, up);
        shrink(x, active, narrowed, point, scale, up);
        narrowed = true;
        if active.is_empty() {
            let high = bracket.high.map(|(point, ..)| point);
            let above = |x| high.is_some_and(|high| is_above(x, high, scale));
            return Solution::at(Gap::find(x, k, scale, above).point(scale));
        }
        let is_median = selections % 3 == 2;
        let wanted = if is_median { 0.5 * active.len() as f64 } else { k - bracket.above() };
        // A trial that has dropped next to nothing was no good.
        let exact = selections >= SAMPLED || 8 * active.len() > 7 * before;
        point = Point::at(ranked(active, wanted, sample, exact));
        selections += 1;
    }
}

/// The ends between which the root lies, and the sums over the entries outside, taken there.
struct Bracket<T> {
    /// A point at or below the root, and Σ e^z over the entries at or below the point.
    low: Option<(Point<T>, f64)>,
    /// A point above the root, and the number and Σ e^−z of the entries at or above the point.
    high: Option<(Point<T>, f64, f64)>,
}

impl<T: Real> Bracket<T> {
    /// Moves an end to a point on its side of the root, above which the root lies if `up`; `total` are
    /// the sums over all entries there, `left` those inside so far.
    #[inline(always)]
    fn narrow(&mut self, left: &[T], total: &Sums, point: Point<T>, scale: Scale<T>, up: bool) {
        if up {
            // Entries at the point itself lie below a root above it.
            let (at, offset) = (point.pivot, point.shift());
            let level = |x: &&T| distance(**x, at, offset, scale.inverse) == T::ZERO;
            let ties = left.iter().filter(level).count() as f64;
            self.low = Some((point, total.lower + ties));
        } else {
            self.high = Some((point, total.above, total.upper));
        }
    }

    /// The number of entries above the bracket.
    #[inline(always)]
    fn above(&self) -> f64 {
        self.high.map_or(0.0, |(_, above, _)| above)
    }

    /// Adds to sums over the entries inside those of the entries outside.
    fn complete(&self, mut sums: Sums, point: Point<T>, scale: Scale<T>) -> Sums {
        if let Some((high, above, upper)) = self.high {
            let up = point.up_to(high, scale).max(0.0);
            sums.above += above;
            sums.upper += upper * (-up).exp();
            sums.next_above = sums.next_above.min(up);
        }
        if let Some((low, lower)) = self.low {
            let down = low.up_to(point, scale).max(0.0);
            sums.lower += lower * (-down).exp();
            sums.next_below = sums.next_below.min(down);
        }
        sums
    }
}

/// Whether an entry lies at or above a point.
#[inline(always)]
pub(crate) fn is_above<T: Real>(x: T, point: Point<T>, scale: Scale<T>) -> bool {
    distance(x, point.pivot, point.shift(), scale.inverse) >= T::ZERO
}

/// Leaves in `active` the entries beyond the point: of those that it has, or of all of `x`.
#[inline(always)]
fn shrink<T: Real>(
    x: &[T],
    active: &mut Vec<T>,
    narrowed: bool,
    point: Point<T>,
    scale: Scale<T>,
    up: bool,
) {
    let kept = if narrowed {
        keep_in_place(active, point, scale, up)
    } else {
        active.resize(x.len(), T::ZERO);
        keep(x, active, point, scale, up)
    };
    active.truncate(kept);
}

/// Copies the entries beyond the point to the front of `kept`, and says how many they are.
#[inline(always)]
fn keep<T: Real>(x: &[T], kept: &mut [T], point: Point<T>, scale: Scale<T>, up: bool) -> usize {
    let (pivot, offset) = (point.pivot, point.shift());
    let mut len = 0;
    for &x in x {
        let z = distance(x, pivot, offset, scale.inverse);
        kept[len] = x;
        len += usize::from(if up { z > T::ZERO } else { z < T::ZERO });
    }
    len
}

#[inline(always)]
fn keep_in_place<T: Real>(x: &mut [T], point: Point<T>, scale: Scale<T>, up: bool) -> usize {
    let (pivot, offset) = (point.pivot, point.shift());
    let mut len = 0;
    for i in 0..x.len() {
        let z = distance(x[i], pivot, offset, scale.inverse);
        x[len] = x[i];
        len += usize::from(if up { z > T::ZERO } else { z < T::ZERO });
    }
    len
}

/// The entry of rank `rank` (1 for the largest), of all or of a spread-out sample.
fn ranked<T: Real>(x: &[T], rank: f64, sample: &mut Vec<T>, exact: bool) -> T {
    sample.clear();
    if exact || x.len() <= EXACT {
        sample.extend_from_slice(x);
    } else {
        // One entry of each stride, at places that follow no period of the row.
        let stride = x.len().div_ceil(EXACT);
        let place = |i: usize| i * stride + (i.wrapping_mul(0x9E37_79B1) >> 8) % stride;
        sample.extend((0..x.len() / stride).map(|i| x[place(i)]));
    }
    let place = (rank / x.len() as f64 * sample.len() as f64).ceil().max(1.0) as usize;
    let place = place.min(sample.len()) - 1;
    *sample.select_nth_unstable_by(place, |a, b| T::order(b, a)).1
}

#[cfg(test)]
mod tests {
    use super::{SolveScratch, solve};
    use crate::engine::scale::Scale;

    /// Entries read, in lengths of the row.
    fn work(x: &[f32], k: f64, alpha: f32) -> f64 {
        let mut scratch = SolveScratch::default();
        let mut tails = vec![0.0; x.len()];
        solve(x, k, Scale::new(alpha), None, &mut scratch, &mut tails);
        scratch.read as f64 / x.len() as f64
    }

    #[test]
    fn no_row_takes_much_more_work_than_another() {
        let n = 65_536;
        let noise = |i: usize| (i * 7919 % 10_007) as f32 / 10_007.0;
        let rows: [(&str, &dyn Fn(usize) -> f32); 9] = [
            ("noise", &noise),
            ("equal", &|_| 1.0),
            ("two values", &|i| (i % 2) as f32),
            ("ascending", &|i| i as f32 / n as f32),
            ("one giant", &|i| if i == 7 { 3e38 } else { noise(i) }),
            ("denormal", &|i| noise(i) * 1e-40),
            ("powers", &|i| ((i % 252) as f32 - 126.0).exp2()),
            ("a period of 128", &|i| (i % 128) as f32 + 1e-3 * noise(i)),
            ("a period of 127", &|i| (i % 127) as f32 + 1e-3 * noise(i)),
        ];
        for (name, row) in rows {
            let x: Vec<f32> = (0..n).map(row).collect();
            for alpha in [1e-6, 1e-4, 1e-2, 1.0, 1e3] {
                for k in [0.5, 64.0, 5000.5, 32_768.0, 65_000.0] {
                    let work = work(&x, k, alpha);
                    assert!(work < 12.0, "{name}, alpha {alpha}, k {k}: {work}");
                }
            }
        }
    }
}
