//! All rows of a dense call, forward and backward.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::entry::Entry;
use super::gradient::{GradientScratch, RowGradient, scattered_row, whole_row};
use super::lists::Lists;
use super::real::Real;
use super::row::{Scratch, dense_row};
use super::scale::Scale;
use super::{BadRow, budget, first, rows_per_task};

/// What backward needs of a dense forward pass: the threshold of each row, and its support where
/// that is small.
#[derive(Clone, Debug, Default)]
pub(crate) struct DenseState<T> {
    tasks: Vec<Lists<T>>,
    alpha: T,
    n: usize,
}

impl<T: Real> DenseState<T> {
    /// θ of each row.
    pub(crate) fn thresholds(&self) -> impl Iterator<Item = T> {
        let scale = Scale::new(self.alpha);
        self.tasks.iter().flat_map(|task| &task.rows).map(move |row| row.point.value(scale))
    }

    /// How many rows there were.
    pub(crate) fn rows(&self) -> usize {
        self.tasks.iter().map(|task| task.rows.len()).sum()
    }

    /// The length of a row.
    pub(crate) fn n(&self) -> usize {
        self.n
    }
}

/// Writes the weights of all rows to `out`.
pub(crate) fn dense_forward<E: Entry>(
    x: &[E],
    n: usize,
    k: &[E::Real],
    alpha: E::Real,
    out: &mut [E::Real],
    state: &mut DenseState<E::Real>,
) -> BadRow {
    let per_task = rows_per_task(n);
    (state.alpha, state.n) = (alpha, n);
    state.tasks.resize_with((x.len() / n).div_ceil(per_task), Lists::default);
    let arch = Arch::new();
    let scale = Scale::new(alpha);
    x.par_chunks(per_task * n)
        .zip(out.par_chunks_mut(per_task * n))
        .zip(&mut state.tasks)
        .enumerate()
        .map_init(
            || (Scratch::default(), Vec::new()),
            |(scratch, room), (task, ((x, out), lists))| {
                let start = task * per_task;
                arch.dispatch(Forward { x, out, n, k, start, scale, scratch, room, lists })
            },
        )
        .reduce(|| None, first)
}

struct Forward<'a, E: Entry> {
    x: &'a [E],
    out: &'a mut [E::Real],
    n: usize,
    k: &'a [E::Real],
    start: usize,
    scale: Scale<E::Real>,
    scratch: &'a mut Scratch<E::Real>,
    room: &'a mut Vec<E::Real>,
    lists: &'a mut Lists<E::Real>,
}

impl<E: Entry> WithSimd for Forward<'_, E> {
    type Output = BadRow;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> BadRow {
        let Forward { x, out, n, k, start, scale, scratch, room, lists } = self;
        lists.clear();
        for (i, (x, out)) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)).enumerate() {
            let x = E::row(x, room);
            let k = budget(k, start + i);
            if dense_row(x, k, scale, scratch, lists, out).is_err() {
                return Some(start + i);
            }
        }
        None
    }
}

/// Given rows and their weights, writes the gradient for x to `grad` and for each k to `grad_k`,
/// and returns that for alpha, if wanted.
pub(crate) fn dense_backward<E: Entry>(
    state: &DenseState<E::Real>,
    (x, p): (&[E], &[E::Real]),
    v: &[E::Real],
    grad: &mut [E::Real],
    grad_k: &mut [E::Real],
    want_alpha: bool,
) -> f64 {
    let n = state.n;
    let per_task = rows_per_task(n);
    let arch = Arch::new();
    let scale = Scale::new(state.alpha);
    let alphas: Vec<f64> = x
        .par_chunks(per_task * n)
        .zip(p.par_chunks(per_task * n).zip(v.par_chunks(per_task * n)))
        .zip(grad.par_chunks_mut(per_task * n))
        .zip(grad_k.par_chunks_mut(per_task))
        .zip(&state.tasks)
        .map_init(
            || (GradientScratch::default(), Vec::new()),
            |(scratch, room), ((((x, (p, v)), grad), grad_k), lists)| {
                let inputs = (x, p, v);
                let outputs = (grad, grad_k);
                let task = Backward { inputs, outputs, n, scale, want_alpha, scratch, room, lists };
                arch.dispatch(task)
            },
        )
        .collect();
    alphas.iter().sum()
}

struct Backward<'a, E: Entry> {
    inputs: (&'a [E], &'a [E::Real], &'a [E::Real]),
    outputs: (&'a mut [E::Real], &'a mut [E::Real]),
    n: usize,
    scale: Scale<E::Real>,
    want_alpha: bool,
    scratch: &'a mut GradientScratch<E::Real>,
    room: &'a mut Vec<E::Real>,
    lists: &'a Lists<E::Real>,
}

impl<E: Entry> WithSimd for Backward<'_, E> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> f64 {
        let Backward { inputs: (x, p, v), outputs: (grad, grad_k), n, .. } = self;
        let (scale, want) = (self.scale, self.want_alpha);
        let rows = x.chunks_exact(n).zip(p.chunks_exact(n).zip(v.chunks_exact(n)));
        let rows = rows.zip(grad.chunks_exact_mut(n));
        let mut alpha = 0.0;
        for ((((x, (p, v)), grad), grad_k), (row, listed)) in
            rows.zip(grad_k).zip(self.lists.iter())
        {
            let result: RowGradient = if row.whole {
                let x = E::row(x, self.room);
                whole_row((x, p), row, v, scale, grad, want)
            } else {
                scattered_row(row, listed, v, scale, grad, want, self.scratch)
            };
            *grad_k = E::Real::from_f64(result.k);
            alpha += result.alpha;
        }
        alpha
    }
}
