//! Products with the rows of the decoder: reconstructions and gradients of codes.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::codes::split_by_rows;
use crate::error::check_len;
use crate::simd::{add_combination, dispatch, dots, scale_and_square};
use crate::{Matrix, Result, SparseCodes};

/// Turns dense reconstructions without bias into the gradient of their outputs.
///
/// With e = prediction + bias − target, `prediction` becomes factor·e. Returns Σ‖e‖².
///
/// # Shapes
/// `prediction`: batch × d_model; `bias`: d_model; `residual`, if given: batch × d_model, receives
/// −e.
///
/// # Errors
/// If sizes disagree.
pub fn dense_residual(
    prediction: &mut [f32],
    bias: &[f32],
    target: Matrix<'_>,
    factor: f32,
    residual: Option<&mut [f32]>,
) -> Result<f64> {
    let d = target.n_cols();
    check_len("prediction", target.data().len(), prediction.len())?;
    check_len("bias", d, bias.len())?;
    let mut residuals: Vec<Option<&mut [f32]>> = match residual {
        Some(residual) => {
            check_len("residual", target.data().len(), residual.len())?;
            residual.chunks_mut(d).map(Some).collect()
        }
        None => Vec::new(),
    };
    residuals.resize_with(target.n_rows(), || None);
    let errors: Vec<f32> = prediction
        .par_chunks_mut(d)
        .zip(residuals)
        .enumerate()
        .map(|(row, (prediction, residual))| {
            let target = target.row(row);
            dispatch(DenseRow { prediction, bias, target, factor, residual })
        })
        .collect();
    Ok(errors.iter().map(|e| f64::from(*e)).sum())
}

struct DenseRow<'a> {
    prediction: &'a mut [f32],
    bias: &'a [f32],
    target: &'a [f32],
    factor: f32,
    residual: Option<&'a mut [f32]>,
}

impl WithSimd for DenseRow<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let Self { prediction, bias, target, factor, residual } = self;
        for ((p, b), t) in prediction.iter_mut().zip(bias).zip(target) {
            *p = *p + b - t;
        }
        if let Some(residual) = residual {
            residual.iter_mut().zip(&*prediction).for_each(|(r, e)| *r = -e);
        }
        scale_and_square(simd, prediction, factor)
    }
}

/// The products of each row of `x` with the decoder rows of its codes: the gradient of codes
/// that a reconstruction has left out.
///
/// # Shapes
/// `x`: batch × d_model; `decoder`: n_features × d_model; `out`: one an entry (resized).
///
/// # Errors
/// If sizes disagree.
pub fn code_gradients(
    codes: &SparseCodes,
    x: Matrix<'_>,
    decoder: Matrix<'_>,
    out: &mut Vec<f32>,
) -> Result<()> {
    check_len("decoder (its rows)", codes.n_features(), decoder.n_rows())?;
    check_len("x (its rows)", codes.n_rows(), x.n_rows())?;
    check_len("x (its columns)", decoder.n_cols(), x.n_cols())?;
    out.resize(codes.nnz(), 0.0);
    split_by_rows(codes.indptr(), 1, out).into_par_iter().for_each(|(row, out)| {
        dispatch(Products { x: x.row(row), decoder: &decoder, indices: codes.row(row).0, out });
    });
    Ok(())
}

struct Products<'a> {
    x: &'a [f32],
    decoder: &'a Matrix<'a>,
    indices: &'a [u32],
    out: &'a mut [f32],
}

impl WithSimd for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        products(simd, self.x, self.decoder, self.indices, self.out);
    }
}

/// The reconstruction of every row: bias + Σ value·decoder row.
///
/// # Shapes
/// `decoder`: n_features × d_model; `bias`: d_model; `out`: batch × d_model, overwritten.
///
/// # Errors
/// If sizes disagree.
pub fn decode(
    codes: &SparseCodes,
    decoder: Matrix<'_>,
    bias: &[f32],
    out: &mut [f32],
) -> Result<()> {
    let d = decoder.n_cols();
    check_len("decoder (its rows)", codes.n_features(), decoder.n_rows())?;
    check_len("bias", d, bias.len())?;
    check_len("out", codes.n_rows() * d, out.len())?;
    out.par_chunks_mut(d).enumerate().for_each(|(row, out)| {
        dispatch(DecodeRow { codes, decoder: &decoder, bias, row, out });
    });
    Ok(())
}

struct DecodeRow<'a> {
    codes: &'a SparseCodes,
    decoder: &'a Matrix<'a>,
    bias: &'a [f32],
    row: usize,
    out: &'a mut [f32],
}

impl WithSimd for DecodeRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (indices, values) = self.codes.row(self.row);
        self.out.copy_from_slice(self.bias);
        let row = |n: usize| self.decoder.row(indices[n] as usize);
        add_combination(simd, self.out, indices.len(), row, |n| values[n]);
    }
}

/// The products of `x` with the rows of `decoder` that `indices` name.
#[inline(always)]
pub(crate) fn products<S: Simd>(
    simd: S,
    x: &[f32],
    decoder: &Matrix<'_>,
    indices: &[u32],
    out: &mut [f32],
) {
    let row = |i: u32| decoder.row(i as usize);
    let mut fours = out.chunks_exact_mut(4);
    for (out, i) in (&mut fours).zip(indices.chunks_exact(4)) {
        out.copy_from_slice(&dots(simd, x, [row(i[0]), row(i[1]), row(i[2]), row(i[3])]));
    }
    let rest = &indices[indices.len() - indices.len() % 4..];
    for (out, &i) in fours.into_remainder().iter_mut().zip(rest) {
        *out = dots(simd, x, [row(i)])[0];
    }
}
