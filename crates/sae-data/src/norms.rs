//! Passes over whole stores in fixed pieces, in parallel, with the same result on any number of threads.

use rayon::prelude::*;

use crate::store::to_usize;
use crate::{ActivationStore, Result};

/// Bytes of f32 in a piece.
const PIECE_BYTES: usize = 1 << 20;

/// Pieces in work at a time.
const PIECES_AT_ONCE: u64 = 32;

/// Calls `measure` on pieces of consecutive rows, in parallel, and `combine` on what it returns,
/// in the order of the rows.
pub(crate) fn for_each_piece<T: Send>(
    store: &dyn ActivationStore,
    measure: impl Fn(u64, &[f32]) -> Result<T> + Sync,
    mut combine: impl FnMut(T),
) -> Result<()> {
    let d_model = store.d_model();
    let rows_at_once = (PIECE_BYTES / (4 * d_model)).max(1) as u64;
    let n_pieces = store.n_rows().div_ceil(rows_at_once);
    for first in (0..n_pieces).step_by(to_usize(PIECES_AT_ONCE)) {
        let pieces: Vec<Result<T>> = (first..n_pieces.min(first + PIECES_AT_ONCE))
            .into_par_iter()
            .map_init(Vec::new, |rows, piece| {
                let start = piece * rows_at_once;
                let n = rows_at_once.min(store.n_rows() - start);
                rows.resize(to_usize(n) * d_model, 0.0);
                store.read_rows(start, rows)?;
                measure(start, rows)
            })
            .collect();
        for piece in pieces {
            combine(piece?);
        }
    }
    Ok(())
}

/// The norm of each row.
pub(crate) fn norms(store: &dyn ActivationStore) -> Result<Vec<f32>> {
    let d_model = store.d_model();
    let mut norms = Vec::new();
    let measure = |_, rows: &[f32]| Ok(rows.chunks(d_model).map(norm).collect::<Vec<f32>>());
    for_each_piece(store, measure, |piece| norms.extend(piece))?;
    Ok(norms)
}

/// ‖row‖, summed in f64.
pub(crate) fn norm(row: &[f32]) -> f32 {
    squared_norm(row).sqrt() as f32
}

/// ‖row‖² in f64, in eight interleaved sums.
pub(crate) fn squared_norm(row: &[f32]) -> f64 {
    let (chunks, rest) = row.as_chunks::<8>();
    let mut sums = [0.0_f64; 8];
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let tail: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    sums.iter().sum::<f64>() + tail
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(values: &[f32]) -> f64 {
    quantile_sorted(&sorted(values), 0.5)
}

/// The values in ascending order.
pub(crate) fn sorted(values: &[f32]) -> Vec<f32> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f32::total_cmp);
    sorted
}

/// The quantile `q` of sorted values, interpolated linearly as NumPy does.
pub(crate) fn quantile_sorted(sorted: &[f32], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let below = f64::from(sorted[place.floor() as usize]);
    let above = f64::from(sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}
