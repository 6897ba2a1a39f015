//! What the weights of one row must satisfy, on random and on awkward rows.

use ndarray::ArrayView2;
use proptest::collection::vec;
use proptest::prelude::*;
use soft_topk::{hard_topk, log_soft_topk, soft_bottomk, soft_topk, soft_topk_sparse};

use crate::oracle;

/// A row of one of many kinds: relu'd, all distinct, few values, constant, sorted, one giant,
/// shifted far away.
pub(crate) fn row() -> impl Strategy<Value = Vec<f64>> {
    let length = prop_oneof![2_usize..40, 500_usize..900, 1500_usize..2500];
    (length, 0..8_u8).prop_flat_map(|(n, kind)| {
        vec(-3.0..3.0_f64, n).prop_map(move |mut x| {
            match kind {
                0 => x.iter_mut().for_each(|x| *x = x.max(0.0)),
                1 => x.iter_mut().for_each(|x| *x = (*x * 2.0).round()),
                2 => x.iter_mut().for_each(|x| *x = 0.7),
                3 => x.sort_by(f64::total_cmp),
                4 => x.sort_by(|a, b| b.total_cmp(a)),
                5 => x[0] = 1e6,
                6 => x.iter_mut().for_each(|x| *x += 1000.0),
                _ => {}
            }
            x
        })
    })
}

pub(crate) fn alpha() -> impl Strategy<Value = f64> {
    (-6.0..3.0_f64).prop_map(|exponent| 10_f64.powf(exponent))
}

/// A row, a share of it to choose, and a temperature.
pub(crate) fn problem() -> impl Strategy<Value = (Vec<f64>, f64, f64)> {
    (row(), 0.001..0.999_f64, prop::bool::ANY, alpha()).prop_map(|(x, share, whole, alpha)| {
        let n = x.len() as f64;
        let k = share * n;
        let k = if whole { k.round().clamp(1.0, n - 1.0) } else { k };
        (x, k, alpha)
    })
}

pub(crate) fn matrix(x: &[f64]) -> ArrayView2<'_, f64> {
    ArrayView2::from_shape((1, x.len()), x).unwrap()
}

fn weights(x: &[f64], k: f64, alpha: f64) -> Vec<f64> {
    soft_topk(matrix(x), &[k], alpha).unwrap().into_weights().into_raw_vec_and_offset().0
}

pub(crate) fn single(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}

pub(crate) fn weights_f32(x: &[f32], k: f32, alpha: f32) -> Vec<f32> {
    let x = ArrayView2::from_shape((1, x.len()), x).unwrap();
    soft_topk(x, &[k], alpha).unwrap().into_weights().into_raw_vec_and_offset().0
}

pub(crate) fn worst(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn weights_sum_to_k_and_are_those_of_bisection((x, k, alpha) in problem()) {
        let p = weights(&x, k, alpha);
        let sum: f64 = p.iter().sum();
        prop_assert!((sum - k).abs() <= 1e-10 * k, "{sum} instead of {k}");
        prop_assert!(p.iter().all(|p| (0.0..=1.0).contains(p)));
        let off = worst(&p, &oracle::weights(&x, k, alpha));
        prop_assert!(off <= 1e-9, "{off:e} off");
    }

    #[test]
    fn single_precision_is_that_of_the_rounded_inputs((x, k, alpha) in problem()) {
        let (x, k, alpha) = (single(&x), k as f32, alpha as f32);
        let p: Vec<f64> = weights_f32(&x, k, alpha).iter().map(|p| f64::from(*p)).collect();
        let sum: f64 = p.iter().sum();
        let (k, alpha) = (f64::from(k), f64::from(alpha));
        prop_assert!((sum - k).abs() <= 1e-5 * k, "{sum} instead of {k}");
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let off = worst(&p, &oracle::weights(&wide, k, alpha));
        prop_assert!(off <= 1e-5, "{off:e} off");
    }

    #[test]
    fn any_magnitude_in_single_precision((x, k, _) in problem(), exponent in -30..=30_i32,
                                         ratio in -6.0..3.0_f64) {
        let scale = 10_f64.powi(exponent);
        let x: Vec<f32> = x.iter().map(|x| (x * scale) as f32).collect();
        let (k, alpha) = (k as f32, (scale * 10_f64.powf(ratio)) as f32);
        let p: Vec<f64> = weights_f32(&x, k, alpha).iter().map(|p| f64::from(*p)).collect();
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let (k, sum) = (f64::from(k), p.iter().sum::<f64>());
        prop_assert!((sum - k).abs() <= 1e-5 * k, "{sum} instead of {k}");
        let off = worst(&p, &oracle::weights(&wide, k, alpha.into()));
        prop_assert!(off <= 1e-5, "{off:e} off");
    }

    #[test]
    fn alpha_far_below_the_spacing_of_numbers((x, k, _) in problem(), exponent in -30..-10_i32) {
        let (x, k, alpha) = (single(&x), k as f32, 10_f32.powi(exponent));
        let p: Vec<f64> = weights_f32(&x, k, alpha).iter().map(|p| f64::from(*p)).collect();
        let (k, sum) = (f64::from(k), p.iter().sum::<f64>());
        prop_assert!((sum - k).abs() <= 1e-5 * k, "{sum} instead of {k}");
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let off = worst(&p, &oracle::weights(&wide, k, alpha.into()));
        prop_assert!(off <= 1e-5, "{off:e} off");
    }

    #[test]
    fn a_large_alpha_shares_k_evenly((x, k, _) in problem()) {
        let spread = x.iter().fold(0.0, |most: f64, other| most.max((other - x[0]).abs()));
        let share = k / x.len() as f64;
        for p in weights(&x, k, 1e6 * (1.0 + spread)) {
            prop_assert!((p - share).abs() <= 1e-5);
        }
    }

    #[test]
    fn weights_rise_with_x_within_a_row((x, k, alpha) in problem()) {
        let p = weights(&x, k, alpha);
        let mut order: Vec<usize> = (0..x.len()).collect();
        order.sort_by(|a, b| x[*a].total_cmp(&x[*b]));
        for pair in order.windows(2) {
            prop_assert!(p[pair[0]] <= p[pair[1]]);
        }
    }

    #[test]
    fn weights_rise_with_k((x, k, alpha) in problem(), more in 0.0..1.0_f64) {
        let larger = k + more * (x.len() as f64 - k) * 0.999;
        let (p, q) = (weights(&x, k, alpha), weights(&x, larger, alpha));
        for (p, q) in p.iter().zip(&q) {
            prop_assert!(*p <= q + 1e-12);
        }
    }

    #[test]
    fn an_entry_that_rises_gains_and_the_others_lose((x, k, alpha) in problem(), at in 0.0..1.0,
                                                     by in 0.0..2.0_f64) {
        let place = (at * x.len() as f64) as usize;
        let mut y = x.clone();
        y[place] += by;
        let (p, q) = (weights(&x, k, alpha), weights(&y, k, alpha));
        for (i, (p, q)) in p.iter().zip(&q).enumerate() {
            if i == place {
                prop_assert!(*q >= p - 1e-9);
            } else {
                prop_assert!(*q <= p + 1e-9);
            }
        }
    }

    #[test]
    fn weights_move_with_a_permutation((x, k, alpha) in problem(), turn in 0.0..1.0) {
        let turn = (turn * x.len() as f64) as usize;
        let mut y = x.clone();
        y.rotate_left(turn);
        y.reverse();
        let (mut p, q) = (weights(&x, k, alpha), weights(&y, k, alpha));
        p.rotate_left(turn);
        p.reverse();
        prop_assert!(worst(&p, &q) <= 1e-10);
    }

    #[test]
    fn a_shift_changes_nothing((x, k, alpha) in problem(), shift in -64..64_i32) {
        // Whole numbers in units of 2⁻²⁰ keep every difference exact.
        let grid = |x: &f64| (x * 1_048_576.0).round() / 1_048_576.0;
        let x: Vec<f64> = x.iter().map(grid).collect();
        let y: Vec<f64> = x.iter().map(|x| x + f64::from(shift)).collect();
        prop_assert!(worst(&weights(&x, k, alpha), &weights(&y, k, alpha)) <= 1e-9);
    }

    #[test]
    fn a_common_factor_changes_nothing((x, k, alpha) in problem(), power in -40..40_i32) {
        let c = 2_f64.powi(power);
        let y: Vec<f64> = x.iter().map(|x| x * c).collect();
        prop_assert!(worst(&weights(&x, k, alpha), &weights(&y, k, alpha * c)) <= 1e-12);
    }

    #[test]
    fn the_mirror_image_chooses_the_rest((x, k, alpha) in problem()) {
        let mirrored: Vec<f64> = x.iter().map(|x| -x).collect();
        let rest = weights(&mirrored, x.len() as f64 - k, alpha);
        let rest: Vec<f64> = rest.iter().map(|p| 1.0 - p).collect();
        prop_assert!(worst(&weights(&x, k, alpha), &rest) <= 1e-9);
        let bottom = soft_bottomk(matrix(&x), &[k], alpha).unwrap();
        prop_assert!((bottom.weights().sum() - k).abs() <= 1e-10 * k);
    }

    /// The Jacobian is diag(d) − ddᵀ/Σd, positive with norm at most max d ≤ 1/(2·alpha): so the bound
    /// holds between any two rows, however far apart.
    #[test]
    fn weights_are_lipschitz_in_x((x, k, alpha) in problem(), v in vec(-1.0..1.0_f64, 2500),
                                  exponent in -3.0..2.0_f64) {
        let step = 10_f64.powf(exponent) * alpha;
        let y: Vec<f64> = x.iter().zip(&v).map(|(x, v)| x + step * v).collect();
        let moved: Vec<f64> = x.iter().zip(&y).map(|(x, y)| y - x).collect();
        let (p, q) = (weights(&x, k, alpha), weights(&y, k, alpha));
        let norm = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>().sqrt();
        let output = norm(&mut p.iter().zip(&q).map(|(p, q)| p - q));
        let input = norm(&mut moved.iter().copied());
        let noise = 1e-9 * (x.len() as f64).sqrt();
        prop_assert!(output <= input / (2.0 * alpha) * (1.0 + 1e-6) + noise);
    }

    #[test]
    fn small_temperatures_choose_as_hard_topk(x in vec(-1000..1000_i32, 3..900), k in 0.0..1.0) {
        // Distinct entries at least one apart.
        let n = x.len();
        let x: Vec<f64> = x.iter().enumerate().map(|(i, x)| f64::from(*x) + i as f64 / n as f64)
            .map(|x| (x * n as f64).round()).collect();
        let k = 1 + (k * (n - 1) as f64) as usize;
        prop_assume!(k < n);
        let p = weights(&x, k as f64, 1e-3);
        let chosen = hard_topk(matrix(&x), &[k]).unwrap();
        let mut hard = vec![0.0; n];
        chosen.row(0).iter().for_each(|i| hard[*i as usize] = 1.0);
        let mut sorted = x.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        prop_assume!(sorted[k - 1] > sorted[k]);
        prop_assert!(worst(&p, &hard) <= 1e-9);
        let sparse = soft_topk_sparse(matrix(&x), &[k as f64], 1e-4).unwrap();
        prop_assert_eq!(sparse.row(0).0, chosen.row(0));
    }

    #[test]
    fn hard_topk_is_a_stable_sort((x, _, _) in problem(), k in 0.0..=1.0) {
        let k = (k * x.len() as f64) as usize;
        let mut order: Vec<u32> = (0..x.len() as u32).collect();
        order.sort_by(|a, b| x[*b as usize].partial_cmp(&x[*a as usize]).unwrap());
        let mut first = order[..k].to_vec();
        first.sort_unstable();
        let chosen = hard_topk(matrix(&x), &[k]).unwrap();
        prop_assert_eq!(chosen.indices(), &first[..]);
    }

    #[test]
    fn sparse_is_dense_on_its_support((x, k, alpha) in problem()) {
        let sparse = soft_topk_sparse(matrix(&x), &[k], alpha).unwrap();
        let dense = weights(&x, k, alpha);
        prop_assert!(sparse.values().iter().all(|p| *p > 0.0));
        prop_assert!(sparse.row(0).0.is_sorted());
        prop_assert_eq!(sparse.to_dense().into_raw_vec_and_offset().0, dense);
        let x = single(&x);
        let view = ArrayView2::from_shape((1, x.len()), &x).unwrap();
        let sparse = soft_topk_sparse(view, &[k as f32], alpha as f32).unwrap();
        let dense = weights_f32(&x, k as f32, alpha as f32);
        prop_assert_eq!(sparse.to_dense().into_raw_vec_and_offset().0, dense);
    }

    #[test]
    fn the_logarithm_is_that_of_the_weights((x, k, alpha) in problem()) {
        let log = log_soft_topk(matrix(&x), &[k], alpha).unwrap();
        for (log, p) in log.values().iter().zip(weights(&x, k, alpha)) {
            prop_assert!(log.is_finite());
            if p > 1e-300 {
                prop_assert!((log - p.ln()).abs() <= 1e-9 * (1.0 + p.ln().abs()), "{log} {p}");
            }
        }
        // In single precision it is that of the rounded inputs to the last bits.
        let (x, k, alpha) = (single(&x), k as f32, alpha as f32);
        let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let exact = log_soft_topk(matrix(&wide), &[k.into()], alpha.into()).unwrap();
        let view = ArrayView2::from_shape((1, x.len()), &x).unwrap();
        let log = log_soft_topk(view, &[k], alpha).unwrap();
        for (log, exact) in log.values().iter().zip(exact.values()) {
            prop_assert!((f64::from(*log) - exact).abs() <= 1e-4 * (1.0 + exact.abs()));
        }
    }
}
