//! What the least of a row's codes add to its reconstruction.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::error::check_len;
use crate::simd::{add_combination, dispatch, scale_and_square};
use crate::{Matrix, Result, SparseCodes};

/// Change of every row's squared error from its `counts` largest codes to all of its codes, where
/// the error is ‖Σ value·decoder row − target‖². Among equal values the lower index is the larger;
/// a row with no more codes than its count does not change.
///
/// # Shapes
/// `counts`: batch; `decoder`: n_features × d_model; `target`: batch × d_model; `out`: batch,
/// overwritten.
///
/// # Errors
/// If sizes disagree.
pub fn error_differences(
    codes: &SparseCodes,
    counts: &[usize],
    decoder: Matrix<'_>,
    target: Matrix<'_>,
    out: &mut [f32],
) -> Result<()> {
    let d = decoder.n_cols();
    check_len("counts", codes.n_rows(), counts.len())?;
    check_len("decoder (its rows)", codes.n_features(), decoder.n_rows())?;
    check_len("target (its rows)", codes.n_rows(), target.n_rows())?;
    check_len("target (its columns)", d, target.n_cols())?;
    check_len("out", codes.n_rows(), out.len())?;
    out.par_iter_mut().enumerate().for_each_init(
        || (vec![0.0; d], Vec::new()),
        |(residual, order), (row, out)| {
            let (indices, values) = codes.row(row);
            order.clear();
            order.extend(0..indices.len());
            if counts[row] < order.len() {
                order.select_nth_unstable_by(counts[row], |&i: &usize, &j: &usize| {
                    values[j].total_cmp(&values[i]).then(i.cmp(&j))
                });
                residual.iter_mut().zip(target.row(row)).for_each(|(r, t)| *r = -t);
                let (largest, rest) = order.split_at(counts[row]);
                let decoder = &decoder;
                *out = dispatch(Difference { residual, largest, rest, indices, values, decoder });
            } else {
                *out = 0.0;
            }
        },
    );
    Ok(())
}

/// One row: the places of its largest codes, and of the rest.
struct Difference<'a> {
    residual: &'a mut [f32],
    largest: &'a [usize],
    rest: &'a [usize],
    indices: &'a [u32],
    values: &'a [f32],
    decoder: &'a Matrix<'a>,
}

impl WithSimd for Difference<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self { residual, largest, rest, indices, values, decoder } = self;
        let mut error_with = |places: &[usize]| {
            let row = |n: usize| decoder.row(indices[places[n]] as usize);
            add_combination(simd, residual, places.len(), row, |n| values[places[n]]);
            scale_and_square(simd, residual, 1.0)
        };
        let fewer = error_with(largest);
        error_with(rest) - fewer
    }
}
