//! Hard top-k of tensors, with a budget for each row.

use half::{bf16, f16};
use tch::{Device, Kind, Tensor};
use tch_autograd::{Element, view, view_mut};

use super::arguments::{Rows, WHOLE};
use crate::engine::Entry;
use crate::error::{Error, Result};
use crate::hard::HardTopK;

/// x on its k largest entries along the last dimension, and 0 elsewhere; of equal entries the
/// first are kept. The gradient passes through the entries kept.
///
/// # Shapes
/// x `[…, n]`, k `[…]`, `[…, 1]` or `[]`, of whole numbers; the result `[…, n]`.
///
/// # Errors
/// As [`hard_topk_mask`].
pub fn hard_topk(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    hard_topk_dim(x, k, -1)
}

/// [`hard_topk`] along any dimension.
///
/// # Shapes
/// x of any rank; k has its shape without dimension `dim`, or with 1 there, or none.
///
/// # Errors
/// As [`hard_topk_mask`].
pub fn hard_topk_dim(x: &Tensor, k: &Tensor, dim: i64) -> Result<Tensor> {
    let mask = hard_topk_mask_dim(x, k, dim)?;
    Ok(x.f_where_self(&mask, &x.f_zeros_like()?)?)
}

/// Which entries are the k largest along the last dimension; of equal entries the first.
///
/// # Shapes
/// x `[…, n]`, k `[…]`, `[…, 1]` or `[]`, of whole numbers; the mask `[…, n]`, of kind Bool.
///
/// # Errors
/// [`Error::Kind`] and [`Error::Device`] for tensors that do not fit, [`Error::Shape`],
/// [`Error::Count`] and [`Error::NotFinite`] for values outside the domain.
pub fn hard_topk_mask(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    hard_topk_mask_dim(x, k, -1)
}

/// [`hard_topk_mask`] along any dimension.
///
/// # Shapes
/// x of any rank; k has its shape without dimension `dim`, or with 1 there, or none.
///
/// # Errors
/// As [`hard_topk_mask`], and [`Error::Dimension`].
pub fn hard_topk_mask_dim(x: &Tensor, k: &Tensor, dim: i64) -> Result<Tensor> {
    if !WHOLE.contains(&k.kind()) {
        return Err(Error::Kind { argument: "k", expected: "whole numbers", got: k.kind() });
    }
    if k.device() != x.device() {
        return Err(Error::Device { argument: "k", expected: x.device(), got: k.device() });
    }
    let rows = Rows::of(&x.detach(), dim)?;
    let n = rows.x.size()[1];
    let k = rows.per_row("k", &k.f_to_kind(Kind::Int64)?)?;
    refuse_counts(&k, n)?;
    if x.device() == Device::Cpu {
        return rows.restore(&by_engine(&rows.x, &k)?);
    }
    refuse_infinite(&rows.x)?;
    rows.restore(&by_sorting(&rows.x, &k)?)
}

/// The mask of CPU rows x `[rows, n]` and k `[rows]`.
fn by_engine(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    match x.kind() {
        Kind::Double => mask::<f64>(x, k),
        Kind::BFloat16 => mask::<bf16>(x, k),
        Kind::Half => mask::<f16>(x, k),
        _ => mask::<f32>(x, k),
    }
}

fn mask<E: Entry + Element>(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    let n = x.size()[1] as usize;
    let k: Vec<usize> = view::<i64>(k)?.iter().map(|k| *k as usize).collect();
    let chosen = HardTopK::of(&view::<E>(x)?, n, &k)?;
    let mut mask = Tensor::f_zeros(x.size(), (Kind::Uint8, Device::Cpu))?;
    for (row, flags) in view_mut::<u8>(&mut mask)?.chunks_exact_mut(n).enumerate() {
        for &index in chosen.row(row) {
            flags[index as usize] = 1;
        }
    }
    Ok(mask.f_view_dtype(Kind::Bool)?)
}

/// The same by ATen operations, on any device.
fn by_sorting(x: &Tensor, k: &Tensor) -> Result<Tensor> {
    let n = x.size()[1];
    let order = x.f_argsort_stable(true, -1, true)?;
    let places = Tensor::f_arange(n, (Kind::Int64, x.device()))?;
    let chosen = places.f_unsqueeze(0)?.f_less_tensor(&k.f_unsqueeze(1)?)?;
    Ok(chosen.f_zeros_like()?.f_scatter(-1, &order, &chosen)?)
}

fn refuse_counts(k: &Tensor, n: i64) -> Result<()> {
    let bad = k.f_less(0)?.f_logical_or(&k.f_greater(n)?)?;
    match first_true(&bad)? {
        Some(row) => {
            let k = k.f_int64_value(&[row])?;
            Err(Error::Count { row: row as usize, k, n: n as usize })
        }
        None => Ok(()),
    }
}

/// The error for the first entry of rows that is not finite.
pub(crate) fn refuse_infinite(x: &Tensor) -> Result<()> {
    let bad = x.f_isfinite()?.f_logical_not()?;
    match first_true(&bad.f_reshape([-1])?)? {
        Some(place) => {
            let n = x.size()[1];
            let (row, column) = (place / n, place % n);
            let value = x.f_double_value(&[row, column])?;
            Err(Error::NotFinite { row: row as usize, column: column as usize, value })
        }
        None => Ok(()),
    }
}

/// The place of the first true entry of a vector.
pub(crate) fn first_true(flags: &Tensor) -> Result<Option<i64>> {
    let places = flags.f_nonzero()?;
    if places.size()[0] == 0 {
        return Ok(None);
    }
    Ok(Some(places.f_int64_value(&[0, 0])?))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::{by_engine, by_sorting};

    #[test]
    fn sorting_and_the_engine_choose_the_same() {
        let options = (Kind::Float, Device::Cpu);
        for n in [2, 7, 640, 3000] {
            // Few distinct values, so that ties are common.
            let x = (Tensor::rand([6, n], options) * 20).floor();
            let k = Tensor::from_slice(&[0, 1, 2, n / 2, n - 1, n]);
            let (one, other) = (by_engine(&x, &k).unwrap(), by_sorting(&x, &k).unwrap());
            assert_eq!(one, other);
            let counts = one.sum_dim_intlist(-1, false, Kind::Int64);
            assert_eq!(counts, k);
        }
    }
}
