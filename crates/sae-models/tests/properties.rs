//! Properties of every architecture under every normalisation.

use proptest::prelude::*;
use sae_config::{Code, Normalization};
use sae_models::{Encoded, Error, Sae, SparseCoder};
use tch::{Device, Kind, Tensor};
use tch_autograd::test_device;

use crate::common::{N_FEATURES, NORMALIZATIONS, codes, model, rows};

fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let scale = a.abs().max().double_value(&[]).max(1.0);
    (a - b).abs().max().double_value(&[]) / scale
}

/// 1 − Σ‖x − x̂‖²/Σ‖x − μ‖².
fn r2(x: &Tensor, x_hat: &Tensor) -> f64 {
    let sum = |t: Tensor| t.square().sum(Kind::Double).double_value(&[]);
    1.0 - sum(x - x_hat) / sum(x - x.mean_dim([0i64].as_slice(), true, Kind::Double))
}

/// The entries that are not 0.
fn active(features: &Tensor) -> Tensor {
    features.ne(0.0)
}

/// The thresholds of inference, trained ones too.
fn thresholds(sae: &Sae) -> Vec<Tensor> {
    let all = sae.buffers().into_iter().chain(sae.parameters());
    all.filter(|(name, _)| *name == "threshold").map(|(_, t)| t.detach().copy()).collect()
}

fn reconstruct(sae: &Sae, x: &Tensor) -> (Encoded, Tensor) {
    let encoded = sae.encode(x).unwrap();
    let x_hat = sae.decode(&encoded).unwrap();
    (encoded, x_hat)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn folding_changes_nothing(seed in 0u64..1 << 40, batch in 2i64..20) {
        let x = rows(batch, Kind::Double, seed ^ 1);
        for code in codes() {
            for normalization in &NORMALIZATIONS[..3] {
                let mut sae = model(code.clone(), *normalization, Kind::Double, seed);
                let (before, x_hat) = reconstruct(&sae, &x);
                let kept = thresholds(&sae);
                sae.fold().unwrap();
                prop_assert_eq!(sae.config().normalization, Normalization::None);
                let (after, x_hat_folded) = reconstruct(&sae, &x);
                prop_assert!(difference(&before.features, &after.features) < 1e-11);
                prop_assert!(difference(&x_hat, &x_hat_folded) < 1e-11);
                prop_assert!((r2(&x, &x_hat) - r2(&x, &x_hat_folded)).abs() < 1e-10);
                // Features keep their scale, so thresholds stay as they are and decide alike.
                prop_assert_eq!(&kept, &thresholds(&sae));
                prop_assert_eq!(active(&before.features), active(&after.features));
                match (&before.k_hat, &after.k_hat) {
                    (Some(a), Some(b)) => prop_assert!(difference(a, b) < 1e-11),
                    (None, None) => {}
                    _ => prop_assert!(false, "k_hat appeared or vanished"),
                }
            }
        }
    }

    #[test]
    fn scaling_the_data_with_its_scale_changes_no_feature(seed in 0u64..1 << 40) {
        let x = rows(7, Kind::Double, seed ^ 2);
        for code in codes() {
            for normalization in [Normalization::UnitNorm, Normalization::LayerNorm] {
                let sae = model(code.clone(), normalization, Kind::Double, seed);
                let (one, x_hat) = reconstruct(&sae, &x);
                let (ten, x_hat_ten) = reconstruct(&sae, &(&x * 10.0));
                prop_assert!(difference(&one.features, &ten.features) < 1e-4);
                prop_assert!(difference(&(x_hat * 10.0), &x_hat_ten) < 1e-4);
            }
        }
    }

    #[test]
    fn sparse_codes_are_the_features_that_are_not_zero(seed in 0u64..1 << 40) {
        if test_device() != Device::Cpu {
            println!("skipped: the sparse kernels are those of the CPU");
            return Ok(());
        }
        let mut coder = SparseCoder::default();
        for code in codes() {
            for normalization in NORMALIZATIONS {
                let sae = model(code.clone(), normalization, Kind::Float, seed);
                prop_assert!(SparseCoder::applies(&sae));
                for n in [7, 3] {
                    let x = rows(n, Kind::Float, seed ^ 4);
                    let encoded = coder.encode(&sae, &x).unwrap();
                    let (dense, x_hat) = reconstruct(&sae, &x);
                    let mut features = vec![0.0; n as usize * N_FEATURES];
                    encoded.codes.write_dense(&mut features).unwrap();
                    prop_assert!(encoded.codes.values().iter().all(|v| *v != 0.0));
                    let features = Tensor::from_slice(&features).reshape([n, N_FEATURES as i64]);
                    prop_assert!(difference(&features, &dense.features) < 1e-4);
                    let got = coder.decode(&sae, &encoded).unwrap();
                    prop_assert!(difference(&got, &x_hat) < 1e-4);
                    prop_assert_eq!(encoded.k_hat.is_some(), dense.k_hat.is_some());
                    if let (Some(got), Some(want)) = (&encoded.k_hat, &dense.k_hat) {
                        prop_assert!(difference(got, want) < 1e-4);
                    }
                }
            }
        }
    }

    #[test]
    fn selections_keep_the_number_they_say(seed in 0u64..1 << 40) {
        let x = rows(9, Kind::Float, seed ^ 3);
        for code in codes() {
            let sae = model(code.clone(), Normalization::ShiftScale, Kind::Float, seed);
            let encoded = sae.encode(&x).unwrap();
            let active = encoded.features.not_equal(0.0).sum_dim_intlist([1i64].as_slice(), false,
                Kind::Int64);
            let active: Vec<i64> = active.try_into().unwrap();
            if let Code::TopK { k } = code {
                prop_assert!(active.iter().all(|&n| n <= k as i64));
            }
            if let Some(k_hat) = &encoded.k_hat {
                let k_hat: Vec<f32> = k_hat.try_into().unwrap();
                for (n, k) in active.iter().zip(k_hat) {
                    prop_assert!((1.0..=20.0).contains(&k) && *n <= k.round() as i64);
                }
            }
        }
    }
}

#[test]
fn rows_divided_by_their_own_statistics_do_not_fold() {
    for normalization in &NORMALIZATIONS[3..] {
        let mut sae = model(codes().remove(0), *normalization, Kind::Float, 5);
        let x = rows(3, Kind::Float, 6);
        let (before, x_hat) = reconstruct(&sae, &x);
        assert!(matches!(sae.fold(), Err(Error::NotFoldable { .. })));
        let (after, x_hat_after) = reconstruct(&sae, &x);
        assert_eq!((before.features, x_hat), (after.features, x_hat_after));
        assert_eq!(sae.config().normalization, *normalization);
        let features = Tensor::zeros([1, N_FEATURES as i64], (Kind::Float, test_device()));
        let error = sae.decode(&Encoded::from(features)).unwrap_err();
        assert!(matches!(error, Error::MissingRows { .. }));
    }
}

#[test]
fn inputs_of_another_shape_or_kind_are_named() {
    let sae = model(codes().remove(0), Normalization::None, Kind::Float, 5);
    let error = sae.encode(&Tensor::zeros([2, 5], (Kind::Float, test_device()))).unwrap_err();
    assert_eq!(error.to_string(), "tensor `x`: expected shape [batch, 6], got [2, 5]");
    let error = sae.encode(&rows(2, Kind::Double, 1)).unwrap_err();
    assert_eq!(error.to_string(), "tensor `x`: expected kind Float, got Double");
}
