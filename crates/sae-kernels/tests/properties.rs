//! Reconstruction and gradients against their definitions in f64.

use proptest::prelude::*;
use sae_kernels::{
    EncoderGradient, FeatureMajor, Groups, Matrix, Projection, Reconstruction, Source,
    code_gradients, decode, dense_residual, error_differences, estimator_backward,
    estimator_forward, project_rows, reconstruct, weight_gradients,
};

use crate::naive::{Case, activations, case, close, dense, keep_largest, long_case, sparse};

/// Codes of a case, and its groups: `n` prefixes with different factors.
fn groups(case: &Case, n: usize) -> Groups {
    let n = n.min(case.f);
    let ends: Vec<usize> = (1..=n).map(|g| case.f * g / n).collect();
    Groups::new(ends, (0..n).map(|g| 0.25 + g as f32).collect()).unwrap()
}

fn group_parts(case: &Case, n: usize) -> (Vec<usize>, Vec<f64>) {
    let n = n.min(case.f);
    ((1..=n).map(|g| case.f * g / n).collect(), (0..n).map(|g| 0.25 + g as f64).collect())
}

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

/// Both weight gradients, their norms and the rest that comes with them.
fn check_gradients(case: &Case, k: usize, n: usize, two: bool) -> Result<(), TestCaseError> {
    let activations = activations(case);
    let full = [
        keep_largest(&activations, k * case.batch),
        keep_largest(
            &activations.iter().map(|v| (3.0 - v).max(0.0)).collect::<Vec<_>>(),
            case.batch,
        ),
    ];
    let groups = [groups(case, n), Groups::one(case.f, 1.0)];
    let outputs: Vec<Vec<f32>> = groups
        .iter()
        .map(|g| {
            (0..case.batch * g.len() * case.d)
                .map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0)
                .collect()
        })
        .collect();
    let n_sources = 1 + usize::from(two);
    let gradient_of = |b: usize, f: usize| ((b * 7 + f * 3) % 13) as f32 / 6.0 - 1.0;
    let mut sorted = Vec::new();
    for full in &full[..n_sources] {
        let codes = sparse(full, case.f);
        let gradients: Vec<f32> = (0..case.batch)
            .flat_map(|b| {
                codes.row(b).0.iter().map(move |&f| gradient_of(b, f as usize)).collect::<Vec<_>>()
            })
            .collect();
        let mut csc = FeatureMajor::new(case.f);
        csc.rebuild(&codes, &gradients).unwrap();
        sorted.push(csc);
    }
    let sources: Vec<Source<'_>> = (0..n_sources)
        .map(|s| Source {
            codes: &sorted[s],
            output_gradient: Matrix::new("o", &outputs[s], groups[s].len() * case.d).unwrap(),
            groups: &groups[s],
        })
        .collect();
    let decoder = Matrix::new("decoder", &case.decoder, case.d).unwrap();
    let projection = Projection { decoder, eps: 1e-6 };
    // The encoder may read rows of another width than the decoder writes.
    let d_in = case.d + [0, 1, 40][n % 3];
    let other = |n: usize| (0..n).map(|i| ((i * 29 + 5) % 97) as f32 / 48.0 - 1.0).collect();
    let (x, encoder) = match d_in == case.d {
        true => (case.x.clone(), case.encoder.clone()),
        false => (other(case.batch * d_in), other(case.f * d_in)),
    };
    let size = case.f * case.d;
    let (mut d_dec, mut d_enc, mut d_bias) =
        (vec![0.0; size], vec![0.0; case.f * d_in], vec![f32::NAN; case.f]);
    let (mut active, mut input_sum) = (vec![false; case.f], vec![f32::NAN; d_in]);
    let norms = weight_gradients(
        &sources,
        Some(projection),
        &mut d_dec,
        Some(EncoderGradient {
            input: Matrix::new("x", &x, d_in).unwrap(),
            encoder: Matrix::new("encoder", &encoder, d_in).unwrap(),
            weights: &mut d_enc,
            bias: &mut d_bias,
            input_sum: &mut input_sum,
        }),
        &mut active,
        &mut Vec::new(),
    )
    .unwrap();
    let mut want_norms = [0.0; 3];
    let mut want_sum = vec![0.0; d_in];
    for f in 0..case.f {
        let (mut dec, mut enc, mut bias) = (vec![0.0; case.d], vec![0.0; d_in], 0.0);
        let mut any = false;
        for s in 0..n_sources {
            let at = groups[s].of_feature(f) * case.d;
            let width = groups[s].len() * case.d;
            for b in 0..case.batch {
                let v = f64::from(full[s][b * case.f + f]);
                if v == 0.0 {
                    continue;
                }
                any = true;
                let g = f64::from(gradient_of(b, f));
                bias += g;
                for j in 0..case.d {
                    dec[j] += v * f64::from(outputs[s][b * width + at + j]);
                }
                for j in 0..d_in {
                    enc[j] += g * f64::from(x[b * d_in + j]);
                }
            }
        }
        let w: Vec<f64> = decoder.row(f).iter().map(|w| f64::from(*w)).collect();
        let norm = w.iter().map(|w| w * w).sum::<f64>().sqrt() + 1e-6;
        let along: f64 = dec.iter().zip(&w).map(|(g, w)| g * w).sum::<f64>() / (norm * norm);
        dec.iter_mut().zip(&w).for_each(|(g, w)| *g -= along * w);
        prop_assert_eq!(active[f], any);
        prop_assert!(close(d_bias[f], bias, 100.0, 1e-5));
        for j in 0..case.d {
            prop_assert!(close(d_dec[f * case.d + j], dec[j], 100.0, 1e-5));
            want_norms[0] += dec[j] * dec[j];
        }
        for j in 0..d_in {
            prop_assert!(close(d_enc[f * d_in + j], enc[j], 100.0, 1e-5));
            want_sum[j] += bias * f64::from(encoder[f * d_in + j]);
            want_norms[1] += enc[j] * enc[j];
        }
        want_norms[2] += bias * bias;
    }
    for (got, want) in [norms.decoder, norms.encoder, norms.bias].iter().zip(want_norms) {
        prop_assert!((got - want).abs() <= 1e-4 * want.max(1.0), "{got} {want}");
    }
    for (got, want) in input_sum.iter().zip(want_sum) {
        prop_assert!(close(*got, want, 300.0, 1e-5));
    }
    let mut decoder_alone = vec![0.0; size];
    let norms_alone = weight_gradients(
        &sources,
        Some(projection),
        &mut decoder_alone,
        None,
        &mut active,
        &mut Vec::new(),
    )
    .unwrap();
    for (alone, both) in decoder_alone.iter().zip(&d_dec) {
        prop_assert!(close(*alone, f64::from(*both), 100.0, 1e-5));
    }
    prop_assert!((norms_alone.decoder - norms.decoder).abs() <= 1e-4 * norms.decoder.max(1.0));
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
            let mut again = Vec::new();
            let output = Matrix::new("output", &output, case.d).unwrap();
            code_gradients(&codes, output, decoder, &mut again).unwrap();
            prop_assert_eq!(&again, &gradients);
            let mut x_hat = vec![f32::NAN; case.batch * case.d];
            decode(&codes, decoder, &case.b_dec, &mut x_hat).unwrap();
            for (i, x_hat) in x_hat.iter().enumerate() {
                let want = f64::from(output.data()[i]) / 0.25 + f64::from(case.x[i]);
                prop_assert!(close(*x_hat, want, 100.0, 1e-5));
            }
            let zeros = vec![0.0; case.d];
            decode(&codes, decoder, &zeros, &mut x_hat).unwrap();
            let mut dense = vec![f32::NAN; x_hat.len()];
            let squared =
                dense_residual(&mut x_hat, &case.b_dec, target, 0.25, Some(&mut dense)).unwrap();
            prop_assert!((squared - want_errors[0]).abs() <= 1e-5 * want_errors[0].max(1.0));
            for i in 0..x_hat.len() {
                prop_assert!(close(x_hat[i], f64::from(output.data()[i]), 100.0, 1e-5));
                prop_assert!(close(dense[i], f64::from(residual[i]), 100.0, 1e-5));
            }
        }
    }

    #[test]
    fn gradients_of_the_weights(case in case(), k in 0_usize..20, n in 1_usize..4, two in any::<bool>()) {
        check_gradients(&case, k, n, two)?;
    }

    #[test]
    fn gradients_of_features_with_many_entries(
        case in long_case(), k in 0_usize..12, n in 1_usize..4, two in any::<bool>(),
    ) {
        check_gradients(&case, k, n, two)?;
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
    fn projection_leaves_nothing_along_the_decoder(case in case()) {
        let decoder = Matrix::new("decoder", &case.decoder, case.d).unwrap();
        let mut gradient = case.encoder.clone();
        let squared = project_rows(&mut gradient, Projection { decoder, eps: 0.0 }).unwrap();
        let want: f64 = gradient.iter().map(|g| f64::from(*g).powi(2)).sum();
        prop_assert!((squared - want).abs() <= 1e-5 * want.max(1.0));
        for f in 0..case.f {
            let row = &gradient[f * case.d..][..case.d];
            let along: f64 =
                row.iter().zip(decoder.row(f)).map(|(g, w)| f64::from(*g) * f64::from(*w)).sum();
            prop_assert!(along.abs() < 1e-5);
            for (j, w) in decoder.row(f).iter().enumerate() {
                let removed = f64::from(case.encoder[f * case.d + j]) - f64::from(row[j]);
                let first = f64::from(case.encoder[f * case.d]) - f64::from(row[0]);
                let parallel = removed * f64::from(decoder.row(f)[0]) - first * f64::from(*w);
                prop_assert!(parallel.abs() < 1e-5);
            }
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

/// More rows than a strip of the weight gradients holds, and columns that do not fill the last.
#[test]
fn gradients_of_a_long_batch() {
    let (batch, d, f) = (2048 + 301, 11, 3);
    let noise = |n: usize, seed: usize| -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 + seed * 104_729) % 2003) as f32 / 1001.0 - 1.0).collect()
    };
    let case = Case {
        batch,
        d,
        f,
        x: noise(batch * d, 1),
        z: noise(batch * f, 2),
        bias: vec![0.5; f],
        decoder: noise(f * d, 3),
        encoder: noise(f * d, 4),
        b_dec: noise(d, 5),
    };
    check_gradients(&case, 2, 2, true).unwrap();
}
