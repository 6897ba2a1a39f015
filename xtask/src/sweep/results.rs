//! The results of a sweep: table, CSV, JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use sae_config::{
    Allocation, CrossEntropy, Evaluation, GroundTruth, RunResult, RunStatus, SweepResults,
    write_json,
};

use super::job::Job;
use super::plan::Plan;

/// All runs of the sweep that have ended, in its order.
pub(super) fn collect(plan: &Plan, job: &Job) -> SweepResults {
    let runs = plan.runs.iter().filter_map(|run| job.result(run)).collect();
    SweepResults { name: plan.name.clone(), runs }
}

/// Writes `results.csv` and `results.json`.
pub(super) fn write(out: &Path, results: &SweepResults) -> Result<()> {
    write_json(&out.join("results.json"), results)?;
    let path = out.join("results.csv");
    let write = || -> std::io::Result<()> {
        let mut file = tempfile::NamedTempFile::new_in(out)?;
        file.write_all(csv(results).as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        Ok(())
    };
    write().with_context(|| path.display().to_string())
}

/// The columns of `results.csv`: name, and value of a run where it has one.
type Column = (&'static str, fn(&RunResult) -> Option<String>);

const COLUMNS: [Column; 33] = [
    ("run_id", |r| Some(r.run_id.clone())),
    ("architecture", |r| Some(r.config.architecture.name().into())),
    ("k", |r| r.config.architecture.target_l0().map(|k| k.to_string())),
    ("seed", |r| Some(r.config.training.seed.to_string())),
    ("status", |r| Some(if r.status == RunStatus::Done { "done" } else { "failed" }.into())),
    ("l0", |r| Some(r.evaluation.as_ref()?.sparsity.l0_mean.to_string())),
    ("r2", |r| Some(r.evaluation.as_ref()?.reconstruction.r2.to_string())),
    ("fve", |r| Some(r.evaluation.as_ref()?.reconstruction.frac_variance_explained.to_string())),
    ("ce_recovered", |r| Some(spliced(r)?.ce_recovered.to_string())),
    ("dead_fraction", |r| Some(r.evaluation.as_ref()?.sparsity.dead_fraction.to_string())),
    ("train_seconds", |r| Some(r.train_seconds.to_string())),
    ("n_features", |r| Some(r.config.sae.n_features.to_string())),
    ("steps", |r| Some(r.config.training.steps.to_string())),
    ("lr", |r| r.config.training.lr.map(|lr| lr.to_string())),
    ("l0_sd", |r| Some(r.evaluation.as_ref()?.sparsity.l0_sd.to_string())),
    ("ce_spliced", |r| Some(spliced(r)?.spliced.to_string())),
    ("kl_recovered", |r| Some(spliced(r)?.kl_recovered.to_string())),
    ("k_hat_mean", |r| Some(r.evaluation.as_ref()?.k_hat.as_ref()?.mean.to_string())),
    ("k_hat_sd", |r| Some(r.evaluation.as_ref()?.k_hat.as_ref()?.sd.to_string())),
    ("spearman_true_k", |r| Some(spearman(truth(r)?)?.to_string())),
    ("matched_cosine", |r| Some(truth(r)?.mean_matched_cosine.to_string())),
    ("recovered_above_0_9", |r| Some(truth(r)?.recovered_above_0_9.to_string())),
    ("support_precision", |r| Some(truth(r)?.support_precision.to_string())),
    ("support_recall", |r| Some(truth(r)?.support_recall.to_string())),
    ("slope_l0", |r| Some(truth(r)?.slope_l0?.to_string())),
    ("slope_k_hat", |r| Some(truth(r)?.slope_k_hat?.to_string())),
    ("r2_uniform", |r| Some(allocation(r)?.r2_uniform.to_string())),
    ("r2_threshold", |r| Some(allocation(r)?.r2_threshold.to_string())),
    ("r2_oracle", |r| Some(allocation(r)?.r2_oracle.to_string())),
    ("spearman_l0_dimension", |r| {
        Some(r.evaluation.as_ref()?.complexity.as_ref()?.spearman_l0_dimension?.to_string())
    }),
    ("spearman_l0_next_loss", |r| Some(spliced(r)?.spearman_l0_next_loss?.to_string())),
    ("spearman_l0_own_loss", |r| Some(spliced(r)?.spearman_l0_own_loss?.to_string())),
    ("variant", |r| Some(quoted(r.variant.as_ref()?))),
];

/// A text in a CSV.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\""))
}

fn spliced(run: &RunResult) -> Option<&CrossEntropy> {
    run.evaluation.as_ref()?.cross_entropy.as_ref()
}

fn truth(run: &RunResult) -> Option<&GroundTruth> {
    run.evaluation.as_ref()?.ground_truth.as_ref()
}

fn allocation(run: &RunResult) -> Option<&Allocation> {
    run.evaluation.as_ref()?.allocation.as_ref()
}

/// Rank correlation with the true k: of k̂ where the architecture has one, else of L0.
fn spearman(truth: &GroundTruth) -> Option<f64> {
    truth.spearman_k_hat.or(truth.spearman_l0_true_l0)
}

fn csv(results: &SweepResults) -> String {
    let header = COLUMNS.map(|(name, _)| name).join(",");
    let rows = results
        .runs
        .iter()
        .map(|run| COLUMNS.map(|(_, value)| value(run).unwrap_or_default()).join(","));
    std::iter::once(header).chain(rows).map(|line| line + "\n").collect()
}

/// The columns of the table between k and time: what was measured, where it was.
type Cell = (&'static str, fn(&Evaluation) -> Option<String>);

const CELLS: [Cell; 9] = [
    ("L0", |e| Some(format!("{:.1}", e.sparsity.l0_mean))),
    ("±", |e| Some(format!("{:.1}", e.sparsity.l0_sd))),
    ("R²", |e| Some(format!("{:.4}", e.reconstruction.r2))),
    ("CE recovered", |e| Some(format!("{:.4}", e.cross_entropy.as_ref()?.ce_recovered))),
    ("Spearman", |e| Some(format!("{:.3}", spearman(e.ground_truth.as_ref()?)?))),
    ("matched cosine", |e| Some(format!("{:.3}", e.ground_truth.as_ref()?.mean_matched_cosine))),
    ("recovered", |e| {
        Some(format!("{:.1} %", 100.0 * e.ground_truth.as_ref()?.recovered_above_0_9))
    }),
    ("precision/recall", |e| {
        let truth = e.ground_truth.as_ref()?;
        Some(format!("{:.3}/{:.3}", truth.support_precision, truth.support_recall))
    }),
    ("dead", |e| Some(format!("{:.1} %", 100.0 * e.sparsity.dead_fraction))),
];

/// The table for the screen; what was measured in no run has no column.
pub(super) fn table(results: &SweepResults) -> String {
    let evaluations = || results.runs.iter().filter_map(|run| run.evaluation.as_ref());
    let is_shown = |cell: &&Cell| cell.0 == "L0" || evaluations().any(|e| cell.1(e).is_some());
    let cells: Vec<&Cell> = CELLS.iter().filter(is_shown).collect();
    let names = cells.iter().map(|cell| cell.0);
    let header = ["architecture", "k"].into_iter().chain(names).chain(["time"]);
    let mut rows = vec![header.map(String::from).collect()];
    rows.extend(results.runs.iter().map(|run| row(run, &cells)));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for row in &rows {
        let padded = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            let gap = " ".repeat(width - cell.chars().count());
            if column == 0 { format!("{cell}{gap}") } else { format!("{gap}{cell}") }
        });
        lines.push(padded.collect::<Vec<_>>().join("  "));
    }
    lines.insert(1, "─".repeat(lines[0].chars().count()));
    lines.join("\n")
}

fn row(run: &RunResult, cells: &[&Cell]) -> Vec<String> {
    let name = run.variant.as_deref().unwrap_or(run.config.architecture.name()).to_owned();
    let k = run.config.architecture.target_l0().map_or_else(String::new, |k| k.to_string());
    let mut row = vec![name, k];
    row.extend(cells.iter().map(|(name, cell)| match &run.evaluation {
        Some(evaluation) => cell(evaluation).unwrap_or_default(),
        None if *name == "L0" => "failed".into(),
        None => String::new(),
    }));
    row.push(format!("{:.0} s", run.train_seconds));
    row
}

#[cfg(test)]
mod tests {
    use sae_config::RunConfig;

    use super::*;

    fn results() -> SweepResults {
        let config = r#"
            [data]
            store = "s"
            [sae]
            n_features = 64
            [architecture]
            name = "topk"
            k = 4
            [training]
            steps = 10
            batch_size = 8
            seed = 7
        "#;
        let config = toml::from_str::<RunConfig>(config).unwrap().resolve().unwrap();
        let evaluation = serde_json::json!({
            "n_rows": 100,
            "reconstruction": {
                "r2": 0.75, "frac_variance_explained": 0.76, "mse_per_row": 1.0, "cosine": 0.9,
                "norm_ratio": 0.9, "relative_bias": 1.0
            },
            "sparsity": {
                "l0_mean": 4.0, "l0_sd": 0.5, "l0_p5": 4.0, "l0_p50": 4.0, "l0_p95": 4.0,
                "l1": 3.0, "dead_fraction": 0.125, "dense_fraction_1e2": 0.5,
                "dense_fraction_1e1": 0.0, "density_histogram": []
            },
            "k_hat": null,
            "cross_entropy": null
        });
        let done = RunResult {
            run_id: "abc".into(),
            variant: None,
            status: RunStatus::Done,
            config,
            train_seconds: 12.5,
            evaluation: serde_json::from_value(evaluation).unwrap(),
        };
        let failed = RunResult { status: RunStatus::Failed, evaluation: None, ..done.clone() };
        SweepResults { name: "test".into(), runs: vec![done, failed] }
    }

    #[test]
    fn csv_has_a_line_a_run_and_gaps_where_nothing_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &results()).unwrap();
        let text = std::fs::read_to_string(folder.path().join("results.csv")).unwrap();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "run_id,architecture,k,seed,status,l0,r2,fve,ce_recovered,dead_fraction,train_seconds,\
             n_features,steps,lr,l0_sd,ce_spliced,kl_recovered,k_hat_mean,k_hat_sd,\
             spearman_true_k,matched_cosine,recovered_above_0_9,support_precision,\
             support_recall,slope_l0,slope_k_hat,r2_uniform,\
             r2_threshold,r2_oracle,spearman_l0_dimension,spearman_l0_next_loss,spearman_l0_own_loss,\
             variant"
        );
        assert!(lines[1].starts_with("abc,topk,4,7,done,4,0.75,0.76,,0.125,12.5,64,10,"));
        assert!(lines[2].starts_with("abc,topk,4,7,failed,,,,,,12.5,64,10,"), "{}", lines[2]);
        assert!(lines.iter().all(|line| line.matches(',').count() == COLUMNS.len() - 1));
        let json: SweepResults =
            sae_config::read_json(&folder.path().join("results.json")).unwrap();
        assert_eq!(json, results());
    }

    #[test]
    fn the_table_is_aligned() {
        let table = table(&results());
        let widths: Vec<_> = table.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().all(|width| *width == widths[0]), "{table}");
        assert!(table.contains("0.7500") && table.contains("12.5 %") && table.contains("failed"));
    }

    #[test]
    fn the_truth_has_columns_where_it_is_known() {
        let mut results = results();
        let plain = table(&results);
        assert!(!plain.contains("Spearman") && !plain.contains("CE recovered"), "{plain}");
        let truth = serde_json::json!({
            "n_true_features": 50, "mean_matched_cosine": 0.8125, "recovered_above_0_9": 0.625,
            "support_precision": 0.5, "support_recall": 0.25, "spearman_l0_true_l0": 0.4375,
            "slope_l0": 0.5, "spearman_k_hat": null, "slope_k_hat": null
        });
        let evaluation = results.runs[0].evaluation.as_mut().unwrap();
        evaluation.ground_truth = serde_json::from_value(truth).unwrap();
        let shown = table(&results);
        for value in ["Spearman", "0.438", "0.812", "62.5 %", "0.500/0.250"] {
            assert!(shown.contains(value), "{value} in {shown}");
        }
        let line = csv(&results).lines().nth(1).unwrap().to_owned();
        assert!(line.ends_with(",0.4375,0.8125,0.625,0.5,0.25,0.5,,,,,,,,"), "{line}");
    }
}
