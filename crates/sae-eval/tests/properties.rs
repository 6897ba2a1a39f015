//! Metrics follow their definitions, however rows are cut into batches and ordered.

use proptest::prelude::*;
use sae_config::Evaluation;
use sae_eval::{Error, Metrics};
use serde_json::Value;
use tch::{Kind, Tensor};
use tch_autograd::test_device;

const D: usize = 5;
const F: usize = 12;

/// Rows of x, x̂, features and k̂.
#[derive(Debug, Clone)]
struct Row {
    x: Vec<f64>,
    x_hat: Vec<f64>,
    features: Vec<f64>,
    k_hat: f64,
}

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let offset = prop_oneof![Just(0.0), Just(1000.0)];
    let row = (
        prop::collection::vec(-3.0..3.0f64, D),
        prop::collection::vec(-0.5..0.5f64, D),
        prop::collection::vec(prop_oneof![2 => Just(0.0), 1 => -1.0..4.0f64], F),
        1.0..9.0f64,
    );
    (offset, prop::collection::vec(row, 2..40)).prop_map(|(offset, rows)| {
        let row = |(x, error, features, k_hat): (Vec<f64>, Vec<f64>, _, _)| {
            let x: Vec<f64> = x.iter().map(|x| x + offset).collect();
            let x_hat = x.iter().zip(&error).map(|(x, e)| x - e).collect();
            Row { x, x_hat, features, k_hat }
        };
        rows.into_iter().map(row).collect()
    })
}

fn tensor(rows: &[Row], width: usize, values: impl Fn(&Row) -> &[f64], kind: Kind) -> Tensor {
    let flat: Vec<f64> = rows.iter().flat_map(|row| values(row).to_vec()).collect();
    let flat = Tensor::from_slice(&flat).reshape([rows.len() as i64, width as i64]);
    flat.to_kind(kind).to_device(test_device())
}

fn add(metrics: &mut Metrics, rows: &[Row], kind: Kind) -> Result<(), Error> {
    let k_hat = tensor(rows, 1, |row| std::slice::from_ref(&row.k_hat), kind).flatten(0, -1);
    metrics.add(
        &tensor(rows, D, |row| &row.x, kind),
        &tensor(rows, D, |row| &row.x_hat, kind),
        &tensor(rows, F, |row| &row.features, kind),
        Some(&k_hat),
    )
}

fn evaluate(batches: &[&[Row]], kind: Kind) -> Evaluation {
    let mut metrics = Metrics::new(D, F);
    for batch in batches {
        add(&mut metrics, batch, kind).unwrap();
    }
    metrics.finish().unwrap()
}

fn assert_close(a: &Value, b: &Value, tolerance: f64) {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            a.iter().for_each(|(key, value)| assert_close(value, &b[key], tolerance));
        }
        (Value::Number(x), Value::Number(y)) => {
            let (x, y) = (x.as_f64().unwrap(), y.as_f64().unwrap());
            assert!((x - y).abs() <= tolerance * x.abs().max(1.0), "{x} and {y} differ");
        }
        _ => assert_eq!(a, b),
    }
}

fn json(evaluation: &Evaluation) -> Value {
    serde_json::to_value(evaluation).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = values.len() as f64;
    values.sum::<f64>() / n
}

/// Σ over dimensions of the variance, by two passes.
fn total_variance(rows: &[Vec<f64>]) -> f64 {
    let of_dimension = |d: usize| {
        let mu = mean(rows.iter().map(|row| row[d]));
        mean(rows.iter().map(|row| (row[d] - mu).powi(2)))
    };
    (0..D).map(of_dimension).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn cutting_into_batches_changes_nothing(rows in rows(), cuts in prop::collection::vec(0..40usize, 0..4)) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(rows.len())).collect();
        cuts.extend([0, rows.len()]);
        cuts.sort_unstable();
        let batches: Vec<&[Row]> = cuts.windows(2).map(|cut| &rows[cut[0]..cut[1]]).collect();
        for kind in [Kind::Double, Kind::Float] {
            let (whole, cut) = (evaluate(&[&rows], kind), evaluate(&batches, kind));
            assert_close(&json(&whole), &json(&cut), 1e-12);
        }
    }

    #[test]
    fn the_order_of_batches_changes_nothing(rows in rows(), cut in 0..40usize) {
        let (first, second) = rows.split_at(cut.min(rows.len()));
        let forward = evaluate(&[first, second], Kind::Double);
        let backward = evaluate(&[second, first], Kind::Double);
        // With an offset of 1000 and a spread of 3, one rounding is about 1e-13.
        assert_close(&json(&forward), &json(&backward), 1e-12);
    }

    #[test]
    fn metrics_are_their_definitions(rows in rows()) {
        let Evaluation { n_rows, reconstruction, sparsity, k_hat, .. } =
            evaluate(&[&rows], Kind::Double);
        let n = rows.len() as f64;
        prop_assert_eq!(n_rows, rows.len() as u64);
        let errors: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| row.x.iter().zip(&row.x_hat).map(|(x, h)| x - h).collect())
            .collect();
        let xs: Vec<Vec<f64>> = rows.iter().map(|row| row.x.clone()).collect();
        let variance = total_variance(&xs);
        let mse = mean(errors.iter().map(|e| dot(e, e)));
        let norm = |v: &[f64]| dot(v, v).sqrt();
        let cosine = |row: &Row| dot(&row.x, &row.x_hat) / (norm(&row.x) * norm(&row.x_hat));
        let squared_x_hat = mean(rows.iter().map(|row| dot(&row.x_hat, &row.x_hat)));
        let product = mean(rows.iter().map(|row| dot(&row.x, &row.x_hat)));
        let close = |got: f64, expected: f64| (got - expected).abs() < 1e-9 * expected.abs().max(1.0);
        prop_assert!(close(reconstruction.r2, 1.0 - mse / variance));
        prop_assert!(close(
            reconstruction.frac_variance_explained,
            1.0 - total_variance(&errors) / variance
        ));
        prop_assert!(close(reconstruction.mse_per_row, mse));
        prop_assert!(close(reconstruction.cosine, mean(rows.iter().map(cosine))));
        let ratio = |row: &Row| norm(&row.x_hat) / norm(&row.x);
        prop_assert!(close(reconstruction.norm_ratio, mean(rows.iter().map(ratio))));
        prop_assert!(close(reconstruction.relative_bias, squared_x_hat / product));

        prop_assert!(close(sparsity.l1, mean(rows.iter().map(|row| row.features.iter().map(|f| f.abs()).sum()))));
        let active = |row: &Row| row.features.iter().filter(|f| **f != 0.0).count() as f64;
        prop_assert!(close(sparsity.l0_mean, mean(rows.iter().map(active))));
        let rate = |feature: usize| {
            rows.iter().filter(|row| row.features[feature] != 0.0).count() as f64 / n
        };
        let share = |wanted: fn(f64) -> bool| mean((0..F).map(|f| f64::from(u8::from(wanted(rate(f))))));
        prop_assert!(close(sparsity.dead_fraction, share(|rate| rate == 0.0)));
        prop_assert!(close(sparsity.dense_fraction_1e2, share(|rate| rate > 0.01)));
        prop_assert!(close(sparsity.dense_fraction_1e1, share(|rate| rate > 0.1)));
        let alive = (1.0 - sparsity.dead_fraction) * F as f64;
        prop_assert!(close(sparsity.density_histogram.iter().sum::<u64>() as f64, alive));

        let k_hat = k_hat.unwrap();
        let ks: Vec<f64> = rows.iter().map(|row| row.k_hat).collect();
        let mu = mean(ks.iter().copied());
        let sd = (ks.iter().map(|k| (k - mu).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
        prop_assert!(close(k_hat.mean, mu) && close(k_hat.sd, sd));
        prop_assert_eq!(k_hat.min, ks.iter().copied().fold(f64::INFINITY, f64::min));
        prop_assert_eq!(k_hat.max, ks.iter().copied().fold(f64::NEG_INFINITY, f64::max));
    }
}

#[test]
fn wrong_shapes_are_named() {
    let options = (Kind::Float, test_device());
    let zeros = |n, width| Tensor::zeros([n, width], options);
    let (d, f) = (D as i64, F as i64);
    let text = |x, x_hat, features, k_hat: Option<&Tensor>| {
        Metrics::new(D, F).add(&x, &x_hat, &features, k_hat).unwrap_err().to_string()
    };
    assert_eq!(
        text(zeros(2, 4), zeros(2, d), zeros(2, f), None),
        "x: expected shape [2, 5], got [2, 4]"
    );
    assert_eq!(
        text(zeros(2, d), zeros(3, d), zeros(2, f), None),
        "x_hat: expected shape [2, 5], got [3, 5]"
    );
    assert_eq!(
        text(zeros(2, d), zeros(2, d), zeros(2, 1), None),
        "features: expected shape [2, 12], got [2, 1]"
    );
    let k_hat = Tensor::zeros([3], options);
    assert_eq!(
        text(zeros(2, d), zeros(2, d), zeros(2, f), Some(&k_hat)),
        "k_hat: expected shape [2], got [3]"
    );
}

#[test]
fn values_that_are_not_finite_name_tensor_and_row() {
    let good = Row { x: vec![1.0; D], x_hat: vec![0.5; D], features: vec![1.0; F], k_hat: 2.0 };
    let bad: [fn(&mut Row); 4] = [
        |row| row.x[3] = f64::NAN,
        |row| row.x_hat[0] = f64::INFINITY,
        |row| row.features[7] = f64::NAN,
        |row| row.k_hat = f64::NAN,
    ];
    for (spoil, name) in bad.iter().zip(["x", "x_hat", "features", "k_hat"]) {
        let mut metrics = Metrics::new(D, F);
        add(&mut metrics, &[good.clone(), good.clone()], Kind::Float).unwrap();
        let mut row = good.clone();
        spoil(&mut row);
        let error = add(&mut metrics, &[good.clone(), row], Kind::Float).unwrap_err();
        let start = format!("{name}, row 3: expected finite values, got ");
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn no_rows_have_no_metrics() {
    let text = Metrics::new(D, F).finish().unwrap_err().to_string();
    assert_eq!(text, "rows: expected at least one, got none");
}
