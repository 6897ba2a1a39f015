//! The gradients against finite differences of the oracle, and the laws that they obey.

use ndarray::ArrayView2;
use proptest::collection::vec;
use proptest::prelude::*;
use soft_topk::{log_soft_topk, soft_bottomk, soft_topk, soft_topk_sparse};

use crate::oracle;

/// A row, its budget, a temperature and an incoming gradient.
fn problem() -> impl Strategy<Value = (Vec<f64>, f64, f64, Vec<f64>)> {
    (2..30_usize).prop_flat_map(|n| {
        let k = (0.05..0.95_f64).prop_map(move |share| share * n as f64);
        (vec(-2.0..2.0_f64, n), k, 0.05..3.0_f64, vec(-1.0..1.0_f64, n))
    })
}

fn matrix(x: &[f64]) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((1, x.len()), x).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The central difference of `f` at 0.
fn slope(f: impl Fn(f64) -> f64, step: f64) -> f64 {
    (f(step) - f(-step)) / (2.0 * step)
}

fn close(got: f64, expected: f64) -> bool {
    (got - expected).abs() <= 1e-5 * (1.0 + expected.abs())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn dense_gradients_are_slopes((x, k, alpha, v) in problem(), at in 0.0..1.0) {
        let place = (at * x.len() as f64) as usize;
        let step = 1e-5 * alpha;
        let moved = |by: f64| {
            let mut x = x.clone();
            x[place] += by;
            x
        };
        let soft = soft_topk(matrix(&x), &[k], alpha).unwrap();
        let grad = soft.backward(matrix(&x), matrix(&v)).unwrap();
        let value = |x: &[f64], k, alpha| dot(&oracle::weights(x, k, alpha), &v);
        prop_assert!(close(grad.x[[0, place]], slope(|h| value(&moved(h), k, alpha), step)));
        prop_assert!(close(grad.k[0], slope(|h| value(&x, k + h, alpha), 1e-6)));
        prop_assert!(close(grad.alpha, slope(|h| value(&x, k, alpha + h), step)));

        let bottom = soft_bottomk(matrix(&x), &[k], alpha).unwrap();
        let grad = bottom.backward(matrix(&x), matrix(&v)).unwrap();
        let value = |x: &[f64], k, alpha| {
            let mirrored: Vec<f64> = x.iter().map(|x| -x).collect();
            dot(&oracle::weights(&mirrored, k, alpha), &v)
        };
        prop_assert!(close(grad.x[[0, place]], slope(|h| value(&moved(h), k, alpha), step)));
        prop_assert!(close(grad.k[0], slope(|h| value(&x, k + h, alpha), 1e-6)));
        prop_assert!(close(grad.alpha, slope(|h| value(&x, k, alpha + h), step)));

        let log = log_soft_topk(matrix(&x), &[k], alpha).unwrap();
        let grad = log.backward(matrix(&x), matrix(&v)).unwrap();
        let value = |x: &[f64], k, alpha| {
            let log: Vec<f64> = oracle::weights(x, k, alpha).iter().map(|p| p.ln()).collect();
            dot(&log, &v)
        };
        prop_assert!(close(grad.x[[0, place]], slope(|h| value(&moved(h), k, alpha), step)));
        prop_assert!(close(grad.k[0], slope(|h| value(&x, k + h, alpha), 1e-6)));
        prop_assert!(close(grad.alpha, slope(|h| value(&x, k, alpha + h), step)));
    }

    #[test]
    fn sparse_gradients_are_dense_ones_of_a_gradient_on_the_support(
        (x, k, _, v) in problem(), exponent in -5.0..1.0_f64, whole in prop::bool::ANY,
    ) {
        let alpha = 10_f64.powf(exponent);
        let k = if whole { k.round().clamp(1.0, x.len() as f64 - 1.0) } else { k };
        let sparse = soft_topk_sparse(matrix(&x), &[k], alpha).unwrap();
        let mut masked = vec![0.0; x.len()];
        let indices = sparse.indices().iter().map(|i| *i as usize);
        let listed: Vec<f64> = indices.clone().map(|i| v[i]).collect();
        indices.clone().for_each(|i| masked[i] = v[i]);
        let soft = soft_topk(matrix(&x), &[k], alpha).unwrap();
        let dense = soft.backward(matrix(&x), matrix(&masked)).unwrap();
        let sparse = sparse.backward(&listed).unwrap();
        prop_assert!(close(sparse.k[0], dense.k[0]), "{} {}", sparse.k[0], dense.k[0]);
        prop_assert!(close(sparse.alpha, dense.alpha));
        for (got, i) in sparse.x.iter().zip(indices) {
            prop_assert!(close(*got, dense.x[[0, i]]));
        }
    }

    #[test]
    fn a_constant_gradient_moves_only_k((x, k, _, _) in problem(), exponent in -5.0..1.0_f64) {
        let alpha = 10_f64.powf(exponent);
        let ones = vec![1.0; x.len()];
        let soft = soft_topk(matrix(&x), &[k], alpha).unwrap();
        let grad = soft.backward(matrix(&x), matrix(&ones)).unwrap();
        // Σp = k whatever x and alpha are, so Σ dp/dk = 1 and the rest is 0.
        prop_assert!((grad.k[0] - 1.0).abs() <= 1e-12);
        prop_assert!(grad.x.iter().all(|g| g.abs() * alpha <= 1e-12));
        prop_assert!((grad.alpha * alpha).abs() <= 1e-9);
    }

    #[test]
    fn weights_never_fall_with_k((x, k, _, _) in problem(), exponent in -5.0..1.0_f64,
                                 at in 0.0..1.0) {
        let mut v = vec![0.0; x.len()];
        v[(at * x.len() as f64) as usize] = 1.0;
        let soft = soft_topk(matrix(&x), &[k], 10_f64.powf(exponent)).unwrap();
        let grad = soft.backward(matrix(&x), matrix(&v)).unwrap();
        prop_assert!((0.0..=1.0).contains(&grad.k[0]));
        prop_assert!(grad.x.sum().abs() <= 1e-9 / 10_f64.powf(exponent));
    }
}

#[test]
fn logarithms_across_a_gap_have_a_gradient() {
    // θ lies half-way, 5e5 units of alpha from either entry: no tail is a number.
    let (x, alpha) = ([1e6, 0.0, -1.0], 1.0);
    let log = log_soft_topk(matrix(&x), &[1.0], alpha).unwrap();
    let grad = log.backward(matrix(&x), matrix(&[0.0, 1.0, 0.0])).unwrap();
    // ln p of the second is z − ln 2, and θ is the mean of the first and of the log-sum-exp of the
    // others.
    let weight = 1.0 / (1.0 + (-1.0_f64).exp());
    let expected = [-0.5, 1.0 - 0.5 * weight, -0.5 * (1.0 - weight)];
    for (grad, expected) in grad.x.iter().zip(expected) {
        assert!((grad - expected).abs() < 1e-9, "{grad} instead of {expected}");
    }
    assert_eq!(grad.k[0], f64::INFINITY);
    let none = log.backward(matrix(&x), matrix(&[1.0, 0.0, 0.0])).unwrap();
    assert!(none.x.iter().chain(&none.k).all(|grad| *grad == 0.0));
}
