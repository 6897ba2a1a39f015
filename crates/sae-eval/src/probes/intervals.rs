//! Intervals of means over tasks: tasks are drawn with replacement, and in each the test documents.

use sae_config::{Interval, IntervalKind};

use crate::suites::{N_DRAWS, Resampler, quantiles};

/// What a probe says of test documents, the lowest score first.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Told {
    /// Number of the document, whether it has the label, whether the probe says so.
    rows: Vec<(usize, bool, bool)>,
    /// Where groups of equal scores end.
    ends: Vec<usize>,
}

impl Told {
    pub(super) fn new(scores: &[f64], labels: &[bool]) -> Self {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let mut ends = Vec::new();
        for equal in order.chunk_by(|&a, &b| scores[a] == scores[b]) {
            ends.push(ends.last().copied().unwrap_or(0) + equal.len());
        }
        let rows = order.iter().map(|&row| (row, labels[row], scores[row] > 0.0)).collect();
        Self { rows, ends }
    }

    /// AUC, F1 and accuracy where each document comes so many times; none without both answers.
    fn scores(&self, counts: &[f64]) -> Option<[f64; 3]> {
        let (mut below, mut pairs, mut start) = (0.0, 0.0, 0);
        // Of what is said and what is: both, said alone, is alone, neither.
        let mut cells = [0.0; 4];
        for &end in &self.ends {
            let (mut positive, mut negative) = (0.0, 0.0);
            for &(row, is, said) in &self.rows[start..end] {
                let n = counts[row];
                *(if is { &mut positive } else { &mut negative }) += n;
                cells[2 * usize::from(!said) + usize::from(!is)] += n;
            }
            pairs += positive * (below + negative / 2.0);
            below += negative;
            start = end;
        }
        let [both, said_alone, is_alone, neither] = cells;
        let (n_positive, n_negative) = (both + is_alone, said_alone + neither);
        if n_positive == 0.0 || n_negative == 0.0 {
            return None;
        }
        let in_f1 = 2.0 * both + said_alone + is_alone;
        Some([
            pairs / (n_positive * n_negative),
            2.0 * both / in_f1,
            (both + neither) / (n_positive + n_negative),
        ])
    }

    fn n_rows(&self) -> usize {
        self.rows.len()
    }
}

/// For each number of features the intervals of AUC, F1 and accuracy, means over tasks; the same draws
/// for all of them. `told` has the probes of each task.
pub(super) fn intervals(told: &[Vec<Told>]) -> Vec<[Option<Interval>; 3]> {
    let n_probes = told.first().map_or(0, Vec::len);
    let mut drawn = vec![[const { Vec::new() }; 3]; n_probes];
    let mut resampler = Resampler::new();
    for _ in 0..N_DRAWS {
        let tasks: Vec<usize> = resampler.draw(told.len()).collect();
        let mut sums = vec![[0.0; 3]; n_probes];
        let mut n_tasks = 0.0;
        for task in tasks {
            let counts = resampler.counts(told[task][0].n_rows());
            let scores: Option<Vec<_>> = told[task].iter().map(|t| t.scores(&counts)).collect();
            let Some(scores) = scores else { continue };
            n_tasks += 1.0;
            for (sums, scores) in sums.iter_mut().zip(scores) {
                sums.iter_mut().zip(scores).for_each(|(sum, score)| *sum += score);
            }
        }
        if n_tasks == 0.0 {
            continue;
        }
        for (drawn, sums) in drawn.iter_mut().zip(sums) {
            drawn.iter_mut().zip(sums).for_each(|(drawn, sum)| drawn.push(sum / n_tasks));
        }
    }
    let interval = |values| {
        let by = IntervalKind::TaskBootstrap;
        quantiles(values).map(|[low, high]| Interval { low, high, by })
    };
    drawn.into_iter().map(|drawn| drawn.map(interval)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::probing::ProbeScores;

    proptest! {
        /// Against the scores of rows that are there so many times.
        #[test]
        fn a_count_is_a_row_that_is_there_so_often(
            rows in prop::collection::vec((-3i8..3, any::<bool>(), 0usize..4), 1..40),
        ) {
            let scores: Vec<f64> = rows.iter().map(|row| f64::from(row.0) / 2.0).collect();
            let labels: Vec<bool> = rows.iter().map(|row| row.1).collect();
            let counts: Vec<f64> = rows.iter().map(|row| row.2 as f64).collect();
            let repeated = |i: usize| std::iter::repeat_n(i, rows[i].2);
            let all: Vec<usize> = (0..rows.len()).flat_map(repeated).collect();
            let of_scores: Vec<f64> = all.iter().map(|&i| scores[i]).collect();
            let of_labels: Vec<bool> = all.iter().map(|&i| labels[i]).collect();
            let expected = ProbeScores::of(&of_scores, &of_labels);
            match (Told::new(&scores, &labels).scores(&counts), expected.auc) {
                (Some([auc, f1, accuracy]), Some(of_auc)) => {
                    prop_assert!((auc - of_auc).abs() < 1e-12);
                    prop_assert!((f1 - expected.f1).abs() < 1e-12);
                    prop_assert!((accuracy - expected.accuracy).abs() < 1e-12);
                }
                (got, auc) => prop_assert!(got.is_none() && auc.is_none()),
            }
        }
    }

    #[test]
    fn one_task_that_is_told_perfectly_has_no_width_and_more_tasks_have() {
        let labels: Vec<bool> = (0..60).map(|i| i % 3 == 0).collect();
        let perfect: Vec<f64> = labels.iter().map(|l| if *l { 1.0 } else { -1.0 }).collect();
        let useless: Vec<f64> = (0..60).map(|i| f64::from(i * 37 % 60) - 30.0).collect();
        let (perfect, useless) = (Told::new(&perfect, &labels), Told::new(&useless, &labels));
        let one = intervals(&[vec![perfect.clone()]]);
        let ends = one[0].map(|interval| interval.map(|i| (i.low, i.high)));
        assert_eq!(ends, [Some((1.0, 1.0)); 3]);
        let two = intervals(&[vec![perfect], vec![useless]])[0][0].unwrap();
        assert!(two.low < 0.6 && two.high > 0.95, "{two:?}");
        assert!(intervals(&[]).is_empty());
    }
}
