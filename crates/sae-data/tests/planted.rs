//! Planted data: rows are what the truth says, and each setting does what it says.

use sae_data::{Dtype, Manifolds, PlantedConfig, PlantedTruth, open_store};

use crate::support::read_all;

fn generate(config: &PlantedConfig) -> (tempfile::TempDir, Vec<f32>, PlantedTruth) {
    let dir = tempfile::tempdir().unwrap();
    config.write(dir.path(), Dtype::F32).unwrap();
    let rows = read_all(&*open_store(dir.path()).unwrap());
    let truth = PlantedTruth::load(dir.path()).unwrap();
    (dir, rows, truth)
}

fn small() -> PlantedConfig {
    PlantedConfig {
        n_rows: 5000,
        d_model: 24,
        n_features: 60,
        k_max: 9,
        ..PlantedConfig::default()
    }
}

#[test]
fn rows_are_sums_of_their_features_and_noise() {
    let config = PlantedConfig { noise: 0.2, ..small() };
    let (_dir, rows, truth) = generate(&config);
    let mut squared_noise = 0.0;
    for (i, row) in rows.chunks(24).enumerate() {
        let mut rest = row.to_vec();
        let (features, activations) = truth.active(i);
        assert!(features.is_sorted_by(|a, b| a < b));
        for (&feature, a) in features.iter().zip(activations) {
            let direction = &truth.dictionary()[feature as usize * 24..][..24];
            rest.iter_mut().zip(direction).for_each(|(r, d)| *r -= a * d);
        }
        squared_noise += rest.iter().map(|&r| f64::from(r).powi(2)).sum::<f64>();
    }
    let noise = (squared_noise / 5000.0).sqrt();
    assert!((noise - 0.2).abs() < 0.004, "noise {noise}");
    for direction in truth.dictionary().chunks(24) {
        let norm = direction.iter().map(|x| x * x).sum::<f32>().sqrt();
        assert!((norm - 1.0).abs() < 1e-5);
    }
}

#[test]
fn k_takes_every_value_equally_often() {
    let (_dir, _, truth) = generate(&small());
    let mut counts = [0_u32; 10];
    truth.true_k().iter().for_each(|&k| counts[k as usize] += 1);
    assert_eq!(counts[..2], [0, 0]);
    let expected = 5000.0 / 8.0;
    let chi_squared: f64 =
        counts[2..].iter().map(|&c| (f64::from(c) - expected).powi(2) / expected).sum();
    assert!(chi_squared < 30.0, "7 degrees of freedom, got {chi_squared}: {counts:?}");
    assert_eq!(truth.intrinsic_dimension(), truth.true_k());
}

#[test]
fn a_second_store_goes_on_with_the_same_features() {
    let (_a, all, truth) = generate(&small());
    let (_b, rest, rest_truth) =
        generate(&PlantedConfig { n_rows: 1000, first_row: 4000, ..small() });
    assert_eq!(all[4000 * 24..], rest);
    assert_eq!(truth.dictionary(), rest_truth.dictionary());
    assert_eq!(truth.true_k()[4000..], rest_truth.true_k());
}

#[test]
fn frequent_features_come_first() {
    let (_dir, _, truth) = generate(&PlantedConfig { frequency_exponent: 1.0, ..small() });
    let mut counts = [0_u32; 60];
    (0..5000).for_each(|i| truth.active(i).0.iter().for_each(|&f| counts[f as usize] += 1));
    assert!(counts[0] > 2 * counts[9] && counts[9] > 2 * counts[59], "{counts:?}");
    assert!(counts[59] > 0);
}

#[test]
fn children_come_with_their_parents() {
    let (_dir, _, truth) = generate(&PlantedConfig { children_per_parent: 3, ..small() });
    let mut n_children = 0;
    for i in 0..5000 {
        let (features, _) = truth.active(i);
        for feature in features.iter().filter(|&f| f % 4 != 0) {
            assert!(features.contains(&(feature / 4 * 4)));
            n_children += 1;
        }
    }
    assert!(n_children > 1000);
}

#[test]
fn correlated_features_share_rows() {
    let together = |correlation| {
        let config = PlantedConfig { correlation, group_size: 4, ..small() };
        let (_dir, _, truth) = generate(&config);
        let pairs = (0..5000).map(|i| {
            let groups: Vec<u32> = truth.active(i).0.iter().map(|f| f / 4).collect();
            groups.windows(2).filter(|pair| pair[0] == pair[1]).count()
        });
        pairs.sum::<usize>()
    };
    assert!(together(0.8) > 2 * together(0.0));
}

#[test]
fn manifolds_add_their_dimension_and_nothing_else() {
    let manifolds = Manifolds { dimensions: vec![1, 5], radius: 2.0 };
    let config =
        PlantedConfig { manifolds: Some(manifolds), k_min: 0, k_max: 0, noise: 0.0, ..small() };
    let (_dir, rows, truth) = generate(&config);
    assert!(truth.true_k().iter().all(|&k| k == 0));
    for dimension in [1, 5] {
        let on_torus: Vec<&[f32]> = rows
            .chunks(24)
            .zip(truth.intrinsic_dimension())
            .filter(|(_, d)| **d == dimension)
            .map(|(row, _)| row)
            .collect();
        assert!((2200..2800).contains(&on_torus.len()), "{}", on_torus.len());
        assert_eq!(rank(&on_torus[..200]), 2 * dimension as usize);
        let mean_square = on_torus.iter().flat_map(|r| r.iter()).map(|x| x * x).sum::<f32>()
            / on_torus.len() as f32;
        assert!((mean_square.sqrt() - 2.0).abs() < 0.2, "{mean_square}");
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let dir = tempfile::tempdir().unwrap();
    for (config, field) in [
        (PlantedConfig { n_rows: 0, ..small() }, "n_rows"),
        (PlantedConfig { d_model: 0, ..small() }, "d_model"),
        (PlantedConfig { k_max: 61, ..small() }, "k_max"),
        (PlantedConfig { k_min: 10, ..small() }, "k_min"),
        (PlantedConfig { correlation: 1.5, ..small() }, "correlation"),
        (PlantedConfig { noise: f64::NAN, ..small() }, "noise"),
        (PlantedConfig { magnitude: 0.0, ..small() }, "magnitude"),
        (PlantedConfig { first_row: u64::MAX, ..small() }, "first_row"),
        (PlantedConfig { first_row: (1 << 32) - small().n_rows + 1, ..small() }, "first_row"),
    ] {
        let error = config.write(&dir.path().join("store"), Dtype::F32).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{field}: expected")), "{error}");
    }
    assert!(!dir.path().join("store").exists());
}

/// Rank of rows, by Gaussian elimination with full pivoting.
fn rank(rows: &[&[f32]]) -> usize {
    let mut rows: Vec<Vec<f64>> =
        rows.iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
    let mut rank = 0;
    while let Some((r, c)) = largest(&rows[rank..]).map(|(r, c)| (r + rank, c)) {
        rows.swap(rank, r);
        let pivot = rows[rank].clone();
        for row in &mut rows[rank + 1..] {
            let factor = row[c] / pivot[c];
            row.iter_mut().zip(&pivot).for_each(|(x, p)| *x -= factor * p);
        }
        rank += 1;
    }
    rank
}

/// The place of the largest element, if it is more than rounding.
fn largest(rows: &[Vec<f64>]) -> Option<(usize, usize)> {
    let places = rows.iter().enumerate().flat_map(|(r, row)| (0..row.len()).map(move |c| (r, c)));
    let largest = places.max_by(|a, b| rows[a.0][a.1].abs().total_cmp(&rows[b.0][b.1].abs()))?;
    (rows[largest.0][largest.1].abs() > 1e-4).then_some(largest)
}
