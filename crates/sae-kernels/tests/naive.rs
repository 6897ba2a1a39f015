//! Definitions in f64, one loop an index, and the cases they are tested on.

use std::ops::Range;

use proptest::prelude::*;
use sae_kernels::{Groups, SparseCodes};

/// A batch, a dictionary and pre-activations of random sizes.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub(crate) batch: usize,
    pub(crate) d: usize,
    pub(crate) f: usize,
    pub(crate) x: Vec<f32>,
    pub(crate) z: Vec<f32>,
    pub(crate) bias: Vec<f32>,
    pub(crate) decoder: Vec<f32>,
    pub(crate) encoder: Vec<f32>,
    pub(crate) b_dec: Vec<f32>,
}

/// Numbers on a grid of eighths, so that ties are common.
fn coarse(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec((-24_i32..24).prop_map(|i| i as f32 / 8.0), n)
}

fn fine(n: usize) -> impl Strategy<Value = Vec<f32>> {
    proptest::collection::vec(-1.0_f32..1.0, n)
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    sized(1_usize..40, 1_usize..150)
}

/// A case with many rows for each feature.
pub(crate) fn long_case() -> impl Strategy<Value = Case> {
    sized(100_usize..250, 1_usize..12)
}

fn sized(batch: Range<usize>, f: Range<usize>) -> impl Strategy<Value = Case> {
    (batch, 1_usize..20, f, any::<bool>()).prop_flat_map(|(batch, d, f, ties)| {
        let z = if ties { coarse(batch * f).boxed() } else { fine(batch * f).boxed() };
        let bias = if ties { coarse(f).boxed() } else { fine(f).boxed() };
        (fine(batch * d), z, bias, fine(f * d), fine(f * d), fine(d)).prop_map(
            move |(x, z, bias, decoder, encoder, b_dec)| Case {
                batch,
                d,
                f,
                x,
                z,
                bias,
                decoder,
                encoder,
                b_dec,
            },
        )
    })
}

/// relu(z + b), in f32 as every engine has it.
pub(crate) fn activations(case: &Case) -> Vec<f32> {
    case.z.iter().enumerate().map(|(i, z)| (z + case.bias[i % case.f]).max(0.0)).collect()
}

/// Keeps the `k` largest positive values, the lower index first among equal ones.
pub(crate) fn keep_largest(values: &[f32], k: usize) -> Vec<f32> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].total_cmp(&values[a]).then(a.cmp(&b)));
    let mut kept = vec![0.0; values.len()];
    for &i in order.iter().take(k) {
        kept[i] = values[i];
    }
    kept
}

/// The dense form of codes.
pub(crate) fn dense(codes: &SparseCodes) -> Vec<f32> {
    let mut out = vec![f32::NAN; codes.n_rows() * codes.n_features()];
    codes.write_dense(&mut out).expect("the right size");
    out
}

/// The non-zero entries of a dense matrix as codes.
pub(crate) fn sparse(dense: &[f32], f: usize) -> SparseCodes {
    let (mut indptr, mut indices, mut values) = (vec![0], Vec::new(), Vec::new());
    for row in dense.chunks(f) {
        for (i, &v) in row.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            indices.push(i as u32);
            values.push(v);
        }
        indptr.push(indices.len());
    }
    SparseCodes::from_parts(f, indptr, indices, values).expect("well formed")
}

/// Whether two numbers agree to `tolerance` of `scale`.
pub(crate) fn close(got: f32, want: f64, scale: f64, tolerance: f64) -> bool {
    (f64::from(got) - want).abs() <= tolerance * scale.max(1.0)
}

/// Codes of a case, and its groups: `n` prefixes with different factors.
pub(crate) fn groups(case: &Case, n: usize) -> Groups {
    let n = n.min(case.f);
    let ends: Vec<usize> = (1..=n).map(|g| case.f * g / n).collect();
    Groups::new(ends, (0..n).map(|g| 0.25 + g as f32).collect()).unwrap()
}

pub(crate) fn group_parts(case: &Case, n: usize) -> (Vec<usize>, Vec<f64>) {
    let n = n.min(case.f);
    ((1..=n).map(|g| case.f * g / n).collect(), (0..n).map(|g| 0.25 + g as f64).collect())
}
