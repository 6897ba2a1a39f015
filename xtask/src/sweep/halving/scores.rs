//! The scores by which runs go on from a rung, kept in the sweep's folder.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use sae_config::{HalvingConfig, RunStatus, read_json, write_json};
use serde::{Deserialize, Serialize};

use super::super::job::Job;
use super::super::plan::PlannedRun;
use super::super::state;
use crate::exit::usage;

/// What is known of the rungs, in the sweep's folder.
const FILE: &str = "halving.json";

/// The scores of runs by their steps, which later rungs take away from the results.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Scores {
    halving: HalvingConfig,
    /// Steps of the rungs.
    rungs: Vec<u64>,
    /// By steps and run.
    scores: BTreeMap<u64, BTreeMap<String, f64>>,
}

impl Scores {
    /// Scores of a sweep that begins; refused where the runs were halved before.
    pub(super) fn new(
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
    pub(super) fn kept(out: &Path, halving: &HalvingConfig, rungs: &[u64]) -> Result<Option<Self>> {
        let file = out.join(FILE);
        if !file.exists() {
            return Ok(None);
        }
        let mut kept: Self = read_json(&file).map_err(|e| {
            let out = out.display();
            usage(format!(
                "{e}; without its scores nobody knows which runs go on: give another folder \
                 (--out), or delete {out} to have all runs done anew"
            ))
        })?;
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
            scores.retain(|id, _| state::folder(out, id).exists());
        }
        Ok(Some(kept))
    }

    pub(super) fn has(&self, steps: u64, id: &str) -> bool {
        self.scores.get(&steps).is_some_and(|scores| scores.contains_key(id))
    }

    /// Takes in what runs have reached at a rung, and writes it down.
    pub(super) fn take_in(&mut self, job: &Job, runs: &[PlannedRun], steps: u64) -> Result<()> {
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
    pub(super) fn decide<'a>(
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

/// How many of so many runs go on.
pub(super) fn n_kept(n: usize, eta: u64) -> usize {
    let eta = usize::try_from(eta).unwrap_or(usize::MAX);
    (n / eta).max(n.min(1))
}

/// Sorts by falling scores, equal ones in the order of the sweep, what is no number last.
fn best_first(competitors: &mut [(usize, f64)]) {
    competitors.sort_by(|(_, a), (_, b)| match (a.is_nan(), b.is_nan()) {
        (false, false) => b.total_cmp(a),
        (a, b) => a.cmp(&b),
    });
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
