//! The features that are like a feature, computed directly.

use sae_config::{FeatureRecord, Neighbor};
use sae_models::{Role, Sae};
use tch::Kind;

use super::Recorder;

/// Checks that `found` are the ten largest of `values`, which lacks what is not to be found.
fn check_nearest(found: &[Neighbor], values: impl Iterator<Item = (usize, f64)>) {
    let values: Vec<(usize, f64)> = values.collect();
    let mut sorted: Vec<f64> = values.iter().map(|value| value.1).collect();
    sorted.sort_by(|a, b| b.total_cmp(a));
    assert_eq!(found.len(), values.len().min(10));
    for (neighbor, expected) in found.iter().zip(sorted) {
        let own = values.iter().find(|value| value.0 == neighbor.feature as usize).unwrap().1;
        for expected in [own, expected] {
            assert!((f64::from(neighbor.value) - expected).abs() < 1e-5);
        }
    }
}

pub(super) fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let (at, bt) = (mean(a), mean(b));
    let sum =
        |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| f(x - at, y - bt)).sum::<f64>();
    sum(&|x, y| x * y) / (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt()
}

pub(super) fn check_neighbors(record: &FeatureRecord, recorder: &Recorder, sae: &Sae) {
    let (n_features, feature) = (sae.config().n_features, record.feature as usize);
    let own = recorder.column(feature);
    let others = || (0..n_features).filter(|other| *other != feature);
    let decoder = sae.parameters[Role::DecoderWeight].to_kind(Kind::Double);
    let norm = |at: usize| decoder.get(at as i64).norm().double_value(&[]);
    let cosine = |other: usize| {
        let product = decoder.get(feature as i64).dot(&decoder.get(other as i64));
        product.double_value(&[]) / (norm(feature) * norm(other))
    };
    assert!((f64::from(record.decoder_norm) / norm(feature) - 1.0).abs() < 1e-6);
    check_nearest(&record.cosine, others().map(|other| (other, cosine(other))));
    let shared = |other: usize| {
        let other = recorder.column(other);
        let both = own.iter().zip(&other).filter(|(a, b)| **a != 0.0 && **b != 0.0).count();
        let either = own.iter().zip(&other).filter(|(a, b)| **a != 0.0 || **b != 0.0).count();
        (both, either)
    };
    let together: Vec<usize> = others().filter(|other| shared(*other).0 > 0).collect();
    let jaccard = |other: &usize| shared(*other).0 as f64 / shared(*other).1 as f64;
    check_nearest(&record.jaccard, together.iter().map(|other| (*other, jaccard(other))));
    assert_eq!(record.pearson_cosine.len(), record.pearson.len());
    for (near, found) in record.pearson.iter().zip(&record.pearson_cosine) {
        let other = recorder.column(near.feature as usize);
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let expected = sum(&own, &other) / (sum(&own, &own) * sum(&other, &other)).sqrt();
        assert!((f64::from(*found) - expected).abs() < 1e-5);
    }
    let row: Vec<f64> = decoder.get(feature as i64).try_into().unwrap();
    let mut order: Vec<usize> = (0..row.len()).collect();
    order.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    let total: f64 = row.iter().map(|value| value.abs()).sum();
    assert_eq!(record.components.len(), 3);
    for (found, &at) in record.components.iter().zip(&order) {
        assert_eq!(found.dimension as usize, at);
        assert!((f64::from(found.value) - row[at]).abs() < 1e-6);
        assert!((f64::from(found.share) - row[at].abs() / total).abs() < 1e-6);
    }
    let pearson = |other: &usize| correlation(&own, &recorder.column(*other));
    check_nearest(&record.pearson, together.iter().map(|other| (*other, pearson(other))));
}
