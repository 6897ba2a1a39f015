//! Golden numbers: fourteen cases solved by bisection in `f64`.

use std::path::PathBuf;

use ndarray::Array2;
use safetensors::SafeTensors;
use soft_topk::{soft_topk, soft_topk_sparse};

use crate::oracle;

/// One case; every number in `f64`.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) x: Array2<f64>,
    pub(crate) k: Vec<f64>,
    pub(crate) alpha: f64,
    pub(crate) v: Array2<f64>,
    pub(crate) p: Array2<f64>,
    pub(crate) theta: Vec<f64>,
    pub(crate) grad_x: Array2<f64>,
    pub(crate) grad_k: Vec<f64>,
    pub(crate) grad_alpha: f64,
}

/// All cases of `soft_topk.safetensors`.
pub(crate) fn cases() -> Vec<Case> {
    let folder = std::env::var_os("SOFTSAE_GOLDEN").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("testdata/golden"),
        PathBuf::from,
    );
    let bytes = std::fs::read(folder.join("soft_topk.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: &str, key: &str| -> (Vec<usize>, Vec<f64>) {
        let tensor = file.tensor(&format!("{name}.{key}")).unwrap();
        assert_eq!(tensor.dtype(), safetensors::Dtype::F64);
        let numbers = tensor.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b));
        (tensor.shape().to_vec(), numbers.collect())
    };
    let matrix = |name: &str, key: &str| {
        let (shape, numbers) = read(name, key);
        Array2::from_shape_vec((shape[0], shape[1]), numbers).unwrap()
    };
    let mut names: Vec<String> =
        file.names().iter().filter_map(|name| name.strip_suffix(".x")).map(String::from).collect();
    names.sort();
    assert!(!names.is_empty());
    names
        .into_iter()
        .map(|name| Case {
            x: matrix(&name, "x"),
            k: read(&name, "k").1,
            alpha: read(&name, "alpha").1[0],
            v: matrix(&name, "v"),
            p: matrix(&name, "p"),
            theta: read(&name, "theta").1,
            grad_x: matrix(&name, "grad_x"),
            grad_k: read(&name, "grad_k").1,
            grad_alpha: read(&name, "grad_alpha").1[0],
            name,
        })
        .collect()
}

/// |got − expected| ≤ tolerance·(1 + |expected|), everywhere.
#[track_caller]
pub(crate) fn assert_close<'a>(
    what: &str,
    got: impl IntoIterator<Item = f64>,
    expected: impl IntoIterator<Item = &'a f64>,
    tolerance: f64,
) {
    for (i, (got, expected)) in got.into_iter().zip(expected).enumerate() {
        let allowed = tolerance * (1.0 + expected.abs());
        assert!((got - expected).abs() <= allowed, "{what}[{i}]: {got} instead of {expected}");
    }
}

#[test]
fn dense_weights_and_gradients_in_f64() {
    for case in cases() {
        let soft = soft_topk(case.x.view(), &case.k, case.alpha).unwrap();
        let name = |what: &str| format!("{}.{what}", case.name);
        assert_close(&name("p"), soft.weights().iter().copied(), &case.p, 1e-10);
        assert_close(&name("theta"), soft.thresholds(), &case.theta, 1e-10);
        let grad = soft.backward(case.x.view(), case.v.view()).unwrap();
        assert_close(&name("grad_x"), grad.x.iter().copied(), &case.grad_x, 1e-10);
        assert_close(&name("grad_k"), grad.k.iter().copied(), &case.grad_k, 1e-10);
        assert_close(&name("grad_alpha"), [grad.alpha], &[case.grad_alpha], 1e-10);
    }
}

#[test]
fn single_precision_for_the_same_rounded_inputs() {
    for case in cases() {
        let x = case.x.mapv(|x| x as f32);
        let k: Vec<f32> = case.k.iter().map(|k| *k as f32).collect();
        let alpha = case.alpha as f32;
        let p = soft_topk(x.view(), &k, alpha).unwrap().into_weights();
        for ((x, k), p) in x.outer_iter().zip(k).zip(p.outer_iter()) {
            let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
            let expected = oracle::weights(&wide, k.into(), alpha.into());
            let sum: f64 = p.iter().map(|p| f64::from(*p)).sum();
            assert!((sum - f64::from(k)).abs() <= 1e-5 * f64::from(k), "{}: {sum}", case.name);
            for (p, expected) in p.iter().zip(expected) {
                assert!((f64::from(*p) - expected).abs() <= 1e-5, "{}", case.name);
            }
        }
    }
}

#[test]
fn sparse_weights_and_gradients_in_f64() {
    for case in cases() {
        let sparse = soft_topk_sparse(case.x.view(), &case.k, case.alpha).unwrap();
        let name = |what: &str| format!("{}.{what}", case.name);
        assert_close(&name("p"), sparse.to_dense().iter().copied(), &case.p, 1e-10);
        let places = || {
            sparse.indptr().windows(2).enumerate().flat_map(|(row, ends)| {
                sparse.indices()[ends[0]..ends[1]].iter().map(move |i| (row, *i as usize))
            })
        };
        let v: Vec<f64> = places().map(|at| case.v[at]).collect();
        let grad = sparse.backward(&v).unwrap();
        let expected: Vec<f64> = places().map(|at| case.grad_x[at]).collect();
        assert_close(&name("grad_x"), grad.x, &expected, 1e-10);
        assert_close(&name("grad_k"), grad.k, &case.grad_k, 1e-10);
        assert_close(&name("grad_alpha"), [grad.alpha], &[case.grad_alpha], 1e-10);
    }
}
