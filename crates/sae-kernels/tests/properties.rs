//! Reconstruction, its gradients and the k-estimator against their definitions in f64.

use proptest::prelude::*;
use sae_kernels::{
    Matrix, Reconstruction, SparseCodes, code_gradients, decode, dense_residual, error_differences,
    estimator_backward, estimator_forward, reconstruct,
};

use crate::naive::{
    Case, activations, case, close, dense, group_parts, groups, keep_largest, sparse,
};

/// Σ over groups g that hold `feature` of factor_g·e_g, for one row: the gradient that reaches it.
fn naive_output_gradient(case: &Case, code: &[f32], b: usize, n: usize) -> Vec<Vec<f64>> {
    let (ends, factors) = group_parts(case, n);
    let scaled: Vec<Vec<f64>> = ends
        .iter()
        .zip(&factors)
        .map(|(&end, factor)| {
            (0..case.d)
                .map(|j| {
                    let sum: f64 = (0..end)
                        .map(|i| f64::from(code[i]) * f64::from(case.decoder[i * case.d + j]))
                        .sum();
                    let e = sum + f64::from(case.b_dec[j]) - f64::from(case.x[b * case.d + j]);
                    factor * e
                })
                .collect()
        })
        .collect();
    (0..ends.len())
        .map(|g| (0..case.d).map(|j| scaled[g..].iter().map(|s| s[j]).sum()).collect())
        .collect()
}

/// Checks the functions for one group against those for several: gradients of codes, what is decoded
/// and its residual, with the sum of its squares.
fn check_decoding(
    case: &Case,
    codes: &SparseCodes,
    output: &[f32],
    gradients: &[f32],
    residual: &[f32],
    want_error: f64,
) -> Result<(), TestCaseError> {
    let decoder = Matrix::new("decoder", &case.decoder, case.d).unwrap();
    let target = Matrix::new("x", &case.x, case.d).unwrap();
    let mut again = Vec::new();
    let output = Matrix::new("output", output, case.d).unwrap();
    code_gradients(codes, output, decoder, &mut again).unwrap();
    prop_assert_eq!(&again[..], gradients);
    let mut x_hat = vec![f32::NAN; case.batch * case.d];
    decode(codes, decoder, &case.b_dec, &mut x_hat).unwrap();
    for (i, x_hat) in x_hat.iter().enumerate() {
        let want = f64::from(output.data()[i]) / 0.25 + f64::from(case.x[i]);
        prop_assert!(close(*x_hat, want, 100.0, 1e-5));
    }
    let zeros = vec![0.0; case.d];
    decode(codes, decoder, &zeros, &mut x_hat).unwrap();
    let mut dense = vec![f32::NAN; x_hat.len()];
    let squared = dense_residual(&mut x_hat, &case.b_dec, target, 0.25, Some(&mut dense)).unwrap();
    prop_assert!((squared - want_error).abs() <= 1e-5 * want_error.max(1.0));
    for i in 0..x_hat.len() {
        prop_assert!(close(x_hat[i], f64::from(output.data()[i]), 100.0, 1e-5));
        prop_assert!(close(dense[i], f64::from(residual[i]), 100.0, 1e-5));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reconstruction_and_code_gradients(case in case(), k in 0_usize..30, n in 1_usize..5) {
        let codes = sparse(&keep_largest(&activations(&case), k * case.batch), case.f);
        let full = dense(&codes);
        let groups = groups(&case, n);
        let decoder = Matrix::new("decoder", &case.decoder, case.d).unwrap();
        let target = Matrix::new("x", &case.x, case.d).unwrap();
        let width = groups.len() * case.d;
        let mut output = vec![f32::NAN; case.batch * width];
        let mut gradients = Vec::new();
        let mut residual = vec![f32::NAN; case.batch * case.d];
        let what = Reconstruction {
            codes: &codes, decoder, bias: Some(&case.b_dec), target, groups: &groups,
        };
        let errors = reconstruct(what, &mut output, &mut gradients, Some(&mut residual)).unwrap();
        let mut want_errors = vec![0.0; groups.len()];
        let mut at = 0;
        for b in 0..case.batch {
            let code = &full[b * case.f..][..case.f];
            let want = naive_output_gradient(&case, code, b, n);
            let (_, factors) = group_parts(&case, n);
            for g in 0..groups.len() {
                for j in 0..case.d {
                    let later = if g + 1 < groups.len() { want[g + 1][j] } else { 0.0 };
                    let error = (want[g][j] - later) / factors[g];
                    want_errors[g] += error.powi(2);
                    if g + 1 == groups.len() {
                        prop_assert!(close(residual[b * case.d + j], -error, 100.0, 1e-5));
                    }
                    prop_assert!(close(output[b * width + g * case.d + j], want[g][j], 100.0, 1e-5));
                }
            }
            for &i in codes.row(b).0 {
                let i = i as usize;
                let of_group = &want[groups.of_feature(i)];
                let w = &case.decoder[i * case.d..][..case.d];
                let want: f64 = w.iter().zip(of_group).map(|(w, g)| f64::from(*w) * g).sum();
                prop_assert!(close(gradients[at], want, 100.0, 1e-5));
                at += 1;
            }
        }
        for (got, want) in errors.iter().zip(&want_errors) {
            prop_assert!((got - want).abs() <= 1e-5 * want.max(1.0), "{got} {want}");
        }
        if groups.len() == 1 {
            check_decoding(&case, &codes, &output, &gradients, &residual, want_errors[0])?;
        }
    }

    #[test]
    fn what_the_least_codes_change(case in case(), k in 0_usize..30, fewer in 0_usize..30) {
        let rows = activations(&case);
        let of_rows = |k: usize| -> Vec<Vec<f32>> {
            rows.chunks(case.f).map(|row| keep_largest(row, k)).collect()
        };
        let (more, fewer_codes) = (of_rows(k), of_rows(fewer.min(k)));
        let error = |b: usize, code: &[f32]| -> f64 {
            let of = |j: usize| {
                let sum: f64 = (0..case.f)
                    .map(|i| f64::from(code[i]) * f64::from(case.decoder[i * case.d + j]))
                    .sum();
                (sum - f64::from(case.x[b * case.d + j])).powi(2)
            };
            (0..case.d).map(of).sum()
        };
        let mut out = vec![f32::NAN; case.batch];
        let decoder = Matrix::new("decoder", &case.decoder, case.d).unwrap();
        let target = Matrix::new("x", &case.x, case.d).unwrap();
        let codes = sparse(&more.concat(), case.f);
        error_differences(&codes, &vec![fewer; case.batch], decoder, target, &mut out).unwrap();
        for (b, out) in out.into_iter().enumerate() {
            let (all, some) = (error(b, &more[b]), error(b, &fewer_codes[b]));
            let slack = 1e-5 * (1.0 + all + some);
            prop_assert!((f64::from(out) - (all - some)).abs() < slack, "{out}, {all} - {some}");
        }
    }

    #[test]
    fn estimator_and_its_gradients(case in case()) {
        let hidden = Matrix::new("h", &case.z, case.f).unwrap();
        let weights: Vec<f32> = case.encoder.iter().cycle().take(case.f).copied().collect();
        let mut logits = vec![f32::NAN; case.batch];
        estimator_forward(hidden, &case.bias, &weights, &mut logits).unwrap();
        let gradients: Vec<f32> = (0..case.batch).map(|b| (b % 5) as f32 - 2.0).collect();
        let mut changed = case.z.clone();
        let (mut dw, mut db) = (vec![0.0; case.f], vec![0.0; case.f]);
        estimator_backward(
            &mut changed, &case.bias, &weights, &gradients, &mut dw, &mut db, &mut Vec::new(),
        ).unwrap();
        let relu = activations(&case);
        for b in 0..case.batch {
            let row = &relu[b * case.f..][..case.f];
            let want: f64 = row.iter().zip(&weights).map(|(r, w)| f64::from(*r) * f64::from(*w)).sum();
            prop_assert!(close(logits[b], want, 100.0, 1e-5));
        }
        for f in 0..case.f {
            let (mut want_w, mut want_b) = (0.0, 0.0);
            for b in 0..case.batch {
                let active = relu[b * case.f + f];
                let want = if active > 0.0 { gradients[b] * weights[f] } else { 0.0 };
                prop_assert_eq!(changed[b * case.f + f], want);
                want_w += f64::from(gradients[b]) * f64::from(active);
                want_b += f64::from(want);
            }
            prop_assert!(close(dw[f], want_w, 100.0, 1e-5));
            prop_assert!(close(db[f], want_b, 100.0, 1e-5));
        }
    }
}
