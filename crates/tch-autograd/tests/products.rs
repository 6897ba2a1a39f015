//! Products in place: against libtorch in f64, for any strides and threads, and what is refused.

use proptest::prelude::*;
use tch::{Device, Kind, Tensor};
use tch_autograd::{Error, matmul_into};

/// Numbers between −½ and ½; libtorch's generator would be shared with tests on other threads.
fn noise(shape: [i64; 2], seed: i64) -> Tensor {
    let place = Tensor::arange(shape[0] * shape[1], (Kind::Double, Device::Cpu));
    let wave = (place * 12.9898 + (seed % 1000) as f64 * 78.233).sin() * 43_758.5;
    (&wave - wave.floor() - 0.5).to_kind(Kind::Float).reshape(shape)
}

/// The matrix `[rows, cols]`, stored as its transpose or as every second column of a wider one.
fn stored(rows: i64, cols: i64, seed: i64, how: u8) -> Tensor {
    match how {
        0 => noise([rows, cols], seed),
        1 => noise([cols, rows], seed).tr(),
        _ => noise([rows, 2 * cols], seed).slice(1, 0, 2 * cols, 2),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn products_are_those_of_f64(
        (m, k, n) in (0i64..70, 0i64..70, 0i64..70),
        (left, right) in (0u8..3, 0u8..3),
        add in any::<bool>(),
        kind in prop_oneof![Just(Kind::Float), Just(Kind::Double)],
        seed in 0i64..1 << 40,
    ) {
        let of = |x: Tensor| x.to_kind(kind);
        let (a, b) = (of(stored(m, k, seed, left)), of(stored(k, n, seed + 1, right)));
        let mut out = of(noise([m, n], seed + 2));
        let double = |t: &Tensor| t.to_kind(Kind::Double);
        let product = double(&a).mm(&double(&b));
        let expected = if add { &product + double(&out) } else { product };
        matmul_into(&a, &b, &mut out, add).unwrap();
        if m * n > 0 {
            // Of k + 1 roundings each is at most an ulp of a sum of squares of normal numbers.
            let error = (double(&out) - expected).abs().max().double_value(&[]);
            let each = if kind == Kind::Float { 2e-6 } else { 4e-15 };
            prop_assert!(error < each * (k as f64 + 1.0), "{}", error);
        }
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    let product = |n_threads: usize| -> Vec<f32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(n_threads).build().unwrap();
        pool.install(|| {
            let (a, b) = (noise([257, 515], 1), noise([1031, 515], 2).tr());
            let mut out = Tensor::zeros([257, 1031], (Kind::Float, Device::Cpu));
            matmul_into(&a, &b, &mut out, false).unwrap();
            out.flatten(0, -1).try_into().unwrap()
        })
    };
    let one = product(1);
    for n_threads in [2, 3, 5] {
        assert_eq!(product(n_threads), one, "{n_threads} threads");
    }
}

#[test]
fn a_product_over_nothing_is_zero() {
    let (a, b) = (noise([3, 0], 1), noise([0, 2], 2));
    let mut out = noise([3, 2], 3);
    let before = out.copy();
    matmul_into(&a, &b, &mut out, true).unwrap();
    assert_eq!(out, before);
    matmul_into(&a, &b, &mut out, false).unwrap();
    assert_eq!(out, Tensor::zeros([3, 2], (Kind::Float, Device::Cpu)));
}

#[test]
fn what_does_not_fit_is_refused() {
    let (a, b) = (noise([3, 4], 1), noise([4, 5], 2));
    let error = |a: &Tensor, b: &Tensor, mut out: Tensor| {
        matmul_into(a, b, &mut out, false).unwrap_err().to_string()
    };
    let expected = "product: expected [m, k]·[k, n] into [m, n], got [3, 4]·[4, 5] into [5, 3]";
    assert_eq!(error(&a, &b, noise([5, 3], 3)), expected);
    assert!(error(&a, &a, noise([3, 4], 3)).contains("[3, 4]·[3, 4]"));
    assert!(error(&a, &b.get(0), noise([3, 5], 3)).contains("expected a matrix, got shape [5]"));
    let square = noise([4, 4], 3);
    assert!(error(&square, &square, square.shallow_clone()).contains("memory of its own"));
    let mut out = noise([5, 3], 3).tr();
    assert!(matches!(matmul_into(&a, &b, &mut out, false), Err(Error::NotContiguous { .. })));
    let mut out = noise([3, 5], 3);
    let double = a.to_kind(Kind::Double);
    assert!(matches!(matmul_into(&double, &b, &mut out, false), Err(Error::Kind { .. })));
    let mut out = out.to_kind(Kind::Double);
    assert!(matches!(matmul_into(&double, &b, &mut out, false), Err(Error::Kind { .. })));
    let mut out = out.to_kind(Kind::Half);
    assert!(matches!(matmul_into(&a, &b, &mut out, false), Err(Error::Kind { .. })));
}

#[test]
fn a_product_into_a_saved_tensor_is_seen_by_autograd() {
    let w = noise([3, 3], 1).set_requires_grad(true);
    let mut out = noise([3, 3], 2);
    let loss = (&w * &out).sum(Kind::Float);
    matmul_into(&noise([3, 3], 3), &noise([3, 3], 4), &mut out, false).unwrap();
    let error = loss.f_backward().unwrap_err().to_string();
    assert!(error.contains("modified by an inplace operation"), "{error}");
}

#[test]
fn a_product_leaves_views_of_its_target_and_of_its_factors() {
    let buffer = noise([6, 4], 1);
    let before = buffer.copy();
    let seen = tch_autograd::view::<f32>(&buffer).unwrap();
    // Target and factor are parts of one storage, which moves away from the view.
    let (a, mut out) = (buffer.narrow(0, 0, 2), buffer.narrow(0, 2, 2));
    let b = noise([4, 4], 2);
    matmul_into(&a, &b, &mut out, false).unwrap();
    assert_eq!(Tensor::from_slice(&seen), before.flatten(0, -1));
    let expected = before.narrow(0, 0, 2).mm(&b);
    assert!((out - expected).abs().max().double_value(&[]) < 1e-5);
    assert_eq!(buffer.narrow(0, 0, 2), before.narrow(0, 0, 2));
    assert_eq!(buffer.narrow(0, 4, 2), before.narrow(0, 4, 2));
}
