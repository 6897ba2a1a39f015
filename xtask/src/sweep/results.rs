//! The results of a sweep: table, CSV, JSON.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};
use sae_config::{RunResult, RunStatus, SweepResults, write_json};

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

const COLUMNS: [Column; 19] = [
    ("run_id", |r| Some(r.run_id.clone())),
    ("architecture", |r| Some(r.config.architecture.name().into())),
    ("k", |r| r.config.architecture.target_l0().map(|k| k.to_string())),
    ("seed", |r| Some(r.config.training.seed.to_string())),
    ("status", |r| Some(if r.status == RunStatus::Done { "done" } else { "failed" }.into())),
    ("l0", |r| Some(r.evaluation.as_ref()?.sparsity.l0_mean.to_string())),
    ("r2", |r| Some(r.evaluation.as_ref()?.reconstruction.r2.to_string())),
    ("fve", |r| Some(r.evaluation.as_ref()?.reconstruction.frac_variance_explained.to_string())),
    ("ce_recovered", |r| {
        Some(r.evaluation.as_ref()?.cross_entropy.as_ref()?.ce_recovered.to_string())
    }),
    ("dead_fraction", |r| Some(r.evaluation.as_ref()?.sparsity.dead_fraction.to_string())),
    ("train_seconds", |r| Some(r.train_seconds.to_string())),
    ("n_features", |r| Some(r.config.sae.n_features.to_string())),
    ("steps", |r| Some(r.config.training.steps.to_string())),
    ("lr", |r| r.config.training.lr.map(|lr| lr.to_string())),
    ("l0_sd", |r| Some(r.evaluation.as_ref()?.sparsity.l0_sd.to_string())),
    ("ce_spliced", |r| Some(r.evaluation.as_ref()?.cross_entropy.as_ref()?.spliced.to_string())),
    ("kl_recovered", |r| {
        Some(r.evaluation.as_ref()?.cross_entropy.as_ref()?.kl_recovered.to_string())
    }),
    ("k_hat_mean", |r| Some(r.evaluation.as_ref()?.k_hat.as_ref()?.mean.to_string())),
    ("k_hat_sd", |r| Some(r.evaluation.as_ref()?.k_hat.as_ref()?.sd.to_string())),
];

fn csv(results: &SweepResults) -> String {
    let header = COLUMNS.map(|(name, _)| name).join(",");
    let rows = results
        .runs
        .iter()
        .map(|run| COLUMNS.map(|(_, value)| value(run).unwrap_or_default()).join(","));
    std::iter::once(header).chain(rows).map(|line| line + "\n").collect()
}

/// The table for the screen.
pub(super) fn table(results: &SweepResults) -> String {
    let header = ["architecture", "k", "L0", "±", "R²", "CE recovered", "dead", "time"];
    let mut rows = vec![header.map(String::from)];
    rows.extend(results.runs.iter().map(row));
    let widths: Vec<usize> = (0..header.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        lines.push(cells.collect::<Vec<_>>().join("  "));
    }
    lines.insert(1, "─".repeat(lines[0].chars().count()));
    lines.join("\n")
}

fn row(run: &RunResult) -> [String; 8] {
    let name = run.config.architecture.name().to_owned();
    let k = run.config.architecture.target_l0().map_or_else(String::new, |k| k.to_string());
    let time = format!("{:.0} s", run.train_seconds);
    let Some(evaluation) = &run.evaluation else {
        return [name, k, "failed".into(), "".into(), "".into(), "".into(), "".into(), time];
    };
    let (sparsity, cross_entropy) = (&evaluation.sparsity, &evaluation.cross_entropy);
    [
        name,
        k,
        format!("{:.1}", sparsity.l0_mean),
        format!("{:.1}", sparsity.l0_sd),
        format!("{:.4}", evaluation.reconstruction.r2),
        cross_entropy.as_ref().map_or_else(String::new, |ce| format!("{:.4}", ce.ce_recovered)),
        format!("{:.1} %", 100.0 * sparsity.dead_fraction),
        time,
    ]
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
             n_features,steps,lr,l0_sd,ce_spliced,kl_recovered,k_hat_mean,k_hat_sd"
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
}
