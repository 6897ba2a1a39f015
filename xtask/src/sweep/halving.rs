//! Successive halving: rung by rung, the best of the runs that compete go on.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sae_config::{HalvingConfig, RunResult, RunStatus, read_json, run_at_rung, write_json};
use serde::{Deserialize, Serialize};

use super::folder::discard;
use super::job::Job;
use super::plan::{Plan, PlannedRun};
use super::stop;
use crate::exit::{Interrupted, note, usage};

/// What is known of the rungs, in the sweep's folder.
const FILE: &str = "halving.json";

/// The scores of runs by their steps, which later rungs take away from the results.
#[derive(Debug, Serialize, Deserialize)]
struct Scores {
    halving: HalvingConfig,
    /// Steps of the rungs.
    rungs: Vec<u64>,
    /// By steps and run.
    scores: BTreeMap<u64, BTreeMap<String, f64>>,
}

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
/// `launch` carries out runs; what an earlier start has done is not done again.
pub(super) fn run(
    plan: &Plan,
    job: &Job,
    launch: impl Fn(&[&PlannedRun]) -> Result<()>,
) -> Result<()> {
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
        if !pending.is_empty() {
            launch(&pending)?;
        }
        if stop::requested() {
            bail!(Interrupted);
        }
        for run in &runs {
            forget_earlier(&job.folder(&run.id))?;
        }
        let Some(next) = rungs.get(rung + 1) else { return Ok(()) };
        // Written before any run goes on, whose result is another one then.
        scores.take_in(job, &runs, steps)?;
        let (kept, dropped) = scores.decide(job, halving, &going, steps, *next);
        for run in dropped {
            drop_out(job, run)?;
        }
        going = kept;
    }
    Ok(())
}

/// A run up to a rung.
fn at_rung(run: &PlannedRun, steps: u64) -> PlannedRun {
    let mut point = run.point.clone();
    point.config = run_at_rung(&point.config, steps);
    PlannedRun { id: run.id.clone(), point, is_selected: true }
}

/// How many of so many runs go on.
fn n_kept(n: usize, eta: u64) -> usize {
    let eta = usize::try_from(eta).unwrap_or(usize::MAX);
    (n / eta).max(n.min(1))
}

impl Scores {
    /// Scores of a sweep that begins; refused where the runs were halved before.
    fn new(
        job: &Job,
        halving: &HalvingConfig,
        rungs: &[u64],
        runs: &[&PlannedRun],
    ) -> Result<Self> {
        let is_part = |run: &&&PlannedRun| {
            let result = job.result(run).filter(|result| result.evaluation.is_some());
            result.is_some_and(|result| result.status != RunStatus::Done)
        };
        if let Some(run) = runs.iter().find(is_part) {
            bail!(usage(format!(
                "{}: expected the scores by which run {} was halved, got no file; give another \
                 folder (--out), or delete this one",
                job.out.join(FILE).display(),
                run.id
            )));
        }
        let scores = BTreeMap::new();
        let new = Self { halving: halving.clone(), rungs: rungs.to_vec(), scores };
        write_json(&job.out.join(FILE), &new)?;
        Ok(new)
    }

    /// Those of an earlier start, if there was one; refused if it halved otherwise.
    fn kept(out: &Path, halving: &HalvingConfig, rungs: &[u64]) -> Result<Option<Self>> {
        let file = out.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let mut kept: Self = read_json(&file)?;
        if (&kept.halving, &kept.rungs[..]) != (halving, rungs) {
            bail!(usage(format!(
                "{}: the runs here were halved at {:?} steps by other settings of `halving`, not at \
                 {rungs:?}; give another folder (--out)",
                file.display(),
                kept.rungs
            )));
        }
        for scores in kept.scores.values_mut() {
            // A run that was removed is done again.
            scores.retain(|id, _| super::state::folder(out, id).exists());
        }
        Ok(Some(kept))
    }

    fn has(&self, steps: u64, id: &str) -> bool {
        self.scores.get(&steps).is_some_and(|scores| scores.contains_key(id))
    }

    /// Takes in what runs have reached at a rung, and writes it down.
    fn take_in(&mut self, job: &Job, runs: &[PlannedRun], steps: u64) -> Result<()> {
        let metric = self.halving.metric;
        let scores = self.scores.entry(steps).or_default();
        for run in runs {
            let Some(result) = job.finished(run).filter(|r| r.config.training.steps == steps)
            else {
                continue;
            };
            let evaluation = result.evaluation.as_ref().context("it is finished")?;
            let Some(score) = metric.of(evaluation) else {
                let (name, id) = (metric.name(), &run.id);
                bail!(usage(format!(
                    "halving.metric: expected one that is measured, got `{name}`, which run {id} \
                     ({}) does not have",
                    run.point
                )));
            };
            scores.insert(run.id.clone(), score);
        }
        Ok(write_json(&job.out.join(FILE), self)?)
    }

    /// The runs that go on from a rung, and those that do not; a run that failed is in neither.
    ///
    /// What has gone on before goes on, also where runs that are new in the sweep are better.
    fn decide<'a>(
        &self,
        job: &Job,
        halving: &HalvingConfig,
        going: &[&'a PlannedRun],
        steps: u64,
        next: u64,
    ) -> (Vec<&'a PlannedRun>, Vec<&'a PlannedRun>) {
        let scores = self.scores.get(&steps);
        let score = |run: &PlannedRun| scores?.get(&run.id).copied();
        let mut groups: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
        for (at, run) in going.iter().enumerate() {
            if let Some(score) = score(run) {
                groups.entry(halving.group_of(&run.point)).or_default().push((at, score));
            }
        }
        let is_beyond = |run: &PlannedRun| {
            let result = job.result(run);
            self.has(next, &run.id)
                || result.is_some_and(|result| result.config.training.steps > steps)
        };
        let mut goes_on = vec![false; going.len()];
        for competitors in groups.values_mut() {
            best_first(competitors);
            for (at, _) in &competitors[..n_kept(competitors.len(), halving.eta)] {
                goes_on[*at] = true;
            }
        }
        let (mut kept, mut dropped) = (Vec::new(), Vec::new());
        for (run, goes_on) in going.iter().zip(goes_on) {
            if score(run).is_none() {
                continue;
            }
            if goes_on || is_beyond(run) { kept.push(*run) } else { dropped.push(*run) }
        }
        (kept, dropped)
    }
}

/// Sorts by falling scores, equal ones in the order of the sweep, what is no number last.
fn best_first(competitors: &mut [(usize, f64)]) {
    competitors.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(a),
        (a, b) => a.cmp(&b),
    });
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_part_goes_on_and_one_at_least() {
        for (n, eta, expected) in [(9, 3, 3), (8, 3, 2), (2, 3, 1), (1, 3, 1), (0, 3, 0), (7, 2, 3)]
        {
            assert_eq!(n_kept(n, eta), expected, "{n} {eta}");
        }
        let mut runs = [(0, 0.5), (1, f64::NAN), (2, 0.7), (3, 0.5), (4, f64::NEG_INFINITY)];
        best_first(&mut runs);
        assert_eq!(runs.map(|(at, _)| at), [2, 0, 3, 4, 1]);
    }
}
