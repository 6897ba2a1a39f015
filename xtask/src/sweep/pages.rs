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

/// Of each architecture and hook point, the finished run of highest R².
fn chosen<'a>(
    features: &FeaturesConfig,
    plan: &'a Plan,
    job: &Job,
) -> Vec<(&'a PlannedRun, RunResult)> {
    let mut chosen = Vec::new();
    for name in &features.architectures {
        let runs = plan.selected().filter(|run| features.competes(name, &run.point.config));
        chosen.extend(best(runs.filter_map(|run| Some((run, job.finished(run)?)))));
    }
    chosen
}

/// The run of highest R² at each hook point, in the order of their first runs: the R² of different
/// activations do not compare.
fn best<'a>(
    runs: impl Iterator<Item = (&'a PlannedRun, RunResult)>,
) -> Vec<(&'a PlannedRun, RunResult)> {
    let r2 = |result: &RunResult| result.evaluation.as_ref().map(|of| of.reconstruction.r2);
    let hook = |run: &PlannedRun| run.point.config.data.hook().map(str::to_owned);
    let mut best: Vec<(&PlannedRun, RunResult)> = Vec::new();
    for (run, result) in runs.filter(|(_, result)| r2(result).is_some()) {
        match best.iter_mut().find(|(other, _)| hook(other) == hook(run)) {
            None => best.push((run, result)),
            Some(before) if r2(&result) > r2(&before.1) => *before = (run, result),
            Some(_) => {}
        }
    }
    best
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
    use super::super::tests::result;
    use super::*;
    use crate::workspace::Workspace;

    #[test]
    fn the_best_run_is_that_of_its_hook_point() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sweep.toml");
        let text = "[planted]\ntrain_rows = 90\nheld_out_rows = 10\n[base.sae]\nn_features = 8\n\
                    [base.training]\nsteps = 1\nbatch_size = 8\n[base.architecture]\nname = 'topk'\n\
                    k = 2\n[axes]\nseed = [0, 1, 2, 3]";
        std::fs::write(&file, text).unwrap();
        let mut plan = Plan::load(&Workspace::find(), file.to_str().unwrap(), &[], &[]).unwrap();
        let hooks = ["resid_post.10", "resid_post.10", "resid_post.2", "resid_post.2"];
        for (run, hook) in plan.runs.iter_mut().zip(hooks) {
            run.point.config.data.hook = Some(hook.into());
        }
        // All at the second hook point are better than those at the first.
        let of = |(run, r2): (&PlannedRun, f64)| {
            let mut result = result(&run.id);
            result.evaluation.as_mut().unwrap().reconstruction.r2 = r2;
            result
        };
        let with = |all: [f64; 4]| {
            let runs = plan.runs.iter().zip(all).map(|(run, r2)| (run, of((run, r2))));
            best(runs).into_iter().map(|(run, _)| run.id.clone()).collect::<Vec<_>>()
        };
        let ids: Vec<_> = plan.runs.iter().map(|run| run.id.clone()).collect();
        assert_eq!(with([0.5, 0.6, 0.8, 0.7]), [ids[1].clone(), ids[2].clone()]);
        assert_eq!(with([0.6, 0.5, 0.7, 0.8]), [ids[0].clone(), ids[3].clone()]);
        let mut unmeasured = result("x");
        unmeasured.evaluation = None;
        assert!(best([(&plan.runs[0], unmeasured)].into_iter()).is_empty());
    }

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
