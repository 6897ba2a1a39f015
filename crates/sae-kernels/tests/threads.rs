//! The number of threads changes no bit of any result.

use sae_kernels::{
    AdamStep, Count, EncoderGradient, FeatureMajor, Groups, Matrix, Moments, Projection, Rank,
    Reconstruction, Selector, Source, SparseCodes, adam, reconstruct, weight_gradients,
};

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut s = seed;
    let mut next = || {
        s = s.wrapping_mul(1664525).wrapping_add(1013904223);
        (s >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// The 20 largest of each row, or as many of a batch of so many rows.
fn select(z: Matrix<'_>, bias: &[f32], batch: Option<usize>) -> SparseCodes {
    let mut codes = SparseCodes::new(bias.len());
    let mut selector = Selector::new();
    match batch {
        Some(batch) => selector.batch_top_k(z, bias, 20 * batch, &mut codes).unwrap(),
        None => selector.top_k(z, bias, Count::Same(20), Rank::Value, &mut codes).unwrap(),
    }
    codes
}

/// One training step, bias and moments from zero; everything it computes.
fn step(batch_top_k: bool) -> (SparseCodes, Vec<f64>, Vec<Vec<f32>>) {
    let (batch, d, f) = (150, 24, 700);
    let (x, z, encoder) = (noise(batch * d, 1), noise(batch * f, 2), noise(f * d, 3));
    let (mut decoder, bias) = (noise(f * d, 4), noise(f, 5));
    let codes = select(Matrix::new("z", &z, f).unwrap(), &bias, batch_top_k.then_some(batch));
    let groups = Groups::new(vec![100, 300, f], vec![0.1, 0.2, 0.3]).unwrap();
    let (mut output, mut gradients) = (vec![0.0; batch * 3 * d], Vec::new());
    let input = Matrix::new("x", &x, d).unwrap();
    let errors = reconstruct(
        Reconstruction {
            codes: &codes,
            decoder: Matrix::new("decoder", &decoder, d).unwrap(),
            bias: None,
            target: input,
            groups: &groups,
        },
        &mut output,
        &mut gradients,
        None,
    )
    .unwrap();
    let mut sorted = FeatureMajor::new(f);
    sorted.rebuild(&codes, &gradients).unwrap();
    let (mut d_dec, mut d_enc, mut d_bias) = (vec![0.0; f * d], vec![0.0; f * d], vec![0.0; f]);
    let (mut sum, mut active) = (vec![0.0; d], vec![false; f]);
    weight_gradients(
        &[Source {
            codes: &sorted,
            output_gradient: Matrix::new("output", &output, 3 * d).unwrap(),
            groups: &groups,
        }],
        Some(Projection { decoder: Matrix::new("decoder", &decoder, d).unwrap(), eps: 1e-6 }),
        &mut d_dec,
        Some(EncoderGradient {
            input,
            encoder: Matrix::new("encoder", &encoder, d).unwrap(),
            weights: &mut d_enc,
            bias: &mut d_bias,
            input_sum: &mut sum,
        }),
        &mut active,
        &mut Vec::new(),
    )
    .unwrap();
    let (mut first, mut second) = (vec![0.0; f * d], vec![0.0; f * d]);
    adam(
        Moments { weights: &mut decoder, first: &mut first, second: &mut second },
        Matrix::new("gradient", &d_dec, d).unwrap(),
        Some(&active),
        AdamStep { lr: 1e-3, beta1: 0.9, beta2: 0.999, eps: 1e-8, step: 1, gradient_scale: 0.5 },
        Some(f32::EPSILON),
    )
    .unwrap();
    (codes, errors, vec![output, d_dec, d_enc, d_bias, sum, decoder, first, second])
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    for batch_top_k in [false, true] {
        let results: Vec<_> = [1, 2, 5]
            .map(|n| {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
                pool.install(|| step(batch_top_k))
            })
            .into_iter()
            .collect();
        assert_eq!(results[0], results[1]);
        assert_eq!(results[0], results[2]);
    }
}
