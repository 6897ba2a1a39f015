//! Successive halving: rung by rung, the best of the runs that compete go on.

mod scores;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail};
use sae_config::{RunResult, RunStatus, run_at_rung, write_json};

use super::folder::discard;
use super::job::Job;
use super::plan::{Plan, PlannedRun};
use super::slurm::Outcome;
use super::stop;
use crate::exit::{Interrupted, note};
use scores::{Scores, n_kept};

/// Steps of a whole run of a sweep that halves its runs.
pub(super) fn whole(plan: &Plan) -> Option<u64> {
    plan.config.halving.as_ref()?;
    Some(plan.runs.first()?.point.config.training.steps)
}

/// Prints how many runs would go how far, if none fails.
pub(super) fn print(plan: &Plan) -> Result<()> {
    let (Some(halving), Some(steps)) = (&plan.config.halving, whole(plan)) else { return Ok(()) };
    let mut groups: BTreeMap<String, usize> = BTreeMap::new();
    for run in plan.selected() {
        *groups.entry(halving.group_of(&run.point)).or_default() += 1;
    }
    let (metric, n) = (halving.metric.name(), groups.len());
    say!("halved by {metric} within {n} groups:");
    for steps in halving.lengths(steps)? {
        say!("{} runs to {steps} steps", groups.values().sum::<usize>());
        groups.values_mut().for_each(|n| *n = n_kept(*n, halving.eta));
    }
    Ok(())
}

/// Trains all runs to the first rung, the best to the next, and the last ones to their ends.
/// `launch` carries out runs, or leaves them to a cluster, which ends this; what an earlier start
/// has done is not done again.
pub(super) fn run(
    plan: &Plan,
    job: &Job,
    launch: impl Fn(&[&PlannedRun]) -> Result<Outcome>,
) -> Result<Outcome> {
    let (Some(halving), Some(whole)) = (&plan.config.halving, whole(plan)) else {
        bail!("expected a sweep that halves its runs");
    };
    let rungs = halving.lengths(whole)?;
    let mut going: Vec<&PlannedRun> = plan.selected().collect();
    let mut scores = match Scores::kept(&job.out, halving, &rungs)? {
        Some(scores) => scores,
        None => Scores::new(job, halving, &rungs, &going)?,
    };
    for (rung, &steps) in rungs.iter().enumerate() {
        let runs: Vec<PlannedRun> = going.iter().map(|run| at_rung(run, steps)).collect();
        let pending: Vec<&PlannedRun> = runs
            .iter()
            .filter(|run| !scores.has(steps, &run.id) && job.finished(run).is_none())
            .collect();
        note(&format!(
            "rung {} of {}: {} runs to {steps} steps, {} to do",
            rung + 1,
            rungs.len(),
            runs.len(),
            pending.len()
        ));
        if !pending.is_empty() && launch(&pending)? == Outcome::Detached {
            return Ok(Outcome::Detached);
        }
        if stop::requested() {
            bail!(Interrupted);
        }
        for run in &runs {
            forget_earlier(&job.folder(&run.id))?;
        }
        let Some(next) = rungs.get(rung + 1) else { break };
        // Written before any run goes on, whose result is another one then.
        scores.take_in(job, &runs, steps)?;
        let (kept, dropped) = scores.decide(job, halving, &going, steps, *next);
        for run in dropped {
            drop_out(job, run)?;
        }
        going = kept;
    }
    Ok(Outcome::Ended)
}

/// A run up to a rung.
fn at_rung(run: &PlannedRun, steps: u64) -> PlannedRun {
    let mut point = run.point.clone();
    point.config = run_at_rung(&point.config, steps);
    PlannedRun { id: run.id.clone(), point, is_selected: true }
}

/// Writes that a run does not go on, and removes the states from which it could.
fn drop_out(job: &Job, run: &PlannedRun) -> Result<()> {
    let folder = job.folder(&run.id);
    if let Some(result) = job.result(run).filter(|result| result.status == RunStatus::Stopped) {
        let file = folder.join("result.json");
        write_json(&file, &RunResult { status: RunStatus::Dropped, variant: None, ..result })?;
    }
    discard(&folder.join("training"))
}

/// Removes the models of earlier rungs, which a training that goes on has set aside.
fn forget_earlier(folder: &Path) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let steps = name.strip_prefix("checkpoint-");
        if steps.is_some_and(|steps| steps.parse::<u64>().is_ok()) {
            discard(&path)?;
        }
    }
    Ok(())
}
