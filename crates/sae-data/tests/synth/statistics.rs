//! Statistics of rows: those of SAELens' own sampler, and of Zipf's law.

use std::collections::HashMap;

use sae_data::{PlantedConfig, PlantedTruth, SynthConfig};
use safetensors::SafeTensors;

use super::{generate, golden, of_model, read_json, small};

fn statistics() -> HashMap<String, Vec<f64>> {
    let bytes = std::fs::read(golden().join("statistics.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let is_f64 = |(_, t): &(String, safetensors::tensor::TensorView<'_>)| t.dtype().bitsize() == 64;
    let values = |data: &[u8]| {
        data.chunks_exact(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    tensors.tensors().into_iter().filter(is_f64).map(|(k, t)| (k, values(t.data()))).collect()
}

/// Differences of two samples' statistics over their standard errors.
#[derive(Default)]
struct Differences(Vec<f64>);

impl Differences {
    fn add(&mut self, expected: f64, got: f64, variance: f64) {
        if variance > 0.0 {
            self.0.push((got - expected) / variance.sqrt());
        } else {
            assert_eq!(expected, got, "what does not vary");
        }
    }

    /// Of normal differences, one in 10⁶ is beyond 4.9; the mean of their squares is 1. Pairs of
    /// features depend on each other: over 12 seeds the mean of their squares had the deviation
    /// 0.033, that of 1800 differences that do not.
    fn check(&self, name: &str) {
        let (place, largest) = (0..)
            .zip(self.0.iter().map(|z| z.abs()))
            .max_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or_default();
        let mean_square = self.0.iter().map(|z| z * z).sum::<f64>() / self.0.len() as f64;
        println!(
            "{name}: {} statistics, largest |z| {largest:.2} at {place}, mean z² {mean_square:.3}",
            self.0.len()
        );
        assert!(largest < 4.9, "{name}: largest z {largest}");
        let bound = 1.0 + 5.0 * (2.0 / self.0.len().min(1800) as f64).sqrt();
        assert!(mean_square < bound, "{name}: mean z² {mean_square}");
    }
}

/// What is counted of a truth.
struct Counted {
    /// How often each pair of features is active.
    together: Vec<f64>,
    /// How often each number of features is.
    histogram: Vec<f64>,
    /// Sums of the first four powers of the activations of each feature.
    powers: Vec<[f64; 4]>,
}

impl Counted {
    fn new(truth: &PlantedTruth, n_features: usize) -> Self {
        let share = 1.0 / truth.n_rows() as f64;
        let mut together = vec![0.0; n_features * n_features];
        let mut histogram = vec![0.0; n_features + 1];
        let mut powers = vec![[0.0; 4]; n_features];
        for row in 0..truth.n_rows() {
            let (features, activations) = truth.active(row);
            histogram[features.len()] += share;
            for (&i, &a) in features.iter().zip(activations) {
                let a = f64::from(a);
                for (power, sum) in (1..).zip(&mut powers[i as usize]) {
                    *sum += a.powi(power);
                }
                let pairs = &mut together[i as usize * n_features..][..n_features];
                features.iter().for_each(|&j| pairs[j as usize] += share);
            }
        }
        Self { together, histogram, powers }
    }
}

#[test]
fn statistics_are_those_of_saelens_own_sampler() {
    let config = of_model(400_000);
    let expected = statistics();
    let n_expected = read_json(&golden().join("scores.json"))["n_samples"].as_f64().unwrap();
    let (rows, truth) = generate(&config);
    let (n, n_features) = (config.n_rows as f64, config.n_features);
    let inverse_n = 1.0 / n + 1.0 / n_expected;

    let Counted { together, histogram, powers } = Counted::new(&truth, n_features);
    let share = |expected: &[f64], got: &[f64], name: &str| {
        let mut differences = Differences::default();
        for (&expected, &got) in expected.iter().zip(got) {
            let pooled = (expected * n_expected + got * n) / (n_expected + n);
            // Counts too small to be normal tell nothing here.
            if pooled * n > 30.0 {
                differences.add(expected, got, pooled * (1.0 - pooled) * inverse_n);
            } else {
                assert!((got - expected) * n < 60.0, "{name}: {expected} and {got}");
            }
        }
        differences.check(name);
    };
    let diagonal: Vec<f64> = (0..n_features).map(|i| together[i * n_features + i]).collect();
    share(&expected["firing_rate"], &diagonal, "firing rates");
    // Each pair once.
    let pairs = |all: &[f64]| -> Vec<f64> {
        (0..n_features).flat_map(|i| all[i * n_features..][i + 1..n_features].to_vec()).collect()
    };
    share(&pairs(&expected["co_firing"]), &pairs(&together), "co-firing");
    share(&expected["l0_histogram"], &histogram, "histogram of L0");

    let (mut means, mut squares) = (Differences::default(), Differences::default());
    for (feature, sums) in powers.iter().enumerate() {
        let count = diagonal[feature] * n;
        let moment = |power: usize| sums[power - 1] / count;
        let inverse = 1.0 / count + 1.0 / (expected["firing_rate"][feature] * n_expected);
        let variance =
            |power: usize| (moment(2 * power) - moment(power).powi(2)).max(0.0) * inverse;
        means.add(expected["magnitude_mean"][feature], moment(1), variance(1));
        squares.add(expected["magnitude_mean_square"][feature], moment(2), variance(2));
    }
    means.check("mean magnitudes");
    squares.check("mean squares of magnitudes");

    let mut x_mean = Differences::default();
    for (column, &expected) in expected["x_mean"].iter().enumerate() {
        let values = || rows.iter().skip(column).step_by(config.d_model).map(|&v| f64::from(v));
        let mean = values().sum::<f64>() / n;
        let variance = values().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
        x_mean.add(expected, mean, variance * inverse_n);
    }
    x_mean.check("mean of rows");
}

#[test]
fn independent_roots_fire_as_zipf_says() {
    let synth = SynthConfig {
        roots: 0,
        correlation_rank: 0,
        min_probability: 0.02,
        spread_mean: 0.0,
        spread_sd: 0.0,
        ..SynthConfig::default()
    };
    let config = PlantedConfig { n_rows: 40_000, synth: Some(synth), ..small() };
    let (_, truth) = generate(&config);
    let mut counts = vec![0.0; 60];
    for row in 0..truth.n_rows() {
        let (features, activations) = truth.active(row);
        for (&f, &a) in features.iter().zip(activations) {
            counts[f as usize] += 1.0;
            assert!((f64::from(a) - (5.0 - f64::from(f) / 59.0)).abs() < 1e-5);
        }
    }
    let last = 60f64.powf(-0.5);
    let mut differences = Differences::default();
    for (i, count) in counts.iter().enumerate() {
        let p = 0.02 + 0.38 * (((i + 1) as f64).powf(-0.5) - last) / (1.0 - last);
        differences.add(p, count / 40_000.0, p * (1.0 - p) / 40_000.0);
    }
    differences.check("Zipf");
}
