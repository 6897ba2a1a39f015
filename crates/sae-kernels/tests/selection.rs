//! Every selection keeps exactly what a full sort keeps.

use proptest::prelude::*;
use sae_kernels::{Count, Matrix, Rank, Selector, SparseCodes};

use crate::naive::{activations, case, dense, keep_largest};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn top_k_of_each_row(case in case(), seed in 0_usize..1000) {
        let ks: Vec<usize> = (0..case.batch).map(|b| (seed * 7 + b * 13) % (case.f + 1)).collect();
        let z = Matrix::new("z", &case.z, case.f).unwrap();
        let mut codes = SparseCodes::new(case.f);
        let mut selector = Selector::new();
        // The second time with the guesses that the first one left.
        for _ in 0..2 {
            selector.top_k(z, &case.bias, Count::PerRow(&ks), Rank::Value, &mut codes).unwrap();
            let got = dense(&codes);
            for (b, row) in activations(&case).chunks(case.f).enumerate() {
                prop_assert_eq!(&got[b * case.f..][..case.f], keep_largest(row, ks[b]));
            }
            let k = ks[0];
            selector.top_k(z, &case.bias, Count::Same(k), Rank::Value, &mut codes).unwrap();
            let got = dense(&codes);
            for (b, row) in activations(&case).chunks(case.f).enumerate() {
                prop_assert_eq!(&got[b * case.f..][..case.f], keep_largest(row, k));
            }
        }
        prop_assert!(codes.values().iter().all(|&v| v > 0.0));
    }

    #[test]
    fn top_k_of_the_batch(case in case(), share in 0.0_f64..1.0) {
        let total = (share * share * case.z.len() as f64) as usize;
        let z = Matrix::new("z", &case.z, case.f).unwrap();
        let mut codes = SparseCodes::new(case.f);
        let mut selector = Selector::new();
        for _ in 0..3 {
            selector.batch_top_k(z, &case.bias, total, &mut codes).unwrap();
            prop_assert_eq!(dense(&codes), keep_largest(&activations(&case), total));
        }
    }

    #[test]
    fn top_k_among_some_features(case in case(), step in 1_usize..9, share in 0.0_f64..1.0) {
        let features: Vec<u32> = (0..case.f as u32).step_by(step).collect();
        let k = (share * features.len() as f64) as usize;
        let z = Matrix::new("z", &case.z, case.f).unwrap();
        let mut codes = SparseCodes::new(case.f);
        for rank in [Rank::Value, Rank::Magnitude] {
            Selector::new().top_k_among(z, &case.bias, &features, k, rank, &mut codes).unwrap();
            let got = dense(&codes);
            for (b, row) in case.z.chunks(case.f).enumerate() {
                let of = |&f: &u32| row[f as usize] + case.bias[f as usize];
                let among: Vec<f32> = features.iter().map(of).collect();
                let mut want = vec![0.0; case.f];
                for (&f, v) in features.iter().zip(keep_by(&among, k, rank)) {
                    want[f as usize] = v;
                }
                prop_assert_eq!(&got[b * case.f..][..case.f], want);
            }
        }
    }

    #[test]
    fn top_k_by_magnitude_keeps_signs(case in case(), share in 0.0_f64..1.0) {
        let k = (share * share * case.f as f64) as usize;
        let z = Matrix::new("z", &case.z, case.f).unwrap();
        let mut codes = SparseCodes::new(case.f);
        let mut selector = Selector::new();
        for _ in 0..2 {
            let count = Count::Same(k);
            selector.top_k(z, &case.bias, count, Rank::Magnitude, &mut codes).unwrap();
            let got = dense(&codes);
            for (b, row) in case.z.chunks(case.f).enumerate() {
                let row: Vec<f32> = row.iter().zip(&case.bias).map(|(z, b)| z + b).collect();
                let want = keep_by(&row, k, Rank::Magnitude);
                prop_assert_eq!(&got[b * case.f..][..case.f], want);
            }
        }
    }

    #[test]
    fn a_filter_keeps_what_it_is_told(case in case(), threshold in -1.0_f32..1.0) {
        let z = Matrix::new("z", &case.z, case.f).unwrap();
        let mut codes = SparseCodes::new(case.f);
        let keep = |f: usize, v: f32| v > threshold && !f.is_multiple_of(3);
        Selector::new().filter(z, &case.bias, keep, &mut codes).unwrap();
        let want: Vec<f32> = case.z.iter().enumerate().map(|(i, z)| {
            let v = z + case.bias[i % case.f];
            if keep(i % case.f, v) { v } else { 0.0 }
        }).collect();
        prop_assert_eq!(dense(&codes), want);
    }
}

/// The k entries of the highest rank, the others 0.
fn keep_by(row: &[f32], k: usize, rank: Rank) -> Vec<f32> {
    let ranks: Vec<f32> = match rank {
        Rank::Value => row.iter().map(|v| v.max(0.0)).collect(),
        Rank::Magnitude => row.iter().map(|v| v.abs()).collect(),
    };
    keep_largest(&ranks, k)
        .iter()
        .zip(row)
        .map(|(kept, v)| if *kept > 0.0 { *v } else { 0.0 })
        .collect()
}

/// Rows long enough for guesses from a sample, whose scale changes from row to row.
#[test]
fn guesses_never_change_the_result() {
    let (batch, f) = (70, 6000);
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((state >> 40) as f32 / (1 << 24) as f32) - 0.5
    };
    let scales = [1.0, 1e-3, 1e3, 1.0, 0.0, -1.0, 1e-20, 5.0];
    let z: Vec<f32> = (0..batch * f)
        .map(|i| {
            let u = next();
            u * u * u * scales[(i / f) % scales.len()]
        })
        .collect();
    let bias = vec![1e-5; f];
    let values: Vec<f32> = z.iter().map(|z| (z + 1e-5).max(0.0)).collect();
    let matrix = Matrix::new("z", &z, f).unwrap();
    let mut codes = SparseCodes::new(f);
    let mut selector = Selector::new();
    for k in [1, 40, 2000, 5999, 3] {
        selector.top_k(matrix, &bias, Count::Same(k), Rank::Value, &mut codes).unwrap();
        let got = dense(&codes);
        for (b, row) in values.chunks(f).enumerate() {
            assert_eq!(got[b * f..][..f], keep_largest(row, k), "row {b}, k {k}");
        }
        selector.batch_top_k(matrix, &bias, k * batch, &mut codes).unwrap();
        assert_eq!(dense(&codes), keep_largest(&values, k * batch), "batch, k {k}");
    }
}
