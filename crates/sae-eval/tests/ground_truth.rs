//! Planted data: golden numbers, known SAEs on known truths, what does not belong together.

use std::collections::HashMap;

use proptest::prelude::*;
use sae_data::{Dtype, PlantedConfig, PlantedTruth, open_store};
use sae_eval::{EvaluateOptions, TruthMetrics, TruthObserver, observe};
use serde_json::Value;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use crate::golden::{check, expected, golden, tensor};
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
        let mut found = TruthObserver::new(&sae, store.as_ref(), &truth).unwrap();
        observe(&sae, store.as_ref(), options, &mut [&mut found], &mut |_, _| {}).unwrap();
        found.finish().unwrap()
    };
    let whole = run(300);
    assert_eq!(whole.n_true_features, 12);
    assert!(whole.spearman_k_hat.is_some() && whole.support_recall > 0.0);
    assert!(whole.mean_matched_cosine > 0.1 && whole.mean_matched_cosine < 0.9);
    assert_eq!(run(7).mean_matched_cosine, whole.mean_matched_cosine);
    assert!((run(7).support_precision - whole.support_precision).abs() < 1e-3);

    let mistake = |(store, _): (std::sync::Arc<dyn sae_data::ActivationStore>, _)| {
        TruthObserver::new(&sae, store.as_ref(), &truth).unwrap_err().to_string()
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

/// The scores of SAELens' own functions on an SAE and a truth of its own.
#[test]
fn scores_of_synth_sae_bench() {
    let read = |name: &str| -> HashMap<String, Tensor> {
        Tensor::read_safetensors(golden("synth").join(name)).unwrap().into_iter().collect()
    };
    let statistics = read("statistics.safetensors");
    let model = read("model/synthetic_model.safetensors");
    let path = golden("synth").join("scores.json");
    let expected: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let (decoder, latents) = (&statistics["sae.decoder"], &statistics["sae.latents"]);
    let mut metrics = TruthMetrics::new(decoder, &model["feature_vectors"]).unwrap();
    for (latents, codes) in
        latents.split(1000, 0).iter().zip(statistics["true.codes"].split(1000, 0))
    {
        metrics.add(latents, &codes, None).unwrap();
    }
    let mut got = serde_json::to_value(metrics.finish().unwrap().latents).unwrap();
    let l0 = f64::try_from(latents.ne(0.0).sum(Kind::Double)).unwrap() / latents.size()[0] as f64;
    got["sae_l0"] = l0.into();
    let compared = check(&expected["scores"], &got, 1e-6, "scores");
    assert_eq!(compared, 8);
}

/// Scores by their definitions, from dense activities.
fn by_definition(cosines: &[Vec<f64>], latents: &[Vec<bool>], truth: &[Vec<bool>]) -> [f64; 5] {
    let n = cosines.len() as f64;
    let ratio = |a: usize, b: usize| if a + b == 0 { 0.0 } else { a as f64 / (a + b) as f64 };
    let mut sums = [0.0; 5];
    let mut known = vec![];
    for (feature, row) in cosines.iter().enumerate() {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let closest = row.iter().position(|&v| v == largest).unwrap();
        let count = |is: bool, really: bool| {
            let pairs = latents.iter().zip(truth).map(|(l, t)| (l[feature], t[closest]));
            pairs.filter(|pair| *pair == (is, really)).count()
        };
        let (tp, fp, fn_) = (count(true, true), count(true, false), count(false, true));
        let (precision, recall) = (ratio(tp, fp), ratio(tp, fn_));
        let f1 = 2.0 * tp as f64 / ((2 * tp + fp + fn_).max(1)) as f64;
        let accuracy = ratio(tp + count(false, false), fp + fn_);
        sums.iter_mut().zip([precision, recall, f1, accuracy]).for_each(|(s, v)| *s += v / n);
        if !known.contains(&closest) {
            known.push(closest);
        }
    }
    sums[4] = known.len() as f64 / n;
    sums
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn scores_are_those_of_their_definitions(
        n_features in 1..7usize,
        n_true in 1..7usize,
        n_rows in 1..20usize,
        values in prop::collection::vec(-1.0..1.0f64, 36),
        active in prop::collection::vec(any::<bool>(), 240),
    ) {
        let d_model = 3;
        let directions = |n: usize, values: &[f64]| {
            Tensor::from_slice(&values[..n * d_model]).reshape([n as i64, d_model as i64])
        };
        let (decoder, dictionary) =
            (directions(n_features, &values), directions(n_true, &values[18..]));
        let matrix = |n: usize, from: &[bool]| -> Vec<Vec<bool>> {
            from[..n_rows * n].chunks(n).map(<[bool]>::to_vec).collect()
        };
        let (latents, truth) = (matrix(n_features, &active), matrix(n_true, &active[120..]));
        let tensor = |rows: &[Vec<bool>]| {
            let flat: Vec<f32> = rows.concat().iter().map(|&v| f32::from(u8::from(v))).collect();
            Tensor::from_slice(&flat).reshape([n_rows as i64, rows[0].len() as i64])
        };
        let scores = |decoder: &Tensor, latents: &Tensor| {
            let mut metrics = TruthMetrics::new(decoder, &dictionary).unwrap();
            metrics.add(latents, &tensor(&truth), None).unwrap();
            metrics.finish().unwrap().latents.unwrap()
        };
        let got = scores(&decoder, &tensor(&latents));
        let cosine = |i: usize, j: usize| {
            let (a, b) = (&values[i * d_model..][..d_model], &values[18 + j * d_model..][..d_model]);
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()).abs()
        };
        let cosines: Vec<Vec<f64>> =
            (0..n_features).map(|i| (0..n_true).map(|j| cosine(i, j)).collect()).collect();
        let expected = by_definition(&cosines, &latents, &truth);
        let compared = [got.precision, got.recall, got.f1, got.accuracy, got.uniqueness];
        for (expected, got) in expected.iter().zip(compared) {
            prop_assert!((expected - got).abs() < 1e-12, "{:?} {:?}", expected, compared);
        }
        let total: f64 = truth.concat().iter().map(|&v| f64::from(u8::from(v))).sum();
        prop_assert!((got.true_l0 - total / n_rows as f64).abs() < 1e-12);
        let best = best_matching(&cosines, n_true) / n_features.min(n_true) as f64;
        prop_assert!((got.mcc - best).abs() < 1e-12, "{} {}", got.mcc, best);

        // Neither order nor length nor sign of the features counts, nor how large activations are.
        let order: Vec<i64> = (0..n_features as i64).rev().collect();
        let order = Tensor::from_slice(&order);
        let turned = scores(
            &(decoder.index_select(0, &order) * -3.0),
            &(tensor(&latents).index_select(1, &order) * 0.1),
        );
        let [a, b] = [&turned, &got]
            .map(|of| [of.precision, of.recall, of.f1, of.accuracy, of.mcc, of.uniqueness]);
        for (a, b) in a.iter().zip(b) {
            prop_assert!((a - b).abs() < 1e-12, "{turned:?} {got:?}");
        }
    }
}

/// The greatest sum of cosines of a one-to-one matching, by trying all.
fn best_matching(cosines: &[Vec<f64>], n_true: usize) -> f64 {
    let Some((row, rest)) = cosines.split_first() else { return 0.0 };
    let mut best = if cosines.len() > n_true { best_matching(rest, n_true) } else { 0.0 };
    for column in 0..n_true {
        let without = |row: &Vec<f64>| {
            let mut row = row.clone();
            row.remove(column);
            row
        };
        let rest: Vec<Vec<f64>> = rest.iter().map(without).collect();
        best = best.max(row[column] + best_matching(&rest, n_true - 1));
    }
    best
}
