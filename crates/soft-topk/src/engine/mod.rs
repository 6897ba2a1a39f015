//! The engine: rows in parallel, each in time linear in its length.
//!
//! `survey` (candidates) → `solve` (threshold) → weights, dense or listed → gradients. Everything
//! here trusts its caller about shapes; the rooms above check them.

mod candidates;
mod dense;
mod entry;
mod gap;
mod gradient;
mod hard;
mod lists;
mod log;
mod real;
mod row;
mod scale;
mod solve;
mod sparse;
mod sums;
mod weights;

pub use entry::Entry;
pub use real::Real;

pub(crate) use dense::{DenseState, dense_backward, dense_forward};
pub(crate) use hard::hard_forward;
pub(crate) use log::{LogState, log_backward, log_forward};
pub(crate) use sparse::{SparseState, sparse_backward, sparse_forward};

/// The first row, if any, that could not be computed because an entry is not finite.
pub(crate) type BadRow = Option<usize>;

/// How many rows make one task: enough to be worth handing over, and the same on any number of
/// threads.
fn rows_per_task(n: usize) -> usize {
    (32_768 / n.max(1)).max(1)
}

/// The budget of a row, where one budget may stand for all.
fn budget<T: Real>(k: &[T], row: usize) -> f64 {
    (if k.len() == 1 { k[0] } else { k[row] }).to_f64()
}

fn first(a: BadRow, b: BadRow) -> BadRow {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
