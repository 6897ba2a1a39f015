//! Soft top-k of tensors.

use tch::{Device, Tensor};

use super::arguments::{Argument, Rows};
use super::cpu::Cpu;
use crate::error::{Error, Result};

/// Soft top-k weights along the last dimension of x, with gradients for x, k and alpha.
///
/// The weights have the kind of x. `k` and `alpha` are numbers or tensors.
///
/// # Shapes
/// x `[…, n]`, k `[…]` or `[]`, alpha `[]`; weights `[…, n]`.
///
/// # Errors
/// [`Error::Kind`], [`Error::Device`] and [`Error::Dimension`] for tensors that do not fit, and
/// the errors of [`soft_topk`](crate::soft_topk()) for values outside the domain, where a row is
/// counted in C order over the other dimensions.
pub fn soft_topk(x: &Tensor, k: impl Into<Argument>, alpha: impl Into<Argument>) -> Result<Tensor> {
    soft_topk_dim(x, k, alpha, -1)
}

/// [`soft_topk`] along any dimension.
///
/// # Shapes
/// x of any rank; k has its shape without dimension `dim`, or none.
///
/// # Errors
/// As [`soft_topk`].
pub fn soft_topk_dim(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
    dim: i64,
) -> Result<Tensor> {
    let rows = Rows::of(x, dim)?;
    let k = rows.per_row("k", &k.into().tensor("k", rows.kind, x.device())?)?;
    let alpha = alpha.into().tensor("alpha", rows.kind, x.device())?;
    if alpha.numel() != 1 {
        let (expected, got) = ("[]".to_owned(), format!("{:?}", alpha.size()));
        return Err(Error::Shape { argument: "alpha", expected, got });
    }
    let weights = match x.device() {
        Device::Cpu => apply(Cpu::default(), &[&rows.x, &k, &alpha])?,
        device => return Err(Error::Device { argument: "x", expected: Device::Cpu, got: device }),
    };
    rows.restore(&weights.f_to_kind(x.kind())?)
}

/// Applies a function of one output; its errors come back as they were.
pub(crate) fn apply<F: tch_autograd::Function>(function: F, inputs: &[&Tensor]) -> Result<Tensor> {
    match tch_autograd::apply(function, inputs) {
        Ok(mut outputs) => Ok(outputs.remove(0)),
        Err(tch_autograd::Error::Forward { name, error }) => Err(match error.downcast() {
            Ok(ours) => *ours,
            Err(error) => Error::Autograd(tch_autograd::Error::Forward { name, error }),
        }),
        Err(other) => Err(Error::Autograd(other)),
    }
}
