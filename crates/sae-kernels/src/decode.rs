//! Sparse reconstruction, fused with the residual, its square and the code gradients.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::codes::split_by_rows;
use crate::error::check_len;
use crate::simd::{add_combination, combine, dispatch, dots, scale_and_square};
use crate::{Error, Matrix, Result, SparseCodes};

/// Rows that one task decodes.
const ROWS_PER_TASK: usize = 16;

/// Prefixes of the dictionary, each of which reconstructs by itself (Matryoshka).
#[derive(Debug, Clone, PartialEq)]
pub struct Groups {
    ends: Vec<usize>,
    factors: Vec<f32>,
}

impl Groups {
    /// The whole dictionary as the only group; its residual is multiplied by `factor`.
    #[must_use]
    pub fn one(n_features: usize, factor: f32) -> Self {
        Self { ends: vec![n_features], factors: vec![factor] }
    }

    /// Prefixes that end at `ends`, the last at the size of the dictionary.
    ///
    /// The gradient of prefix g's reconstruction is `factors[g]` times its residual.
    ///
    /// # Errors
    /// If there is no group, the ends do not ascend, or there are not as many factors.
    pub fn new(ends: Vec<usize>, factors: Vec<f32>) -> Result<Self> {
        check_len("factors", ends.len().max(1), factors.len())?;
        if let Some(i) = ends.windows(2).position(|w| w[0] >= w[1]) {
            return Err(Error::Order { name: "ends", position: i + 1 });
        }
        Ok(Self { ends, factors })
    }

    /// The number of groups.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no group.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// What the residual of group `g` is multiplied by in the gradient.
    ///
    /// # Panics
    /// If there is no such group.
    #[must_use]
    pub fn factor(&self, g: usize) -> f32 {
        self.factors[g]
    }

    /// The group that a feature belongs to: the first prefix that holds it.
    #[inline]
    #[must_use]
    pub fn of_feature(&self, feature: usize) -> usize {
        self.ends.partition_point(|&end| end <= feature)
    }

    pub(crate) fn check(&self, n_features: usize) -> Result<()> {
        check_len("groups (the end of the last)", n_features, *self.ends.last().unwrap_or(&0))
    }
}

/// What a batch of codes has to rebuild, and with which dictionary.
#[derive(Debug, Clone, Copy)]
pub struct Reconstruction<'a> {
    /// The codes, batch × n_features.
    pub codes: &'a SparseCodes,
    /// The decoder, n_features × d_model.
    pub decoder: Matrix<'a>,
    /// What is added to every reconstruction, d_model, or nothing.
    pub bias: Option<&'a [f32]>,
    /// The rows to rebuild, batch × d_model.
    pub target: Matrix<'a>,
    /// The prefixes that rebuild by themselves.
    pub groups: &'a Groups,
}

impl Reconstruction<'_> {
    fn check(&self) -> Result<()> {
        let Self { codes, decoder, bias, target, groups } = self;
        check_len("decoder (its rows)", codes.n_features(), decoder.n_rows())?;
        check_len("target (its rows)", codes.n_rows(), target.n_rows())?;
        check_len("target (its columns)", decoder.n_cols(), target.n_cols())?;
        if let Some(bias) = bias {
            check_len("bias", decoder.n_cols(), bias.len())?;
        }
        groups.check(codes.n_features())
    }
}

/// Rebuilds every row and differentiates the squared error, while a row's part of the
/// decoder is in cache.
///
/// For group g with reconstruction x̂_g: e_g = x̂_g − x, ∂/∂x̂_g = factor_g·e_g. A feature
/// of group j is part of the groups from j on, so its gradient is W_i·Σ_{g≥j} factor_g·e_g.
/// Returns Σ‖e_g‖² of each group over the batch.
///
/// # Shapes
/// `output_gradient`: batch × (n_groups·d_model); part j of a row is Σ_{g≥j} factor_g·e_g.
/// `code_gradients`: one for each entry of the codes (resized). `residual`, if given: batch ×
/// d_model, receives x − x̂ of the last group.
///
/// # Errors
/// If sizes disagree.
pub fn reconstruct(
    what: Reconstruction<'_>,
    output_gradient: &mut [f32],
    code_gradients: &mut Vec<f32>,
    residual: Option<&mut [f32]>,
) -> Result<Vec<f64>> {
    what.check()?;
    let (codes, width) = (what.codes, what.groups.len() * what.decoder.n_cols());
    check_len("output_gradient", codes.n_rows() * width, output_gradient.len())?;
    let d = what.decoder.n_cols();
    let mut residuals: Vec<Option<&mut [f32]>> = match residual {
        Some(residual) => {
            check_len("residual", codes.n_rows() * d, residual.len())?;
            residual.chunks_mut(ROWS_PER_TASK * d).map(Some).collect()
        }
        None => Vec::new(),
    };
    residuals.resize_with(codes.n_rows().div_ceil(ROWS_PER_TASK), || None);
    code_gradients.resize(codes.nnz(), 0.0);
    let tasks = split_by_rows(codes.indptr(), ROWS_PER_TASK, code_gradients);
    let errors: Vec<Vec<f64>> = tasks
        .into_par_iter()
        .zip(output_gradient.par_chunks_mut(ROWS_PER_TASK * width))
        .zip(residuals)
        .map(|(((first, code_gradients), output_gradient), mut residual)| {
            let mut errors = vec![0.0; what.groups.len()];
            let mut rest = code_gradients;
            for (i, output_gradient) in output_gradient.chunks_exact_mut(width).enumerate() {
                let row = first + i;
                let (code_gradients, tail) =
                    std::mem::take(&mut rest).split_at_mut(codes.row(row).0.len());
                rest = tail;
                dispatch(Row {
                    what: &what,
                    row,
                    output_gradient,
                    code_gradients,
                    residual: residual.as_mut().map(|r| &mut r[i * d..(i + 1) * d]),
                    errors: &mut errors,
                });
            }
            errors
        })
        .collect();
    let mut total = vec![0.0; what.groups.len()];
    for of_task in errors {
        total.iter_mut().zip(of_task).for_each(|(t, e)| *t += e);
    }
    Ok(total)
}

struct Row<'a> {
    what: &'a Reconstruction<'a>,
    row: usize,
    output_gradient: &'a mut [f32],
    code_gradients: &'a mut [f32],
    residual: Option<&'a mut [f32]>,
    errors: &'a mut [f64],
}

impl WithSimd for Row<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Reconstruction { codes, decoder, bias, target, groups } = *self.what;
        let d = decoder.n_cols();
        let (indices, values) = codes.row(self.row);
        let out = self.output_gradient;
        let target = target.row(self.row);
        match bias {
            Some(bias) => {
                out[..d].iter_mut().zip(bias).zip(target).for_each(|((o, b), t)| *o = b - t);
            }
            None => out[..d].iter_mut().zip(target).for_each(|(o, t)| *o = -t),
        }
        let mut start = 0;
        for (g, &end_feature) in groups.ends.iter().enumerate() {
            if g > 0 {
                out.copy_within((g - 1) * d..g * d, g * d);
            }
            let end = start + indices[start..].partition_point(|&i| (i as usize) < end_feature);
            let (of_group, values) = (&indices[start..end], &values[start..end]);
            let residual = &mut out[g * d..(g + 1) * d];
            let row = |n: usize| decoder.row(of_group[n] as usize);
            add_combination(simd, residual, of_group.len(), row, |n| values[n]);
            start = end;
        }
        if let Some(residual) = self.residual {
            let last = &out[(groups.len() - 1) * d..];
            residual.iter_mut().zip(last).for_each(|(r, e)| *r = -e);
        }
        let mut end = indices.len();
        for g in (0..groups.len()).rev() {
            let (own, later) = out[g * d..].split_at_mut(d);
            self.errors[g] += f64::from(scale_and_square(simd, own, groups.factors[g]));
            if g + 1 < groups.len() {
                combine::<S, 1, true>(simd, own, [&later[..d]], [1.0]);
            }
            let first = if g == 0 { 0 } else { groups.ends[g - 1] };
            let start = indices[..end].partition_point(|&i| (i as usize) < first);
            let range = start..end;
            products(simd, own, &decoder, &indices[range.clone()], &mut self.code_gradients[range]);
            end = start;
        }
    }
}

/// The products of `x` with the rows of `decoder` that `indices` name.
#[inline(always)]
fn products<S: Simd>(simd: S, x: &[f32], decoder: &Matrix<'_>, indices: &[u32], out: &mut [f32]) {
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
