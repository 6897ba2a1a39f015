//! What is said of features against direct computations on dense matrices.

mod attribution;
mod neighbors;

use std::path::Path;
use std::sync::Arc;

use sae_config::{FeatureContext, FeatureRecord};
use sae_data::{ActivationStore, Dtype, RowMeta, StoreSpec, StoreWriter, open_store};
use sae_eval::{
    DescribeOptions, EvalBatch, EvaluateOptions, FeatureObserver, Features, Observer, Result,
    observe,
};
use sae_hosts::HostModel;
use sae_models::{InitRng, Sae};
use tch::{Kind, Tensor};
use tch_autograd::test_device;

use self::neighbors::{check_neighbors, correlation};
use crate::models::{linear, soft};

const N_ROWS: usize = 150;
const N_FEATURES: usize = 24;
const WINDOW: usize = 3;
const SEED: u64 = 11;

/// Documents of 40 tokens in contexts of 10, of which some are left out.
fn places() -> Vec<RowMeta> {
    let all = (0..1000u32).filter(|at| at % 7 != 3 && at % 10 > 0);
    let place = |at: u32| RowMeta { token_id: at % 31, document: at / 40, position: at % 10 };
    all.map(place).take(N_ROWS).collect()
}

fn store(dir: &Path, d_model: usize, with_places: bool) -> Arc<dyn ActivationStore> {
    let mut spec = StoreSpec::new(d_model, Dtype::F32);
    spec.rows_per_shard = 64;
    spec.row_metadata = with_places;
    let x = InitRng::new(3).uniform(&[N_ROWS as i64, d_model as i64], 2.0) + 0.3;
    let mut values: Vec<f32> = x.flatten(0, -1).to_kind(Kind::Float).try_into().unwrap();
    values[17 * d_model..18 * d_model].iter_mut().for_each(|x| *x *= 40.0);
    values[30 * d_model..31 * d_model].fill(0.0);
    let mut writer = StoreWriter::create(dir, spec).unwrap();
    writer.append(&values, &places()).unwrap();
    writer.finish().unwrap();
    open_store(dir).unwrap()
}

/// The features of a pass as a dense matrix, and its k̂.
#[derive(Default)]
struct Recorder {
    rows: Vec<Vec<f32>>,
    k_hat: Vec<f64>,
}

impl Observer for Recorder {
    fn see(&mut self, batch: &EvalBatch<'_>) -> Result<()> {
        let n = batch.x.size()[0] as usize;
        match batch.features {
            Features::Sparse(codes) => {
                for row in 0..n {
                    let mut dense = vec![0.0; codes.n_features()];
                    let (features, values) = codes.row(row);
                    features.iter().zip(values).for_each(|(f, v)| dense[*f as usize] = *v);
                    self.rows.push(dense);
                }
            }
            Features::Dense(dense) => {
                self.rows.extend(Vec::<Vec<f32>>::try_from(dense.to_kind(Kind::Float)).unwrap());
            }
        }
        if let Some(k_hat) = batch.k_hat {
            self.k_hat.extend(Vec::<f64>::try_from(k_hat.to_kind(Kind::Double)).unwrap());
        }
        Ok(())
    }
}

impl Recorder {
    fn column(&self, feature: usize) -> Vec<f64> {
        self.rows.iter().map(|row| f64::from(row[feature])).collect()
    }

    /// Rows of a feature by falling magnitude, then by number.
    fn order(&self, feature: usize) -> Vec<usize> {
        let column = self.column(feature);
        let mut rows: Vec<usize> = (0..column.len()).filter(|row| column[*row] != 0.0).collect();
        rows.sort_by(|a, b| column[*b].abs().total_cmp(&column[*a].abs()));
        rows
    }
}

/// Describes the features of `sae` on `store`.
fn describe(
    sae: &Sae,
    store: &dyn ActivationStore,
    host: Option<&HostModel>,
) -> (Vec<FeatureRecord>, Recorder) {
    let scratch = tempfile::tempdir().unwrap();
    let mut observer = FeatureObserver::open(sae.config().n_features, scratch.path()).unwrap();
    let mut recorder = Recorder::default();
    let options = EvaluateOptions { batch_size: 64 };
    observe(sae, store, options, &mut [&mut observer, &mut recorder], &mut |_, _| {}).unwrap();
    let options = DescribeOptions { window: WINDOW, seed: SEED };
    let mut describer = observer.finish(sae, store, host, options).unwrap();
    let mut records = Vec::new();
    loop {
        let some = describer.next_features().unwrap();
        if some.is_empty() {
            break;
        }
        records.extend(some);
    }
    let n_active = recorder.rows.iter().flatten().filter(|value| **value != 0.0).count();
    assert_eq!(describer.l0(), n_active as f64 / N_ROWS as f64);
    assert_eq!((describer.n_rows(), describer.n_coactivation_rows()), (150, 150));
    assert_eq!(describer.n_outlier_rows(), 1);
    let places = places();
    let starts = places.windows(2).filter(|pair| {
        pair[0].document != pair[1].document || pair[0].position >= pair[1].position
    });
    let n_contexts = if describer.has_tokens() { starts.count() + 1 } else { N_ROWS };
    assert_eq!(describer.n_contexts() as usize, n_contexts);
    (records, recorder)
}

/// The rows shown around `row`.
fn window(row: usize) -> Vec<usize> {
    let places = places();
    let joined = |a: usize, b: usize| {
        (a.min(b)..a.max(b)).all(|at| {
            places[at].document == places[at + 1].document
                && places[at].position < places[at + 1].position
        })
    };
    let near = |at: &usize| at.abs_diff(row) <= WINDOW && joined(*at, row);
    (0..N_ROWS).filter(near).collect()
}

fn check_context(context: &FeatureContext, column: &[f64]) {
    let (row, places) = (context.row as usize, places());
    assert_eq!(f64::from(context.value), column[row]);
    assert_eq!(context.place, Some([places[row].document, places[row].position]));
    let rows = window(row);
    assert_eq!(context.tokens.len(), rows.len());
    assert_eq!(rows[context.at], row);
    for (i, (token, &at)) in context.tokens.iter().zip(&rows).enumerate() {
        assert_eq!((token.id, f64::from(token.value)), (places[at].token_id, column[at]));
        assert_eq!(token.is_outlier, at == 17);
        let gap = if i == 0 { 0 } else { places[at].position - places[at - 1].position - 1 };
        assert_eq!(token.gap, gap);
    }
}

fn check_activity(record: &FeatureRecord, recorder: &Recorder) {
    let feature = record.feature as usize;
    let (column, order) = (recorder.column(feature), recorder.order(feature));
    let n = order.len();
    assert_eq!(record.n_active as usize, n);
    assert_eq!(f64::from(record.max), order.first().map_or(0.0, |row| column[*row]));
    let mean = column.iter().sum::<f64>() / n.max(1) as f64;
    assert!((record.mean - mean).abs() <= 1e-12 * mean.abs());
    assert_eq!(record.histogram.counts.iter().sum::<u64>() as usize, n);

    let mut top: Vec<usize> = Vec::new();
    for &row in &order {
        if top.len() < 20 && !top.iter().any(|kept| window(*kept).contains(&row)) {
            top.push(row);
        }
    }
    let rows: Vec<usize> = record.top.iter().map(|context| context.row as usize).collect();
    assert_eq!(rows, top);
    record.top.iter().for_each(|context| check_context(context, &column));

    let ascending: Vec<usize> = order.iter().rev().copied().collect();
    assert_eq!(record.quantiles.len(), 5);
    for (number, quantile) in record.quantiles.iter().enumerate() {
        let members = &ascending[n * number / 5..n * (number + 1) / 5];
        assert_eq!(quantile.n as usize, members.len());
        let magnitude = |row: Option<&usize>| row.map_or(0.0, |row| column[*row].abs());
        let ends = (f64::from(quantile.from), f64::from(quantile.to));
        assert_eq!(ends, (magnitude(members.first()), magnitude(members.last())));
        let mut rows: Vec<usize> = quantile.contexts.iter().map(|c| c.row as usize).collect();
        assert_eq!(rows.len(), members.len().min(5));
        assert!(rows.iter().all(|row| members.contains(row)));
        rows.sort_unstable();
        rows.dedup();
        assert_eq!(rows.len(), quantile.contexts.len());
        quantile.contexts.iter().for_each(|context| check_context(context, &column));
    }
}

#[test]
fn every_number_is_that_of_a_direct_computation() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), 6, true);
    for sae in [soft(6, N_FEATURES, 1), linear(6, 2.0, 0.1)] {
        let (records, recorder) = describe(&sae, store.as_ref(), None);
        assert_eq!(records.len(), sae.config().n_features);
        assert!(records.iter().any(|record| record.top.len() > 5), "rows enough to compare");
        for (number, record) in records.iter().enumerate() {
            assert_eq!(record.feature as usize, number);
            assert!(record.attribution.is_none());
            check_activity(record, &recorder);
            check_neighbors(record, &recorder, &sae);
            let active: Vec<f64> =
                recorder.column(number).iter().map(|v| f64::from(u8::from(*v != 0.0))).collect();
            let n: f64 = active.iter().sum();
            let expected = !recorder.k_hat.is_empty() && n > 0.0;
            assert_eq!(record.k_hat.is_some(), expected);
            let Some(k_hat) = record.k_hat else { continue };
            let sum: f64 = active.iter().zip(&recorder.k_hat).map(|(a, k)| a * k).sum();
            assert!((k_hat.mean - sum / n).abs() < 1e-9);
            let varies = n < N_ROWS as f64;
            assert_eq!(k_hat.correlation.is_some(), varies);
            let expected = correlation(&active, &recorder.k_hat);
            assert!(!varies || (k_hat.correlation.unwrap() - expected).abs() < 1e-9);
        }
    }
}

#[test]
fn dense_features_are_described_as_sparse_ones() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(&dir.path().join("store"), 6, true);
    let sae = soft(6, N_FEATURES, 2);
    let (expected, recorder) = describe(&sae, store.as_ref(), None);
    let mut values = vec![0.0; N_ROWS * 6];
    store.read_rows(0, &mut values).unwrap();
    let x = Tensor::from_slice(&values).view([N_ROWS as i64, 6]).to_device(test_device());
    let dense = Tensor::from_slice2(&recorder.rows).to_device(test_device());
    let k_hat = Tensor::from_slice(&recorder.k_hat);
    let mut observer = FeatureObserver::open(N_FEATURES, dir.path()).unwrap();
    for (first, n) in [(0, 100), (100, 50)] {
        let [x, dense, k_hat] = [&x, &dense, &k_hat].map(|tensor| tensor.narrow(0, first, n));
        let (features, k_hat) = (Features::Dense(&dense), Some(&k_hat));
        let batch =
            EvalBatch { first_row: first as u64, x: &x, target: &x, x_hat: &x, features, k_hat };
        observer.see(&batch).unwrap();
    }
    let options = DescribeOptions { window: WINDOW, seed: SEED };
    let mut describer = observer.finish(&sae, store.as_ref(), None, options).unwrap();
    assert_eq!(describer.next_features().unwrap(), expected);
    assert!(describer.next_features().unwrap().is_empty());
}

#[test]
fn rows_without_tokens_have_numbers_alone() {
    let dir = tempfile::tempdir().unwrap();
    let sae = soft(6, N_FEATURES, 1);
    let with = store(&dir.path().join("with"), 6, true);
    let without = store(&dir.path().join("without"), 6, false);
    let (with, _) = describe(&sae, with.as_ref(), None);
    let (without, recorder) = describe(&sae, without.as_ref(), None);
    for (with, without) in with.iter().zip(&without) {
        assert_eq!((&with.pearson, &with.histogram), (&without.pearson, &without.histogram));
        let order = recorder.order(without.feature as usize);
        let rows: Vec<usize> = without.top.iter().map(|context| context.row as usize).collect();
        assert_eq!(rows, order[..order.len().min(20)]);
        assert!(without.top.iter().all(|c| c.tokens.is_empty() && c.place.is_none()));
    }
}
