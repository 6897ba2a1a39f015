//! Probes, targeted perturbation and monosemanticity against numbers computed elsewhere.

use proptest::prelude::*;
use sae_eval::{
    Error, Perturbation, Probe, monosemanticity, sparse_probing, targeted_probe_perturbation,
};
use tch::{Device, Kind, Tensor};

use crate::golden::{check, expected, tensor};

const TRAIN_ROWS: i64 = 840;

fn labels() -> Vec<usize> {
    let labels = Vec::<i64>::try_from(tensor("labels")).unwrap();
    labels.into_iter().map(|label| label as usize).collect()
}

fn split(x: &Tensor) -> (Tensor, Tensor) {
    let n = x.size()[0];
    (x.narrow(0, 0, TRAIN_ROWS), x.narrow(0, TRAIN_ROWS, n - TRAIN_ROWS))
}

fn is_first() -> Vec<bool> {
    labels().iter().map(|label| *label == 0).collect()
}

#[test]
fn sparse_probes_are_those_of_scikit_learn() {
    let (train, test) = split(&tensor("features"));
    let is_first = is_first();
    let (of_train, of_test) = is_first.split_at(TRAIN_ROWS as usize);
    let ks = [1, 2, 5];
    let probes = sparse_probing((&train, of_train), (&test, of_test), &ks).unwrap();
    for (k, probe) in ks.into_iter().zip(probes) {
        let expected = &expected()["sparse_probing"][format!("k{k}")];
        let features: Vec<u64> = probe.features.iter().map(|f| *f as u64).collect();
        assert_eq!(serde_json::json!(features), expected["features"]);
        let scores = serde_json::json!({
            "intercept": probe.probe.bias,
            "accuracy": probe.scores.accuracy,
            "f1": probe.scores.f1,
            "auc": probe.scores.auc,
        });
        for field in ["accuracy", "f1", "auc"] {
            check(&expected[field], &scores[field], 1e-9, field);
        }
        // Where scikit-learn's solver stopped.
        check(&expected["intercept"], &scores["intercept"], 1e-4, "intercept");
        for (want, got) in expected["coef"].as_array().unwrap().iter().zip(&probe.probe.weights) {
            check(want, &serde_json::json!(got), 1e-4, "coef");
        }
    }
}

#[test]
fn a_dense_probe_is_that_of_scikit_learn() {
    let (train, test) = split(&tensor("x"));
    let is_first = is_first();
    let (of_train, of_test) = is_first.split_at(TRAIN_ROWS as usize);
    let probe = Probe::fit(&train, of_train).unwrap();
    let coef = Vec::<f64>::try_from(tensor("dense_probe_coef").to_kind(Kind::Double)).unwrap();
    for (want, got) in coef.iter().zip(&probe.weights) {
        assert!((want - got).abs() < 1e-4 * want.abs().max(1.0), "{want} {got}");
    }
    let expected = &expected()["dense_probe"];
    check(&expected["intercept"], &serde_json::json!(probe.bias), 1e-4, "intercept");
    let accuracy = probe.scores(&test, of_test).unwrap().accuracy;
    check(&expected["accuracy"], &serde_json::json!(accuracy), 1e-9, "accuracy");
}

/// `LogisticRegression(class_weight="balanced", tol=1e-12)` of scikit-learn 1.9.1.
#[test]
fn a_balanced_probe_is_that_of_scikit_learn() {
    let x: Vec<f64> =
        (0..24).flat_map(|i| [f64::from(i).sin(), (2.0 * f64::from(i) + 0.3).cos()]).collect();
    let labels: Vec<bool> = (0..24).map(|i| i % 6 == 1 || i == 8).collect();
    let probe = Probe::fit_balanced(&Tensor::from_slice(&x).view([24, 2]), &labels).unwrap();
    let expected = [1.346_372_634_3, 0.007_637_353_9, -0.368_696_975_4];
    for (want, got) in expected.iter().zip(probe.weights.iter().chain([&probe.bias])) {
        assert!((want - got).abs() < 1e-6, "{want} {got}");
    }
}

fn probes() -> Vec<Probe> {
    let weights = tensor("probe_weights").to_kind(Kind::Double);
    let bias = Vec::<f64>::try_from(tensor("probe_bias").to_kind(Kind::Double)).unwrap();
    let of_class = |(class, bias): (usize, f64)| Probe {
        weights: weights.get(class as i64).try_into().unwrap(),
        bias,
    };
    bias.into_iter().enumerate().map(of_class).collect()
}

#[test]
fn perturbed_probes_drop_as_computed_elsewhere() {
    let (x, features, decoder) = (tensor("x"), tensor("features"), tensor("decoder"));
    let (labels, probes) = (labels(), probes());
    let what = Perturbation {
        x: &x,
        features: &features,
        decoder: &decoder,
        labels: &labels,
        probes: &probes,
        train_rows: TRAIN_ROWS as usize,
    };
    let got = targeted_probe_perturbation(what, &[2, 5, 10]).unwrap();
    let got = serde_json::json!({ "n2": got[0], "n5": got[1], "n10": got[2] });
    assert_eq!(check(&expected()["tpp"], &got, 1e-9, "tpp"), 3);

    let none = Perturbation { train_rows: labels.len(), ..what };
    let error = targeted_probe_perturbation(none, &[1]).unwrap_err().to_string();
    assert_eq!(error, "train_rows: expected below the 1200 rows, got 1200");
    let narrow = decoder.narrow(0, 0, 39);
    let other = Perturbation { decoder: &narrow, ..what };
    let error = targeted_probe_perturbation(other, &[1]).unwrap_err();
    assert!(matches!(error, Error::Shape { name: "decoder", .. }), "{error}");
}

#[test]
fn monosemanticity_is_that_of_its_definition() {
    let embeddings = tensor("embeddings");
    let features = tensor("features").narrow(0, 0, embeddings.size()[0]);
    let expected = Vec::<f64>::try_from(tensor("monosemanticity")).unwrap();
    let got = monosemanticity(&features, &embeddings).unwrap();
    assert_eq!(got.len(), expected.len());
    for (feature, (want, got)) in expected.iter().zip(got).enumerate() {
        match got {
            Some(got) => assert!((want - got).abs() < 1e-9, "feature {feature}: {want} {got}"),
            None => assert!(want.is_nan(), "feature {feature}: {want}"),
        }
    }
}

#[test]
fn what_cannot_be_probed_is_named() {
    let x = Tensor::zeros([4, 3], (Kind::Double, Device::Cpu));
    let error = Probe::fit(&x, &[true; 4]).unwrap_err().to_string();
    assert_eq!(error, "rows of each class: expected at least one, got none");
    let error = Probe::fit(&x, &[true, false]).unwrap_err();
    assert!(matches!(error, Error::Shape { name: "x", .. }), "{error}");
    let some = [true, false, true, false];
    let error = sparse_probing((&x, &some), (&x, &some), &[4]).unwrap_err().to_string();
    assert_eq!(error, "k: expected 1 to 3, the number of features, got 4");
    let bad = x.copy();
    let _ = bad.get(2).fill_(f64::NAN);
    let error = Probe::fit(&bad, &some).unwrap_err();
    assert!(matches!(error, Error::NotFinite { name: "x", row: 2, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// At the minimum the gradient is zero: Σ v(p − y)x + w = 0 and Σ v(p − y) = 0.
    #[test]
    fn a_fitted_probe_is_at_the_minimum(seed in 0i64..1 << 30, n in 6i64..60, d in 1i64..12, scale in 0.01f64..30.0) {
        let random = |shape: [i64; 2], salt: i64| {
            let n = shape[0] * shape[1];
            let at = Tensor::arange(n, (Kind::Double, Device::Cpu)) * 12.9898 + (seed + salt) as f64;
            (at.sin() * 43758.5453).frac().reshape(shape)
        };
        let x = random([n, d], 0) * scale;
        let y = Vec::<f64>::try_from(random([1, n], 1).flatten(0, -1)).unwrap();
        let mut labels: Vec<bool> = y.iter().map(|y| *y > 0.0).collect();
        (labels[0], labels[1]) = (true, false);
        let n_own = labels.iter().filter(|label| **label).count();
        let share = |label: bool| 0.5 * n as f64 / if label { n_own as f64 } else { n as f64 - n_own as f64 };
        let balanced: Vec<f64> = labels.iter().map(|&label| share(label)).collect();
        for (probe, weights) in [
            (Probe::fit(&x, &labels).unwrap(), vec![1.0; n as usize]),
            (Probe::fit_balanced(&x, &labels).unwrap(), balanced),
        ] {
            let w = Tensor::from_slice(&probe.weights);
            let y = Tensor::from_slice(&labels).to_kind(Kind::Double);
            let residual = ((x.mv(&w) + probe.bias).sigmoid() - y) * Tensor::from_slice(&weights);
            let gradient = (x.tr().mv(&residual) + w).abs().max().double_value(&[]);
            let of_bias = residual.sum(Kind::Double).double_value(&[]).abs();
            prop_assert!(gradient < 1e-8 * scale.max(1.0) * n as f64, "{gradient}");
            prop_assert!(of_bias < 1e-8 * n as f64, "{of_bias}");
        }
    }

    /// Against the sum over pairs.
    #[test]
    fn monosemanticity_is_a_mean_over_pairs(
        values in prop::collection::vec(0.0f64..1.0, 12),
        embeddings in prop::collection::vec(-1.0f64..1.0, 12 * 3),
    ) {
        let (a, e) = (Tensor::from_slice(&values).view([12, 1]), Tensor::from_slice(&embeddings).view([12, 3]));
        let got = monosemanticity(&a, &e).unwrap()[0].unwrap();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let scaled: Vec<f64> = values.iter().map(|v| (v - least) / (most - least)).collect();
        let row = |i: usize| &embeddings[3 * i..3 * i + 3];
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let (mut alike, mut pairs) = (0.0, 0.0);
        for i in 0..12 {
            for j in i + 1..12 {
                let cosine = dot(row(i), row(j)) / (dot(row(i), row(i)) * dot(row(j), row(j))).sqrt();
                alike += scaled[i] * scaled[j] * cosine;
                pairs += scaled[i] * scaled[j];
            }
        }
        prop_assert!((got - alike / pairs).abs() < 1e-9);
    }
}
