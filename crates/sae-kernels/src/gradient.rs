//! Gradients of the weights from sparse codes; one thread owns a feature.
//!
//! A feature's gradients are sums over its rows of the batch. Where it has few of them, whole rows
//! are added; where it has many, [`packed`] adds strips of columns that stay in cache.

mod operands;
mod packed;

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use self::operands::check_sources;
pub use self::operands::{EncoderGradient, Projection, Source, SquaredNorms};
use crate::error::check_len;
use crate::simd::{add_combination, combine, dispatch, dot, dots, write_combination};
use crate::{Matrix, Result};

/// Parts of the dictionary whose sums are formed one by one.
const N_PARTS: usize = 64;

/// Mean number of entries of a feature from which strips are faster than rows.
const PACKED_FROM: usize = 64;

/// The gradients of decoder, encoder and encoder bias, and their squared norms.
///
/// ∂W_dec\[f\] = Σ_b value_bf·(output gradient)_b, freed of its component along W_dec\[f\];
/// ∂W_enc\[f\] = Σ_b gradient_bf·input_b; ∂b_enc\[f\] = Σ_b gradient_bf.
///
/// # Shapes
/// `decoder`: n_features × d_model. `active[f]` tells whether feature f has an entry;
/// rows of features without one are not written, their gradient is zero. `scratch`: a buffer of
/// any length.
///
/// # Errors
/// If sizes disagree.
pub fn weight_gradients(
    sources: &[Source<'_>],
    projection: Option<Projection<'_>>,
    decoder: &mut [f32],
    encoder: Option<EncoderGradient<'_>>,
    active: &mut [bool],
    scratch: &mut Vec<f32>,
) -> Result<SquaredNorms> {
    let n_features = active.len();
    let Some(d) = sources.first().map(|s| s.output_gradient.n_cols() / s.groups.len().max(1))
    else {
        active.fill(false);
        return Ok(SquaredNorms::default());
    };
    check_sources(sources, projection, decoder.len(), n_features, d)?;
    let part = n_features.div_ceil(N_PARTS).max(1);
    let task = Task { sources, projection, d, first_is_written: false };
    let Some(encoder) = encoder else {
        let norms: Vec<f64> = decoder
            .par_chunks_mut(part * d)
            .zip(active.par_chunks_mut(part))
            .enumerate()
            .map(|(p, (decoder, active))| {
                dispatch(Part { task: &task, first: p * part, decoder, active, encoder: None })
                    .decoder
            })
            .collect();
        return Ok(SquaredNorms { decoder: norms.iter().sum(), ..SquaredNorms::default() });
    };
    encoder.check(n_features)?;
    let EncoderGradient { input, encoder, weights, bias, input_sum } = encoder;
    let d_in = input.n_cols();
    let first_is_written = sources[0].codes.nnz() >= PACKED_FROM * n_features;
    if first_is_written {
        packed::write(&sources[0], input, decoder, weights, scratch);
    }
    let task = Task { first_is_written, ..task };
    let parts: Vec<(SquaredNorms, Vec<f32>)> = decoder
        .par_chunks_mut(part * d)
        .zip(active.par_chunks_mut(part))
        .zip(weights.par_chunks_mut(part * d_in).zip(bias.par_chunks_mut(part)))
        .enumerate()
        .map(|(p, ((decoder, active), (weights, bias)))| {
            let mut sum = vec![0.0; d_in];
            let side = EncoderGradient { input, encoder, weights, bias, input_sum: &mut sum };
            let first = p * part;
            let norms = dispatch(Part { task: &task, first, decoder, active, encoder: Some(side) });
            (norms, sum)
        })
        .collect();
    let mut norms = SquaredNorms::default();
    input_sum.fill(0.0);
    for (of_part, sum) in parts {
        norms.decoder += of_part.decoder;
        norms.encoder += of_part.encoder;
        norms.bias += of_part.bias;
        input_sum.iter_mut().zip(sum).for_each(|(t, s)| *t += s);
    }
    Ok(norms)
}

struct Task<'a> {
    sources: &'a [Source<'a>],
    projection: Option<Projection<'a>>,
    d: usize,
    /// Whether the first source's part of the weight gradients is there already.
    first_is_written: bool,
}

/// Consecutive features, from `first` on.
struct Part<'a> {
    task: &'a Task<'a>,
    first: usize,
    decoder: &'a mut [f32],
    active: &'a mut [bool],
    encoder: Option<EncoderGradient<'a>>,
}

impl WithSimd for Part<'_> {
    type Output = SquaredNorms;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> SquaredNorms {
        let Self { task, first, decoder, active, mut encoder } = self;
        let mut norms = SquaredNorms::default();
        for (i, (gradient, active)) in decoder.chunks_exact_mut(task.d).zip(active).enumerate() {
            let f = first + i;
            *active = task.sources.iter().any(|s| !s.codes.feature(f).is_empty());
            if !*active {
                if let Some(encoder) = &mut encoder {
                    encoder.bias[i] = 0.0;
                }
                continue;
            }
            decoder_row(simd, task, f, gradient);
            norms.decoder += f64::from(match &task.projection {
                Some(p) => project(simd, gradient, p.decoder.row(f), p.eps),
                None => dot(simd, gradient, gradient),
            });
            if let Some(encoder) = &mut encoder {
                let d_in = encoder.input.n_cols();
                let row = &mut encoder.weights[i * d_in..][..d_in];
                let bias = encoder_row(simd, task, f, &encoder.input, row);
                encoder.bias[i] = bias;
                norms.encoder += f64::from(dot(simd, row, row));
                norms.bias += f64::from(bias) * f64::from(bias);
                let weights = encoder.encoder.row(f);
                combine::<S, 1, true>(simd, encoder.input_sum, [weights], [bias]);
            }
        }
        norms
    }
}

#[inline(always)]
fn decoder_row<S: Simd>(simd: S, task: &Task<'_>, f: usize, out: &mut [f32]) {
    for (s, source) in task.sources.iter().enumerate() {
        let entries = source.codes.feature(f);
        let at = source.groups.of_feature(f) * task.d;
        let gradient = source.output_gradient;
        let row = |n: usize| &gradient.row(entries[n].row as usize)[at..at + task.d];
        if s == 0 && task.first_is_written {
            continue;
        }
        if s == 0 {
            write_combination(simd, out, entries.len(), row, |n| entries[n].value);
        } else {
            add_combination(simd, out, entries.len(), row, |n| entries[n].value);
        }
    }
}

#[inline(always)]
fn encoder_row<S: Simd>(
    simd: S,
    task: &Task<'_>,
    f: usize,
    input: &Matrix<'_>,
    out: &mut [f32],
) -> f32 {
    let mut bias = 0.0;
    for (s, source) in task.sources.iter().enumerate() {
        let entries = source.codes.feature(f);
        bias += entries.iter().map(|e| e.gradient).sum::<f32>();
        if s == 0 && task.first_is_written {
            continue;
        }
        let row = |n: usize| input.row(entries[n].row as usize);
        if s == 0 {
            write_combination(simd, out, entries.len(), row, |n| entries[n].gradient);
        } else {
            add_combination(simd, out, entries.len(), row, |n| entries[n].gradient);
        }
    }
    bias
}

/// Takes the component along `weights` out of `gradient`; returns its squared norm.
#[inline(always)]
fn project<S: Simd>(simd: S, gradient: &mut [f32], weights: &[f32], eps: f32) -> f32 {
    let [along, squared] = dots(simd, weights, [&*gradient, weights]);
    let norm = squared.sqrt() + eps;
    combine::<S, 1, true>(simd, gradient, [weights], [-along / (norm * norm)]);
    dot(simd, gradient, gradient)
}

/// Takes the component along each row of the decoder out of a dense gradient.
///
/// Returns the squared norm of what is left.
///
/// # Shapes
/// `gradient`: n_features × d_model.
///
/// # Errors
/// If sizes disagree.
pub fn project_rows(gradient: &mut [f32], projection: Projection<'_>) -> Result<f64> {
    let decoder = projection.decoder;
    check_len("gradient", decoder.data().len(), gradient.len())?;
    let part = decoder.n_rows().div_ceil(N_PARTS).max(1);
    let norms: Vec<f64> = gradient
        .par_chunks_mut(part * decoder.n_cols())
        .enumerate()
        .map(|(p, gradient)| dispatch(ProjectPart { projection, first: p * part, gradient }))
        .collect();
    Ok(norms.iter().sum())
}

struct ProjectPart<'a> {
    projection: Projection<'a>,
    first: usize,
    gradient: &'a mut [f32],
}

impl WithSimd for ProjectPart<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> f64 {
        let Projection { decoder, eps } = self.projection;
        let mut norm = 0.0;
        for (i, row) in self.gradient.chunks_exact_mut(decoder.n_cols()).enumerate() {
            norm += f64::from(project(simd, row, decoder.row(self.first + i), eps));
        }
        norm
    }
}
