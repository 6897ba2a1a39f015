//! How well features tell the label of an image.

use sae_config::{AucOf, LabelProbing};
use tch::Tensor;

use crate::{Error, Probe, Result, sparse_probing};

/// Images of a label at least, so that its probe can be fitted and tested.
const LEAST_OF_LABEL: usize = 10;

/// Features that label probes read.
const PROBED: [usize; 2] = [1, 5];

/// Probes of each label with enough images: three fifths of them train and the others test.
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
    let ks: Vec<usize> = PROBED.into_iter().filter(|k| *k as i64 <= features.size()[1]).collect();
    let (mut auc, mut auc_dense) = (vec![0.0; ks.len()], 0.0);
    for &label in &tasks {
        let (is_train, is_test) = (is(label, &train), is(label, &test));
        let of_train = (&rows(features, &train)?, is_train.as_slice());
        let of_test = (&rows(features, &test)?, is_test.as_slice());
        for (sum, probe) in auc.iter_mut().zip(sparse_probing(of_train, of_test, &ks)?) {
            *sum += probe.scores.auc.unwrap_or(0.5) / tasks.len() as f64;
        }
        let dense = Probe::fit(&rows(x, &train)?, &is_train)?;
        let dense = dense.scores(&rows(x, &test)?, &is_test)?;
        auc_dense += dense.auc.unwrap_or(0.5) / tasks.len() as f64;
    }
    let auc = ks.iter().zip(auc).map(|(&k, auc)| AucOf { k: k as u64, auc }).collect();
    Ok(Some(LabelProbing { n_labels: tasks.len() as u64, auc, auc_dense }))
}
