//! Signs of stores with planted faults, against their definitions.

use std::sync::Arc;

use proptest::prelude::*;
use sae_data::{ActivationStore, Dtype, Remedy, Selection, Signs, StoreWriter, open_store};

use crate::support::{meta, spec};

fn write(folder: &std::path::Path, d_model: usize, values: &[f32]) -> Arc<dyn ActivationStore> {
    let n_rows = (values.len() / d_model) as u64;
    let mut writer = StoreWriter::create(folder, spec(d_model, 64, Dtype::F32)).unwrap();
    writer.append(values, &meta(0..n_rows)).unwrap();
    writer.finish().unwrap();
    open_store(folder).unwrap()
}

fn signs(d_model: usize, values: &[f32]) -> Signs {
    let folder = tempfile::tempdir().unwrap();
    Signs::of(write(folder.path(), d_model, values).as_ref()).unwrap()
}

/// Rows spread evenly around zero, of norms about 1.
fn noise(n_rows: usize, d_model: usize) -> Vec<f32> {
    let value = |i: usize| ((i * 7919 + i * i % 104_729) % 2001) as f32 / 1000.0 - 1.0;
    (0..n_rows * d_model).map(value).collect()
}

fn remedies(signs: &Signs) -> Vec<Remedy> {
    signs.advice().into_iter().map(|advice| advice.remedy).collect()
}

/// γ by its definition.
fn gamma(values: &[f32], d_model: usize) -> f64 {
    let rows: Vec<&[f32]> = values.chunks(d_model).collect();
    let n = rows.len() as f64;
    let (mut mean, mut variance) = (0.0, 0.0);
    for d in 0..d_model {
        let m = rows.iter().map(|row| f64::from(row[d])).sum::<f64>() / n;
        mean += m * m;
        variance += rows.iter().map(|row| (f64::from(row[d]) - m).powi(2)).sum::<f64>() / n;
    }
    (mean / variance).sqrt()
}

#[test]
fn quiet_data_ask_for_nothing() {
    let values = noise(400, 16);
    let signs = signs(16, &values);
    assert!(remedies(&signs).is_empty(), "{:?}", signs.advice());
    assert_eq!((signs.n_rows, signs.n_zero_rows, signs.n_duplicate_rows), (400, 0, 0));
    assert_eq!((signs.n_massive_rows, signs.massive_share, signs.dead_directions), (0, 0.0, 0.0));
    assert!((signs.gamma.unwrap() - gamma(&values, 16)).abs() < 1e-9);
    assert_eq!(signs.gamma, signs.gamma_without_massive);
    assert!(signs.outlier_dimensions.is_empty());
}

#[test]
fn a_dimension_far_from_zero_makes_directions_dead() {
    let mut values = noise(400, 16);
    values.iter_mut().skip(5).step_by(16).for_each(|value| *value += 40.0);
    let found = signs(16, &values);
    assert_eq!(remedies(&found), [Remedy::Centre]);
    assert!(
        (found.gamma.unwrap() - gamma(&values, 16)).abs() < 1e-9 && found.gamma.unwrap() > 10.0
    );
    let [outlier] = found.outlier_dimensions[..] else { panic!("{:?}", found.outlier_dimensions) };
    assert!(outlier.dimension == 5 && outlier.share > 0.999 && outlier.ratio > 50.0);
    // Directions against it are dead: nearly half of them.
    assert!((0.3..0.6).contains(&found.dead_directions), "{}", found.dead_directions);
    // The other sign tells the same, but for which directions those are.
    let turned: Vec<f32> = values.iter().map(|value| -value).collect();
    let turned = signs(16, &turned);
    assert_eq!(
        (turned.gamma, &turned.outlier_dimensions),
        (found.gamma, &found.outlier_dimensions)
    );
    assert!(turned.dead_directions + found.dead_directions <= 1.0);
}

#[test]
fn massive_rows_are_told_and_do_not_hide_the_rest() {
    let mut values = noise(400, 16);
    values.iter_mut().skip(5).step_by(16).for_each(|value| *value += 9.0);
    let plain = signs(16, &values);
    for row in [3, 77] {
        values[row * 16] = 5000.0;
    }
    let found = signs(16, &values);
    assert_eq!(remedies(&found), [Remedy::LimitNorms, Remedy::Centre]);
    assert_eq!(found.n_massive_rows, 2);
    assert!(found.massive_share > 0.99 && found.largest_ratio > 400.0);
    assert!(found.gamma.unwrap() < 0.1, "two rows decide it");
    let (without, plain) = (found.gamma_without_massive.unwrap(), plain.gamma.unwrap());
    assert!((without - plain).abs() < 0.02 * plain);
    assert_eq!(found.outlier_dimensions[0].dimension, 5);
}

#[test]
fn copies_and_zeros_are_counted() {
    let mut values = noise(400, 16);
    values.copy_within(0..20 * 16, 100 * 16);
    values[300 * 16..303 * 16].fill(0.0);
    let found = signs(16, &values);
    assert_eq!((found.n_zero_rows, found.n_duplicate_rows), (3, 20 + 2));
    assert_eq!(remedies(&found), [Remedy::DropZeros, Remedy::DropDuplicates]);
    // Rows of zeros alone are no copies to be told of.
    let mut values = noise(400, 16);
    values[300 * 16..].fill(0.0);
    assert_eq!(remedies(&signs(16, &values)), [Remedy::DropZeros]);
    let zeros = signs(16, &vec![0.0; 64]);
    assert_eq!((zeros.gamma, zeros.n_massive_rows, zeros.dead_directions), (None, 0, 1.0));
}

#[test]
fn what_is_kept_belongs_to_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut values = noise(400, 16);
    values[..16].fill(900.0);
    let store = write(folder.path(), 16, &values);
    let first = Signs::cached(store.as_ref()).unwrap();
    assert_eq!(Signs::cached(store.as_ref()).unwrap(), first);
    let less = Selection::by_norm(Arc::clone(&store), 10.0).unwrap();
    let less = Signs::cached(&less).unwrap();
    assert_eq!((first.n_massive_rows, less.n_massive_rows, less.n_rows), (1, 0, 399));
    assert_eq!(less.gamma, less.gamma_without_massive);
    assert!((less.gamma.unwrap() - first.gamma_without_massive.unwrap()).abs() < 1e-12);
}

proptest! {
    #[test]
    fn scale_and_order_of_rows_change_nothing(
        values in prop::collection::vec(-3.0..3.0f32, 40),
        power in -4..5i32,
    ) {
        let before = signs(4, &values);
        let scale = 2f32.powi(power);
        let other: Vec<f32> = values.chunks(4).rev().flatten().map(|value| value * scale).collect();
        let after = signs(4, &other);
        let close = |a: Option<f64>, b: Option<f64>| match (a, b) {
            (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0),
            (a, b) => a == b,
        };
        prop_assert!(close(before.gamma, after.gamma));
        prop_assert!(close(before.gamma_without_massive, after.gamma_without_massive));
        prop_assert!((before.massive_share - after.massive_share).abs() < 1e-9);
        prop_assert_eq!(
            (before.n_massive_rows, before.n_duplicate_rows, before.dead_directions),
            (after.n_massive_rows, after.n_duplicate_rows, after.dead_directions)
        );
        prop_assert!((before.gamma.unwrap() - gamma(&values, 4)).abs() < 1e-6 * gamma(&values, 4).max(1.0));
    }
}
