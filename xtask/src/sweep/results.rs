//! The results of a sweep, as far as it is: collected from its runs, written whole.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use sae_config::{RunStatus, SweepResults, write_json};

use super::job::Job;
use super::plan::Plan;
use super::state::{self, Known};
use super::{frontier, runs_csv, scores_csv};
use crate::exit::{message, note};

pub(super) use super::table::table;

/// All runs of the sweep, in its order, ended or not.
pub(super) fn collect(plan: &Plan, job: &Job) -> SweepResults {
    let known: Vec<Known> = plan
        .runs
        .iter()
        .map(|run| Known {
            id: run.id.clone(),
            variant: run.point.variant.clone(),
            config: run.point.config.clone(),
        })
        .collect();
    of(&plan.name, &job.out, &known)
}

/// The results of these runs in a sweep's folder.
pub(super) fn of(name: &str, out: &Path, known: &[Known]) -> SweepResults {
    let runs: Vec<_> = known.iter().map(|run| state::of(out, run)).collect();
    let begun =
        runs.iter().filter(|run| matches!(run.status, RunStatus::Running | RunStatus::Stopped));
    let steps = begun.filter_map(|run| {
        Some((run.run_id.clone(), state::steps_done(&state::folder(out, &run.run_id))?))
    });
    SweepResults { name: name.into(), steps_done: steps.collect(), runs }
}

/// Writes `results.json`, `results.csv` and `equal-l0.csv`, each whole.
pub(super) fn write(out: &Path, results: &SweepResults) -> Result<()> {
    write_json(&out.join("results.json"), results)?;
    sae_config::write_text(&out.join("results.csv"), &runs_csv::csv(results)?)?;
    sae_config::write_text(&out.join("equal-l0.csv"), &frontier::csv(results)?)?;
    if let Some(scores) = scores_csv::csv(results)? {
        sae_config::write_text(&out.join("scores.csv"), &scores)?;
    }
    Ok(())
}

/// Writes tables and report of the sweep as far as it is.
pub(super) fn refresh(plan: &Plan, job: &Job) -> Result<SweepResults> {
    let results = collect(plan, job);
    write(&job.out, &results)?;
    sae_report::write_report(&job.out)?;
    Ok(results)
}

/// Results that grow while runs end, written no more often than leaves most of the time for others.
#[derive(Default)]
pub(super) struct Refresher {
    /// When they were written last, and the time that it took.
    last: Option<(Instant, Duration)>,
}

impl Refresher {
    /// Writes them, unless that was just done; what goes wrong is said, and no reason to stop.
    pub(super) fn refresh(&mut self, plan: &Plan, job: &Job) {
        if self.last.is_some_and(|(end, took)| end.elapsed() < took * 10) {
            return;
        }
        let start = Instant::now();
        if let Err(error) = refresh(plan, job) {
            note(&format!("results: {}", message(&error)));
        }
        self.last = Some((Instant::now(), start.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::super::tests::{known, result};
    use super::*;

    #[test]
    fn results_are_readable_by_whom_the_umask_lets() {
        let folder = tempfile::tempdir().unwrap();
        let plain = folder.path().join("plain");
        std::fs::write(&plain, "").unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
        let results = SweepResults { runs: vec![result("abc")], ..SweepResults::default() };
        write(folder.path(), &results).unwrap();
        sae_report::write_report(folder.path()).unwrap();
        for name in ["results.json", "results.csv", "equal-l0.csv", "report.html"] {
            assert_eq!(mode(&folder.path().join(name)), mode(&plain), "{name}");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 5, "no temporary file stays");
    }

    #[test]
    fn one_broken_run_blocks_no_other() {
        let out = tempfile::tempdir().unwrap();
        for id in ["good", "broken", "foreign"] {
            std::fs::create_dir_all(state::folder(out.path(), id)).unwrap();
        }
        let file = |id: &str, name: &str| state::folder(out.path(), id).join(name);
        sae_config::write_json(&file("good", "result.json"), &result("good")).unwrap();
        std::fs::write(file("good", "metrics.jsonl"), "no json\n{}\n").unwrap();
        std::fs::write(file("broken", "result.json"), "{").unwrap();
        sae_config::write_json(&file("foreign", "result.json"), &result("x")).unwrap();
        let all = ["good", "broken", "foreign", "new"].map(known);
        let results = of("x", out.path(), &all);
        let statuses: Vec<_> = results.runs.iter().map(|run| run.status).collect();
        let (done, stale) = (RunStatus::Done, RunStatus::Stale);
        assert_eq!(statuses, [done, stale, stale, RunStatus::Pending]);
        write(out.path(), &results).unwrap();
        let page = sae_report::write_report(out.path()).unwrap();
        let page = std::fs::read_to_string(page).unwrap();
        assert!(page.contains("metrics.jsonl, line 1"), "the page names what is missing");
    }

    #[test]
    fn steps_of_a_stopped_run_are_told() {
        let out = tempfile::tempdir().unwrap();
        let folder = state::folder(out.path(), "abc");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("log.txt"), "").unwrap();
        std::fs::write(folder.join("metrics.jsonl"), "{\"step\": 4, \"loss\": 1}\n").unwrap();
        let results = of("x", out.path(), &[known("abc")]);
        assert_eq!(results.steps_done, [("abc".to_owned(), 5)].into());
    }
}
