//! Targeted probe perturbation: whether single classes can be taken out by single features.
//!
//! Not to be ranked by: on SAEs whose quality is known it ranks them against the truth
//! (arXiv:2605.18229).

use tch::{Kind, Tensor};

use crate::probing::{class_difference, rows};
use crate::{Error, Probe, Result};

/// What targeted probe perturbation is measured on.
#[derive(Debug, Clone, Copy)]
pub struct Perturbation<'a> {
    /// Activations, `[rows, d_model]`.
    pub x: &'a Tensor,
    /// Their features, `[rows, n_features]`.
    pub features: &'a Tensor,
    /// One row a feature, `[n_features, d_model]`.
    pub decoder: &'a Tensor,
    /// The class of each row.
    pub labels: &'a [usize],
    /// A probe of each class, on activations.
    pub probes: &'a [Probe],
    /// Rows at the front that say which features matter to a class; the others are scored.
    pub train_rows: usize,
}

/// How much more ablating the features of a class hurts its own probe than those of the others
/// (TPP, SAEBench), for each number of features.
///
/// An audit finds that it ranks SAEs of known quality against the truth, and that it should not be used
/// to choose between them (arXiv:2605.18229).
///
/// The effect of feature i on class c is max(0, mean of f_i in the class − mean elsewhere)·(w_c·d_i).
/// The n features of the greatest effect above 0 are set to 0, the SAE's error is added back, and the
/// accuracy of each probe drops by drop_j; the score is the mean over c of
/// drop_c − mean_{j≠c} drop_j.
///
/// # Errors
/// Shapes that do not fit, values that are not finite, fewer than two classes, a class without rows
/// before `train_rows`, no rows after them.
pub fn targeted_probe_perturbation(what: Perturbation<'_>, ns: &[usize]) -> Result<Vec<f64>> {
    let Perturbation { labels, probes, train_rows, .. } = what;
    let x = rows("x", what.x, labels.len())?;
    let features = rows("features", what.features, labels.len())?;
    let n_features = features.size()[1];
    let decoder = rows("decoder", what.decoder, n_features as usize)?;
    if probes.len() < 2 {
        let (expected, got) = ("at least 2".into(), probes.len().to_string());
        return Err(Error::Setting { name: "probes", expected, got });
    }
    if train_rows >= labels.len() {
        let (expected, got) = (format!("below the {} rows", labels.len()), train_rows.to_string());
        return Err(Error::Setting { name: "train_rows", expected, got });
    }
    for probe in probes {
        let (expected, got) = (vec![x.size()[1]], vec![probe.weights.len() as i64]);
        if got != expected {
            return Err(Error::Shape { name: "probe weights", expected, got });
        }
    }
    let n_test = (labels.len() - train_rows) as i64;
    let (x, test) = (x.narrow(0, train_rows as i64, n_test), &labels[train_rows..]);
    let scored = features.narrow(0, train_rows as i64, n_test);
    let before = accuracies(&x, test, probes)?;
    let mut scores = vec![0.0; ns.len()];
    for (class, probe) in probes.iter().enumerate() {
        let is_class: Vec<bool> = labels[..train_rows].iter().map(|l| *l == class).collect();
        let difference = class_difference(&features.narrow(0, 0, train_rows as i64), &is_class)?;
        let along: Vec<f64> = decoder.mv(&Tensor::from_slice(&probe.weights)).try_into()?;
        let effect = |i: &usize| difference[*i].max(0.0) * along[*i];
        let mut order: Vec<usize> = (0..along.len()).filter(|i| effect(i) > 0.0).collect();
        order.sort_by(|a, b| effect(b).total_cmp(&effect(a)));
        for (score, n) in scores.iter_mut().zip(ns) {
            let chosen: Vec<i64> = order.iter().take(*n).map(|i| *i as i64).collect();
            let chosen = Tensor::from_slice(&chosen);
            let ablated =
                &x - scored.index_select(1, &chosen).mm(&decoder.index_select(0, &chosen));
            let after = accuracies(&ablated, test, probes)?;
            let drops: Vec<f64> = before.iter().zip(after).map(|(b, a)| b - a).collect();
            let others: f64 =
                drops.iter().enumerate().filter(|(j, _)| *j != class).map(|(_, drop)| drop).sum();
            *score += (drops[class] - others / (probes.len() - 1) as f64) / probes.len() as f64;
        }
    }
    Ok(scores)
}

/// Share of rows that each class's probe tells right.
fn accuracies(x: &Tensor, labels: &[usize], probes: &[Probe]) -> Result<Vec<f64>> {
    let of_probe = |(class, probe): (usize, &Probe)| {
        let scores = x.mv(&Tensor::from_slice(&probe.weights)) + probe.bias;
        let scores = Vec::<f64>::try_from(scores.to_kind(Kind::Double))?;
        let right =
            scores.iter().zip(labels).filter(|(s, l)| (**s > 0.0) == (**l == class)).count();
        Ok(right as f64 / labels.len() as f64)
    };
    probes.iter().enumerate().map(of_probe).collect()
}
