//! Weights from distances: the cumulative distribution, over whole rows and over lists.

use super::lists::{ListedMut, Lists, Row};
use super::real::Real;
use super::scale::{Point, Scale, distance};

const LANES: usize = 16;

/// Whether the nearest entry is so far from the threshold, in units of alpha, that products with
/// its tail could underflow.
fn is_gap<T: Real>(nearest: T) -> bool {
    nearest > T::from_f64(30.0)
}

/// p of every entry, written to `out`.
///
/// False if the threshold lies in a gap so wide that the tails need the care of `append`.
#[inline(always)]
pub(crate) fn fill<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>, out: &mut [T]) -> bool {
    let (pivot, offset, inverse) = (point.pivot, T::from_f64(point.offset), scale.inverse);
    for (&x, out) in x.iter().zip(&mut *out) {
        let z = distance(x, pivot, offset, inverse);
        let tail = T::HALF * T::exp_neg(z.abs());
        *out = if z < T::ZERO { tail } else { T::ONE - tail };
    }
    // The weight nearest to ½ is that of the nearest entry.
    let near = |p: T| (p - T::HALF).abs();
    let mut nearest = [T::ONE; LANES];
    let (chunks, rest) = out.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let size = near(chunk[lane]);
            nearest[lane] = if size < nearest[lane] { size } else { nearest[lane] };
        }
    }
    let first = rest.iter().map(|p| near(*p)).fold(T::ONE, |a, b| if b < a { b } else { a });
    let nearest = nearest.iter().fold(first, |a, b| if *b < a { *b } else { a });
    nearest < T::HALF || !is_gap(least_distance(x, point, scale))
}

/// |z| of the entry nearest to the threshold.
fn least_distance<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>) -> T {
    let (pivot, offset) = (point.pivot, T::from_f64(point.offset));
    let sizes = x.iter().map(|x| distance(*x, pivot, offset, scale.inverse).abs());
    sizes.fold(T::INFINITY, |a, b| if b < a { b } else { a })
}

/// What a row's support will be, without its weights.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    /// Entries with p > 0.
    pub(crate) support: usize,
    /// Entries at or above the threshold.
    pub(crate) above: usize,
    /// Whether the threshold lies in a wide gap.
    pub(crate) gap: bool,
}

/// Counts the support of a row.
#[inline(always)]
pub(crate) fn count<T: Real>(x: &[T], point: Point<T>, scale: Scale<T>) -> Counts {
    let (pivot, offset, inverse) = (point.pivot, T::from_f64(point.offset), scale.inverse);
    let mut counts = (0, 0);
    let mut nearest = [T::INFINITY; LANES];
    for block in x.chunks(128) {
        let (mut support, mut above) = ([T::ZERO; LANES], [T::ZERO; LANES]);
        let mut add = |lane: usize, x: T| {
            let z = distance(x, pivot, offset, inverse);
            let size = z.abs();
            support[lane] += if z >= -T::CUT { T::ONE } else { T::ZERO };
            above[lane] += if z >= T::ZERO { T::ONE } else { T::ZERO };
            nearest[lane] = if size < nearest[lane] { size } else { nearest[lane] };
        };
        let (chunks, rest) = block.as_chunks::<LANES>();
        for chunk in chunks {
            for (lane, &x) in chunk.iter().enumerate() {
                add(lane, x);
            }
        }
        for (lane, &x) in rest.iter().enumerate() {
            add(lane, x);
        }
        counts.0 += support.iter().map(|n| n.to_f64() as usize).sum::<usize>();
        counts.1 += above.iter().map(|n| n.to_f64() as usize).sum::<usize>();
    }
    let gap = is_gap(nearest.iter().fold(T::INFINITY, |a, b| if *b < a { *b } else { a }));
    Counts { support: counts.0, above: counts.1, gap }
}

/// Room for the weights of one list.
#[derive(Debug, Default)]
pub(crate) struct WeightScratch<T> {
    weights: Vec<T>,
}

/// Appends a row's support to `lists`, given the entries that may belong to it.
///
/// In a wide gap an entry may have a weight of 0 and yet a share of the derivative; whether it is
/// listed nevertheless is up to the caller.
#[inline(always)]
pub(crate) fn append<T: Real>(
    (values, indices): (&[T], &[u32]),
    point: Point<T>,
    scale: Scale<T>,
    scratch: &mut WeightScratch<T>,
    lists: &mut Lists<T>,
    list_zeros: bool,
) {
    scratch.weights.resize(values.len(), T::ZERO);
    let weights = &mut scratch.weights[..];
    if !fill(values, point, scale, weights) {
        return append_gap((values, indices), point, scale, lists, list_zeros);
    }
    let (pivot, offset) = (point.pivot, T::from_f64(point.offset));
    let (start, first_tail) = (lists.indices.len(), lists.tails.len());
    for ((&x, &index), &weight) in values.iter().zip(indices).zip(&*weights) {
        if weight > T::ZERO {
            let z = distance(x, pivot, offset, scale.inverse);
            if z >= T::ZERO {
                lists.tail_places.push((lists.indices.len() - start) as u32);
                lists.tails.push(T::HALF * T::exp_neg(z));
            }
            lists.indices.push(index);
            lists.values.push(weight);
        }
    }
    lists.rows.push(Row {
        point,
        len: lists.indices.len() - start,
        tails: lists.tails.len() - first_tail,
        damping: T::ONE,
        ..Row::default()
    });
}

/// Writes the support of a row that `count` has found, read from the row itself.
#[inline(always)]
pub(crate) fn write<T: Real>(
    x: &[T],
    point: Point<T>,
    scale: Scale<T>,
    scratch: &mut WeightScratch<T>,
    out: ListedMut<'_, T>,
) {
    let whole = out.values.len() == x.len();
    if whole {
        fill(x, point, scale, out.values);
        for (place, index) in out.indices.iter_mut().enumerate() {
            *index = place as u32;
        }
    } else {
        scratch.weights.resize(x.len(), T::ZERO);
        fill(x, point, scale, &mut scratch.weights);
        let mut entries = out.indices.iter_mut().zip(&mut *out.values);
        for (place, &weight) in scratch.weights.iter().enumerate() {
            if weight > T::ZERO
                && let Some((index, value)) = entries.next()
            {
                (*index, *value) = (place as u32, weight);
            }
        }
    }
    if out.tails.is_empty() {
        return;
    }
    let offset = T::from_f64(point.offset);
    let mut tails = out.tail_places.iter_mut().zip(out.tails);
    for (number, block) in out.values.chunks(64).enumerate() {
        if block.iter().fold(false, |any, p| any | (*p >= T::HALF)) {
            for (i, &p) in block.iter().enumerate() {
                let place = number * 64 + i;
                let x = x[out.indices[place] as usize];
                let z = distance(x, point.pivot, offset, scale.inverse);
                if p >= T::HALF
                    && z >= T::ZERO
                    && let Some((tail_place, tail)) = tails.next()
                {
                    (*tail_place, *tail) = (place as u32, T::HALF * T::exp_neg(z));
                }
            }
        }
    }
}

/// `append` where the threshold lies in a wide gap: tails are measured from the nearest entry.
#[inline(always)]
fn append_gap<T: Real>(
    (values, indices): (&[T], &[u32]),
    point: Point<T>,
    scale: Scale<T>,
    lists: &mut Lists<T>,
    list_zeros: bool,
) {
    let (pivot, inverse) = (point.pivot.to_f64(), scale.inverse.to_f64());
    let units = |x: T| (x.to_f64() - pivot) * inverse - point.offset;
    let half_exp = |a: f64| T::HALF * T::exp_neg(T::from_f64(a));
    let nearest = values.iter().map(|x| units(*x).abs()).fold(f64::INFINITY, f64::min);
    let lowest = nearest + T::CUT.to_f64();
    let (start, first_tail) = (lists.indices.len(), lists.tails.len());
    let mut unlisted = 0.0;
    for (&x, &index) in values.iter().zip(indices) {
        let z = units(x);
        if z < -lowest {
            continue;
        }
        let (tail, small) = (half_exp(z.abs() - nearest), half_exp(z.abs()));
        let weight = if z >= 0.0 { T::ONE - small } else { small };
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
        whole: false,
        damping: T::exp_neg(T::from_f64(nearest)),
        unlisted,
    });
}
