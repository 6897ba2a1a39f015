//! One row, forward: survey, threshold, weights.

use super::candidates::{Candidates, Survey};
use super::lists::{ListedMut, Lists, Row};
use super::real::Real;
use super::scale::{Point, Scale};
use super::solve::{SolveScratch, solve};
use super::weights::{WeightScratch, append, count, fill, write};

/// Room for the work on one row; a thread has one and keeps it.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    candidates: Candidates<T>,
    solve: SolveScratch<T>,
    weights: WeightScratch<T>,
}

/// An entry of the row is not finite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotFinite;

/// Finds the threshold, and whether the candidates hold the support.
#[inline(always)]
pub(crate) fn threshold<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
) -> Result<(Point<T>, bool), NotFinite> {
    match scratch.candidates.survey(x, k, scale) {
        Survey::NotFinite => Err(NotFinite),
        Survey::Whole { first } => Ok((solve(x, k, scale, first, &mut scratch.solve), false)),
        Survey::Listed { first } => {
            let listed = scratch.candidates.values();
            Ok((solve(listed, k, scale, first, &mut scratch.solve), true))
        }
    }
}

/// Writes the weights to `out`, and appends what backward needs to `lists`.
#[inline(always)]
pub(crate) fn dense_row<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
    lists: &mut Lists<T>,
    out: &mut [T],
) -> Result<(), NotFinite> {
    let (point, listed) = threshold(x, k, scale, scratch)?;
    if !listed {
        if fill(x, point, scale, out) {
            lists.rows.push(Row { point, whole: true, damping: T::ONE, ..Row::default() });
            return Ok(());
        }
        scratch.candidates.list_all(x);
    }
    let Scratch { candidates, weights, .. } = scratch;
    let start = lists.indices.len();
    append((candidates.values(), candidates.indices()), point, scale, weights, lists, true);
    out.fill(T::ZERO);
    for (&index, &value) in lists.indices[start..].iter().zip(&lists.values[start..]) {
        out[index as usize] = value;
    }
    Ok(())
}

/// Appends the support to `lists`, or, where many entries belong to it, only its size.
#[inline(always)]
pub(crate) fn sparse_row<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
    lists: &mut Lists<T>,
) -> Result<(), NotFinite> {
    let (point, listed) = threshold(x, k, scale, scratch)?;
    if !listed {
        let counts = count(x, point, scale);
        if !counts.gap {
            lists.rows.push(Row {
                point,
                len: counts.support,
                tails: counts.above,
                whole: true,
                damping: T::ONE,
                unlisted: 0.0,
            });
            return Ok(());
        }
        scratch.candidates.list_all(x);
    }
    let Scratch { candidates, weights, .. } = scratch;
    append((candidates.values(), candidates.indices()), point, scale, weights, lists, false);
    Ok(())
}

/// Writes the support of a row of which `sparse_row` has noted only the size.
#[inline(always)]
pub(crate) fn write_row<T: Real>(
    x: &[T],
    point: Point<T>,
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
    out: ListedMut<'_, T>,
) {
    write(x, point, scale, &mut scratch.weights, out);
}
