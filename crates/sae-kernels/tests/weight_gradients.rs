//! Gradients of the weights against their definitions in f64.

use proptest::prelude::*;
use sae_kernels::{
    EncoderGradient, FeatureMajor, Groups, Matrix, Projection, Source, project_rows,
    weight_gradients,
};

use crate::naive::{Case, activations, case, close, groups, keep_largest, long_case, sparse};

/// The gradient of a code.
fn gradient_of(b: usize, f: usize) -> f32 {
    ((b * 7 + f * 3) % 13) as f32 / 6.0 - 1.0
}

/// Codes and their gradients, by feature.
fn by_feature(full: &[f32], n_features: usize) -> FeatureMajor {
    let codes = sparse(full, n_features);
    let of_row = |b: usize| codes.row(b).0.iter().map(move |&f| gradient_of(b, f as usize));
    let gradients: Vec<f32> = (0..full.len() / n_features).flat_map(of_row).collect();
    let mut sorted = FeatureMajor::new(n_features);
    sorted.rebuild(&codes, &gradients).unwrap();
    sorted
}

/// Features of rows, the groups of their dictionary and the gradient of what they decode to.
struct Part {
    full: Vec<f32>,
    groups: Groups,
    output: Vec<f32>,
}

impl Part {
    fn new(case: &Case, full: Vec<f32>, groups: Groups) -> Self {
        let n = case.batch * groups.len() * case.d;
        let output = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
        Self { full, groups, output }
    }
}

/// The gradients of a feature's weights, before any projection, and whether it is active.
struct Expected {
    decoder: Vec<f64>,
    encoder: Vec<f64>,
    bias: f64,
    any: bool,
}

impl Expected {
    fn new(case: &Case, parts: &[Part], x: &[f32], f: usize) -> Self {
        let d_in = x.len() / case.batch;
        let (mut decoder, mut encoder) = (vec![0.0; case.d], vec![0.0; d_in]);
        let (mut bias, mut any) = (0.0, false);
        for Part { full, groups, output } in parts {
            let (at, width) = (groups.of_feature(f) * case.d, groups.len() * case.d);
            for b in 0..case.batch {
                let v = f64::from(full[b * case.f + f]);
                if v == 0.0 {
                    continue;
                }
                any = true;
                let g = f64::from(gradient_of(b, f));
                bias += g;
                for (j, sum) in decoder.iter_mut().enumerate() {
                    *sum += v * f64::from(output[b * width + at + j]);
                }
                for (j, sum) in encoder.iter_mut().enumerate() {
                    *sum += g * f64::from(x[b * d_in + j]);
                }
            }
        }
        Self { decoder, encoder, bias, any }
    }

    /// Takes off what is along the feature's row of the decoder.
    fn project(&mut self, row: &[f32]) {
        let w: Vec<f64> = row.iter().map(|w| f64::from(*w)).collect();
        let norm = w.iter().map(|w| w * w).sum::<f64>().sqrt() + 1e-6;
        let along: f64 = self.decoder.iter().zip(&w).map(|(g, w)| g * w).sum();
        let along = along / (norm * norm);
        self.decoder.iter_mut().zip(&w).for_each(|(g, w)| *g -= along * w);
    }
}

/// Both weight gradients, their norms and the rest that comes with them.
fn check_gradients(case: &Case, k: usize, n: usize, two: bool) -> Result<(), TestCaseError> {
    let activations = activations(case);
    let others: Vec<f32> = activations.iter().map(|v| (3.0 - v).max(0.0)).collect();
    let mut parts =
        vec![Part::new(case, keep_largest(&activations, k * case.batch), groups(case, n))];
    if two {
        parts.push(Part::new(case, keep_largest(&others, case.batch), Groups::one(case.f, 1.0)));
    }
    let sorted: Vec<_> = parts.iter().map(|part| by_feature(&part.full, case.f)).collect();
    let sources: Vec<Source<'_>> = sorted
        .iter()
        .zip(&parts)
        .map(|(codes, Part { groups, output, .. })| {
            let output_gradient = Matrix::new("o", output, groups.len() * case.d).unwrap();
            Source { codes, output_gradient, groups }
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
    let (mut d_dec, mut d_enc) = (vec![0.0; case.f * case.d], vec![0.0; case.f * d_in]);
    let (mut d_bias, mut input_sum) = (vec![f32::NAN; case.f], vec![f32::NAN; d_in]);
    let mut active = vec![false; case.f];
    let gradient = EncoderGradient {
        input: Matrix::new("x", &x, d_in).unwrap(),
        encoder: Matrix::new("encoder", &encoder, d_in).unwrap(),
        weights: &mut d_enc,
        bias: &mut d_bias,
        input_sum: &mut input_sum,
    };
    let mut run = |weights: &mut [f32], encoder: Option<EncoderGradient<'_>>| {
        let (projection, mut scratch) = (Some(projection), Vec::new());
        weight_gradients(&sources, projection, weights, encoder, &mut active, &mut scratch).unwrap()
    };
    let mut alone = vec![0.0; case.f * case.d];
    let norms_alone = run(&mut alone, None);
    let norms = run(&mut d_dec, Some(gradient));
    for (alone, both) in alone.iter().zip(&d_dec) {
        prop_assert!(close(*alone, f64::from(*both), 100.0, 1e-5));
    }
    prop_assert!((norms_alone.decoder - norms.decoder).abs() <= 1e-4 * norms.decoder.max(1.0));
    let norms = [norms.decoder, norms.encoder, norms.bias];
    let got = Got { decoder: d_dec, encoder: d_enc, bias: d_bias, active, input_sum, norms };
    got.check(case, &parts, &x, &encoder)
}

/// What was computed of all features.
struct Got {
    decoder: Vec<f32>,
    encoder: Vec<f32>,
    bias: Vec<f32>,
    active: Vec<bool>,
    input_sum: Vec<f32>,
    /// Of the weights of decoder and encoder, and of the bias.
    norms: [f64; 3],
}

impl Got {
    fn check(
        &self,
        case: &Case,
        parts: &[Part],
        x: &[f32],
        encoder: &[f32],
    ) -> Result<(), TestCaseError> {
        let d_in = self.input_sum.len();
        let mut want_norms = [0.0; 3];
        let mut want_sum = vec![0.0; d_in];
        for f in 0..case.f {
            let mut want = Expected::new(case, parts, x, f);
            want.project(&case.decoder[f * case.d..][..case.d]);
            prop_assert_eq!(self.active[f], want.any);
            prop_assert!(close(self.bias[f], want.bias, 100.0, 1e-5));
            for (got, want) in self.decoder[f * case.d..].iter().zip(&want.decoder) {
                prop_assert!(close(*got, *want, 100.0, 1e-5));
                want_norms[0] += want * want;
            }
            for (got, want) in self.encoder[f * d_in..].iter().zip(&want.encoder) {
                prop_assert!(close(*got, *want, 100.0, 1e-5));
                want_norms[1] += want * want;
            }
            want_norms[2] += want.bias * want.bias;
            for (sum, w) in want_sum.iter_mut().zip(&encoder[f * d_in..]) {
                *sum += want.bias * f64::from(*w);
            }
        }
        for (got, want) in self.norms.iter().zip(want_norms) {
            prop_assert!((got - want).abs() <= 1e-4 * want.max(1.0), "{got} {want}");
        }
        for (got, want) in self.input_sum.iter().zip(want_sum) {
            prop_assert!(close(*got, want, 300.0, 1e-5));
        }
        Ok(())
    }
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
