//! The edges of the domain: what is refused and how, and what is awkward but right.

use ndarray::{Array2, ArrayView2, array};
use soft_topk::{
    Error, Saved, hard_topk, log_soft_topk, soft_bottomk, soft_topk, soft_topk_sparse,
};

use crate::oracle;

/// Every function of the crate on the same arguments must give the same error.
fn refused(x: ArrayView2<'_, f64>, k: &[f64], alpha: f64) -> String {
    let texts = [
        soft_topk(x, k, alpha).unwrap_err().to_string(),
        soft_topk_sparse(x, k, alpha).unwrap_err().to_string(),
        log_soft_topk(x, k, alpha).unwrap_err().to_string(),
        soft_bottomk(x, k, alpha).unwrap_err().to_string(),
    ];
    assert!(texts.iter().all(|text| *text == texts[0]), "{texts:?}");
    texts[0].clone()
}

#[test]
fn budgets_outside_the_row_are_refused() {
    let x = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    assert_eq!(refused(x.view(), &[1.0, 3.0], 0.1), "k of row 1: expected 0 < k < 3, got 3");
    assert_eq!(refused(x.view(), &[0.0, 1.0], 0.1), "k of row 0: expected 0 < k < 3, got 0");
    assert_eq!(refused(x.view(), &[1.0, -2.0], 0.1), "k of row 1: expected 0 < k < 3, got -2");
    let nan = "k of row 0: expected 0 < k < 3, got NaN";
    assert_eq!(refused(x.view(), &[f64::NAN], 0.1), nan);
}

#[test]
fn temperatures_outside_the_domain_are_refused() {
    let x = array![[1.0, 2.0, 3.0]];
    let most = f64::MAX / 1024.0;
    let wanted = format!("alpha: expected a number from {:e} to {most:e}, got", f64::MIN_POSITIVE);
    for (alpha, text) in
        [(0.0, "0e0"), (-1.0, "-1e0"), (f64::INFINITY, "inf"), (1e-310, "1e-310"), (2e305, "2e305")]
    {
        assert_eq!(refused(x.view(), &[1.0], alpha), format!("{wanted} {text}"));
    }
    assert_eq!(refused(x.view(), &[1.0], f64::NAN), format!("{wanted} NaN"));
    // Where the difference of two entries overflows in f32.
    let error = soft_topk(array![[3e38_f32, -3e38]].view(), &[1.0], 3.4e38).unwrap_err();
    assert!(matches!(error, Error::Alpha { .. }));
}

#[test]
fn entries_that_are_not_finite_are_named() {
    for n in [3, 700, 5000] {
        for (value, mirrored) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf")] {
            let mut x = Array2::from_shape_fn((40, n), |(row, i)| (row * 7 + i * 3 % 11) as f64);
            x[[31, n - 1]] = value;
            x[[35, 0]] = value;
            let text = soft_topk(x.view(), &[1.5], 0.1).unwrap_err().to_string();
            let place = format!("x of row 31, entry {}", n - 1);
            assert_eq!(text, format!("{place}: expected a finite number, got {mirrored}"));
            assert!(matches!(
                soft_topk_sparse(x.view(), &[1.5], 0.1),
                Err(Error::NotFinite { row: 31, .. })
            ));
            assert!(matches!(
                log_soft_topk(x.view(), &[1.5], 0.1),
                Err(Error::NotFinite { row: 31, .. })
            ));
            assert!(matches!(hard_topk(x.view(), &[2]), Err(Error::NotFinite { row: 31, .. })));
        }
    }
}

#[test]
fn rows_without_a_choice_are_refused() {
    let text = "row length: expected 2 to 2^32 - 1 entries, got";
    assert_eq!(refused(Array2::zeros((3, 1)).view(), &[0.5], 0.1), format!("{text} 1"));
    assert_eq!(refused(Array2::zeros((3, 0)).view(), &[0.5], 0.1), format!("{text} 0"));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let x = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
    let text = refused(x.view(), &[1.0, 1.0, 1.0], 0.1);
    assert_eq!(text, "shape of k: expected [2] or [1], got [3]");
    let soft = soft_topk(x.view(), &[1.0], 0.1).unwrap();
    let error = soft.backward(x.view(), array![[1.0, 2.0]].view()).unwrap_err();
    assert_eq!(error.to_string(), "shape of v: expected [2, 3], got [1, 2]");
    let sparse = soft_topk_sparse(x.view(), &[1.0], 1e-4).unwrap();
    let error = sparse.backward(&[1.0]).unwrap_err();
    assert_eq!(error.to_string(), "shape of v: expected [2], got [1]");
    let error = hard_topk(x.view(), &[1, 4]).unwrap_err();
    assert_eq!(error.to_string(), "k of row 1: expected 0 <= k <= 3, got 4");
    let error = Saved::default().forward(&[1.0; 7], 3, &[1.0], 0.1, &mut [0.0; 7]).unwrap_err();
    assert_eq!(error.to_string(), "shape of x: expected a multiple of 3 entries, got 7");
}

#[test]
fn no_rows_are_no_work() {
    let x = Array2::<f32>::zeros((0, 5));
    let soft = soft_topk(x.view(), &[], 0.1).unwrap();
    assert_eq!(soft.weights().dim(), (0, 5));
    assert_eq!(soft.backward(x.view(), x.view()).unwrap().alpha, 0.0);
    assert_eq!(soft_topk_sparse(x.view(), &[2.0], 0.1).unwrap().indptr(), [0]);
    assert_eq!(hard_topk(x.view(), &[]).unwrap().indptr(), [0]);
}

#[test]
fn views_in_any_order_are_read_right() {
    let x = Array2::from_shape_fn((7, 5), |(i, j)| ((i * 31 + j * 17) % 13) as f64);
    let plain = x.t().as_standard_layout().into_owned();
    let (view, copy) = (x.t(), plain.view());
    let one = soft_topk(view, &[2.5], 0.3).unwrap();
    let other = soft_topk(copy, &[2.5], 0.3).unwrap();
    assert_eq!(one.weights(), other.weights());
    let (one, other) = (one.backward(view, view).unwrap(), other.backward(copy, copy).unwrap());
    assert_eq!(one.x, other.x);
}

#[test]
fn awkward_rows_are_quick_and_right() {
    let n = 65_536;
    let ramp = |i: usize| i as f32 / n as f32;
    let rows: [(&str, Vec<f32>); 7] = [
        ("equal", vec![1.0; n]),
        ("two values", (0..n).map(|i| (i % 2) as f32).collect()),
        ("ascending", (0..n).map(ramp).collect()),
        ("descending", (0..n).map(|i| -ramp(i)).collect()),
        ("one giant", (0..n).map(|i| if i == 7 { 3e38 } else { ramp(i) }).collect()),
        ("denormal", (0..n).map(|i| i as f32 * 1e-45).collect()),
        ("steep", (0..n).map(|i| (-(i as f32) * 1e-2).exp()).collect()),
    ];
    for (name, x) in &rows {
        let x = ArrayView2::from_shape((1, n), x).unwrap();
        for alpha in [1e-30, 1e-9, 1e-4, 1e-2, 1.0, 1e3] {
            for k in [0.01, 1.0, 64.0, 64.5, 3000.0, 32_768.0, 65_000.0, 65_535.5] {
                let soft = soft_topk(x, &[k], alpha).unwrap();
                let sum: f64 = soft.weights().iter().map(|p| f64::from(*p)).sum();
                let k = f64::from(k);
                assert!((sum - k).abs() <= 1e-5 * k, "{name}, alpha {alpha}, k {k}: {sum}");
            }
        }
    }
}

#[test]
fn awkward_rows_have_the_weights_of_bisection() {
    let n = 3000;
    let ramp = |i: usize| i as f32 / n as f32;
    let rows: [(&str, Vec<f32>); 8] = [
        ("equal", vec![1.0; n]),
        ("two values", (0..n).map(|i| (i % 2) as f32).collect()),
        ("ascending", (0..n).map(ramp).collect()),
        ("descending", (0..n).map(|i| -ramp(i)).collect()),
        ("one giant", (0..n).map(|i| if i == 7 { 3e38 } else { ramp(i) }).collect()),
        ("denormal", (0..n).map(|i| i as f32 * 1e-45).collect()),
        ("powers", (0..n).map(|i| ((i % 252) as f32 - 126.0).exp2()).collect()),
        ("a period", (0..n).map(|i| (i % 128) as f32 + 1e-3 * ramp(i)).collect()),
    ];
    for (name, x) in &rows {
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let x = ArrayView2::from_shape((1, n), x).unwrap();
        for alpha in [1e-30_f32, 1e-9, 1e-6, 1e-4, 1e-2, 1.0, 1e3] {
            for k in [0.01_f32, 1.0, 64.5, 300.0, 1500.0, 2999.5] {
                let p = soft_topk(x, &[k], alpha).unwrap().into_weights();
                let expected = oracle::weights(&wide, k.into(), alpha.into());
                let off = p.iter().zip(&expected).map(|(p, e)| (f64::from(*p) - e).abs());
                let off = off.fold(0.0, f64::max);
                assert!(off <= 1e-5, "{name}, alpha {alpha}, k {k}: {off:e}");
            }
        }
    }
}

#[test]
fn long_rows_at_a_small_temperature_keep_the_bound_of_single_precision() {
    let n = 65_536;
    // Normals by the Box-Muller transform of a Weyl sequence.
    let uniform = |i: usize, step: f64| ((i + 1) as f64 * step).fract();
    let normal = |i: usize| {
        let (u, v) = (uniform(i, 0.754_877_666_246_693), uniform(i, 0.569_840_290_998_053));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let x: Vec<f32> = (0..n).map(|i| normal(i).max(0.0) as f32).collect();
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    for alpha in [1e-6_f32, 1e-4, 1e-2, 1.0] {
        for k in [64.0_f32, 64.3, 5000.7] {
            let view = ArrayView2::from_shape((1, n), &x).unwrap();
            let p = soft_topk(view, &[k], alpha).unwrap().into_weights();
            let sum: f64 = p.iter().map(|p| f64::from(*p)).sum();
            assert!((sum - f64::from(k)).abs() <= 1e-5 * f64::from(k), "{alpha} {k}: {sum}");
            let expected = oracle::weights(&wide, k.into(), alpha.into());
            let off = p.iter().zip(&expected).map(|(p, e)| (f64::from(*p) - e).abs());
            assert!(off.fold(0.0, f64::max) <= 1e-5, "{alpha} {k}");
        }
    }
}
