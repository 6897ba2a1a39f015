//! One pass over a parameter: clipping scale, Adam, unit norm of its rows.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::error::check_len;
use crate::simd::{dispatch, dot};
use crate::{Matrix, Result};

/// Elements that one task updates, about.
const ELEMENTS_PER_TASK: usize = 1 << 14;

/// The settings of one Adam step (Kingma and Ba, algorithm 1, with bias correction).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// What is added to the root of the second moment.
    pub eps: f64,
    /// Number of this step, from 1.
    pub step: u64,
    /// What gradients are multiplied by first: the clipping scale.
    pub gradient_scale: f64,
}

/// A parameter and its moments, all of one size.
#[derive(Debug)]
pub struct Moments<'a> {
    /// The parameter.
    pub weights: &'a mut [f32],
    /// Its first moment.
    pub first: &'a mut [f32],
    /// Its second moment.
    pub second: &'a mut [f32],
}

/// Updates a parameter row by row, and divides each row by its norm plus `unit_norm`, if given.
///
/// Where `active` is given, the gradient of a row that is not active is zero whatever
/// `gradient` holds there. Such a row is updated all the same: its moments decay and
/// move it, as a dense optimiser does.
///
/// # Shapes
/// All of `parameter`: as many elements as `gradient`; `active`: its rows.
///
/// # Errors
/// If sizes disagree.
pub fn adam(
    parameter: Moments<'_>,
    gradient: Matrix<'_>,
    active: Option<&[bool]>,
    step: AdamStep,
    unit_norm: Option<f32>,
) -> Result<()> {
    let Moments { weights, first, second } = parameter;
    check_len("weights", gradient.data().len(), weights.len())?;
    check_len("first moment", gradient.data().len(), first.len())?;
    check_len("second moment", gradient.data().len(), second.len())?;
    if let Some(active) = active {
        check_len("active", gradient.n_rows(), active.len())?;
    }
    let coefficients = Coefficients::new(step);
    let n_cols = gradient.n_cols();
    // A vector is cut anywhere; rows that are normalised or skipped are not.
    let whole_rows = active.is_some() || unit_norm.is_some();
    let rows = (ELEMENTS_PER_TASK / n_cols).max(1);
    let len = if whole_rows { rows * n_cols } else { ELEMENTS_PER_TASK };
    let width = if whole_rows { n_cols } else { ELEMENTS_PER_TASK };
    weights
        .par_chunks_mut(len)
        .zip(first.par_chunks_mut(len))
        .zip(second.par_chunks_mut(len))
        .zip(gradient.data().par_chunks(len))
        .enumerate()
        .for_each(|(task, (((weights, first), second), gradient))| {
            let active = active.map(|a| &a[task * rows..]);
            let moments = Moments { weights, first, second };
            dispatch(Rows { moments, gradient, width, active, coefficients, unit_norm });
        });
    Ok(())
}

/// The numbers of a step, as the inner loop uses them.
#[derive(Debug, Clone, Copy)]
struct Coefficients {
    scale: f32,
    beta1: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    inverse_root_correction: f32,
    eps: f32,
    negative_rate: f32,
}

impl Coefficients {
    fn new(step: AdamStep) -> Self {
        let n = i32::try_from(step.step).unwrap_or(i32::MAX);
        let correction1 = 1.0 - step.beta1.powi(n);
        let correction2 = 1.0 - step.beta2.powi(n);
        Self {
            scale: step.gradient_scale as f32,
            beta1: step.beta1 as f32,
            one_minus_beta1: (1.0 - step.beta1) as f32,
            beta2: step.beta2 as f32,
            one_minus_beta2: (1.0 - step.beta2) as f32,
            inverse_root_correction: (1.0 / correction2.sqrt()) as f32,
            eps: step.eps as f32,
            negative_rate: (-step.lr / correction1) as f32,
        }
    }
}

struct Rows<'a> {
    moments: Moments<'a>,
    gradient: &'a [f32],
    width: usize,
    active: Option<&'a [bool]>,
    coefficients: Coefficients,
    unit_norm: Option<f32>,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { moments, gradient, width, active, coefficients, unit_norm } = self;
        let Moments { weights, first, second } = moments;
        let rows = weights
            .chunks_mut(width)
            .zip(first.chunks_mut(width))
            .zip(second.chunks_mut(width).zip(gradient.chunks(width)));
        for (i, ((weights, first), (second, gradient))) in rows.enumerate() {
            if active.is_some_and(|a| !a[i]) {
                update::<S, false>(simd, weights, first, second, gradient, coefficients);
            } else {
                update::<S, true>(simd, weights, first, second, gradient, coefficients);
            }
            if let Some(eps) = unit_norm {
                let inverse = 1.0 / (dot(simd, weights, weights).sqrt() + eps);
                weights.iter_mut().for_each(|w| *w *= inverse);
            }
        }
    }
}

#[inline(always)]
fn update<S: Simd, const GRADIENT: bool>(
    simd: S,
    weights: &mut [f32],
    first: &mut [f32],
    second: &mut [f32],
    gradient: &[f32],
    c: Coefficients,
) {
    let (w_body, w_tail) = S::as_mut_simd_f32s(weights);
    let (m_body, m_tail) = S::as_mut_simd_f32s(first);
    let (v_body, v_tail) = S::as_mut_simd_f32s(second);
    let (g_body, g_tail) = S::as_simd_f32s(gradient);
    let scale = simd.splat_f32s(c.scale);
    let (beta1, rest1) = (simd.splat_f32s(c.beta1), simd.splat_f32s(c.one_minus_beta1));
    let (beta2, rest2) = (simd.splat_f32s(c.beta2), simd.splat_f32s(c.one_minus_beta2));
    let correction = simd.splat_f32s(c.inverse_root_correction);
    let (eps, rate) = (simd.splat_f32s(c.eps), simd.splat_f32s(c.negative_rate));
    for (((w, m), v), g) in w_body.iter_mut().zip(m_body).zip(v_body).zip(g_body) {
        *m = simd.mul_f32s(*m, beta1);
        *v = simd.mul_f32s(*v, beta2);
        if GRADIENT {
            let g = simd.mul_f32s(*g, scale);
            *m = simd.mul_add_e_f32s(rest1, g, *m);
            *v = simd.mul_add_e_f32s(simd.mul_f32s(rest2, g), g, *v);
        }
        let root = simd.mul_add_e_f32s(simd.sqrt_f32s(*v), correction, eps);
        *w = simd.mul_add_e_f32s(rate, simd.div_f32s(*m, root), *w);
    }
    for (((w, m), v), g) in w_tail.iter_mut().zip(m_tail).zip(v_tail).zip(g_tail) {
        let g = if GRADIENT { g * c.scale } else { 0.0 };
        *m = *m * c.beta1 + c.one_minus_beta1 * g;
        *v = *v * c.beta2 + c.one_minus_beta2 * g * g;
        *w += c.negative_rate * (*m / (v.sqrt() * c.inverse_root_correction + c.eps));
    }
}
