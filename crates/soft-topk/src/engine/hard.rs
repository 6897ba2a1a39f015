//! Hard top-k of all rows, with a budget for each.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::candidates::Candidates;
use super::entry::Entry;
use super::{BadRow, first, rows_per_task};

/// The chosen entries of some rows.
#[derive(Clone, Debug, Default)]
struct Chosen {
    indices: Vec<u32>,
    ends: Vec<usize>,
}

/// Lists the places of the k largest entries of each row, ascending; of equal entries the first.
pub(crate) fn hard_forward<E: Entry>(
    x: &[E],
    n: usize,
    k: &[usize],
) -> Result<(Vec<usize>, Vec<u32>), usize> {
    let per_task = rows_per_task(n);
    let arch = Arch::new();
    let mut tasks = vec![Chosen::default(); (x.len() / n).div_ceil(per_task)];
    let bad = x
        .par_chunks(per_task * n)
        .zip(&mut tasks)
        .enumerate()
        .map_init(
            || (Candidates::default(), Vec::new()),
            |(candidates, room), (task, (x, chosen))| {
                let start = task * per_task;
                arch.dispatch(Choose { x, n, k, start, candidates, room, chosen })
            },
        )
        .reduce(|| None, first);
    if let Some(row) = bad {
        return Err(row);
    }
    let (mut indptr, mut indices) = (vec![0], Vec::new());
    for task in &tasks {
        let start = indices.len();
        indptr.extend(task.ends.iter().map(|end| start + end));
        indices.extend_from_slice(&task.indices);
    }
    Ok((indptr, indices))
}

struct Choose<'a, E: Entry> {
    x: &'a [E],
    n: usize,
    k: &'a [usize],
    start: usize,
    candidates: &'a mut Candidates<E::Real>,
    room: &'a mut Vec<E::Real>,
    chosen: &'a mut Chosen,
}

impl<E: Entry> WithSimd for Choose<'_, E> {
    type Output = BadRow;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _simd: S) -> BadRow {
        let Choose { x, n, k, start, candidates, room, chosen } = self;
        for (i, x) in x.chunks_exact(n).enumerate() {
            let x = E::row(x, room);
            let k = if k.len() == 1 { k[0] } else { k[start + i] };
            let Some(least) = candidates.ranked(x, k.max(1)) else {
                return Some(start + i);
            };
            let listed = || candidates.values().iter().zip(candidates.indices());
            let mut ties = k - listed().filter(|(x, _)| **x > least).count().min(k);
            for (&x, &index) in listed() {
                let tie = x == least && ties > 0;
                ties -= usize::from(tie);
                if (x > least || tie) && k > 0 {
                    chosen.indices.push(index);
                }
            }
            chosen.ends.push(chosen.indices.len());
        }
        None
    }
}
