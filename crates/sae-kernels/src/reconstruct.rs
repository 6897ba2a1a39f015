//! Sparse reconstruction, fused with the residual, its square and the code gradients.
//!
//! Where codes are few, a row is decoded and differentiated while its part of the decoder is in
//! cache. Where they are many, neighbouring rows share most of the decoder: a block of rows is
//! then passed tile by tile of features, and a tile read once serves all rows of the block.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::codes::split_by_rows;
use crate::decode::products;
use crate::error::check_len;
use crate::simd::{add_combination, combine, dispatch, scale_and_square};
use crate::{Groups, Matrix, Result, SparseCodes};

/// Rows that one task rebuilds one by one.
const ROWS_PER_TASK: usize = 64;

/// Rows of a block that passes the dictionary together.
const BLOCK_ROWS: usize = 128;

/// Elements of the decoder in a tile: 192 KiB.
const TILE_ELEMENTS: usize = 48 << 10;

/// Tiles are used where each of their rows serves this many rows of a block.
const TILED_FROM: usize = 4;

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
    let (codes, d) = (what.codes, what.decoder.n_cols());
    let width = what.groups.len() * d;
    check_len("output_gradient", codes.n_rows() * width, output_gradient.len())?;
    let n_elements = codes.n_rows() * codes.n_features();
    let tiled = codes.nnz() * BLOCK_ROWS >= TILED_FROM * n_elements;
    let (rows_per_task, rows, tile) = if tiled {
        (BLOCK_ROWS, BLOCK_ROWS, (TILE_ELEMENTS / d).max(1))
    } else {
        (ROWS_PER_TASK, 1, codes.n_features().max(1))
    };
    let n_tasks = codes.n_rows().div_ceil(rows_per_task);
    let mut residuals: Vec<Option<&mut [f32]>> = match residual {
        Some(residual) => {
            check_len("residual", codes.n_rows() * d, residual.len())?;
            residual.chunks_mut(rows_per_task * d).map(Some).collect()
        }
        None => Vec::new(),
    };
    residuals.resize_with(n_tasks, || None);
    code_gradients.resize(codes.nnz(), 0.0);
    let tasks = split_by_rows(codes.indptr(), rows_per_task, code_gradients);
    let errors: Vec<Vec<f64>> = tasks
        .into_par_iter()
        .zip(output_gradient.par_chunks_mut(rows_per_task * width))
        .zip(residuals)
        .map(|(((first, mut code_gradients), output), mut residual)| {
            let mut errors = vec![0.0; what.groups.len()];
            for (i, output) in output.chunks_mut(rows * width).enumerate() {
                let start = first + i * rows;
                let n_rows = output.len() / width;
                let len = codes.indptr()[start + n_rows] - codes.indptr()[start];
                let (own, rest) = std::mem::take(&mut code_gradients).split_at_mut(len);
                code_gradients = rest;
                dispatch(Block {
                    what: &what,
                    first: start,
                    n_rows,
                    tile,
                    output,
                    code_gradients: own,
                    residual: residual.as_mut().map(|r| &mut r[i * rows * d..][..n_rows * d]),
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

/// Consecutive rows that pass the dictionary together, tile by tile.
struct Block<'a> {
    what: &'a Reconstruction<'a>,
    first: usize,
    n_rows: usize,
    tile: usize,
    output: &'a mut [f32],
    code_gradients: &'a mut [f32],
    residual: Option<&'a mut [f32]>,
    errors: &'a mut [f64],
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        self.decode(simd);
        self.differentiate(simd);
        self.gradients(simd);
    }
}

impl Block<'_> {
    /// Calls `visit` with each group, row and range of the row's entries in each tile, in order:
    /// tiles one after the other, and within a tile the rows of the block.
    #[inline(always)]
    fn each_tile(&self, mut visit: impl FnMut(usize, usize, std::ops::Range<usize>)) {
        let codes = self.what.codes;
        let mut next = [0; BLOCK_ROWS];
        let mut start = 0;
        for (g, &end_of_group) in self.what.groups.ends().iter().enumerate() {
            while start < end_of_group {
                let end = (start + self.tile).min(end_of_group);
                for (r, next) in next[..self.n_rows].iter_mut().enumerate() {
                    let indices = codes.row(self.first + r).0;
                    let len = indices[*next..].partition_point(|&i| (i as usize) < end);
                    visit(g, r, *next..*next + len);
                    *next += len;
                }
                start = end;
            }
        }
    }

    /// Leaves x̂_g − x of each group in the output.
    #[inline(always)]
    fn decode<S: Simd>(&mut self, simd: S) {
        let Reconstruction { codes, decoder, bias, target, groups } = *self.what;
        let (d, width) = (decoder.n_cols(), decoder.n_cols() * groups.len());
        let output = std::mem::take(&mut self.output);
        for (r, out) in output.chunks_exact_mut(width).enumerate() {
            let target = target.row(self.first + r);
            match bias {
                Some(bias) => {
                    out[..d].iter_mut().zip(bias).zip(target).for_each(|((o, b), t)| *o = b - t);
                }
                None => out[..d].iter_mut().zip(target).for_each(|(o, t)| *o = -t),
            }
        }
        let mut current = 0;
        self.each_tile(|g, r, range| {
            if g > current {
                for out in output.chunks_exact_mut(width) {
                    out.copy_within((g - 1) * d..g * d, g * d);
                }
                current = g;
            }
            let (indices, values) = codes.row(self.first + r);
            let (indices, values) = (&indices[range.clone()], &values[range]);
            let out = &mut output[r * width + g * d..][..d];
            let row = |n: usize| decoder.row(indices[n] as usize);
            add_combination(simd, out, indices.len(), row, |n| values[n]);
        });
        self.output = output;
    }

    /// Squares the residuals, and turns them into the gradients of the outputs.
    #[inline(always)]
    fn differentiate<S: Simd>(&mut self, simd: S) {
        let groups = self.what.groups;
        let (d, n_groups) = (self.what.decoder.n_cols(), groups.len());
        for (r, out) in self.output.chunks_exact_mut(d * n_groups).enumerate() {
            if let Some(residual) = &mut self.residual {
                let last = &out[(n_groups - 1) * d..];
                let residual = &mut residual[r * d..(r + 1) * d];
                residual.iter_mut().zip(last).for_each(|(r, e)| *r = -e);
            }
            for g in (0..n_groups).rev() {
                let (own, later) = out[g * d..].split_at_mut(d);
                self.errors[g] += f64::from(scale_and_square(simd, own, groups.factor(g)));
                if g + 1 < n_groups {
                    combine::<S, 1, true>(simd, own, [&later[..d]], [1.0]);
                }
            }
        }
    }

    /// The gradient of each code: the product of its decoder row and the output's gradient.
    #[inline(always)]
    fn gradients<S: Simd>(&mut self, simd: S) {
        let Reconstruction { codes, decoder, groups, .. } = *self.what;
        let (d, width) = (decoder.n_cols(), decoder.n_cols() * groups.len());
        let indptr = codes.indptr();
        let code_gradients = std::mem::take(&mut self.code_gradients);
        let output = &*self.output;
        self.each_tile(|g, r, range| {
            let row = self.first + r;
            let offset = indptr[row] - indptr[self.first];
            let x = &output[r * width + g * d..][..d];
            let indices = &codes.row(row).0[range.clone()];
            let out = &mut code_gradients[offset + range.start..offset + range.end];
            products(simd, x, &decoder, indices, out);
        });
    }
}
