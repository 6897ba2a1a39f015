//! Linear systems of symmetric, positive definite matrices.

use rayon::prelude::*;
use tch::Tensor;
use tch_autograd::matmul_into;

use crate::Result;

/// Columns that are eliminated together.
const BLOCK: usize = 64;

/// Solves h·x = g by h = L·Lᵀ; none where h is not positive definite as far as rounding tells.
///
/// Blocks are eliminated by our own product. The threads of libtorch's solvers spin while they wait for
/// one another, and where other programs hold processors they take many times as long.
///
/// # Shapes
/// h `[n, n]` on the CPU in f64, of which the lower half is read; g and the solution `[n]`.
pub(crate) fn solve(h: &Tensor, g: &[f64]) -> Result<Option<Vec<f64>>> {
    let mut x = g.to_vec();
    let mut blocks: Vec<(usize, Vec<f64>)> = Vec::new();
    let mut rest = h.shallow_clone();
    let mut start = 0;
    while start < g.len() {
        let n_rows = g.len() - start;
        let width = BLOCK.min(n_rows);
        let mut panel = Vec::<f64>::try_from(rest.f_narrow(1, 0, width as i64)?.f_reshape([-1])?)?;
        let (top, below) = panel.split_at_mut(width * width);
        if !factor(top, width) {
            return Ok(None);
        }
        below.par_chunks_mut(width).for_each(|row| under(row, top, width, width));
        let left = n_rows - width;
        if left > 0 {
            let below = Tensor::f_from_slice(below)?.f_reshape([left as i64, width as i64])?;
            let (at, n) = (width as i64, left as i64);
            let mut next = rest.f_narrow(0, at, n)?.f_narrow(1, at, n)?.f_contiguous()?;
            matmul_into(&below.f_neg()?, &below.f_tr()?, &mut next, true)?;
            rest = next;
        }
        blocks.push((width, panel));
        start += width;
    }
    substitute(&blocks, &mut x);
    Ok(Some(x))
}

/// Puts L in the place of the lower half of a small matrix; false where it is not positive definite.
fn factor(top: &mut [f64], width: usize) -> bool {
    for i in 0..width {
        let (above, row) = top.split_at_mut(i * width);
        under(&mut row[..width], above, width, i);
        let square = row[i] - row[..i].iter().map(|v| v * v).sum::<f64>();
        if square.is_nan() || square <= 0.0 {
            return false;
        }
        row[i] = square.sqrt();
    }
    true
}

/// Puts the first `n` columns of a row of L in the place of those of the row, below those of `top`.
fn under(row: &mut [f64], top: &[f64], width: usize, n: usize) {
    for j in 0..n {
        let other = &top[j * width..][..=j];
        let dot: f64 = row[..j].iter().zip(other).map(|(a, b)| a * b).sum();
        row[j] = (row[j] - dot) / other[j];
    }
}

/// Solves L·Lᵀ·x = x in place.
fn substitute(blocks: &[(usize, Vec<f64>)], x: &mut [f64]) {
    let mut start = 0;
    for (width, panel) in blocks {
        for (i, row) in panel.chunks(*width).enumerate() {
            let n = i.min(*width);
            let dot: f64 = row[..n].iter().zip(&x[start..]).map(|(a, b)| a * b).sum();
            x[start + i] -= dot;
            if i < *width {
                x[start + i] /= row[i];
            }
        }
        start += width;
    }
    for (width, panel) in blocks.iter().rev() {
        start -= width;
        for j in (0..*width).rev() {
            let below = panel.chunks(*width).enumerate().skip(j + 1);
            let dot: f64 = below.map(|(i, row)| row[j] * x[start + i]).sum();
            x[start + j] = (x[start + j] - dot) / panel[j * width + j];
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::*;

    /// A·Aᵀ + I with random A.
    fn definite(n: usize, seed: u64) -> Tensor {
        let a = sae_models::InitRng::new(seed).uniform(&[n as i64, n as i64], 1.0);
        let a = a.to_kind(Kind::Double);
        a.matmul(&a.tr()) + Tensor::eye(n as i64, (Kind::Double, Device::Cpu))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Against libtorch's own solver; sizes around one, two and three blocks.
        #[test]
        fn solutions_are_those_of_libtorch(n in 1usize..200, seed in 0u64..1000) {
            let h = definite(n, seed);
            let g: Vec<f64> = (0..n).map(|i| ((i * 37 % 101) as f64 / 50.0) - 1.0).collect();
            let right = Tensor::from_slice(&g).unsqueeze(1);
            let expected = Tensor::linalg_solve(&h, &right, true).squeeze_dim(1);
            let expected = Vec::<f64>::try_from(expected).unwrap();
            let got = solve(&h, &g).unwrap().unwrap();
            let largest = expected.iter().fold(0.0f64, |most, v| most.max(v.abs()));
            for (got, expected) in got.iter().zip(&expected) {
                prop_assert!((got - expected).abs() < 1e-9 * largest, "{got} {expected}");
            }
        }

        #[test]
        fn what_is_not_positive_definite_has_none(n in 2usize..150, at in 0usize..150, seed in 0u64..1000) {
            let h = definite(n, seed);
            let at = (at % n) as i64;
            let _ = h.get(at).get(at).fill_(-1.0);
            prop_assert_eq!(solve(&h, &vec![1.0; n]).unwrap(), None);
        }
    }
}
