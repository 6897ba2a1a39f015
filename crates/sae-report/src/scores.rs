//! The scores of suites by run, with what worthless dictionaries get beside them.

use std::collections::BTreeSet;

use sae_config::{Better, RunResult, Score, ScoreInfo, Suite, Worthless};
use serde::Serialize;

/// The scores of one suite.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SuiteScores {
    /// The suite; `other` of scores that this version does not know.
    pub suite: &'static str,
    /// What is scored: those that some run has.
    pub columns: Vec<ScoreColumn>,
    /// The runs that have some.
    pub rows: Vec<ScoreRow>,
}

/// A score that runs are told apart by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScoreColumn {
    /// Its name in result files.
    pub name: String,
    /// Which values are better, `high` or `low`; none of a score that describes.
    pub better: Option<&'static str>,
    /// What its number counts.
    pub over: &'static str,
}

/// The scores of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreRow {
    /// The run, by its place in the results.
    pub run: usize,
    /// One a column.
    pub cells: Vec<Option<ScoreCell>>,
}

/// A score of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScoreCell {
    /// What was measured.
    pub value: f64,
    /// The ends of its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// Of how many.
    pub n: u64,
    /// What cannot be exceeded, or is known to be reached.
    pub ceiling: Option<f64>,
    /// The worthless dictionary that does best, and what it gets.
    pub floor: Option<(&'static str, f64)>,
    /// Whether the value is better than that.
    pub is_above_floor: Option<bool>,
}

impl SuiteScores {
    /// The suites of which runs have scores, in the order in which they are measured.
    #[must_use]
    pub fn of(runs: &[RunResult]) -> Vec<Self> {
        let mut names: BTreeSet<&str> = BTreeSet::new();
        for run in runs {
            names.extend(run.evaluation.iter().flat_map(|of| of.scores.keys().map(String::as_str)));
        }
        let mut suites = Vec::new();
        for suite in Suite::ALL {
            let known = suite.scores().iter();
            let own: Vec<ScoreInfo> =
                known.copied().filter(|info| names.remove(info.name)).collect();
            let columns = own.iter().map(|info| ScoreColumn {
                name: info.name.to_owned(),
                better: direction(info.better),
                over: info.over,
            });
            suites.push(Self::new(suite.name(), columns.collect(), runs, |at| own[at].better));
        }
        let plain = |name: &str| ScoreColumn { name: name.to_owned(), better: None, over: "" };
        let columns = names.into_iter().map(plain).collect();
        suites.push(Self::new("other", columns, runs, |_| Better::Neither));
        suites.retain(|suite| !suite.columns.is_empty());
        suites
    }

    fn new(
        suite: &'static str,
        columns: Vec<ScoreColumn>,
        runs: &[RunResult],
        better: impl Fn(usize) -> Better,
    ) -> Self {
        let row = |(run, result): (usize, &RunResult)| {
            let scores = &result.evaluation.as_ref()?.scores;
            let cell = |(at, column): (usize, &ScoreColumn)| {
                scores.get(&column.name).map(|score| ScoreCell::new(score, better(at)))
            };
            let cells: Vec<_> = columns.iter().enumerate().map(cell).collect();
            cells.iter().any(Option::is_some).then_some(ScoreRow { run, cells })
        };
        let rows = runs.iter().enumerate().filter_map(row).collect();
        Self { suite, columns, rows }
    }
}

impl ScoreCell {
    fn new(score: &Score, better: Better) -> Self {
        let floor = score.floor(&ScoreInfo { name: "", better, over: "" });
        let is_above = |(_, floor): (Worthless, f64)| match better {
            Better::High => score.value > floor,
            Better::Low | Better::Neither => score.value < floor,
        };
        Self {
            value: score.value,
            interval: score.interval.map(|interval| [interval.low, interval.high]),
            n: score.n,
            ceiling: score.ceiling,
            floor: floor.map(|(kind, value)| (kind.name(), value)),
            is_above_floor: floor.map(is_above),
        }
    }
}

fn direction(better: Better) -> Option<&'static str> {
    match better {
        Better::High => Some("high"),
        Better::Low => Some("low"),
        Better::Neither => None,
    }
}

#[cfg(test)]
mod tests {
    use sae_config::{Interval, IntervalKind};

    use super::*;
    use crate::tests::{evaluated, run};

    fn scored(scores: &[(&str, Score)]) -> RunResult {
        let mut run = evaluated(run("architecture.k = 4"), 4.0, 0.5);
        let own = &mut run.evaluation.as_mut().unwrap().scores;
        own.extend(scores.iter().map(|(name, score)| ((*name).to_owned(), score.clone())));
        run
    }

    #[test]
    fn each_score_is_in_its_suite_once_and_none_is_lost() {
        let all = Suite::ALL.into_iter().flat_map(Suite::scores);
        let mut scores: Vec<_> = all.map(|info| (info.name, Score::new(0.25, 7))).collect();
        scores.push(("later.score", Score::new(3.0, 1)));
        let runs = [run("architecture.k = 4"), scored(&scores), scored(&[])];
        let found = SuiteScores::of(&runs);
        let names = found.iter().flat_map(|suite| suite.columns.iter().map(|one| &*one.name));
        assert_eq!(names.collect::<Vec<_>>(), scores.iter().map(|one| one.0).collect::<Vec<_>>());
        assert_eq!(found.last().unwrap().suite, "other");
        for suite in &found {
            assert_eq!(suite.rows.iter().map(|row| row.run).collect::<Vec<_>>(), [1]);
            assert_eq!(suite.rows[0].cells.len(), suite.columns.len());
        }
        assert!(SuiteScores::of(&runs[..1]).is_empty() && SuiteScores::of(&[]).is_empty());
    }

    #[test]
    fn floors_are_the_best_of_the_worthless_and_are_beaten_in_the_right_direction() {
        let floors = [(Worthless::RandomRows, 0.25), (Worthless::Dimensions, 0.5)];
        let score = |value| Score { floors: floors.into(), ..Score::new(value, 9) };
        let interval = Interval { low: 0.1, high: 0.3, by: IntervalKind::Normal };
        let with_interval = Score { interval: Some(interval), ..score(0.3) };
        let runs = [
            scored(&[("core.r2", score(0.6)), ("core.dead_fraction", with_interval)]),
            scored(&[("core.r2", score(0.5).with_ceiling(0.9))]),
            scored(&[("core.dead_fraction", score(0.2)), ("core.l0", score(8.0))]),
        ];
        let found = SuiteScores::of(&runs);
        assert_eq!(found.len(), 1);
        let columns: Vec<_> = found[0].columns.iter().map(|of| (&*of.name, of.better)).collect();
        let expected =
            [("core.r2", Some("high")), ("core.l0", None), ("core.dead_fraction", Some("low"))];
        assert_eq!(columns, expected);
        let cell = |run: usize, column: usize| found[0].rows[run].cells[column].clone();
        let beaten = |run, column| cell(run, column).and_then(|cell| cell.is_above_floor);
        assert_eq!(cell(0, 0).unwrap().floor, Some(("dimensions", 0.5)));
        assert_eq!(cell(0, 2).unwrap().floor, Some(("random_rows", 0.25)));
        assert_eq!(cell(0, 2).unwrap().interval, Some([0.1, 0.3]));
        assert_eq!(cell(1, 0).unwrap().ceiling, Some(0.9));
        assert_eq!((beaten(0, 0), beaten(1, 0)), (Some(true), Some(false)));
        assert_eq!((beaten(0, 2), beaten(2, 2)), (Some(false), Some(true)));
        assert_eq!((cell(2, 1).unwrap().floor, beaten(2, 1)), (None, None));
        assert_eq!((cell(0, 1), cell(1, 2)), (None, None));
    }
}
