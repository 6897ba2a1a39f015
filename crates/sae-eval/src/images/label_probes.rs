//! How well features tell the label of an image.

use sae_config::{AucOf, LabelProbing};
use tch::{Kind, Tensor};

use crate::{Error, Probe, Result, sparse_probing};

/// Images of a label at least, so that its probe can be fitted and tested.
const LEAST_OF_LABEL: usize = 10;

/// Features that label probes read.
const PROBED: [usize; 2] = [1, 5];

/// Probes of each label with enough images: three fifths of them train and the others test. Features are
/// taken over their size where they are active, activations centred and over one factor, so that no unit
/// decides.
///
/// # Shapes
/// features `[images, n_features]`, x `[images, d_model]`.
pub(super) fn label_probing(
    features: &Tensor,
    x: &Tensor,
    labels: &[Option<usize>],
    n_labels: usize,
) -> Result<Option<LabelProbing>> {
    let count = |label: usize| labels.iter().filter(|of| **of == Some(label)).count();
    let tasks: Vec<usize> = (0..n_labels).filter(|label| count(*label) >= LEAST_OF_LABEL).collect();
    if tasks.is_empty() || n_labels < 2 {
        return Ok(None);
    }
    let mut seen = vec![0_usize; n_labels];
    let (mut train, mut test) = (Vec::new(), Vec::new());
    for (image, label) in labels.iter().enumerate().filter_map(|(i, of)| Some((i, (*of)?))) {
        // Every second and fourth of five tests.
        if seen[label] % 5 % 2 == 1 { &mut test } else { &mut train }.push((image as i64, label));
        seen[label] += 1;
    }
    let rows = |of: &Tensor, at: &[(i64, usize)]| {
        let at: Vec<i64> = at.iter().map(|(image, _)| *image).collect();
        Ok::<_, Error>(of.f_index_select(0, &Tensor::f_from_slice(&at)?)?)
    };
    let is = |label: usize, at: &[(i64, usize)]| -> Vec<bool> {
        at.iter().map(|(_, of)| *of == label).collect()
    };
    let train_rows: Vec<i64> = train.iter().map(|(image, _)| *image).collect();
    let (features, x) = (&sized(features, &train_rows)?, &centred(x, &train_rows)?);
    let ks: Vec<usize> = PROBED.into_iter().filter(|k| *k as i64 <= features.size()[1]).collect();
    let (mut auc, mut auc_dense) = (vec![Vec::new(); ks.len()], 0.0);
    for &label in &tasks {
        let (is_train, is_test) = (is(label, &train), is(label, &test));
        let of_train = (&rows(features, &train)?, is_train.as_slice());
        let of_test = (&rows(features, &test)?, is_test.as_slice());
        for (of_k, probe) in auc.iter_mut().zip(sparse_probing(of_train, of_test, &ks)?) {
            of_k.push(probe.scores.auc.unwrap_or(0.5));
        }
        let dense = Probe::fit(&rows(x, &train)?, &is_train)?;
        let dense = dense.scores(&rows(x, &test)?, &is_test)?;
        auc_dense += dense.auc.unwrap_or(0.5) / tasks.len() as f64;
    }
    let auc = ks.iter().zip(auc).map(|(&k, of_labels)| of_k(k, &of_labels)).collect();
    Ok(Some(LabelProbing { n_labels: tasks.len() as u64, auc, auc_dense }))
}

/// The mean over labels with its standard error.
fn of_k(k: usize, of_labels: &[f64]) -> AucOf {
    let n = of_labels.len() as f64;
    let auc = of_labels.iter().sum::<f64>() / n;
    let squares: f64 = of_labels.iter().map(|of| (of - auc).powi(2)).sum();
    let standard_error = (of_labels.len() > 1).then(|| (squares / (n - 1.0) / n).sqrt());
    AucOf { k: k as u64, auc, standard_error }
}

/// Columns over the mean size of what is not 0 in the training rows.
fn sized(features: &Tensor, train: &[i64]) -> Result<Tensor> {
    let features = features.f_to_kind(Kind::Double)?;
    let of_train = features.f_index_select(0, &Tensor::f_from_slice(train)?)?.f_abs()?;
    let sum = |x: &Tensor| x.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Double);
    let (size, count) = (sum(&of_train)?, sum(&of_train.f_gt(0.0)?)?);
    let mean = size.f_div(&count.f_clamp_min(1.0)?)?;
    Ok(features.f_div(&mean.f_where_self(&mean.f_gt(0.0)?, &mean.f_ones_like()?)?)?)
}

/// Rows less the mean of the training rows, with a mean variance of 1 over them.
fn centred(x: &Tensor, train: &[i64]) -> Result<Tensor> {
    let x = x.f_to_kind(Kind::Double)?;
    let of_train = x.f_index_select(0, &Tensor::f_from_slice(train)?)?;
    let mean = of_train.f_mean_dim([0i64].as_slice(), true, Kind::Double)?;
    let variance = of_train.f_sub(&mean)?.f_square()?.f_mean(Kind::Double)?;
    let scale = variance.f_double_value(&[])?.sqrt();
    Ok(x.f_sub(&mean)?.f_div_scalar(if scale > 0.0 { scale } else { 1.0 })?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sae_models::InitRng;

    use super::*;

    /// The unit of each feature and that of activations decide nothing.
    fn check_units(seed: u64) {
        let mut rng = InitRng::new(seed);
        let features = (rng.uniform(&[60, 12], 1.0) - 0.4).relu();
        let x = rng.uniform(&[60, 5], 1.0);
        let labels: Vec<Option<usize>> = (0..60).map(|i| Some(i * 7 % 3)).collect();
        let units = (rng.uniform(&[12], 3.0)).exp();
        let own = label_probing(&features, &x, &labels, 3).unwrap().unwrap();
        let other = label_probing(&(&features * units), &(&x * 40.0 + 3.0), &labels, 3);
        let other = other.unwrap().unwrap();
        assert!((own.auc_dense - other.auc_dense).abs() < 1e-9);
        for (own, other) in own.auc.iter().zip(&other.auc) {
            assert!((own.auc - other.auc).abs() < 1e-9, "{own:?} {other:?}");
        }
    }

    /// Two features that are active as often, and on no row of a label, differ alike.
    #[test]
    fn units_do_not_choose_between_features_that_differ_alike() {
        check_units(956);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn units_change_nothing(seed in 0u64..1000) {
            check_units(seed);
        }
    }
}
