//! Intrinsic dimension by the ratio of each row's two nearest distances: TwoNN (Facco et al. 2017,
//! arXiv:1803.06992), by maximum likelihood.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::metrics::to_f64s;

/// Nearest rows that, with the row itself, make the neighbourhood of a row.
const NEIGHBOURS: i64 = 64;

/// Rows whose distances to all others are held at a time.
const BLOCK: i64 = 512;

/// The intrinsic dimension of a set of rows.
#[derive(Debug)]
pub(crate) struct IntrinsicDimension {
    /// Of all rows together.
    pub(crate) of_all: f64,
    /// Of the neighbourhood of each row; NaN where its rows have no distances but 0.
    pub(crate) of_rows: Vec<f64>,
}

/// n/Σ ln(r₂/r₁), with r₁ and r₂ the distances of a row to its nearest and second nearest one; rows
/// that occur twice (r₁ = 0) are not counted. None of fewer than three rows.
///
/// # Shapes
/// x `[rows, d_model]`.
pub(crate) fn intrinsic_dimension(x: &Tensor) -> Result<Option<IntrinsicDimension>> {
    let n = x.size()[0];
    if n < 3 {
        return Ok(None);
    }
    // Differences of large norms lose digits.
    let x = x.f_sub(&x.f_mean_dim([0i64].as_slice(), true, None)?)?;
    let norms = x.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, None)?;
    let (mut neighbours, mut nearest) = (Vec::new(), Vec::new());
    for start in (0..n).step_by(BLOCK as usize) {
        let len = BLOCK.min(n - start);
        let rows = x.f_narrow(0, start, len)?;
        let distances = norms.f_sub(&rows.f_mm(&x.f_tr()?)?.f_mul_scalar(2.0)?)?;
        let _ = distances.f_narrow(1, start, len)?.f_fill_diagonal_(f64::INFINITY, false)?;
        let (_, indices) = distances.f_topk(NEIGHBOURS.min(n - 1), 1, false, true)?;
        // The two that matter, anew from the rows themselves.
        let two = x.f_index_select(0, &indices.f_narrow(1, 0, 2)?.f_flatten(0, -1)?)?;
        let apart = two.f_reshape([len, 2, -1])?.f_sub(&rows.f_unsqueeze(1)?)?;
        let apart = apart.f_to_kind(Kind::Double)?.f_square()?;
        let apart = apart.f_sum_dim_intlist([2i64].as_slice(), false, None)?.f_sqrt()?;
        nearest.push(apart.f_sort(1, false)?.0);
        neighbours.push(indices);
    }
    let (neighbours, nearest) = (Tensor::f_cat(&neighbours, 0)?, Tensor::f_cat(&nearest, 0)?);
    let (first, second) = (nearest.f_select(1, 0)?, nearest.f_select(1, 1)?);
    let counts = first.f_gt(0.0)?.f_to_kind(Kind::Double)?;
    let ratio = second.f_div(&first)?.f_log()?;
    let ratio = ratio.f_where_self(&first.f_gt(0.0)?, &Tensor::from(0.0).to_device(x.device()))?;
    let around = |of: &Tensor| -> Result<Tensor> {
        let others = of.f_index_select(0, &neighbours.f_flatten(0, -1)?)?.f_reshape([n, -1])?;
        Ok(others.f_sum_dim_intlist([1i64].as_slice(), false, None)?.f_add(of)?)
    };
    let of_rows = around(&counts)?.f_div(&around(&ratio)?)?.f_to_device(Device::Cpu)?;
    let sum = |of: &Tensor| -> Result<f64> { Ok(of.f_sum(Kind::Double)?.f_double_value(&[])?) };
    let of_all = sum(&counts)? / sum(&ratio)?;
    Ok(Some(IntrinsicDimension { of_all, of_rows: to_f64s(&of_rows)? }))
}

#[cfg(test)]
mod tests {
    use sae_models::InitRng;
    use tch::{Kind, Tensor};

    use super::intrinsic_dimension;

    /// Rows of a cube of `d` dimensions, turned into 12.
    fn cube(d: i64, n: i64, seed: u64) -> Tensor {
        let mut rng = InitRng::new(seed);
        let (axes, _) = Tensor::linalg_qr(&rng.uniform(&[12, 12], 1.0), "reduced");
        rng.uniform(&[n, d], 1.0).mm(&axes.narrow(0, 0, d))
    }

    #[test]
    fn a_cube_has_its_dimension_wherever_it_lies() {
        for d in [1, 2, 4] {
            let x = (cube(d, 3000, d as u64) + 100.0).to_kind(Kind::Float);
            let got = intrinsic_dimension(&x).unwrap().unwrap().of_all;
            assert!((got - d as f64).abs() < 0.1 * d as f64, "{got} instead of {d}");
        }
    }

    #[test]
    fn a_row_has_the_dimension_of_its_neighbourhood() {
        let x = Tensor::cat(&[cube(1, 800, 1), cube(6, 800, 2) + 50.0], 0);
        let of_rows = intrinsic_dimension(&x).unwrap().unwrap().of_rows;
        let within =
            |rows: &[f64], low: f64, high: f64| rows.iter().all(|d| (low..high).contains(d));
        assert!(within(&of_rows[..800], 0.5, 2.0) && within(&of_rows[800..], 2.5, 12.0));
    }

    #[test]
    fn rows_that_occur_twice_do_not_count() {
        let x = cube(2, 1000, 3);
        let plain = intrinsic_dimension(&x).unwrap().unwrap().of_all;
        let doubled = Tensor::cat(&[&x, &x.narrow(0, 0, 100)], 0);
        let got = intrinsic_dimension(&doubled).unwrap().unwrap().of_all;
        assert!((got - plain).abs() < 0.1 * plain, "{got} instead of {plain}");
        let same = Tensor::ones([5, 3], (Kind::Double, tch::Device::Cpu));
        assert!(intrinsic_dimension(&same).unwrap().unwrap().of_rows.iter().all(|d| d.is_nan()));
        assert!(intrinsic_dimension(&x.narrow(0, 0, 2)).unwrap().is_none());
    }
}
