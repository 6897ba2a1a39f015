//! The k-estimator's dense layer: relu, output weights, and their gradients.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::error::check_len;
use crate::simd::dispatch;
use crate::{Matrix, Result};

/// Parts of a batch whose sums are formed one by one.
const N_PARTS: usize = 16;

/// w₂·relu(h + b₁) of every row.
///
/// # Shapes
/// `hidden`: batch × width, without its bias; `bias`, `output_weights`: width; `out`: batch.
///
/// # Errors
/// If sizes disagree.
pub fn estimator_forward(
    hidden: Matrix<'_>,
    bias: &[f32],
    output_weights: &[f32],
    out: &mut [f32],
) -> Result<()> {
    check_len("bias", hidden.n_cols(), bias.len())?;
    check_len("output_weights", hidden.n_cols(), output_weights.len())?;
    check_len("out", hidden.n_rows(), out.len())?;
    out.par_iter_mut().enumerate().for_each(|(row, out)| {
        *out = dispatch(Forward { hidden: hidden.row(row), bias, output_weights });
    });
    Ok(())
}

struct Forward<'a> {
    hidden: &'a [f32],
    bias: &'a [f32],
    output_weights: &'a [f32],
}

impl WithSimd for Forward<'_> {
    type Output = f32;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f32 {
        let (h_body, h_tail) = S::as_simd_f32s(self.hidden);
        let (b_body, b_tail) = S::as_simd_f32s(self.bias);
        let (w_body, w_tail) = S::as_simd_f32s(self.output_weights);
        let zero = simd.splat_f32s(0.0);
        let mut sums = [zero; 4];
        for (i, ((h, b), w)) in h_body.iter().zip(b_body).zip(w_body).enumerate() {
            let active = simd.max_f32s(simd.add_f32s(*h, *b), zero);
            sums[i % 4] = simd.mul_add_e_f32s(active, *w, sums[i % 4]);
        }
        let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
        let tail = h_tail.iter().zip(b_tail).zip(w_tail).map(|((h, b), w)| (h + b).max(0.0) * w);
        simd.reduce_sum_f32s(sum) + tail.sum::<f32>()
    }
}

/// Gradients through w₂·relu(h + b₁), given that of each row's output.
///
/// `hidden` becomes ∂/∂h = gradient_b·w₂·1\[h + b₁ > 0\], ready for the product with the input.
///
/// # Shapes
/// `hidden`: batch × width; `gradients`: batch; `weight_gradient`, `bias_gradient`: width, to which
/// those of w₂ and b₁ are added. `partial`: a buffer of any length.
///
/// # Errors
/// If sizes disagree.
pub fn estimator_backward(
    hidden: &mut [f32],
    bias: &[f32],
    output_weights: &[f32],
    gradients: &[f32],
    weight_gradient: &mut [f32],
    bias_gradient: &mut [f32],
    partial: &mut Vec<f32>,
) -> Result<()> {
    let width = bias.len();
    check_len("output_weights", width, output_weights.len())?;
    check_len("hidden", width * gradients.len(), hidden.len())?;
    check_len("weight_gradient", width, weight_gradient.len())?;
    check_len("bias_gradient", width, bias_gradient.len())?;
    if hidden.is_empty() {
        return Ok(());
    }
    let rows = gradients.len().div_ceil(N_PARTS);
    let n_parts = gradients.len().div_ceil(rows);
    partial.clear();
    partial.resize(n_parts * 2 * width, 0.0);
    hidden
        .par_chunks_mut(rows * width)
        .zip(gradients.par_chunks(rows))
        .zip(partial.par_chunks_mut(2 * width))
        .for_each(|((hidden, gradients), sums)| {
            let (weight_sums, bias_sums) = sums.split_at_mut(width);
            for (hidden, &gradient) in hidden.chunks_exact_mut(width).zip(gradients) {
                dispatch(Backward {
                    hidden,
                    bias,
                    output_weights,
                    gradient,
                    weight_sums,
                    bias_sums,
                });
            }
        });
    for sums in partial.chunks_exact(2 * width) {
        weight_gradient.iter_mut().zip(&sums[..width]).for_each(|(t, s)| *t += s);
        bias_gradient.iter_mut().zip(&sums[width..]).for_each(|(t, s)| *t += s);
    }
    Ok(())
}

struct Backward<'a> {
    hidden: &'a mut [f32],
    bias: &'a [f32],
    output_weights: &'a [f32],
    gradient: f32,
    weight_sums: &'a mut [f32],
    bias_sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (h_body, h_tail) = S::as_mut_simd_f32s(self.hidden);
        let (b_body, b_tail) = S::as_simd_f32s(self.bias);
        let (w_body, w_tail) = S::as_simd_f32s(self.output_weights);
        let (ws_body, ws_tail) = S::as_mut_simd_f32s(self.weight_sums);
        let (bs_body, bs_tail) = S::as_mut_simd_f32s(self.bias_sums);
        let zero = simd.splat_f32s(0.0);
        let g = simd.splat_f32s(self.gradient);
        let body = h_body.iter_mut().zip(b_body).zip(w_body).zip(ws_body.iter_mut().zip(bs_body));
        for (((h, b), w), (ws, bs)) in body {
            let before = simd.add_f32s(*h, *b);
            let on = simd.greater_than_f32s(before, zero);
            *ws = simd.mul_add_e_f32s(g, simd.max_f32s(before, zero), *ws);
            *h = simd.select_f32s(on, simd.mul_f32s(g, *w), zero);
            *bs = simd.add_f32s(*bs, *h);
        }
        let tail = h_tail.iter_mut().zip(b_tail).zip(w_tail).zip(ws_tail.iter_mut().zip(bs_tail));
        for (((h, b), w), (ws, bs)) in tail {
            let before = *h + b;
            *ws += self.gradient * before.max(0.0);
            *h = if before > 0.0 { self.gradient * w } else { 0.0 };
            *bs += *h;
        }
    }
}
