//! Passes over rows, and what is computed of the elements of one.

use pulp::Arch;
use rayon::prelude::*;

/// Elements that a task passes over.
pub(super) const ELEMENTS_PER_TASK: usize = 1 << 14;

/// Partial sums of a reduction.
pub(super) const N_LANES: usize = 32;

/// Runs `pass` on each row and its number.
pub(super) fn each_row(rows: &mut [f32], size: usize, pass: impl Fn(usize, &mut [f32]) + Sync) {
    let at_once = (ELEMENTS_PER_TASK / size.max(1)).max(1);
    rows.par_chunks_mut(at_once * size.max(1)).enumerate().for_each(|(task, rows)| {
        Arch::new().dispatch(|| {
            for (i, row) in rows.chunks_exact_mut(size).enumerate() {
                pass(task * at_once + i, row);
            }
        });
    });
}

/// Σ f(x), with a fixed number of partial sums.
#[inline(always)]
pub(super) fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; N_LANES];
    let (whole, rest) = row.as_chunks::<N_LANES>();
    for part in whole {
        for (lane, x) in lanes.iter_mut().zip(part) {
            *lane += f(*x);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    let mut width = N_LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// eˣ to two units in the last place, from e^−87 to e^88: 2ⁿ times a polynomial in the rest, with
/// the coefficients of Cephes (Moshier 1989).
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // The sum with it has n in its lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first of which is exact in a product with n.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        p = p * r + coefficient;
    }
    let two_to_n = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    (p * r * r + r + 1.0) * two_to_n
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_units_and_keeps_what_is_not_a_number() {
        for i in -86_999..88_000 {
            let x = i as f32 * 1e-3;
            let (got, expected) = (f64::from(exp(x)), f64::from(x).exp());
            assert!((got - expected).abs() <= 2.4e-7 * expected, "e^{x}: {got}");
        }
        assert!(exp(f32::NAN).is_nan());
        assert!(exp(f32::INFINITY) > 1e38 && exp(f32::NEG_INFINITY) < 2e-38);
    }
}
