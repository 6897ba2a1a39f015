//! The products of a step with codes and their gradients: sparse kernels, or dense ones where
//! many codes are active.

use sae_kernels::{
    EncoderGradient, Groups, Matrix, Projection, Reconstruction, Source, SquaredNorms, column_sums,
    dense_residual, project_rows, squared_norm,
};
use tch::Tensor;

use super::Reach;
use super::buffers::{Buffers, Slots, empty, slice, slice_mut};
use crate::Result;
use crate::optimizer::{PROJECTION_EPSILON, Parameter};

/// Share of active codes from which dense products are faster (`docs/performance.md`).
const DENSE_FROM: f64 = 0.2;

/// out = a·b, without an allocation.
pub(super) fn matmul(a: &Tensor, b: &Tensor, out: &mut Tensor) -> Result<()> {
    let _ = a.f_matmul_out(out, b)?;
    Ok(())
}

/// Rebuilds `x` from the codes: output gradients and code gradients; Σ‖x − x̂‖² of each group.
pub(super) fn reconstruct(
    x: &Tensor,
    parameters: &[Parameter],
    slots: &Slots,
    groups: &Groups,
    wants_residual: bool,
    buffers: &mut Buffers,
) -> Result<Vec<f64>> {
    let (w_dec, b_dec) = (&parameters[slots.w_dec].value, slice(&parameters[slots.b_dec].value)?);
    let target = Matrix::new("x", slice(x)?, buffers.d)?;
    let n_elements = (buffers.batch * buffers.f) as f64;
    buffers.is_dense = groups.len() == 1 && buffers.codes.nnz() as f64 > DENSE_FROM * n_elements;
    let mut residual = std::mem::take(&mut buffers.residual);
    if wants_residual {
        residual.resize(buffers.batch * buffers.d, 0.0);
    }
    let wanted = wants_residual.then_some(residual.as_mut_slice());
    let errors = if buffers.is_dense {
        let factor = groups.factor(0);
        let shape = [buffers.batch as i64, buffers.f as i64];
        let mut dense = buffers.dense.take().unwrap_or_else(|| empty(&shape));
        buffers.codes.write_dense(slice_mut(&mut dense)?)?;
        matmul(&dense, w_dec, &mut buffers.output)?;
        let output = slice_mut(&mut buffers.output)?;
        let error = dense_residual(output, b_dec, target, factor, wanted)?;
        matmul(&buffers.output, &w_dec.tr(), &mut dense)?;
        buffers.codes.gather(slice(&dense)?, &mut buffers.code_gradients)?;
        buffers.dense = Some(dense);
        vec![error]
    } else {
        let what = Reconstruction {
            codes: &buffers.codes,
            decoder: Matrix::new("decoder", slice(w_dec)?, buffers.d)?,
            bias: Some(b_dec),
            target,
            groups,
        };
        let output = slice_mut(&mut buffers.output)?;
        sae_kernels::reconstruct(what, output, &mut buffers.code_gradients, wanted)?
    };
    buffers.residual = residual;
    Ok(errors)
}

/// The gradients of W_dec (projected), W_enc, b_enc and b_dec, and the squared norms of the
/// first three.
pub(super) fn weight_gradients(
    parameters: &[Parameter],
    slots: &Slots,
    groups: &Groups,
    revival: Option<Source<'_>>,
    reach: Reach,
    buffers: &mut Buffers,
) -> Result<SquaredNorms> {
    let d = buffers.d;
    let decoder = Matrix::new("decoder", slice(&parameters[slots.w_dec].value)?, d)?;
    let projection = Projection { decoder, eps: PROJECTION_EPSILON as f32 };
    let w_enc = &parameters[slots.w_enc].value;
    let norms = if buffers.is_dense && revival.is_none() {
        dense_gradients(w_enc, projection, reach, buffers)?
    } else {
        buffers.by_feature.rebuild(&buffers.codes, &buffers.code_gradients)?;
        let output_gradient = Matrix::new("output", slice(&buffers.output)?, d * groups.len())?;
        let main = Source { codes: &buffers.by_feature, output_gradient, groups };
        let sources: Vec<Source<'_>> = std::iter::once(main).chain(revival).collect();
        let encoder = EncoderGradient {
            input: Matrix::new("input", slice(&buffers.centred)?, d)?,
            encoder: Matrix::new("encoder", slice(w_enc)?, d)?,
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
    let output = Matrix::new("output", slice(&buffers.output)?, d * groups.len())?;
    column_sums(output, &mut buffers.sums)?;
    buffers.d_b_dec.copy_from_slice(&buffers.sums[..d]);
    if reach.encoder && reach.centred {
        buffers.d_b_dec.iter_mut().zip(&buffers.input_sum).for_each(|(b, s)| *b -= s);
    }
    Ok(norms)
}

/// The same by dense products.
fn dense_gradients(
    w_enc: &Tensor,
    projection: Projection<'_>,
    reach: Reach,
    buffers: &mut Buffers,
) -> Result<SquaredNorms> {
    let shape = [buffers.batch as i64, buffers.f as i64];
    let mut dense = buffers.dense.take().unwrap_or_else(|| empty(&shape));
    buffers.active.fill(true);
    buffers.codes.write_dense(slice_mut(&mut dense)?)?;
    matmul(&dense.tr(), &buffers.output, &mut buffers.d_w_dec)?;
    let decoder = project_rows(slice_mut(&mut buffers.d_w_dec)?, projection)?;
    let mut norms = SquaredNorms { decoder, ..SquaredNorms::default() };
    if reach.encoder {
        buffers.codes.scatter(&buffers.code_gradients, slice_mut(&mut dense)?)?;
        matmul(&dense.tr(), &buffers.centred, &mut buffers.d_w_enc)?;
        let gradients = Matrix::new("gradients", slice(&dense)?, buffers.f)?;
        column_sums(gradients, &mut buffers.d_b_enc)?;
        add_product(w_enc, &buffers.d_b_enc, 1.0, &mut buffers.input_sum, true)?;
        norms.encoder = squared_norm(slice(&buffers.d_w_enc)?);
        norms.bias = squared_norm(&buffers.d_b_enc);
    }
    buffers.dense = Some(dense);
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
    for (out, p) in out.iter_mut().zip(slice(&product)?) {
        *out = if fresh { factor * p } else { *out + factor * p };
    }
    Ok(())
}
