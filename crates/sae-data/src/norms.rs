//! Passes over whole stores in fixed pieces, in parallel, with the same result on any number of threads.

use rayon::prelude::*;

use crate::store::to_usize;
use crate::{ActivationStore, Error, Result};

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
    let rows_at_once = piece_rows(d_model) as u64;
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

/// Rows of a piece.
pub(crate) fn piece_rows(d_model: usize) -> usize {
    (PIECE_BYTES / (4 * d_model)).max(1)
}

/// The norm of each row of a store.
pub(crate) fn norms(store: &dyn ActivationStore) -> Result<Vec<f32>> {
    let mut norms = Vec::new();
    for_each_piece(
        store,
        |start, rows| row_norms(store, start, rows),
        |piece| norms.extend(piece),
    )?;
    Ok(norms)
}

/// The norms of `rows`, which begin with row `start` of the store and are finite.
pub(crate) fn row_norms(store: &dyn ActivationStore, start: u64, rows: &[f32]) -> Result<Vec<f32>> {
    let norms: Vec<f32> = rows.chunks(store.d_model()).map(norm).collect();
    match norms.iter().position(|norm| !norm.is_finite()) {
        None => Ok(norms),
        Some(i) => {
            let (path, row) = store.locate(start + i as u64);
            let expected = format!("a norm of at most {:e}", f32::MAX);
            let got = squared_norm(&rows[i * store.d_model()..][..store.d_model()]).sqrt();
            Err(Error::Norm { path, row, expected, got })
        }
    }
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

/// The median of the norms that are not zero: the middle value, or the mean of the two in the
/// middle. Rows of zeros, as padding leaves them, say nothing of the scale of the others.
pub(crate) fn median_norm(sorted_norms: &[f32]) -> Option<f64> {
    let zeros = sorted_norms.partition_point(|&norm| norm <= 0.0);
    let positive = &sorted_norms[zeros..];
    (!positive.is_empty()).then(|| quantile_sorted(positive, 0.5))
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
