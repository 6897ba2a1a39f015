//! Planted data: golden numbers, known SAEs on known truths, what does not belong together.

use sae_data::{Dtype, PlantedConfig, PlantedTruth, open_store};
use sae_eval::{EvaluateOptions, TruthMetrics, TruthObserver, observe};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::golden::{check, expected, tensor};
use crate::models::soft;

#[test]
fn golden_numbers() {
    let mut metrics = TruthMetrics::new(&tensor("decoder"), &tensor("true_dictionary")).unwrap();
    let (features, codes) = (tensor("features"), tensor("true_codes"));
    for (features, codes) in features.split(100, 0).iter().zip(codes.split(100, 0)) {
        metrics.add(features, &codes, None).unwrap();
    }
    let got = metrics.finish().unwrap();
    assert_eq!((got.spearman_k_hat, got.slope_k_hat), (None, None));
    let got = serde_json::to_value(got).unwrap();
    let compared = check(&expected()["ground_truth"], &got, 1e-6, "ground_truth");
    assert!(compared >= 5, "only {compared} golden metrics");
}

#[test]
fn a_shuffled_and_turned_dictionary_is_found_whole() {
    let options = (Kind::Float, test_device());
    let dictionary = Tensor::from_slice2(&[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]);
    let dictionary = dictionary.to_device(test_device());
    let order = Tensor::from_slice(&[2i64, 0, 1]).to_device(test_device());
    let decoder = dictionary.index_select(0, &order) * -3.0;
    let extra = Tensor::ones([1, 3], (Kind::Double, test_device()));
    let decoder = Tensor::cat(&[decoder, extra], 0);
    let truth = Tensor::from_slice2(&[[1.0, 0.0, 0.0], [1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]);
    let truth = truth.to_device(test_device());
    let zeros = Tensor::zeros([3, 1], (Kind::Double, test_device()));
    let features = Tensor::cat(&[truth.index_select(1, &order), zeros], 1);
    let k_hat = Tensor::from_slice(&[4.0, 6.0, 8.0]).to_device(test_device());

    let mut metrics = TruthMetrics::new(&decoder, &dictionary).unwrap();
    metrics.add(&features, &truth, Some(&k_hat)).unwrap();
    let got = metrics.finish().unwrap();
    assert!((got.mean_matched_cosine - 1.0).abs() < 1e-12);
    assert_eq!(got.recovered_above_0_9, 1.0);
    assert_eq!((got.support_precision, got.support_recall), (1.0, 1.0));
    assert_eq!((got.spearman_l0_true_l0, got.slope_l0), (Some(1.0), Some(1.0)));
    assert_eq!((got.spearman_k_hat, got.slope_k_hat), (Some(1.0), Some(2.0)));

    // Two features for three: one true feature has no match, and its activity is not found.
    let mut metrics = TruthMetrics::new(&decoder.narrow(0, 0, 2), &dictionary).unwrap();
    metrics.add(&Tensor::ones([3, 2], options), &truth, None).unwrap();
    let got = metrics.finish().unwrap();
    assert!((got.mean_matched_cosine - 2.0 / 3.0).abs() < 1e-12);
    assert_eq!((got.support_precision, got.support_recall), (4.0 / 6.0, 4.0 / 6.0));
    assert_eq!((got.spearman_l0_true_l0, got.slope_l0), (None, Some(0.0)));
}

#[test]
fn a_planted_store_and_its_truth() {
    let folder = tempfile::tempdir().unwrap();
    let planted = |name: &str, n_rows, d_model| {
        let config =
            PlantedConfig { n_rows, d_model, n_features: 12, k_max: 6, ..PlantedConfig::default() };
        let dir = folder.path().join(name);
        config.write(&dir, Dtype::F32).unwrap();
        (open_store(&dir).unwrap(), PlantedTruth::load(&dir).unwrap())
    };
    let (store, truth) = planted("store", 300, 8);
    let sae = soft(8, 20, 1);
    let run = |batch_size| {
        let options = EvaluateOptions { batch_size };
        let mut found = TruthObserver::new(sae.as_ref(), store.as_ref(), &truth).unwrap();
        observe(sae.as_ref(), store.as_ref(), options, &mut [&mut found], &mut |_, _| {}).unwrap();
        found.finish().unwrap()
    };
    let whole = run(300);
    assert_eq!(whole.n_true_features, 12);
    assert!(whole.spearman_k_hat.is_some() && whole.support_recall > 0.0);
    assert!(whole.mean_matched_cosine > 0.1 && whole.mean_matched_cosine < 0.9);
    assert_eq!(run(7).mean_matched_cosine, whole.mean_matched_cosine);
    assert!((run(7).support_precision - whole.support_precision).abs() < 1e-3);

    let mistake = |(store, _): (std::sync::Arc<dyn sae_data::ActivationStore>, _)| {
        TruthObserver::new(sae.as_ref(), store.as_ref(), &truth).unwrap_err().to_string()
    };
    assert_eq!(
        mistake(planted("fewer rows", 299, 8)),
        "rows of the store: expected 300 as the planted truth has, got 299"
    );
    assert_eq!(
        mistake(planted("narrower", 300, 7)),
        "d_model of the store: expected 8 as the planted truth has, got 7"
    );
}

#[test]
fn wrong_shapes_and_values_are_named() {
    let options = (Kind::Float, test_device());
    let text = |decoder: &Tensor, dictionary: &Tensor| {
        TruthMetrics::new(decoder, dictionary).unwrap_err().to_string()
    };
    let (four, three) = (Tensor::ones([5, 4], options), Tensor::ones([2, 3], options));
    assert_eq!(text(&four, &three), "decoder: expected shape [5, 3], got [5, 4]");
    let nan = text(&Tensor::full([5, 3], f64::NAN, options), &three);
    assert_eq!(nan, "decoder, row 0: expected finite values, got NaN");
    let mut metrics = TruthMetrics::new(&Tensor::ones([5, 3], options), &three).unwrap();
    assert_eq!(
        metrics.add(&four, &three, None).unwrap_err().to_string(),
        "features: expected shape [5, 5], got [5, 4]"
    );
    assert_eq!(metrics.finish().unwrap_err().to_string(), "rows: expected at least one, got none");
}
