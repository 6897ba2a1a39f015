//! Adam against its definition in f64, and dense passes.

use proptest::prelude::*;
use sae_kernels::{
    AdamStep, Matrix, Moments, adam, add_bias_relu, column_sums, squared_norm, subtract_row,
};

use crate::naive::{activations, case, close};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn some_steps_of_adam(
        case in case(),
        clip in 0.1_f64..1.0,
        masked in any::<bool>(),
        unit in any::<bool>(),
        beta1 in prop_oneof![Just(0.0), Just(0.9)],
    ) {
        let n = case.f * case.d;
        let (mut w, mut m, mut v) = (case.encoder.clone(), vec![0.0; n], vec![0.0; n]);
        let (mut w64, mut m64, mut v64): (Vec<f64>, _, _) =
            (w.iter().map(|w| f64::from(*w)).collect(), vec![0.0; n], vec![0.0; n]);
        for step in 1..=3_u64 {
            let active: Vec<bool> =
                (0..case.f).map(|f| !masked || !(f as u64 + step).is_multiple_of(3)).collect();
            let settings = AdamStep {
                lr: 0.01, beta1, beta2: 0.999, eps: 1e-8, step, gradient_scale: clip,
            };
            adam(
                Moments { weights: &mut w, first: &mut m, second: &mut v },
                Matrix::new("gradient", &case.decoder, case.d).unwrap(),
                masked.then_some(&active[..]),
                settings,
                unit.then_some(f32::EPSILON),
            ).unwrap();
            let (c1, c2) = (1.0 - beta1.powi(step as i32), 1.0 - 0.999_f64.powi(step as i32));
            for f in 0..case.f {
                let mut norm = 0.0_f64;
                for i in f * case.d..(f + 1) * case.d {
                    let g = if active[f] { clip * f64::from(case.decoder[i]) } else { 0.0 };
                    m64[i] = beta1 * m64[i] + (1.0 - beta1) * g;
                    v64[i] = 0.999 * v64[i] + 0.001 * g * g;
                    w64[i] -= 0.01 / c1 * m64[i] / ((v64[i] / c2).sqrt() + 1e-8);
                    norm += w64[i] * w64[i];
                }
                if unit {
                    let norm = norm.sqrt() + f64::from(f32::EPSILON);
                    w64[f * case.d..(f + 1) * case.d].iter_mut().for_each(|w| *w /= norm);
                }
            }
        }
        for i in 0..n {
            prop_assert!(close(w[i], w64[i], 1.0, 1e-5), "{} {}", w[i], w64[i]);
            prop_assert!(close(m[i], m64[i], 1.0, 1e-6));
            prop_assert!(close(v[i], v64[i], 1.0, 1e-6));
        }
    }

    #[test]
    fn dense_passes(case in case()) {
        let x = Matrix::new("x", &case.x, case.d).unwrap();
        let mut out = vec![f32::NAN; case.x.len()];
        subtract_row(x, &case.b_dec, &mut out).unwrap();
        let want: Vec<f32> =
            case.x.iter().enumerate().map(|(i, x)| x - case.b_dec[i % case.d]).collect();
        prop_assert_eq!(out, want);
        let mut sums = vec![f32::NAN; case.d];
        column_sums(x, &mut sums).unwrap();
        for (j, sum) in sums.iter().enumerate() {
            let want: f64 = (0..case.batch).map(|b| f64::from(x.row(b)[j])).sum();
            prop_assert!(close(*sum, want, 10.0, 1e-6));
        }
        let want: f64 = case.z.iter().map(|z| f64::from(*z).powi(2)).sum();
        prop_assert!((squared_norm(&case.z) - want).abs() <= 1e-5 * want.max(1.0));
        let mut z = case.z.clone();
        add_bias_relu(&mut z, &case.bias).unwrap();
        prop_assert_eq!(z, activations(&case));
    }
}
