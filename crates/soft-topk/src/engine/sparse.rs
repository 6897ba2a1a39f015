//! All rows of a sparse call, forward and backward.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::entry::Entry;
use super::gradient::listed_row;
use super::lists::{Listed, ListedMut, Lists, Row};
use super::real::Real;
use super::row::{Scratch, sparse_row, write_row};
use super::scale::Scale;
use super::{BadRow, budget, first, rows_per_task};

/// The support of all rows, and what backward needs besides.
#[derive(Clone, Debug)]
pub(crate) struct SparseState<T> {
    /// The support as each task finds it; rooms that are kept from call to call.
    tasks: Vec<Lists<T>>,
    /// The support of all rows in order.
    pub(crate) all: Lists<T>,
    /// Where each row begins in the lists, and the end.
    pub(crate) indptr: Vec<usize>,
    alpha: T,
    pub(crate) n: usize,
}

impl<T: Default> Default for SparseState<T> {
    fn default() -> Self {
        let (tasks, all, indptr) = (Vec::new(), Lists::default(), vec![0]);
        Self { tasks, all, indptr, alpha: T::default(), n: 0 }
    }
}

impl<T: Real> SparseState<T> {
    /// θ of each row.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = T> {
        let scale = Scale::new(self.alpha);
        self.all.rows.iter().map(move |row| row.point.value(scale))
    }
}

/// Finds the support of all rows: first its size, task by task, then its place among the others.
pub(crate) fn sparse_forward<E: Entry>(
    x: &[E],
    n: usize,
    k: &[E::Real],
    alpha: E::Real,
    state: &mut SparseState<E::Real>,
) -> BadRow {
    let per_task = rows_per_task(n);
    let SparseState { tasks, all, indptr, .. } = state;
    (state.alpha, state.n) = (alpha, n);
    tasks.resize_with((x.len() / n).div_ceil(per_task), Lists::default);
    let arch = Arch::new();
    let scale = Scale::new(alpha);
    let bad = x
        .par_chunks(per_task * n)
        .zip(&mut *tasks)
        .enumerate()
        .map_init(
            || (Scratch::default(), Vec::new()),
            |(scratch, room), (task, (x, lists))| {
                let start = task * per_task;
                arch.dispatch(Find { x, n, k, start, scale, scratch, room, lists })
            },
        )
        .reduce(|| None, first);
    if bad.is_some() {
        return bad;
    }
    gather_sizes(tasks, all, indptr);
    let mut rest = ListedMut {
        indices: &mut all.indices,
        values: &mut all.values,
        tail_places: &mut all.tail_places,
        tails: &mut all.tails,
    };
    let places: Vec<ListedMut<'_, E::Real>> = tasks
        .iter()
        .map(|task| {
            let entries = task.rows.iter().map(|row| row.len).sum();
            let tails = task.rows.iter().map(|row| row.tails).sum();
            rest.take(entries, tails)
        })
        .collect();
    x.par_chunks(per_task * n).zip(&*tasks).zip(places).for_each_init(
        || (Scratch::default(), Vec::new()),
        |(scratch, room), ((x, lists), out)| {
            arch.dispatch(Place { x, n, scale, scratch, room, lists, out });
        },
    );
    None
}

/// Lists the rows of all tasks, and makes room for their entries.
fn gather_sizes<T: Real>(tasks: &[Lists<T>], all: &mut Lists<T>, indptr: &mut Vec<usize>) {
    all.rows.clear();
    all.rows
        .extend(tasks.iter().flat_map(|task| &task.rows).map(|row| Row { whole: false, ..*row }));
    indptr.clear();
    indptr.push(0);
    let (mut entries, mut tails) = (0, 0);
    for row in &all.rows {
        entries += row.len;
        tails += row.tails;
        indptr.push(entries);
    }
    all.indices.resize(entries, 0);
    all.values.resize(entries, T::ZERO);
    all.tail_places.resize(tails, 0);
    all.tails.resize(tails, T::ZERO);
}

struct Find<'a, E: Entry> {
    x: &'a [E],
    n: usize,
    k: &'a [E::Real],
    start: usize,
    scale: Scale<E::Real>,
    scratch: &'a mut Scratch<E::Real>,
    room: &'a mut Vec<E::Real>,
    lists: &'a mut Lists<E::Real>,
}

impl<E: Entry> WithSimd for Find<'_, E> {
    type Output = BadRow;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> BadRow {
        self.lists.clear();
        for (i, x) in self.x.chunks_exact(self.n).enumerate() {
            let x = E::row(x, self.room);
            let k = budget(self.k, self.start + i);
            if sparse_row(x, k, self.scale, self.scratch, self.lists).is_err() {
                return Some(self.start + i);
            }
        }
        None
    }
}

struct Place<'a, E: Entry> {
    x: &'a [E],
    n: usize,
    scale: Scale<E::Real>,
    scratch: &'a mut Scratch<E::Real>,
    room: &'a mut Vec<E::Real>,
    lists: &'a Lists<E::Real>,
    out: ListedMut<'a, E::Real>,
}

impl<E: Entry> WithSimd for Place<'_, E> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) {
        let Place { x, n, scale, scratch, room, lists, mut out } = self;
        for (x, (row, listed)) in x.chunks_exact(n).zip(lists.iter()) {
            let place = out.take(row.len, row.tails);
            if row.whole {
                write_row(E::row(x, room), row.base, scale, scratch, place);
            } else {
                place.copy_from(listed);
            }
        }
    }
}

/// Gradients for the listed entries, each k, and alpha if wanted.
pub(crate) fn sparse_backward<T: Real>(
    state: &SparseState<T>,
    v: &[T],
    grad: &mut [T],
    grad_k: &mut [T],
    want_alpha: bool,
) -> f64 {
    let arch = Arch::new();
    let scale = Scale::new(state.alpha);
    let mut rest = grad;
    let rows: Vec<_> = state
        .all
        .iter()
        .zip(&state.indptr)
        .map(|((row, listed), start)| {
            let (grad, after) = std::mem::take(&mut rest).split_at_mut(row.len);
            rest = after;
            (row, listed, &v[*start..*start + row.len], grad)
        })
        .collect();
    let alphas: Vec<f64> = rows
        .into_par_iter()
        .zip(grad_k)
        .with_min_len(rows_per_task(state.n))
        .map(|((row, listed, v, grad), grad_k)| {
            let (k, alpha) = arch.dispatch(Backward { row, listed, v, grad, scale, want_alpha });
            *grad_k = T::from_f64(k);
            alpha
        })
        .collect();
    alphas.iter().sum()
}

struct Backward<'a, T> {
    row: &'a Row<T>,
    listed: Listed<'a, T>,
    v: &'a [T],
    grad: &'a mut [T],
    scale: Scale<T>,
    want_alpha: bool,
}

impl<T: Real> WithSimd for Backward<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> (f64, f64) {
        let Backward { row, listed, v, grad, scale, want_alpha } = self;
        let result = listed_row(row, listed, v, scale, grad, want_alpha);
        (result.k, result.alpha)
    }
}
