//! One row, forward: survey, threshold, weights.

use super::candidates::{Candidates, Survey};
use super::gap::Gap;
use super::lists::{ListedMut, Lists, Row};
use super::real::Real;
use super::scale::{Point, Scale};
use super::solve::{Solution, SolveScratch, is_above, solve};
use super::sums::{Sums, sums};
use super::weights::{append, append_gap, finish, support, write};

/// Room for the work on one row; a thread has one and keeps it.
#[derive(Debug, Default)]
pub(crate) struct Scratch<T> {
    candidates: Candidates<T>,
    solve: SolveScratch<T>,
    tails: Vec<T>,
}

/// An entry of the row is not finite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotFinite;

/// Finds the threshold alone, and the gap around it where that is wide.
#[inline(always)]
pub(crate) fn threshold<T: Real>(
    x: &[T],
    k: f64,
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
) -> Result<(Point<T>, Option<Gap<T>>), NotFinite> {
    let Scratch { candidates, solve: room, tails } = scratch;
    let (entries, first) = match candidates.survey(x, k, scale) {
        Survey::NotFinite => return Err(NotFinite),
        Survey::Whole { first } => (x, first),
        Survey::Listed { first } => (candidates.values(), first),
    };
    tails.resize(entries.len(), T::ZERO);
    let solution = solve(entries, k, scale, first, room, tails);
    let is_gap = at_base(&solution, entries, scale, tails).is_gap(solution.step);
    let gap = is_gap.then(|| in_gap(&solution, entries, k, scale).1);
    Ok((solution.point, gap))
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
    let start = lists.indices.len();
    match scratch.candidates.survey(x, k, scale) {
        Survey::NotFinite => return Err(NotFinite),
        Survey::Whole { first } => {
            let solution = solve(x, k, scale, first, &mut scratch.solve, out);
            let sums = at_base(&solution, x, scale, out);
            if !sums.is_gap(solution.step) {
                finish(out, solution.step);
                lists.rows.push(whole(&solution));
                return Ok(());
            }
            scratch.candidates.list_all(x);
            let all = (scratch.candidates.values(), scratch.candidates.indices());
            append_gap(all, in_gap(&solution, x, k, scale), scale, lists, true);
        }
        Survey::Listed { first } => listed_row(k, scale, first, scratch, lists, true),
    }
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
    match scratch.candidates.survey(x, k, scale) {
        Survey::NotFinite => return Err(NotFinite),
        Survey::Whole { first } => {
            let Scratch { candidates, solve: room, tails } = scratch;
            tails.resize(x.len(), T::ZERO);
            let solution = solve(x, k, scale, first, room, tails);
            let sums = at_base(&solution, x, scale, tails);
            if !sums.is_gap(solution.step) {
                let len = if sums.some_vanish { support(tails) } else { x.len() };
                lists.rows.push(Row { len, tails: sums.above as usize, ..whole(&solution) });
                return Ok(());
            }
            candidates.list_all(x);
            let all = (candidates.values(), candidates.indices());
            append_gap(all, in_gap(&solution, x, k, scale), scale, lists, false);
        }
        Survey::Listed { first } => listed_row(k, scale, first, scratch, lists, false),
    }
    Ok(())
}

/// Writes the support of a row of which `sparse_row` has noted only the size.
#[inline(always)]
pub(crate) fn write_row<T: Real>(
    x: &[T],
    base: (Point<T>, f64),
    scale: Scale<T>,
    scratch: &mut Scratch<T>,
    out: ListedMut<'_, T>,
) {
    write(x, base, scale, &mut scratch.tails, out);
}

/// Solves a row by its candidates and appends its support.
#[inline(always)]
fn listed_row<T: Real>(
    k: f64,
    scale: Scale<T>,
    first: Option<Point<T>>,
    scratch: &mut Scratch<T>,
    lists: &mut Lists<T>,
    list_zeros: bool,
) {
    let Scratch { candidates, solve: room, tails } = scratch;
    let (values, indices) = (candidates.values(), candidates.indices());
    tails.resize(values.len(), T::ZERO);
    let solution = solve(values, k, scale, first, room, tails);
    if at_base(&solution, values, scale, tails).is_gap(solution.step) {
        let gap = in_gap(&solution, values, k, scale);
        append_gap((values, indices), gap, scale, lists, list_zeros);
    } else {
        append((tails, indices), solution, lists);
    }
}

/// The sums at the base of a solution, with the signed tails there.
#[inline(always)]
fn at_base<T: Real>(solution: &Solution<T>, x: &[T], scale: Scale<T>, tails: &mut [T]) -> Sums {
    match solution.sums {
        Some(sums) => sums,
        None => sums(x, solution.base, scale, tails),
    }
}

/// The threshold of a row that lies in a wide gap, and the gap.
#[inline(always)]
fn in_gap<T: Real>(solution: &Solution<T>, x: &[T], k: f64, scale: Scale<T>) -> (Point<T>, Gap<T>) {
    let point = solution.point;
    (point, Gap::find(x, k, scale, |x| is_above(x, point, scale)))
}

fn whole<T: Real>(solution: &Solution<T>) -> Row<T> {
    Row {
        point: solution.point,
        base: (solution.base, solution.step),
        whole: true,
        damping: T::ONE,
        ..Row::default()
    }
}
