//! Fidelity at equal L0: the frontier of each group of runs, read at the same numbers of features.

use std::collections::BTreeMap;

use sae_config::{Evaluation, RunResult, RunStatus};
use serde::Serialize;

use crate::groups::Groups;

/// How far from a k that runs aim at the compared L0 may lie, as a ratio.
const REACH: f64 = 1.25;

/// Numbers of features that a table has room for.
const MAX_COLUMNS: usize = 12;

/// What is compared: its name, its name in files, and its value in a run.
type Measure = (&'static str, &'static str, fn(&Evaluation) -> Option<f64>);

const MEASURES: [Measure; 3] = [
    ("R²", "r2", |e| Some(e.reconstruction.r2)),
    ("CE recovered", "ce_recovered", |e| Some(e.cross_entropy.as_ref()?.ce_recovered)),
    ("embedding recovered", "embedding_recovered", |e| {
        Some(e.images.as_ref()?.embedding_recovered)
    }),
];

/// (L0, value) of runs, by rising L0.
type Points = Vec<(f64, f64)>;

/// What groups of runs reach at equal L0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EqualL0 {
    /// The numbers of active features at which they are compared.
    pub l0: Vec<f64>,
    /// A table for each measure that runs have.
    pub measures: Vec<Compared>,
}

/// One measure at equal L0.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Compared {
    /// The measure.
    pub name: &'static str,
    /// Its name in files.
    pub key: &'static str,
    /// A row a group and a cell an L0; none where no seed's runs reach it.
    pub cells: Vec<Vec<Option<Summary>>>,
}

/// A value over seeds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    /// Mean.
    pub mean: f64,
    /// Standard deviation, with n − 1 in the denominator; none of one seed.
    pub sd: Option<f64>,
    /// Seeds.
    pub n: usize,
}

impl Summary {
    /// Summarizes values; none of none.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let first = *values.first()?;
        let n = values.len();
        let mean = values.iter().sum::<f64>() / n as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        // Equal values have none, whatever rounding makes of their mean.
        let varies = values.iter().any(|value| *value != first);
        let sd = (n > 1).then(|| if varies { (squares / (n - 1) as f64).sqrt() } else { 0.0 });
        Some(Self { mean: if varies { mean } else { first }, sd, n })
    }
}

impl EqualL0 {
    /// Compares groups at each k that runs aim at, or at powers of two where none aims at a k
    /// or they aim at very many.
    ///
    /// A measure is linear in the logarithm of L0 between the runs of one seed, and nothing beyond
    /// them; a cell summarizes the seeds. Where runs miss their k a little, they are compared at
    /// the L0 near it that most of them reach.
    #[must_use]
    pub fn of(runs: &[RunResult], groups: &Groups) -> Option<Self> {
        let mut measures = Vec::new();
        let frontiers = MEASURES.map(|(_, _, value)| frontiers(runs, groups, value));
        let l0 = columns(runs, &frontiers[0]);
        for ((name, key, _), frontiers) in MEASURES.iter().zip(&frontiers) {
            let cell = |seeds: &Vec<Points>, l0: f64| {
                let values: Vec<f64> = seeds.iter().filter_map(|points| at(points, l0)).collect();
                Summary::of(&values)
            };
            let row = |seeds| l0.iter().map(|&l0| cell(seeds, l0)).collect();
            let cells: Vec<Vec<_>> = frontiers.iter().map(row).collect();
            if cells.iter().flatten().any(Option::is_some) {
                measures.push(Compared { name, key, cells });
            }
        }
        (!measures.is_empty()).then_some(Self { l0, measures })
    }
}

/// For each group the points of each seed.
fn frontiers(
    runs: &[RunResult],
    groups: &Groups,
    value: impl Fn(&Evaluation) -> Option<f64>,
) -> Vec<Vec<Points>> {
    let seeds = |members: &Vec<usize>| {
        let mut seeds: BTreeMap<u64, Points> = BTreeMap::new();
        let members = members.iter().map(|&run| &runs[run]);
        // What was dropped has not been trained to its end.
        for run in members.filter(|run| run.status != RunStatus::Dropped) {
            let point = run.evaluation.as_ref().and_then(|e| Some((e.sparsity.l0_mean, value(e)?)));
            let usable = |(l0, value): &(f64, f64)| *l0 > 0.0 && value.is_finite();
            let points = seeds.entry(run.config.training.seed).or_default();
            points.extend(point.filter(usable));
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
        }
        seeds.into_values().collect()
    };
    groups.groups.iter().map(|group| seeds(&group.runs)).collect()
}

/// The L0 at which to compare: near each k that runs aim at, where most frontiers reach.
fn columns(runs: &[RunResult], frontiers: &[Vec<Points>]) -> Vec<f64> {
    let all = || frontiers.iter().flatten().filter(|points| !points.is_empty());
    let ends = || all().flat_map(|points| [points[0].0, points[points.len() - 1].0]);
    let (low, high) = ends().fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(x), b.max(x)));
    let mut targets: Vec<f64> =
        runs.iter().filter_map(|run| run.config.architecture.target_l0()).collect();
    targets.sort_by(f64::total_cmp);
    targets.dedup();
    if targets.is_empty() || targets.len() > MAX_COLUMNS {
        targets =
            (0..32).map(|power| 2f64.powi(power)).filter(|x| (low..=high).contains(x)).collect();
    }
    let reached = |l0: f64| all().filter(|points| at(points, l0).is_some()).count();
    let mut columns = Vec::new();
    for target in targets {
        let mut best = (reached(target), target);
        let mut near: Vec<f64> =
            ends().filter(|l0| (target / REACH..=target * REACH).contains(l0)).collect();
        near.sort_by(|a, b| distance(*a, target).total_cmp(&distance(*b, target)));
        near.dedup();
        for l0 in near {
            let n = reached(l0);
            if n > best.0 {
                best = (n, l0);
            }
        }
        if best.0 > 0 && !columns.contains(&best.1) {
            columns.push(best.1);
        }
    }
    columns
}

fn distance(a: f64, b: f64) -> f64 {
    (a / b).ln().abs()
}

/// The value at an L0 of a frontier that is linear in ln L0; none beyond its ends.
fn at(points: &[(f64, f64)], l0: f64) -> Option<f64> {
    let measured: Vec<f64> = points.iter().filter(|p| p.0 == l0).map(|p| p.1).collect();
    if let Some(measured) = Summary::of(&measured) {
        return Some(measured.mean);
    }
    let right = points.iter().position(|p| p.0 > l0).filter(|&right| right > 0)?;
    let ((x0, y0), (x1, y1)) = (points[right - 1], points[right]);
    Some(y0 + (l0 / x0).ln() / (x1 / x0).ln() * (y1 - y0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::tests::{evaluated, run};

    #[test]
    fn values_are_linear_in_the_logarithm_of_l0_and_nothing_beyond() {
        let points = [(16.0, 0.5), (32.0, 0.6), (64.0, 0.9)];
        for (l0, expected) in
            [(16.0, Some(0.5)), (32.0, Some(0.6)), (64.0, Some(0.9)), (64.1, None), (15.9, None)]
        {
            assert_eq!(at(&points, l0), expected, "at {l0}");
        }
        let middle = at(&points, 16.0 * 2f64.sqrt()).unwrap();
        assert!((middle - 0.55).abs() < 1e-12);
        assert_eq!(at(&points[..1], 16.0), Some(0.5));
        assert_eq!(at(&points[..1], 17.0), None);
        assert_eq!(at(&[], 16.0), None);
        assert_eq!(at(&[(4.0, 0.25), (4.0, 0.75)], 4.0), Some(0.5));
    }

    #[test]
    fn values_are_summarized_by_mean_and_sample_deviation() {
        assert_eq!(Summary::of(&[]), None);
        assert_eq!(Summary::of(&[0.7]), Some(Summary { mean: 0.7, sd: None, n: 1 }));
        let tie = Summary { mean: 0.1, sd: Some(0.0), n: 3 };
        assert_eq!(Summary::of(&[0.1, 0.1, 0.1]), Some(tie));
        let three = Summary::of(&[1.0, 2.0, 6.0]).unwrap();
        // Var = ((−2)² + (−1)² + 3²)/2 = 7.
        assert!(
            (three.mean - 3.0).abs() < 1e-12 && (three.sd.unwrap() - 7f64.sqrt()).abs() < 1e-12
        );
    }

    fn topk(k: usize, seed: u64, l0: f64, r2: f64) -> RunResult {
        evaluated(run(&format!("architecture.k = {k}\ntraining.seed = {seed}")), l0, r2)
    }

    fn compare(runs: &[RunResult]) -> Option<EqualL0> {
        EqualL0::of(runs, &Groups::of(runs))
    }

    #[test]
    fn each_seed_is_interpolated_before_seeds_are_summarized() {
        let runs = [
            topk(4, 0, 4.0, 0.5),
            topk(8, 0, 8.0, 0.7),
            // The L0 of this seed are others: its line gives 0.6 and 0.8.
            topk(4, 1, 2.0, 0.4),
            topk(8, 1, 8.0, 0.8),
        ];
        let compared = compare(&runs).unwrap();
        assert_eq!(compared.l0, [4.0, 8.0]);
        let cells = &compared.measures[0].cells[0];
        let (four, eight) = (cells[0].unwrap(), cells[1].unwrap());
        assert!((four.mean - 0.55).abs() < 1e-12 && four.n == 2);
        assert!((four.sd.unwrap() - 0.005f64.sqrt()).abs() < 1e-12);
        assert!((eight.mean - 0.75).abs() < 1e-12);
        assert_eq!(compared.measures.len(), 1, "nobody measured cross-entropy");
    }

    #[test]
    fn runs_that_miss_their_k_are_compared_where_most_reach() {
        let runs = [
            topk(4, 0, 3.9, 0.5),
            topk(8, 0, 7.9, 0.7),
            topk(4, 1, 4.1, 0.5),
            topk(8, 1, 8.2, 0.7),
        ];
        assert_eq!(compare(&runs).unwrap().l0, [4.1, 7.9]);
        // Far from k nothing is compared.
        let far = [topk(4, 0, 11.0, 0.5), topk(8, 0, 20.0, 0.7)];
        assert_eq!(compare(&far), None);
        assert_eq!(compare(&[run("architecture.k = 4")]), None);
    }

    #[test]
    fn without_targets_powers_of_two_are_compared() {
        let penalty = |l1: f64, l0: f64, r2: f64| {
            evaluated(
                run(&format!("architecture = {{ name = 'gated', l1_penalty = {l1} }}")),
                l0,
                r2,
            )
        };
        let runs = [penalty(0.1, 33.0, 0.9), penalty(0.5, 7.0, 0.5)];
        assert_eq!(compare(&runs).unwrap().l0, [8.0, 16.0, 32.0]);
    }

    proptest! {
        #[test]
        fn cells_lie_between_measured_values_and_inside_measured_l0(
            picks in prop::collection::vec((0..3u64, 1..6u32, 0.8..1.25f64, 0.0..1.0f64), 1..12),
        ) {
            let runs: Vec<_> = picks
                .iter()
                .map(|&(seed, power, miss, r2)| topk(1 << power, seed, miss * f64::from(1 << power), r2))
                .collect();
            let low = picks.iter().map(|p| p.3).fold(f64::INFINITY, f64::min);
            let high = picks.iter().map(|p| p.3).fold(0.0, f64::max);
            let l0s = || runs.iter().map(|r| r.evaluation.as_ref().unwrap().sparsity.l0_mean);
            if let Some(compared) = compare(&runs) {
                for (l0, cell) in compared.l0.iter().zip(&compared.measures[0].cells[0]) {
                    prop_assert!(l0s().any(|x| x <= *l0) && l0s().any(|x| x >= *l0));
                    if let Some(cell) = cell {
                        prop_assert!((low - 1e-12..=high + 1e-12).contains(&cell.mean));
                        prop_assert!(cell.n <= 3 && cell.sd.is_some() == (cell.n > 1));
                    }
                }
            }
        }
    }
}
