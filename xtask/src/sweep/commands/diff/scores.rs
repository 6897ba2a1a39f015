//! What was measured of two runs that stand for each other.

use sae_config::{Evaluation, RunResult};

use super::super::opened::labels;

/// What is compared of two runs: name, and value where it was measured.
pub(super) type Score = (&'static str, fn(&Evaluation) -> Option<f64>);

pub(super) const SCORES: [Score; 5] = [
    ("L0", |e| Some(e.sparsity.l0_mean)),
    ("R²", |e| Some(e.reconstruction.r2)),
    ("CE recovered", |e| Some(e.cross_entropy.as_ref()?.ce_recovered)),
    ("embedding recovered", |e| Some(e.images.as_ref()?.embedding_recovered)),
    ("dead", |e| Some(e.sparsity.dead_fraction)),
];

/// A row for each pair, with each score in A, in B and the difference.
pub(super) fn scores(
    a: &[RunResult],
    b: &[RunResult],
    pairs: &[(usize, usize)],
) -> Option<Vec<Vec<String>>> {
    let value = |run: &RunResult, score: &Score| run.evaluation.as_ref().and_then(score.1);
    let is_measured = |score: &&Score| {
        pairs.iter().any(|&(i, j)| value(&a[i], score).and(value(&b[j], score)).is_some())
    };
    let measured: Vec<&Score> = SCORES.iter().filter(is_measured).collect();
    if measured.is_empty() {
        return None;
    }
    let mut header = vec!["run".to_owned()];
    for (name, _) in &measured {
        header.extend([format!("{name} A"), "B".into(), "B − A".into()]);
    }
    let mut rows = vec![header];
    let labels = labels(a);
    let mut sums = vec![(0.0, 0); measured.len()];
    let mut n_left_out = 0;
    for &(i, j) in pairs {
        if a[i].evaluation.is_none() || b[j].evaluation.is_none() {
            n_left_out += 1;
            continue;
        }
        let mut row = vec![labels[i].clone()];
        for (score, sum) in measured.iter().zip(&mut sums) {
            let (a, b) = (value(&a[i], score), value(&b[j], score));
            let difference = a.zip(b).map(|(a, b)| b - a);
            *sum = difference.map_or(*sum, |difference| (sum.0 + difference, sum.1 + 1));
            row.extend([number(a), number(b), signed(difference)]);
        }
        rows.push(row);
    }
    let mut mean = vec!["mean".to_owned()];
    for (sum, n) in sums {
        let difference = (n > 0).then(|| sum / f64::from(n));
        mean.extend([String::new(), String::new(), signed(difference)]);
    }
    rows.push(mean);
    if n_left_out > 0 {
        let left_out = format!("{n_left_out} pairs have results on one side at most");
        rows.push(vec![left_out]);
    }
    Some(rows)
}

pub(super) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "–".into(), |value| format!("{value:.4}"))
}

fn signed(difference: Option<f64>) -> String {
    match difference {
        Some(0.0) => "=".into(),
        Some(difference) => format!("{difference:+.4}"),
        None => "–".into(),
    }
}
