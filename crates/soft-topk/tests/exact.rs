//! Rows over the whole domain against numbers of 700 digits (`testdata/domain/generate.py`), and long
//! ones against bisection.

use ndarray::{Array2, ArrayView2};
use proptest::collection::vec;
use proptest::prelude::*;
use soft_topk::{Entry, Error, Real, SparseTopK, log_soft_topk, soft_topk, soft_topk_sparse};

use crate::oracle;
use crate::properties::{problem, weights_f32};

/// A row, and what is known of it.
struct Row<T> {
    text: &'static str,
    k: T,
    alpha: T,
    x: Vec<T>,
    p: Vec<f64>,
    logarithms: Vec<f64>,
    shares: Vec<f64>,
}

fn rows<T: Real>(precision: &str) -> impl Iterator<Item = Row<T>> {
    let numbers = |text: &str| -> Vec<f64> {
        text.split(' ').map(|number| number.parse().expect("a number")).collect()
    };
    let lines = include_str!("../testdata/domain/domain.tsv").lines();
    let lines = lines.map(|line| (line, line.split('\t').collect::<Vec<_>>()));
    let lines: Vec<_> = lines.filter(|(_, fields)| fields[0] == precision).collect();
    assert!(lines.len() > 400);
    lines.into_iter().map(move |(text, fields)| Row {
        text,
        k: T::from_f64(numbers(fields[1])[0]),
        alpha: T::from_f64(numbers(fields[2])[0]),
        x: numbers(fields[3]).into_iter().map(T::from_f64).collect(),
        p: numbers(fields[4]),
        logarithms: numbers(fields[5]),
        shares: numbers(fields[6]),
    })
}

/// The bounds that the README states.
struct Bounds {
    sum: f64,
    weight: f64,
    logarithm: f64,
}

const SINGLE: Bounds = Bounds { sum: 1e-5, weight: 1e-5, logarithm: 1e-4 };
const DOUBLE: Bounds = Bounds { sum: 1e-10, weight: 1e-9, logarithm: 1e-9 };

fn each_row<T: Entry<Real = T> + Real>(
    precision: &str,
    check: impl Fn(&Row<T>, ArrayView2<'_, T>),
) {
    for row in rows::<T>(precision) {
        check(&row, ArrayView2::from_shape((1, row.x.len()), &row.x).unwrap());
    }
}

fn weights<T: Entry<Real = T> + Real>(precision: &str, bounds: &Bounds) {
    each_row::<T>(precision, |row, x| {
        let soft = soft_topk(x, &[row.k], row.alpha).unwrap();
        let p: Vec<f64> = soft.weights().iter().map(|p| p.to_f64()).collect();
        let (k, sum) = (row.k.to_f64(), p.iter().sum::<f64>());
        assert!((sum - k).abs() <= bounds.sum * k, "{sum:e} instead of {k:e}: {}", row.text);
        for (got, expected) in p.iter().zip(&row.p) {
            let off = (got - expected).abs() / k.min(1.0);
            assert!(off <= bounds.weight, "{got:e} instead of {expected:e}: {}", row.text);
        }
        for (i, j) in (0..p.len()).flat_map(|i| (0..i).map(move |j| (i, j))) {
            assert!(row.x[i] != row.x[j] || p[i] == p[j], "{} {}: {}", p[i], p[j], row.text);
        }
        let sparse = soft_topk_sparse(x, &[row.k], row.alpha).unwrap();
        assert_eq!(sparse.to_dense(), soft.weights(), "{}", row.text);
        assert!(soft.thresholds()[0].to_f64().is_finite(), "{}", row.text);
    });
}

/// dp/dk is a tail's share of all tails, which is the gradient of k where v is 1 at one entry.
fn derivatives_by_k<T: Entry<Real = T> + Real>(precision: &str, bounds: &Bounds) {
    each_row::<T>(precision, |row, x| {
        let soft = soft_topk(x, &[row.k], row.alpha).unwrap();
        for (i, expected) in row.shares.iter().enumerate() {
            let v =
                Array2::from_shape_fn((1, row.x.len()), |(_, j)| T::from_f64(f64::from(i == j)));
            let gradients = soft.backward(x, v.view()).unwrap();
            let got = gradients.k[0].to_f64();
            let off = (got - expected).abs();
            assert!(off <= bounds.weight, "{i}: {got:e} instead of {expected:e}: {}", row.text);
            assert!(gradients.x.iter().all(|x| x.to_f64().is_finite()), "{}", row.text);
        }
    });
}

fn logarithms<T: Entry<Real = T> + Real>(precision: &str, bounds: &Bounds) {
    each_row::<T>(precision, |row, x| {
        let log = log_soft_topk(x, &[row.k], row.alpha).unwrap();
        for (got, expected) in log.values().iter().zip(&row.logarithms) {
            let (got, rounded) = (got.to_f64(), T::from_f64(*expected).to_f64());
            let off = (got - expected).abs() / (1.0 + expected.abs());
            let right = off <= bounds.logarithm || got == rounded;
            assert!(right, "{got:e} instead of {expected:e}: {}", row.text);
        }
        // d ln p_j/dx_i = r_j·(δ_ij − share_i)/alpha with r_j = t_j/p_j, 1 below θ.
        for (j, logarithm) in row.logarithms.iter().enumerate() {
            let ratio = if *logarithm < -0.7 { 1.0 } else { -logarithm.exp_m1() / logarithm.exp() };
            let ratio = if ratio > 1.0 { 1.0 } else { ratio };
            let v =
                Array2::from_shape_fn((1, row.x.len()), |(_, i)| T::from_f64(f64::from(i == j)));
            let gradients = log.backward(x, v.view()).unwrap();
            for (i, (got, share)) in gradients.x.iter().zip(&row.shares).enumerate() {
                let (got, alpha) = (got.to_f64() * row.alpha.to_f64(), row.alpha.to_f64());
                let expected = ratio * (f64::from(i == j) - share);
                let off = (got - expected).abs();
                assert!(
                    off <= bounds.logarithm,
                    "{i} {j} {alpha:e}: {got:e} {expected:e}: {}",
                    row.text
                );
            }
            assert!(!gradients.k[0].to_f64().is_nan(), "{}", row.text);
            assert!(!gradients.alpha.to_f64().is_nan(), "{}", row.text);
        }
    });
}

#[test]
fn weights_are_right_over_the_whole_domain() {
    weights::<f32>("f32", &SINGLE);
    weights::<f64>("f64", &DOUBLE);
}

#[test]
fn derivatives_by_k_are_right_over_the_whole_domain() {
    derivatives_by_k::<f32>("f32", &SINGLE);
    derivatives_by_k::<f64>("f64", &DOUBLE);
}

#[test]
fn logarithms_are_right_over_the_whole_domain() {
    logarithms::<f32>("f32", &SINGLE);
    logarithms::<f64>("f64", &DOUBLE);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Exponents of x, alpha and k all over the range of single precision.
    #[test]
    fn the_whole_domain_of_single_precision(
        (x, _, _) in problem(),
        (centre, spread) in (-126..126_i32, prop_oneof![Just(0_i32), 1..8_i32, Just(260)]),
        exponents in vec(0.0..1.0_f64, 2500),
        (alpha, share) in (-126.0..121.0_f64, prop_oneof![-103.0..0.0_f64, -1.0..0.0_f64]),
        whole in prop::bool::ANY,
    ) {
        let n = x.len() as f64;
        let exponent = |u: f64| {
            (f64::from(centre) + (2.0 * u - 1.0) * f64::from(spread)).round().clamp(-126.0, 125.0)
        };
        let x: Vec<f32> =
            x.iter().zip(&exponents).map(|(x, u)| (x * exponent(*u).exp2()) as f32).collect();
        prop_assume!(x.iter().all(|x| x.is_finite()));
        let alpha = alpha.exp2() as f32;
        let k = n * share.exp2();
        let k = (if whole { k.round().clamp(1.0, n - 1.0) } else { k }) as f32;
        prop_assume!(f64::from(k) < n);
        let p = weights_f32(&x, k, alpha);
        let (wide, sum): (Vec<f64>, f64) =
            (x.iter().map(|x| f64::from(*x)).collect(), p.iter().map(|p| f64::from(*p)).sum());
        let (k, alpha) = (f64::from(k), f64::from(alpha));
        prop_assert!((sum - k).abs() <= 1e-5 * k, "{sum:e} instead of {k:e}");
        let expected = oracle::weights(&wide, k, alpha);
        for (p, expected) in p.iter().zip(expected) {
            let off = (f64::from(*p) - expected).abs();
            prop_assert!(off <= 1e-5 * k.min(1.0), "{p:e} instead of {expected:e}");
        }
        let mut pairs: Vec<(f32, f32)> = x.iter().copied().zip(p).collect();
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        for pair in pairs.windows(2) {
            prop_assert!(pair[0].1 <= pair[1].1, "{pair:?}, k {k:e}, alpha {alpha:e}");
            prop_assert!(pair[0].0 != pair[1].0 || pair[0].1 == pair[1].1);
        }
    }
}

#[test]
fn equal_entries_have_equal_weights() {
    let n = 65_536;
    // Ties, and both zeros.
    let values = [-2.0, -1.0, 0.0, 1.0, -2.0, -1.0, -0.0, 1.0];
    let x = Array2::from_shape_fn((1, n), |(_, i)| values[i * 7919 % 8]);
    for alpha in [1e-3_f32, 1.0, 1e3, 1e4, 1e6] {
        // Of the k near 32,766, those at 1e4 have their threshold next to 0.
        for k in [1.0_f32, 100.5, 32_766.156, 32_766.25, 32_766.313, 32_768.0, 60_000.0] {
            let p = soft_topk(x.view(), &[k], alpha).unwrap().into_weights();
            let mut seen: Vec<(f32, f32)> = Vec::new();
            for (&x, &p) in x.iter().zip(&p) {
                match seen.iter().find(|(other, _)| *other == x) {
                    Some((_, first)) => assert_eq!(p, *first, "x {x}, k {k}, alpha {alpha}"),
                    None => seen.push((x, p)),
                }
            }
        }
    }
}

#[test]
fn budgets_that_underflow_are_refused() {
    let x = Array2::from_shape_fn((1, 1000), |(_, i)| (i % 7) as f64);
    let least = 1000.0 * (f64::MIN_POSITIVE / f64::EPSILON);
    for k in [1e-306, 1e-304, 0.99 * least] {
        for text in [
            soft_topk(x.view(), &[k], 0.1).unwrap_err().to_string(),
            soft_topk_sparse(x.view(), &[k], 0.1).unwrap_err().to_string(),
            log_soft_topk(x.view(), &[k], 0.1).unwrap_err().to_string(),
        ] {
            let expected =
                format!("k of row 0: expected at least {least:e} for rows of this length");
            assert_eq!(text, format!("{expected}, got {k:e}"));
        }
    }
    let error = soft_topk(x.mapv(|x| x as f32).view(), &[1e-36], 0.1).unwrap_err();
    assert!(matches!(error, Error::SmallBudget { row: 0, .. }));
    for (k, alpha) in [(least, 0.1), (least, 1e-300), (least, 1e300), (1e-200, 1.0)] {
        let sum = soft_topk(x.view(), &[k], alpha).unwrap().weights().sum();
        assert!((sum - k).abs() <= 1e-10 * k, "{k:e} {alpha:e}: {sum:e}");
    }
}

#[test]
fn results_without_rows_have_gradients_without_entries() {
    let empty = SparseTopK::<f32>::default();
    assert_eq!(empty.indptr(), [0]);
    assert_eq!(empty.backward(&[]).unwrap().alpha, 0.0);
    let mut sparse = SparseTopK::<f32>::default();
    sparse.forward::<f32>(&[], 5, &[2.0], 0.1).unwrap();
    assert!(sparse.backward(&[]).unwrap().k.is_empty());
    sparse.forward(&[1.0_f32, 2.0, 3.0], 3, &[2.0], 0.1).unwrap();
    sparse.forward(&[1.0_f32, f32::NAN, 3.0], 3, &[2.0], 0.1).unwrap_err();
    assert_eq!((sparse.rows(), sparse.backward(&[]).unwrap().x), (0, Vec::new()));
}
