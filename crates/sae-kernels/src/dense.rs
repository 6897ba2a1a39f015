//! Passes over dense batches: centring, activation, column sums.

use rayon::prelude::*;

use crate::error::check_len;
use crate::{Matrix, Result};
use pulp::{Simd, WithSimd};

use crate::simd::{combine, dispatch};

/// Parts of a batch whose column sums are formed one by one.
const N_PARTS: usize = 16;

/// Rows that one task passes over.
const ROWS_PER_TASK: usize = 16;

/// `out = x − shift` in every row.
///
/// # Shapes
/// `x`, `out`: batch × n_cols; `shift`: n_cols.
///
/// # Errors
/// If sizes disagree.
pub fn subtract_row(x: Matrix<'_>, shift: &[f32], out: &mut [f32]) -> Result<()> {
    check_len("shift", x.n_cols(), shift.len())?;
    check_len("out", x.data().len(), out.len())?;
    let len = ROWS_PER_TASK * x.n_cols();
    out.par_chunks_mut(len).zip(x.data().par_chunks(len)).for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(shift.len()).zip(x.chunks_exact(shift.len())) {
            out.iter_mut().zip(x).zip(shift).for_each(|((o, x), s)| *o = x - s);
        }
    });
    Ok(())
}

/// `z = relu(z + bias)` in every row.
///
/// # Shapes
/// `z`: batch × n_features; `bias`: n_features.
///
/// # Errors
/// If sizes disagree.
pub fn add_bias_relu(z: &mut [f32], bias: &[f32]) -> Result<()> {
    Matrix::new("z", z, bias.len())?;
    z.par_chunks_mut(bias.len()).for_each(|row| {
        dispatch(|| {
            row.iter_mut().zip(bias).for_each(|(z, b)| *z = (*z + b).max(0.0));
        });
    });
    Ok(())
}

/// The sum of each column.
///
/// # Shapes
/// `x`: batch × n_cols; `out`: n_cols, overwritten.
///
/// # Errors
/// If sizes disagree.
pub fn column_sums(x: Matrix<'_>, out: &mut [f32]) -> Result<()> {
    check_len("out", x.n_cols(), out.len())?;
    let rows = x.n_rows().div_ceil(N_PARTS).max(1);
    let parts: Vec<Vec<f32>> = x
        .data()
        .par_chunks(rows * x.n_cols())
        .map(|part| {
            let mut sum = vec![0.0; x.n_cols()];
            dispatch(AddRows { rows: part, sum: &mut sum });
            sum
        })
        .collect();
    out.fill(0.0);
    for part in parts {
        out.iter_mut().zip(part).for_each(|(o, p)| *o += p);
    }
    Ok(())
}

struct AddRows<'a> {
    rows: &'a [f32],
    sum: &'a mut [f32],
}

impl WithSimd for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        for row in self.rows.chunks_exact(self.sum.len()) {
            combine::<S, 1, true>(simd, self.sum, [row], [1.0]);
        }
    }
}

/// The squared norm of a slice, in f64.
#[must_use]
pub fn squared_norm(x: &[f32]) -> f64 {
    let parts: Vec<f64> = x
        .par_chunks(1 << 14)
        .map(|part| part.chunks(1 << 10).map(|x| f64::from(dispatch(Square { x }))).sum())
        .collect();
    parts.iter().sum()
}

struct Square<'a> {
    x: &'a [f32],
}

impl WithSimd for Square<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        crate::simd::dot(simd, self.x, self.x)
    }
}
