//! The products of a step with codes and their gradients: sparse kernels, or dense ones where
//! many codes are active.

use std::ops::Range;

use sae_kernels::{
    EncoderGradient, Groups, Matrix, Projection, Reconstruction, Source, SquaredNorms, column_sums,
    dense_residual, project_rows, squared_norm,
};
use sae_models::{Parameters, Role};
use tch::Tensor;
use tch_autograd::matmul_into;

use super::Reach;
use super::buffers::{Buffers, is_dense, rows_of, slice, slice_mut};
use crate::Result;
use crate::optimizer::PROJECTION_EPSILON;

/// Rebuilds the rows of `target` that there are codes of: output gradients and code gradients;
/// Σ‖target − x̂‖² of each group.
pub(super) fn reconstruct(
    target: &Tensor,
    parameters: &Parameters,
    groups: &Groups,
    wants_residual: bool,
    buffers: &mut Buffers,
) -> Result<Vec<f64>> {
    let (w_dec, b_dec) = (&parameters[Role::DecoderWeight], slice(&parameters[Role::DecoderBias])?);
    let target = slice(target)?;
    let target = Matrix::new("target", &target, buffers.d)?;
    let many = is_dense(&buffers.codes, buffers.held.len() * buffers.f);
    buffers.is_dense = buffers.streams || (groups.len() == 1 && many);
    let mut residual = std::mem::take(&mut buffers.residual);
    if wants_residual {
        residual.resize(buffers.batch * buffers.d, 0.0);
    }
    let wanted = wants_residual.then_some(residual.as_mut_slice());
    let errors = if buffers.is_dense {
        buffers.code_gradients.resize(buffers.codes.nnz(), 0.0);
        let mut error = 0.0;
        let mut wanted = wanted;
        for rows in buffers.held_micro_batches() {
            let elements = rows.0.start * buffers.d..rows.0.end * buffers.d;
            let target = Matrix::new("target", &target.data()[elements.clone()], buffers.d)?;
            let wanted = wanted.as_mut().map(|r| &mut r[elements]);
            error += dense_rows(w_dec, &b_dec, target, groups.factor(0), &rows, wanted, buffers)?;
        }
        vec![error]
    } else {
        let decoder = slice(w_dec)?;
        let what = Reconstruction {
            codes: &buffers.codes,
            decoder: Matrix::new("decoder", &decoder, buffers.d)?,
            bias: Some(&b_dec),
            target,
            groups,
        };
        let output = slice_mut(&mut buffers.output)?;
        sae_kernels::reconstruct(what, output, &mut buffers.code_gradients, wanted)?
    };
    buffers.residual = residual;
    Ok(errors)
}

/// Rebuilds some rows, given as those of the batch and of the codes, by dense products; returns their
/// Σ‖target − x̂‖².
fn dense_rows(
    w_dec: &Tensor,
    b_dec: &[f32],
    target: Matrix<'_>,
    factor: f32,
    (rows, of_codes): &(Range<usize>, Range<usize>),
    residual: Option<&mut [f32]>,
    buffers: &mut Buffers,
) -> Result<f64> {
    let (d, len) = (buffers.d, rows.len() * buffers.f);
    let mut dense = buffers.take_dense();
    let codes = &buffers.codes;
    codes.scatter(codes.values(), of_codes.clone(), &mut slice_mut(&mut dense)?[..len])?;
    let of_rows = 0..rows.len();
    matmul_into(&rows_of(&dense, &of_rows), w_dec, &mut rows_of(&buffers.output, rows), false)?;
    let output = &mut slice_mut(&mut buffers.output)?[rows.start * d..rows.end * d];
    let error = dense_residual(output, b_dec, target, factor, residual)?;
    matmul_into(
        &rows_of(&buffers.output, rows),
        &w_dec.tr(),
        &mut rows_of(&dense, &of_rows),
        false,
    )?;
    let out = &mut buffers.code_gradients[codes.entries(of_codes.clone())];
    codes.gather(&slice(&dense)?[..len], of_codes.clone(), out)?;
    buffers.dense = Some(dense);
    Ok(error)
}

/// The gradients of W_dec (projected), W_enc, b_enc and b_dec, and the squared norms of the
/// first three.
pub(super) fn weight_gradients(
    parameters: &Parameters,
    groups: &Groups,
    revival: Option<Source<'_>>,
    reach: Reach,
    buffers: &mut Buffers,
) -> Result<SquaredNorms> {
    let d = buffers.d;
    let decoder = slice(&parameters[Role::DecoderWeight])?;
    let decoder = Matrix::new("decoder", &decoder, d)?;
    let projection = Projection { decoder, eps: PROJECTION_EPSILON as f32 };
    let w_enc = &parameters[Role::EncoderWeight];
    let norms = if buffers.is_dense {
        let of_main = finish_dense(w_enc, projection, buffers)?;
        let of_revival = match revival {
            Some(revival) => add_revival(w_enc, projection, revival, buffers)?,
            None => SquaredNorms::default(),
        };
        buffers.active.fill(true);
        SquaredNorms {
            decoder: of_main.decoder + of_revival.decoder,
            encoder: of_main.encoder + of_revival.encoder,
            bias: of_main.bias + of_revival.bias,
        }
    } else {
        buffers.by_feature.rebuild(&buffers.codes, &buffers.code_gradients)?;
        let output = slice(&buffers.output)?;
        let output_gradient = Matrix::new("output", &output, d * groups.len())?;
        let main = Source { codes: &buffers.by_feature, output_gradient, groups };
        let sources: Vec<Source<'_>> = std::iter::once(main).chain(revival).collect();
        let (input, encoder) = (slice(&buffers.centred)?, slice(w_enc)?);
        let encoder = EncoderGradient {
            input: Matrix::new("input", &input, buffers.d_in)?,
            encoder: Matrix::new("encoder", &encoder, buffers.d_in)?,
            weights: slice_mut(&mut buffers.d_w_enc)?,
            bias: &mut buffers.d_b_enc,
            input_sum: &mut buffers.input_sum,
        };
        sae_kernels::weight_gradients(
            &sources,
            Some(projection),
            slice_mut(&mut buffers.d_w_dec)?,
            reach.encoder.then_some(encoder),
            &mut buffers.active,
            &mut buffers.strips,
        )?
    };
    let output = slice(&buffers.output)?;
    column_sums(Matrix::new("output", &output, d * groups.len())?, &mut buffers.sums)?;
    buffers.d_b_dec.copy_from_slice(&buffers.sums[..d]);
    if reach.encoder && reach.centred {
        buffers.d_b_dec.iter_mut().zip(&buffers.input_sum).for_each(|(b, s)| *b -= s);
    }
    Ok(norms)
}

/// Adds what the rows that there are codes of give to the weights, by dense products.
pub(super) fn add_dense_gradients(buffers: &mut Buffers) -> Result<()> {
    let mut dense = buffers.take_dense();
    let mut sums = vec![0.0; buffers.f];
    for (rows, of_codes) in buffers.held_micro_batches() {
        let (of_rows, add) = (0..rows.len(), rows.start > 0);
        let len = rows.len() * buffers.f;
        let codes = &buffers.codes;
        codes.scatter(codes.values(), of_codes.clone(), &mut slice_mut(&mut dense)?[..len])?;
        let output = rows_of(&buffers.output, &rows);
        matmul_into(&rows_of(&dense, &of_rows).tr(), &output, &mut buffers.d_w_dec, add)?;
        let gradients = &mut slice_mut(&mut dense)?[..len];
        codes.scatter(&buffers.code_gradients, of_codes, gradients)?;
        column_sums(Matrix::new("gradients", gradients, buffers.f)?, &mut sums)?;
        if !add {
            buffers.d_b_enc.fill(0.0);
        }
        buffers.d_b_enc.iter_mut().zip(&sums).for_each(|(d, s)| *d += s);
        let centred = rows_of(&buffers.centred, &rows);
        matmul_into(&rows_of(&dense, &of_rows).tr(), &centred, &mut buffers.d_w_enc, add)?;
    }
    buffers.dense = Some(dense);
    Ok(())
}

/// Projects the gradients that were added up; their squared norms.
fn finish_dense(
    w_enc: &Tensor,
    projection: Projection<'_>,
    buffers: &mut Buffers,
) -> Result<SquaredNorms> {
    add_product(w_enc, &buffers.d_b_enc, 1.0, &mut buffers.input_sum, true)?;
    Ok(SquaredNorms {
        decoder: project_rows(slice_mut(&mut buffers.d_w_dec)?, projection)?,
        encoder: squared_norm(&slice(&buffers.d_w_enc)?),
        bias: squared_norm(&buffers.d_b_enc),
    })
}

/// Writes the gradients of dead features, which have no other; their squared norms.
fn add_revival(
    w_enc: &Tensor,
    projection: Projection<'_>,
    revival: Source<'_>,
    buffers: &mut Buffers,
) -> Result<SquaredNorms> {
    let (mut bias, mut input_sum) = (vec![0.0; buffers.f], vec![0.0; buffers.d_in]);
    let (input, encoder) = (slice(&buffers.centred)?, slice(w_enc)?);
    let encoder = EncoderGradient {
        input: Matrix::new("input", &input, buffers.d_in)?,
        encoder: Matrix::new("encoder", &encoder, buffers.d_in)?,
        weights: slice_mut(&mut buffers.d_w_enc)?,
        bias: &mut bias,
        input_sum: &mut input_sum,
    };
    let norms = sae_kernels::weight_gradients(
        &[revival],
        Some(projection),
        slice_mut(&mut buffers.d_w_dec)?,
        Some(encoder),
        &mut buffers.active,
        &mut buffers.strips,
    )?;
    buffers.d_b_enc.iter_mut().zip(bias).for_each(|(d, b)| *d += b);
    buffers.input_sum.iter_mut().zip(input_sum).for_each(|(s, r)| *s += r);
    Ok(norms)
}

/// out += factor·Σ_f v_f·row f of `w`, after zeroing `out` if `fresh`.
pub(super) fn add_product(
    w: &Tensor,
    v: &[f32],
    factor: f32,
    out: &mut [f32],
    fresh: bool,
) -> Result<()> {
    let product = w.tr().f_mv(&Tensor::from_slice(v))?;
    for (out, p) in out.iter_mut().zip(slice(&product)?.iter()) {
        *out = if fresh { factor * p } else { *out + factor * p };
    }
    Ok(())
}
