//! Normalisation by row against its definition in f64, at every magnitude that f32 has.

use proptest::prelude::*;
use sae_models::Normalizer;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

const BY_ROW: [Normalizer; 2] = [Normalizer::UnitNorm, Normalizer::LayerNorm];

/// Rows of `d` values of up to 1 times a power of ten.
fn rows(magnitudes: std::ops::Range<f64>) -> impl Strategy<Value = (usize, Vec<f32>)> {
    let row = move |d| (prop::collection::vec(-1.0..1.0, d), magnitudes.clone());
    let row = move |d| {
        row(d).prop_map(|(row, e)| row.into_iter().map(move |v: f64| (v * 10f64.powf(e)) as f32))
    };
    (2usize..40).prop_flat_map(move |d| {
        prop::collection::vec(row(d), 1..6)
            .prop_map(move |rows| (d, rows.into_iter().flatten().collect()))
    })
}

fn tensor(d: usize, values: &[f32]) -> Tensor {
    Tensor::from_slice(values).reshape([-1, d as i64]).to_device(test_device())
}

/// By the definition, in f64.
fn expected(normalizer: &Normalizer, row: &[f32]) -> Vec<f64> {
    let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
    let n = row.len() as f64;
    if matches!(normalizer, Normalizer::UnitNorm) {
        let norm = row.iter().map(|v| v * v).sum::<f64>().sqrt();
        return row.iter().map(|v| if norm > 0.0 { v / norm } else { 0.0 }).collect();
    }
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    row.iter().map(|v| (v - mean) / (variance.sqrt() + 1e-5)).collect()
}

/// The largest distance of a row from its expected values, as a part of `scale`.
fn distance(got: &Tensor, expected: &[f64], scale: f64) -> f64 {
    let got: Vec<f64> = Vec::try_from(got.to_kind(Kind::Double)).unwrap();
    let off = got.iter().zip(expected).map(|(a, b)| (a - b).abs() / scale);
    // A NaN is as far as can be.
    off.fold(0.0, |a, b| if b <= a { a } else { b })
}

proptest! {
    #[test]
    fn rows_of_any_magnitude_are_those_of_the_definition((d, values) in rows(-38.0..38.5)) {
        let x = tensor(d, &values);
        for normalizer in BY_ROW {
            let (normal, statistics) = normalizer.normalize(&x);
            let again = normalizer.denormalize(&normal, statistics.as_ref()).unwrap();
            for (i, row) in values.chunks(d).enumerate() {
                let largest = row.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max);
                let row_expected = expected(&normalizer, row);
                // Centring leaves an error of the mean's size.
                let centred = matches!(normalizer, Normalizer::LayerNorm);
                let size = if centred { largest / spread_of(row).max(1e-5) } else { 1.0 };
                let off = distance(&normal.get(i as i64), &row_expected, size.max(1e-30));
                prop_assert!(off < 2e-6, "{} of {:?}: off by {:e}", normalizer.name(), row, off);
                if !centred {
                    let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
                    let off = distance(&again.get(i as i64), &row, largest.max(1e-37));
                    prop_assert!(off < 1e-6, "{:?} comes back off by {:e}", row, off);
                }
                prop_assert_eq!(again.get(i as i64).isfinite().all().int64_value(&[]), 1);
            }
        }
    }

    /// Scaling by powers of two rounds nothing.
    #[test]
    fn ordinary_rows_have_the_bits_of_the_plain_formula((d, values) in rows(-6.0..6.0)) {
        let (x, dim) = (tensor(d, &values), [1i64]);
        let norm = x.norm_scalaropt_dim(2.0, dim.as_slice(), true);
        let (normal, statistics) = Normalizer::UnitNorm.normalize(&x);
        prop_assert!(normal == &x / &norm);
        let x_hat = Normalizer::UnitNorm.denormalize(&normal, statistics.as_ref()).unwrap();
        prop_assert!(x_hat == &normal * &norm);

        let mean = x.mean_dim(dim.as_slice(), true, None);
        let sd = (&x - &mean).std_dim(dim.as_slice(), true, true);
        let (normal, statistics) = Normalizer::LayerNorm.normalize(&x);
        prop_assert!(normal == (&x - &mean) / (&sd + 1e-5));
        let x_hat = Normalizer::LayerNorm.denormalize(&normal, statistics.as_ref()).unwrap();
        prop_assert!(x_hat == &normal * &sd + &mean);
    }
}

/// The standard deviation, N − 1.
fn spread_of(row: &[f32]) -> f64 {
    let n = row.len() as f64;
    let mean = row.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
    (row.iter().map(|v| (f64::from(*v) - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
}

#[test]
fn rows_of_zeros_stay_zeros_in_every_kind() {
    for normalizer in BY_ROW {
        for kind in [Kind::Float, Kind::Double, Kind::Half, Kind::BFloat16] {
            let x = Tensor::zeros([2, 5], (kind, test_device()));
            let (normal, statistics) = normalizer.normalize(&x);
            assert!(normal == x, "{kind:?}");
            let x_hat = normalizer.denormalize(&normal.ones_like(), statistics.as_ref()).unwrap();
            assert!(x_hat == x, "{kind:?}");
        }
    }
}

/// Where an end of f32 is met: squares, sums and differences that it does not hold.
#[test]
fn rows_at_the_ends_of_f32_come_back() {
    for row in [[3e38f32, 3e38, -3e38, 3e38], [1e-30, 2e-30, 0.0, 3e-30], [1e19, 2e19, 0.0, 1e19]] {
        let x = tensor(4, &row);
        let row: Vec<f64> = row.iter().map(|v| f64::from(*v)).collect();
        for normalizer in BY_ROW {
            let (normal, statistics) = normalizer.normalize(&x);
            let again = normalizer.denormalize(&normal, statistics.as_ref()).unwrap();
            // ε drowns the spread of a small row; its mean is left.
            if row[0] > 1.0 || matches!(normalizer, Normalizer::UnitNorm) {
                let off = distance(&again.get(0), &row, row[0]);
                assert!(off < 1e-6, "{}: {row:?} comes back off by {off:e}", normalizer.name());
            } else {
                let mean = [row.iter().sum::<f64>() / 4.0; 4];
                assert!(distance(&again.get(0), &mean, row[0]) < 1e-4);
            }
        }
    }
}
