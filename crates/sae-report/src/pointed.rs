//! The L0 that scores point to: of the sparsities of a group of runs the one that each finds best.

use std::collections::BTreeMap;

use sae_config::{Better, RunResult, RunStatus, Suite};
use serde::Serialize;

use crate::Summary;
use crate::groups::Groups;

/// What may point to an L0: the decoder's scores of arXiv:2508.16560, what few features tell of labels and
/// of first letters, and on planted data the truth. Fidelity points to the largest L0 whatever is right.
const GUIDES: [&str; 7] = [
    PROJECTION,
    "core.decoder_cosine",
    "probing.auc_k1",
    "probing.auc_k16",
    "interventions.f1_one_feature",
    "truth.f1",
    "truth.mcc",
];

/// Sparsities of a group at least: of two one is always the end.
const LEAST: usize = 3;

/// The score that is the projection of rank ⌊F/16⌋, which says nothing where as many features are
/// active.
const PROJECTION: &str = "core.decoder_projection";
const FEATURES_PER_RANK: usize = 16;

/// The L0 that scores point to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointedL0 {
    /// The scores, by their names in result files.
    pub scores: Vec<&'static str>,
    /// The groups that have enough sparsities.
    pub rows: Vec<PointedRow>,
}

/// What scores say of one group.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PointedRow {
    /// Its place in [`Groups`].
    pub group: usize,
    /// One a score; none where fewer than three sparsities have it, or several are best.
    pub cells: Vec<Option<Pointed>>,
}

/// The best of a group's sparsities by one score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Pointed {
    /// Its L0, the mean over seeds.
    pub l0: f64,
    /// Whether no sparsity of the group lies on one side of it: the best may be beyond.
    pub is_end: bool,
}

impl PointedL0 {
    /// What the scores of all groups point to; none where no group has three sparsities with a score.
    #[must_use]
    pub fn of(runs: &[RunResult], groups: &Groups) -> Option<Self> {
        let infos = || Suite::ALL.into_iter().flat_map(Suite::scores);
        let guides = GUIDES.into_iter().filter_map(|name| infos().find(|info| info.name == name));
        let guides: Vec<_> = guides.collect();
        let rows = groups.groups.iter().enumerate().map(|(group, of)| {
            let own: Vec<&RunResult> = of.runs.iter().map(|&run| &runs[run]).collect();
            let cells = guides.iter().map(|info| pointed(&own, info.name, info.better)).collect();
            PointedRow { group, cells }
        });
        let mut rows: Vec<PointedRow> = rows.collect();
        rows.retain(|row| row.cells.iter().any(Option::is_some));
        let is_told = |at: &usize| rows.iter().any(|row| row.cells[*at].is_some());
        let told: Vec<usize> = (0..guides.len()).filter(is_told).collect();
        for row in &mut rows {
            row.cells = told.iter().map(|&at| row.cells[at]).collect();
        }
        let scores = told.iter().map(|&at| guides[at].name).collect();
        (!rows.is_empty()).then_some(Self { scores, rows })
    }
}

/// The sparsity with the best mean of a score over seeds.
fn pointed(runs: &[&RunResult], score: &str, better: Better) -> Option<Pointed> {
    let mut of: BTreeMap<String, (Vec<f64>, Vec<f64>)> = BTreeMap::new();
    for run in runs.iter().filter(|run| run.status == RunStatus::Done) {
        let Some(evaluation) = &run.evaluation else { continue };
        let Some(value) = evaluation.scores.get(score).map(|score| score.value) else { continue };
        let own = evaluation.sparsity.l0_mean;
        let rank = run.config.sae.n_features / FEATURES_PER_RANK;
        if score == PROJECTION && own >= rank as f64 {
            continue;
        }
        let (l0, values) = of.entry(run.config.architecture.sparsity().1.to_string()).or_default();
        l0.push(own);
        values.push(value);
    }
    let mean = |values: &[f64]| Summary::of(values).map_or(f64::NAN, |summary| summary.mean);
    let mut points: Vec<(f64, f64)> =
        of.values().map(|(l0, values)| (mean(l0), mean(values))).collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    if points.len() < LEAST {
        return None;
    }
    let is_better = |a: f64, b: f64| match better {
        Better::Low => a < b,
        Better::High | Better::Neither => a > b,
    };
    let best = (1..points.len())
        .fold(0, |best, at| if is_better(points[at].1, points[best].1) { at } else { best });
    let is_alone = points.iter().filter(|point| point.1 == points[best].1).count() == 1;
    is_alone
        .then_some(Pointed { l0: points[best].0, is_end: best == 0 || best + 1 == points.len() })
}

#[cfg(test)]
mod tests {
    use sae_config::Score;

    use super::*;
    use crate::tests::{evaluated, run};

    fn scored(k: usize, seed: u64, scores: &[(&str, f64)]) -> RunResult {
        let run = run(&format!("architecture.k = {k}\ntraining.seed = {seed}"));
        let mut run = evaluated(run, k as f64 + 0.5 * seed as f64, 0.5);
        run.config.sae.n_features = 1024;
        let own = &mut run.evaluation.as_mut().unwrap().scores;
        own.extend(scores.iter().map(|(name, value)| ((*name).into(), Score::new(*value, 9))));
        run
    }

    fn of(runs: &[RunResult]) -> Option<PointedL0> {
        PointedL0::of(runs, &Groups::of(runs))
    }

    #[test]
    fn low_scores_point_to_their_least_and_high_ones_to_their_greatest() {
        // Means over two seeds: the projection is least at k = 8, the AUC is greatest at 16.
        let at = |k, seed, projection, auc| {
            let scores = [("core.decoder_projection", projection), ("probing.auc_k1", auc)];
            scored(k, seed, &[&scores[..], &[("core.r2", k as f64)]].concat())
        };
        let runs = [
            at(4, 0, 0.5, 0.6),
            at(4, 1, 0.1, 0.6),
            at(8, 0, 0.2, 0.7),
            at(8, 1, 0.2, 0.7),
            at(16, 0, 0.3, 0.9),
            at(16, 1, 0.3, 0.6),
        ];
        let found = of(&runs).unwrap();
        assert_eq!(found.scores, ["core.decoder_projection", "probing.auc_k1"]);
        let inner = Some(Pointed { l0: 8.25, is_end: false });
        let end = Some(Pointed { l0: 16.25, is_end: true });
        assert_eq!(found.rows, [PointedRow { group: 0, cells: vec![inner, end] }]);
        let mut reversed = runs.to_vec();
        reversed.reverse();
        assert_eq!(of(&reversed), Some(found), "the order of runs does not matter");
    }

    #[test]
    fn two_sparsities_equal_scores_and_runs_that_were_dropped_point_to_nothing() {
        let at = |k, value| scored(k, 0, &[("truth.mcc", value)]);
        assert_eq!(of(&[at(4, 0.1), at(8, 0.2)]), None);
        assert_eq!(of(&[at(4, 0.1), at(8, 0.1), at(16, 0.1)]), None);
        assert_eq!(of(&[at(4, 0.2), at(8, 0.2), at(16, 0.1)]), None);
        assert!(of(&[at(4, 0.1), at(8, 0.1), at(16, 0.2)]).is_some());
        let mut runs = [at(4, 0.1), at(8, 0.2), at(16, 0.3)];
        assert!(of(&runs).is_some());
        runs[2].status = RunStatus::Dropped;
        assert_eq!(of(&runs), None);
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn a_projection_of_no_higher_rank_than_l0_says_nothing() {
        let at = |k: usize, value| {
            let mut run = scored(k, 0, &[(PROJECTION, value), ("core.decoder_cosine", value)]);
            run.config.sae.n_features = 256;
            run
        };
        let least_at_end = [at(2, 0.5), at(4, 0.3), at(8, 0.4), at(16, 0.2)];
        let row = of(&least_at_end).unwrap().rows.remove(0);
        assert_eq!(row.cells[0], Some(Pointed { l0: 4.0, is_end: false }));
        assert_eq!(row.cells[1], Some(Pointed { l0: 16.0, is_end: true }));
    }

    #[test]
    fn every_guide_is_a_score() {
        for guide in GUIDES {
            let mut all = Suite::ALL.into_iter().flat_map(Suite::scores);
            assert!(all.any(|info| info.name == guide && info.better != Better::Neither));
        }
    }
}
