//! Soft top-k of tensors.

use tch::{Device, Kind, Tensor};

use super::arguments::{Argument, Rows};
use super::aten::{Aten, Domain, check_temperature};
use super::cpu::Cpu;
use super::form::Form;
use crate::error::{Error, Result};

/// Soft top-k weights along the last dimension of x, with gradients for x, k and alpha.
///
/// The weights have the kind of x. `k` and `alpha` are numbers or tensors.
///
/// # Shapes
/// x `[…, n]`, k `[…]`, `[…, 1]` or `[]`, alpha `[]`; weights `[…, n]`.
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
/// x of any rank; k has its shape without dimension `dim`, or with 1 there, or none.
///
/// # Errors
/// As [`soft_topk`].
pub fn soft_topk_dim(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
    dim: i64,
) -> Result<Tensor> {
    along(x, k.into(), alpha.into(), dim, Form::Weights)
}

/// [`soft_topk`] that reads nothing back from a device, which would have to be waited for.
///
/// There, a row with a k or an entry outside the domain is NaN, and so is its gradient. On the CPU
/// it is the error that [`soft_topk`] gives.
///
/// # Shapes
/// As [`soft_topk`].
///
/// # Errors
/// As [`soft_topk`], but for values on a device.
pub fn soft_topk_or_nan(x: &Tensor, k: &Tensor, alpha: f64) -> Result<Tensor> {
    let rows = Rows::of(x, -1)?;
    if !tch_autograd::read::waits(x.device()) {
        return along(x, k.into(), alpha.into(), -1, Form::Weights);
    }
    let rounded = if rows.kind == Kind::Double { alpha } else { alpha as f32 as f64 };
    check_temperature(rounded, rows.kind)?;
    let k = rows.per_row("k", &Argument::from(k).tensor("k", rows.kind, x.device())?)?;
    let alpha = Argument::from(alpha).tensor("alpha", rows.kind, x.device())?;
    let function = Aten { form: Form::Weights, domain: Domain::OrNan };
    rows.restore(&apply(function, &[&rows.x, &k, &alpha])?.f_to_kind(x.kind())?)
}

/// Soft bottom-k weights along the last dimension: those of [`soft_topk`] for −x.
///
/// # Shapes
/// x `[…, n]`, k `[…]`, `[…, 1]` or `[]`, alpha `[]`; weights `[…, n]`.
///
/// # Errors
/// As [`soft_topk`].
pub fn soft_bottomk(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
) -> Result<Tensor> {
    soft_bottomk_dim(x, k, alpha, -1)
}

/// [`soft_bottomk`] along any dimension.
///
/// # Shapes
/// As [`soft_topk_dim`].
///
/// # Errors
/// As [`soft_topk`].
pub fn soft_bottomk_dim(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
    dim: i64,
) -> Result<Tensor> {
    along(&x.f_neg()?, k.into(), alpha.into(), dim, Form::Weights)
}

/// The logarithms of the weights of [`soft_topk`], finite where those underflow.
///
/// # Shapes
/// x `[…, n]`, k `[…]`, `[…, 1]` or `[]`, alpha `[]`; logarithms `[…, n]`.
///
/// # Errors
/// As [`soft_topk`].
pub fn log_soft_topk(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
) -> Result<Tensor> {
    log_soft_topk_dim(x, k, alpha, -1)
}

/// [`log_soft_topk`] along any dimension.
///
/// # Shapes
/// As [`soft_topk_dim`].
///
/// # Errors
/// As [`soft_topk`].
pub fn log_soft_topk_dim(
    x: &Tensor,
    k: impl Into<Argument>,
    alpha: impl Into<Argument>,
    dim: i64,
) -> Result<Tensor> {
    along(x, k.into(), alpha.into(), dim, Form::Logarithms)
}

fn along(x: &Tensor, k: Argument, alpha: Argument, dim: i64, form: Form) -> Result<Tensor> {
    let rows = Rows::of(x, dim)?;
    let k = rows.per_row("k", &k.tensor("k", rows.kind, x.device())?)?;
    let alpha = alpha.tensor("alpha", rows.kind, x.device())?;
    if alpha.numel() != 1 {
        let (expected, got) = ("[]".to_owned(), format!("{:?}", alpha.size()));
        return Err(Error::Shape { argument: "alpha", expected, got });
    }
    let inputs = [&rows.x, &k, &alpha.f_reshape([] as [i64; 0])?];
    let out = match x.device() {
        Device::Cpu => apply(Cpu::new(form), &inputs)?,
        _ => apply(Aten { form, domain: Domain::Checked }, &inputs)?,
    };
    rows.restore(&out.f_to_kind(x.kind())?)
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
