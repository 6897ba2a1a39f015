//! The table of a sweep for the screen: a row for each setting, its seeds taken together.

use std::collections::BTreeMap;

use sae_config::{Evaluation, ImagePart, LatentScores, RunResult, RunStatus, Suite, SweepResults};
use sae_report::{Groups, Summary, short};

use super::runs_csv::spearman;

/// What is shown of the runs of a row: name, value where it was measured, digits.
struct Cell {
    name: &'static str,
    value: fn(&Evaluation) -> Option<f64>,
    digits: usize,
    /// Whether the deviation over seeds is shown beside the mean.
    with_sd: bool,
}

const fn cell(
    name: &'static str,
    digits: usize,
    with_sd: bool,
    value: fn(&Evaluation) -> Option<f64>,
) -> Cell {
    Cell { name, value, digits, with_sd }
}

const CELLS: [Cell; 24] = [
    cell("L0", 1, false, |e| Some(e.sparsity.l0_mean)),
    cell("sd over rows", 1, false, |e| Some(e.sparsity.l0_sd)),
    cell("R²", 4, true, |e| Some(e.reconstruction.r2)),
    cell("CE recovered", 4, true, |e| Some(e.cross_entropy.as_ref()?.ce_recovered)),
    cell("embedding recovered", 4, true, |e| Some(e.images.as_ref()?.embedding_recovered)),
    cell("cosine", 4, true, |e| Some(e.images.as_ref()?.cosine)),
    cell("nearest %", 1, true, |e| Some(100.0 * e.images.as_ref()?.labels.as_ref()?.spliced)),
    cell("L0 object", 1, false, |e| l0_of(e, ImagePart::Object)),
    cell("background", 1, false, |e| l0_of(e, ImagePart::Background)),
    cell("Spearman", 3, true, |e| spearman(e.ground_truth.as_ref()?)),
    cell("matched cosine", 3, true, |e| Some(e.ground_truth.as_ref()?.mean_matched_cosine)),
    cell("recovered %", 1, false, |e| Some(100.0 * e.ground_truth.as_ref()?.recovered_above_0_9)),
    cell("precision", 3, false, |e| Some(e.ground_truth.as_ref()?.support_precision)),
    cell("recall", 3, false, |e| Some(e.ground_truth.as_ref()?.support_recall)),
    cell("F1", 3, true, |e| Some(latents(e)?.f1)),
    cell("MCC", 3, true, |e| Some(latents(e)?.mcc)),
    cell("unique", 3, false, |e| Some(latents(e)?.uniqueness)),
    cell("AUC of 1", 3, true, |e| value(e, "probing.auc_k1")),
    cell("floor", 3, false, |e| floor(e, "probing.auc_k1")),
    cell("AUC of 16", 3, true, |e| value(e, "probing.auc_k16")),
    cell("floor of 16", 3, false, |e| floor(e, "probing.auc_k16")),
    cell("all", 3, false, |e| e.scores.get("probing.auc_k1")?.ceiling),
    cell("decoder cosine", 4, true, |e| value(e, "core.decoder_cosine")),
    cell("dead %", 1, false, |e| Some(100.0 * e.sparsity.dead_fraction)),
];

/// The mean number of active features where an image holds this.
fn l0_of(evaluation: &Evaluation, part: ImagePart) -> Option<f64> {
    let parts = &evaluation.images.as_ref()?.parts;
    parts.iter().find(|scores| scores.part == part).map(|scores| scores.l0_mean)
}

fn value(evaluation: &Evaluation, score: &str) -> Option<f64> {
    evaluation.scores.get(score).map(|score| score.value)
}

/// What the best of the worthless dictionaries gets.
fn floor(evaluation: &Evaluation, name: &str) -> Option<f64> {
    let info = Suite::ALL.iter().flat_map(|suite| suite.scores()).find(|info| info.name == name)?;
    Some(evaluation.scores.get(name)?.floor(info)?.1)
}

fn latents(evaluation: &Evaluation) -> Option<&LatentScores> {
    evaluation.ground_truth.as_ref()?.latents.as_ref()
}

/// The table for the screen; what was measured in no run has no column.
pub(super) fn table(results: &SweepResults) -> String {
    let groups = Groups::of(&results.runs);
    let evaluations = || results.runs.iter().filter_map(|run| run.evaluation.as_ref());
    let is_shown =
        |cell: &&Cell| cell.name == "L0" || evaluations().any(|e| (cell.value)(e).is_some());
    let cells: Vec<&Cell> = CELLS.iter().filter(is_shown).collect();
    let settings = settings(&results.runs, &groups);
    let has_seeds = settings.iter().any(|setting| setting.runs.len() > 1);
    let is_done = |run: &&RunResult| run.status == RunStatus::Done;
    let has_status = !results.runs.iter().all(|run| is_done(&run));

    let mut header = vec!["architecture".to_owned(), "k".into()];
    header.extend(has_seeds.then(|| "seeds".into()));
    header.extend(cells.iter().map(|cell| cell.name.to_owned()));
    header.push("seconds".into());
    header.extend(has_status.then(|| "status".into()));
    let mut rows = vec![header];
    for setting in settings {
        // What was dropped has fewer steps, which make it a setting of its own.
        let is_measured = |run: &&RunResult| run.evaluation.is_some();
        let done: Vec<&RunResult> = setting.runs.iter().copied().filter(is_measured).collect();
        let mut row = vec![setting.name, setting.sparsity];
        row.extend(has_seeds.then(|| done.len().to_string()));
        row.extend(cells.iter().map(|cell| {
            let values: Vec<f64> =
                done.iter().filter_map(|run| (cell.value)(run.evaluation.as_ref()?)).collect();
            let summary = Summary::of(&values);
            let summary = summary.map(|s| Summary { sd: s.sd.filter(|_| cell.with_sd), ..s });
            match summary {
                Some(Summary { mean, sd: Some(sd), .. }) if sd > 0.0 => {
                    format!("{mean:.0$} ± {sd:.0$}", cell.digits)
                }
                Some(Summary { mean, .. }) => format!("{mean:.0$}", cell.digits),
                None => String::new(),
            }
        }));
        let seconds: Vec<f64> = done.iter().map(|run| run.train_seconds).collect();
        row.push(Summary::of(&seconds).map_or_else(String::new, |s| format!("{:.0}", s.mean)));
        row.extend(has_status.then(|| statuses(&setting.runs)));
        rows.push(row);
    }
    let table = align(&rows);
    if !has_seeds {
        return table;
    }
    table
        + "\n\nMeans over the seeds of a row that are done, ± their standard deviation. Every run is in results.csv."
}

/// Runs that differ in their seed alone.
pub(super) struct Setting<'a> {
    pub(super) name: String,
    /// Its k, or what else decides how sparse it is.
    pub(super) sparsity: String,
    pub(super) runs: Vec<&'a RunResult>,
}

/// The settings of runs, in the order of their first ones.
pub(super) fn settings<'a>(results: &'a [RunResult], groups: &Groups) -> Vec<Setting<'a>> {
    let mut places: BTreeMap<(usize, String), usize> = BTreeMap::new();
    let mut settings: Vec<Setting> = Vec::new();
    for (run, &group) in results.iter().zip(&groups.of_run) {
        let (key, value) = run.config.architecture.sparsity();
        let sparsity = match run.config.architecture.target_l0() {
            Some(k) => k.to_string(),
            None => format!("{} {value}", short(key)),
        };
        let at = *places.entry((group, sparsity.clone())).or_insert_with(|| {
            let name = groups.groups[group].name();
            settings.push(Setting { name, sparsity, runs: Vec::new() });
            settings.len() - 1
        });
        settings[at].runs.push(run);
    }
    settings
}

/// The statuses of runs, such as `2 done, 1 failed`; where all have one, its name alone.
fn statuses(runs: &[&RunResult]) -> String {
    let counts = counts(runs.iter().copied());
    match &counts[..] {
        [(status, _)] => status.name().into(),
        counts => {
            let parts = counts.iter().map(|(status, n)| format!("{n} {}", status.name()));
            parts.collect::<Vec<_>>().join(", ")
        }
    }
}

/// How many runs have each status that some run has.
pub(super) fn counts<'a>(
    runs: impl Iterator<Item = &'a RunResult> + Clone,
) -> Vec<(RunStatus, usize)> {
    let count = |status| runs.clone().filter(|run| run.status == status).count();
    RunStatus::ALL.map(|status| (status, count(status))).into_iter().filter(|c| c.1 > 0).collect()
}

/// Mean and deviation, with their number where some cell beside has several; a dash where there is
/// none.
pub(super) fn written(summary: Option<&Summary>, digits: usize, with_n: bool) -> String {
    let Some(Summary { mean, sd, n }) = summary else { return "–".into() };
    let mut text = format!("{mean:.digits$}");
    if let Some(sd) = sd.filter(|sd| *sd > 0.0) {
        text += &format!(" ± {sd:.digits$}");
    }
    if with_n {
        text += &format!(" ({n})");
    }
    text
}

/// Rows below their header, the first column to the left and the others to the right.
pub(super) fn align(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut lines: Vec<String> = Vec::new();
    for row in rows {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            let gap = " ".repeat(width - cell.chars().count());
            if column == 0 { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
        });
        lines.push(padded.collect::<Vec<_>>().join("  "));
    }
    if let Some(header) = lines.first().map(|line| line.chars().count()) {
        lines.insert(1, "─".repeat(header));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{measured, result};
    use super::*;

    fn table_of(runs: Vec<RunResult>) -> String {
        table(&SweepResults { name: "x".into(), runs, ..SweepResults::default() })
    }

    #[test]
    fn seeds_share_a_row_and_statuses_are_told() {
        let failed =
            RunResult { status: RunStatus::Failed, evaluation: None, ..measured(8, 1, 0.0) };
        let table = table_of(vec![
            measured(4, 0, 0.5),
            measured(4, 1, 0.7),
            measured(4, 2, 0.6),
            measured(8, 0, 0.9),
            failed,
        ]);
        let lines: Vec<&str> = table.lines().collect();
        let width = lines[0].chars().count();
        assert!(lines[..4].iter().all(|line| line.chars().count() == width), "{table}");
        assert!(lines[2].contains("0.6000 ± 0.1000") && lines[2].ends_with("done"), "{table}");
        assert!(lines[3].contains("0.9000") && lines[3].ends_with("1 done, 1 failed"), "{table}");
        assert!(!lines[3].contains('±'), "{table}");
        assert_eq!(table.matches("topk").count(), 2, "{table}");
    }

    #[test]
    fn runs_without_further_seeds_are_a_plain_list() {
        let table = table_of(vec![result("a")]);
        assert!(!table.contains('±') && !table.contains("seeds") && !table.contains("status"));
        assert!(table.contains("0.7500") && table.contains("12.5"), "{table}");
    }

    #[test]
    fn the_truth_has_columns_where_it_is_known() {
        let mut run = result("a");
        let plain = table_of(vec![run.clone()]);
        assert!(!plain.contains("Spearman") && !plain.contains("CE recovered"), "{plain}");
        let truth = serde_json::json!({
            "n_true_features": 50, "mean_matched_cosine": 0.8125, "recovered_above_0_9": 0.625,
            "support_precision": 0.5, "support_recall": 0.25, "spearman_l0_true_l0": 0.4375,
            "slope_l0": 0.5, "spearman_k_hat": null, "slope_k_hat": null
        });
        run.evaluation.as_mut().unwrap().ground_truth = serde_json::from_value(truth).unwrap();
        let shown = table_of(vec![run]);
        for value in ["Spearman", "0.438", "0.812", "62.5", "0.500", "0.250"] {
            assert!(shown.contains(value), "{value} in {shown}");
        }
    }

    #[test]
    fn what_has_no_k_shows_its_penalty() {
        let mut run = result("a");
        run.config.architecture = toml::from_str("name = 'gated'\nl1_penalty = 0.25").unwrap();
        assert!(table_of(vec![run]).contains("l1_penalty 0.25"));
    }

    #[test]
    fn one_value_or_equal_values_have_no_deviation() {
        let of = |values: &[f64]| written(Summary::of(values).as_ref(), 2, true);
        assert_eq!(of(&[]), "–");
        assert_eq!(of(&[0.5]), "0.50 (1)");
        assert_eq!(written(Summary::of(&[0.5]).as_ref(), 2, false), "0.50");
        assert_eq!(of(&[0.5, 0.5]), "0.50 (2)");
        assert_eq!(of(&[0.25, 0.75]), "0.50 ± 0.35 (2)");
    }
}
