//! Rows of 8-bit integers, each with a scale of its own.
//!
//! A row is q·s, with q from −127 to 127 and s its largest magnitude by 127, rounded up to 17
//! significant bits: so products are exact in f32, and rows that were read are written as they were.

use pulp::Arch;

/// The largest q.
const STEPS: f32 = 127.0;

/// Bits of a scale that are zero.
const ZERO_BITS: u32 = 0x7f;

/// The largest f32 that a row may hold.
pub(crate) const LARGEST: f32 = STEPS * f32::from_bits((f32::MAX / STEPS).to_bits() & !ZERO_BITS);

/// The least magnitude of the largest value of a row, but for rows of zeros: below it a scale loses
/// its precision.
pub(crate) const SMALLEST: f32 = STEPS * f32::MIN_POSITIVE;

/// Appends rows as q, rounded to nearest, and their scales.
///
/// Values are finite and at most [`LARGEST`].
pub(crate) fn encode(rows: &[f32], d_model: usize, bytes: &mut Vec<u8>, scales: &mut Vec<f32>) {
    for row in rows.chunks_exact(d_model) {
        let start = bytes.len();
        bytes.resize(start + d_model, 0);
        scales.push(Arch::new().dispatch(|| encode_row(row, &mut bytes[start..])));
    }
}

#[inline(always)]
fn encode_row(row: &[f32], bytes: &mut [u8]) -> f32 {
    // The sum with it has the nearest integer in its lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = f32::from_bits(((largest / STEPS).to_bits() + ZERO_BITS) & !ZERO_BITS);
    if scale > 0.0 {
        for (q, x) in bytes.iter_mut().zip(row) {
            *q = (f64::from(*x) / f64::from(scale) + ROUND).to_bits() as u8;
        }
    }
    scale
}

/// Multiplies rows of q by their scales.
pub(crate) fn scale_rows(rows: &mut [f32], d_model: usize, scales: &[f32]) {
    for (row, scale) in rows.chunks_exact_mut(d_model).zip(scales) {
        Arch::new().dispatch(|| row.iter_mut().for_each(|x| *x *= scale));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(rows: &[f32], d_model: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut bytes, mut scales) = (Vec::new(), Vec::new());
        encode(rows, d_model, &mut bytes, &mut scales);
        assert!(bytes.iter().all(|q| *q != 0x80), "−128 is not used");
        let mut back: Vec<f32> = bytes.iter().map(|q| f32::from(q.cast_signed())).collect();
        scale_rows(&mut back, d_model, &scales);
        (back, scales)
    }

    /// Rows of any magnitude that a row may have.
    fn row() -> impl Strategy<Value = Vec<f32>> {
        let values = prop::collection::vec(-1.0_f32..=1.0, 1..40);
        (values, prop_oneof![-118..120_i32, Just(-118), Just(120)]).prop_map(
            |(mut row, exponent)| {
                row[0] = if row[0] < 0.0 { -1.0 } else { 1.0 };
                row.iter().map(|x| x * 2_f32.powi(exponent)).collect()
            },
        )
    }

    proptest! {
        #[test]
        fn an_error_is_half_a_step_at_most(row in row()) {
            let largest = row.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
            let (back, scales) = round_trip(&row, row.len());
            let scale = f64::from(scales[0]);
            prop_assert!((scale * 127.0 / f64::from(largest) - 1.0).abs() < 2e-5);
            for (x, y) in row.iter().zip(&back) {
                let error = (f64::from(*x) - f64::from(*y)).abs();
                prop_assert!(error <= scale * (0.5 + 1e-13), "{x:e} as {y:e}, scale {scale:e}");
            }
        }

        #[test]
        fn rows_that_were_read_come_back_to_the_bit(row in row()) {
            let (once, scales) = round_trip(&row, row.len());
            prop_assert_eq!(round_trip(&once, row.len()), (once, scales));
        }
    }

    #[test]
    fn the_edges_are_held_and_zeros_stay_zeros() {
        for largest in [LARGEST, SMALLEST] {
            let (back, scales) = round_trip(&[largest, -largest, 0.0], 3);
            let error = (back[0] - largest).abs();
            assert!(back.iter().all(|x| x.is_finite()) && scales[0].is_normal());
            assert!(error <= scales[0] / 2.0 && back[1] == -back[0] && back[2] == 0.0);
        }
        assert_eq!(round_trip(&[0.0, -0.0], 2), (vec![0.0, 0.0], vec![0.0]));
    }
}
