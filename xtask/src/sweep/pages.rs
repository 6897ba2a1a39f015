//! Feature pages of the runs that a sweep names (`[features]`).

use std::path::PathBuf;

use anyhow::{Result, bail};
use sae_config::{FeaturesConfig, RunResult, SweepConfig};

use super::child::{self, Log};
use super::job::Job;
use super::plan::{Plan, PlannedRun};
use super::progress::Spinner;
use crate::exit::{Interrupted, message, note};

/// Refuses architectures of which no run has the k.
pub(super) fn check(config: &SweepConfig, runs: &[PlannedRun]) -> Result<()> {
    let Some(features) = &config.features else { return Ok(()) };
    for name in &features.architectures {
        if !runs.iter().any(|run| features.competes(name, &run.point.config)) {
            let expected = format!("architectures of which a run has k = {}", features.k);
            let got = format!("`{name}`");
            bail!(sae_config::Error::value("features.architectures", expected, got));
        }
    }
    Ok(())
}

/// Makes the pages that are not there yet; gives what they are of, and where they are.
///
/// One that cannot be made is said, and costs the runs nothing.
pub(super) fn make(plan: &Plan, job: &Job) -> Result<Vec<(String, PathBuf)>> {
    let mut made = Vec::new();
    for (run, result) in plan.config.features.iter().flat_map(|of| chosen(of, plan, job)) {
        let page = sae_report::features_of(&job.out, &run.id);
        if !page.is_file() {
            match make_one(job, run, &result) {
                Ok(()) => {}
                Err(error) if error.is::<Interrupted>() => return Err(error),
                Err(error) => {
                    let of = format!("feature pages of run {} ({})", run.id, run.point);
                    note(&format!("{of} could not be made: {}", message(&error)));
                    continue;
                }
            }
        }
        made.push((run.point.to_string(), page));
    }
    Ok(made)
}

/// Of each architecture, the finished run of highest R².
fn chosen<'a>(
    features: &FeaturesConfig,
    plan: &'a Plan,
    job: &Job,
) -> Vec<(&'a PlannedRun, RunResult)> {
    let r2 = |result: &RunResult| result.evaluation.as_ref().map(|of| of.reconstruction.r2);
    let best = |name: &String| {
        let runs = plan.selected().filter(|run| features.competes(name, &run.point.config));
        let ended = runs.filter_map(|run| Some((run, job.finished(run)?)));
        let measured = ended.filter_map(|(run, result)| Some((r2(&result)?, run, result)));
        let best = measured.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.map(|(_, run, result)| (run, result))
    };
    features.architectures.iter().filter_map(best).collect()
}

fn make_one(job: &Job, run: &PlannedRun, result: &RunResult) -> Result<()> {
    let folder = job.folder(&run.id);
    let mut spinner = Spinner::new(format!("feature pages of {}", run.point));
    let path = folder.join("log.txt");
    let log = Log::open(&path, || ())?;
    let mut command = job.features(&folder, &folder.join("features"), &result.config)?;
    let status = log.run(&mut command, || spinner.tick(&child::tail(&path, 1)))?;
    spinner.done();
    match status.success() {
        true => Ok(()),
        false => bail!("{status}; the end of {}:\n{}", path.display(), child::tail(&path, 5)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn a_k_that_no_run_has_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep.toml");
        let load = |k: &str, architectures: &str| {
            let text = format!(
                "[planted]\ntrain_rows = 90\nheld_out_rows = 10\n[base.sae]\nn_features = 8\n\
                 [base.training]\nsteps = 1\nbatch_size = 8\n[axes]\narchitecture = ['topk', 'soft']\n\
                 k = [2, 4]\n[features]\nk = {k}\narchitectures = {architectures}"
            );
            std::fs::write(&file, text).unwrap();
            let plan = Plan::load(&Workspace::find(), file.to_str().unwrap(), &[], &[]);
            plan.map(|plan| plan.runs.iter().map(|run| run.id.clone()).collect::<Vec<_>>())
        };
        let ids = load("2", "['topk']").unwrap();
        assert_eq!(ids, load("4.0", "['soft', 'topk']").unwrap(), "no part of what a run is");
        for (k, architectures) in [("3", "['topk']"), ("2", "['topk', 'batch_topk']")] {
            let error = message(&load(k, architectures).unwrap_err());
            assert!(error.contains("features.architectures") && error.contains("k ="), "{error}");
        }
    }
}
