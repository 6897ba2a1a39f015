//! Gradients of the weights against their definitions in f64.

use proptest::prelude::*;
use sae_kernels::{
    EncoderGradient, FeatureMajor, Groups, Matrix, Projection, Source, project_rows,
    weight_gradients,
};

use crate::naive::{Case, activations, case, close, groups, keep_largest, long_case, sparse};

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
