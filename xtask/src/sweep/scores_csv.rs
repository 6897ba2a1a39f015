//! `scores.csv`: a line for each score of each run, with its interval, the noise of seeds, and what
//! worthless dictionaries get.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use sae_config::{Evaluation, Score, Suite, SweepResults, scores_of};
use sae_report::{Groups, Summary};

use super::table::settings;

const HEADER: [&str; 17] = [
    "run_id",
    "setting",
    "k",
    "seed",
    "suite",
    "score",
    "value",
    "low",
    "high",
    "n",
    "over",
    "l0",
    "seeds",
    "reseed_sd",
    "floor",
    "floor_dictionary",
    "ceiling",
];

/// The lines of all runs; none where no run has scores.
pub(super) fn csv(results: &SweepResults) -> Result<Option<String>> {
    let has_scores = |evaluation: &Evaluation| !evaluation.scores.is_empty();
    if !results.runs.iter().filter_map(|run| run.evaluation.as_ref()).any(has_scores) {
        return Ok(None);
    }
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(HEADER)?;
    for setting in settings(&results.runs, &Groups::of(&results.runs)) {
        // What seeds differ by.
        let mut of_seeds: HashMap<&str, Vec<f64>> = HashMap::new();
        let scores =
            || setting.runs.iter().filter_map(|run| Some(&run.evaluation.as_ref()?.scores));
        for (name, score) in scores().flatten() {
            of_seeds.entry(name).or_default().push(score.value);
        }
        for run in &setting.runs {
            let Some(evaluation) = &run.evaluation else { continue };
            let all = Suite::ALL.into_iter();
            let all =
                all.flat_map(|suite| scores_of(suite, &evaluation.scores).map(move |s| (suite, s)));
            for (suite, (info, score)) in all {
                let Score { value, interval, n, ceiling, .. } = score;
                let number = |value: f64| value.to_string();
                let seeds = Summary::of(&of_seeds[info.name]);
                let floor = score.floor(info);
                let text = |value: Option<String>| value.unwrap_or_default();
                writer.write_record([
                    run.run_id.clone(),
                    setting.name.clone(),
                    setting.sparsity.clone(),
                    run.config.training.seed.to_string(),
                    suite.name().into(),
                    info.name.into(),
                    value.to_string(),
                    text(interval.map(|interval| number(interval.low))),
                    text(interval.map(|interval| number(interval.high))),
                    n.to_string(),
                    info.over.into(),
                    evaluation.sparsity.l0_mean.to_string(),
                    of_seeds[info.name].len().to_string(),
                    text(seeds.and_then(|seeds| seeds.sd).map(number)),
                    text(floor.map(|(_, value)| number(value))),
                    text(floor.map(|(kind, _)| kind.name().into())),
                    text(ceiling.map(number)),
                ])?;
            }
        }
    }
    String::from_utf8(writer.into_inner()?).context("scores.csv").map(Some)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use sae_config::{Interval, IntervalKind, RunResult, Worthless};

    use super::super::tests::measured;
    use super::*;

    fn with_score(mut run: RunResult, value: f64) -> RunResult {
        let by = IntervalKind::BlockBootstrap;
        let mut score = Score::new(value, 100).with_ceiling(1.0);
        score.interval = Some(Interval { low: value - 0.25, high: value + 0.25, by });
        score.floors.insert(Worthless::Dimensions, 0.125);
        score.floors.insert(Worthless::RandomRows, 0.0625);
        run.evaluation.as_mut().unwrap().scores.insert("core.r2".into(), score);
        run
    }

    #[test]
    fn a_line_tells_interval_seeds_floor_and_ceiling() {
        let runs = vec![
            with_score(measured(4, 0, 0.5), 0.5),
            with_score(measured(4, 1, 0.5), 0.75),
            measured(8, 0, 0.5),
        ];
        let text = csv(&SweepResults { runs, ..SweepResults::default() }).unwrap().unwrap();
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let lines: Vec<BTreeMap<String, String>> =
            reader.deserialize().map(Result::unwrap).collect();
        assert_eq!(lines.len(), 2);
        for (key, value) in [
            ("run_id", "4-1"),
            ("score", "core.r2"),
            ("value", "0.75"),
            ("low", "0.5"),
            ("high", "1"),
            ("n", "100"),
            ("over", "rows"),
            ("seeds", "2"),
            ("floor", "0.125"),
            ("floor_dictionary", "dimensions"),
            ("ceiling", "1"),
            ("k", "4"),
        ] {
            assert_eq!(lines[1][key], value, "{key}");
        }
        let sd: f64 = lines[0]["reseed_sd"].parse().unwrap();
        assert!((sd - 0.125 * 2f64.sqrt()).abs() < 1e-12);
        let none = SweepResults { runs: vec![measured(4, 0, 0.5)], ..SweepResults::default() };
        assert_eq!(csv(&none).unwrap(), None);
    }
}
