//! Weights from signed tails: the cumulative distribution, over whole rows and over lists.
//!
//! A signed tail is e^−|z| with the sign of z, as `sums` leaves it at the point of its last pass. A
//! step s from there to the threshold multiplies tails above by e^s and those below by e^−s, as long
//! as it passes no entry: so the exponential of each entry is taken once.

use super::gap::Gap;
use super::lists::{ListedMut, Lists, Row};
use super::real::Real;
use super::scale::{Point, Scale};
use super::solve::Solution;
use super::sums::signed_tails;

/// What tails are multiplied with.
#[derive(Clone, Copy, Debug)]
struct Factors<T> {
    above: T,
    below: T,
}

impl<T: Real> Factors<T> {
    /// A short step may pass entries, whose weights around ½ must not fall by rounding as x rises.
    fn of(step: f64) -> Self {
        let (above, below) = (T::from_f64(0.5 * step.exp()), T::from_f64(0.5 * (-step).exp()));
        let least_above = T::ONE - above;
        let falls = step.abs() <= T::STEP && below > least_above;
        Self { above, below: if falls { least_above } else { below } }
    }

    /// p.
    #[inline(always)]
    fn weight(self, signed: T) -> T {
        let tail = signed.abs();
        if signed.is_signed() { self.below * tail } else { T::ONE - self.above * tail }
    }
}

/// Replaces the signed tails of a row by its weights, `step` being that from their point to θ.
#[inline(always)]
pub(crate) fn finish<T: Real>(tails: &mut [T], step: f64) {
    let factors = Factors::of(step);
    for tail in tails {
        *tail = factors.weight(*tail);
    }
}

/// Appends a row's support to `lists`, given the entries that may belong to it and their signed
/// tails.
#[inline(always)]
pub(crate) fn append<T: Real>(
    (tails, indices): (&[T], &[u32]),
    solution: Solution<T>,
    lists: &mut Lists<T>,
) {
    let factors = Factors::of(solution.step);
    let (start, first_tail) = (lists.indices.len(), lists.tails.len());
    for (&signed, &index) in tails.iter().zip(indices) {
        if signed.abs() > T::ZERO {
            if !signed.is_signed() {
                lists.tail_places.push((lists.indices.len() - start) as u32);
                lists.tails.push(factors.above * signed);
            }
            lists.indices.push(index);
            lists.values.push(factors.weight(signed));
        } else if !signed.is_signed() {
            lists.indices.push(index);
            lists.values.push(T::ONE);
        }
    }
    lists.rows.push(Row {
        point: solution.point,
        len: lists.indices.len() - start,
        tails: lists.tails.len() - first_tail,
        damping: T::ONE,
        ..Row::default()
    });
}

/// The number of entries with p > 0, given signed tails.
#[inline(always)]
pub(crate) fn support<T: Real>(tails: &[T]) -> usize {
    let outside = |tail: &&T| tail.abs() == T::ZERO && tail.is_signed();
    tails.len() - tails.iter().filter(outside).count()
}

/// Writes the support of a row of which only the size is known, read from the row itself.
#[inline(always)]
pub(crate) fn write<T: Real>(
    x: &[T],
    (point, step): (Point<T>, f64),
    scale: Scale<T>,
    room: &mut Vec<T>,
    out: ListedMut<'_, T>,
) {
    let factors = Factors::<T>::of(step);
    if out.values.len() == x.len() {
        signed_tails(x, point, scale, out.values);
        for (place, index) in out.indices.iter_mut().enumerate() {
            *index = place as u32;
        }
    } else {
        room.resize(x.len(), T::ZERO);
        signed_tails(x, point, scale, room);
        let mut entries = out.indices.iter_mut().zip(&mut *out.values);
        for (place, &signed) in room.iter().enumerate() {
            if (signed.abs() > T::ZERO || !signed.is_signed())
                && let Some((index, value)) = entries.next()
            {
                (*index, *value) = (place as u32, signed);
            }
        }
    }
    // Most rows of which every entry matters have none above the threshold.
    let blocks = if out.tails.is_empty() { &[][..] } else { &*out.values };
    let mut tails = out.tail_places.iter_mut().zip(out.tails);
    for (number, block) in blocks.chunks(64).enumerate() {
        if block.iter().fold(false, |any, signed| any | !signed.is_signed()) {
            for (i, &signed) in block.iter().enumerate() {
                if !signed.is_signed()
                    && let Some((place, tail)) = tails.next()
                {
                    (*place, *tail) = ((number * 64 + i) as u32, factors.above * signed);
                }
            }
        }
    }
    finish(out.values, step);
}

/// `append` where the threshold lies in a wide gap: tails are measured from the nearest entry.
///
/// There an entry may have a weight of 0 and yet a share of the derivative; whether it is listed
/// nevertheless is up to the caller.
#[inline(always)]
pub(crate) fn append_gap<T: Real>(
    (values, indices): (&[T], &[u32]),
    (point, gap): (Point<T>, Gap<T>),
    scale: Scale<T>,
    lists: &mut Lists<T>,
    list_zeros: bool,
) {
    let (cut, damping) = (T::CUT.to_f64(), f64::exp_neg(gap.nearest));
    let (start, first_tail) = (lists.indices.len(), lists.tails.len());
    let mut unlisted = 0.0;
    for (&x, &index) in values.iter().zip(indices) {
        let (above, further) = gap.place(x, scale);
        if !above && further > cut {
            continue;
        }
        let tail = T::HALF * T::exp_neg(T::from_f64(further));
        let seen = gap.nearest + further <= cut;
        let small = if seen { T::from_f64(tail.to_f64() * damping) } else { T::ZERO };
        let weight = if above { T::ONE - small } else { small };
        if weight > T::ZERO || (list_zeros && tail > T::ZERO) {
            if tail > T::ZERO {
                lists.tail_places.push((lists.indices.len() - start) as u32);
                lists.tails.push(tail);
            }
            lists.indices.push(index);
            lists.values.push(weight);
        } else {
            unlisted += tail.to_f64();
        }
    }
    lists.rows.push(Row {
        point,
        len: lists.indices.len() - start,
        tails: lists.tails.len() - first_tail,
        damping: if gap.nearest <= cut { T::from_f64(damping) } else { T::ZERO },
        unlisted,
        ..Row::default()
    });
}
