//! One run: its training process, its evaluation process, its result.

mod processes;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sae_config::{Evaluation, RunConfig, RunResult, RunStatus, read_json, write_json, write_toml};
use serde::{Deserialize, Serialize};

use super::account::{self, Maker};
use super::attempt::Attempt;
use super::child::{self, Limits, Log};
use super::inputs::Inputs;
use super::metrics::Metrics;
use super::plan::PlannedRun;
use super::stores::Activations;
use super::suites::Suites;
use crate::exit::note;

/// What all runs of a sweep share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// The sweep's folder.
    pub(super) out: PathBuf,
    /// The `softsae` binary.
    pub(super) program: PathBuf,
    /// Where it finds its libraries.
    pub(super) libraries: Option<String>,
    pub(super) activations: Activations,
    /// What its runs are judged by beside fidelity.
    #[serde(default)]
    pub(super) suites: Suites,
    /// What its runs read, and must find unchanged.
    pub(super) inputs: Inputs,
    /// What made its results.
    pub(super) maker: Maker,
    pub(super) limits: Limits,
    /// How often a process that a signal has ended is started again.
    pub(super) retries: u32,
    /// Steps of a whole run, where runs are halved: one of fewer steps may go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) whole: Option<u64>,
}

/// Where one run computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) device: String,
    /// Threads it may use; all if absent.
    pub(super) threads: Option<usize>,
}

impl Job {
    /// The folder of a run.
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.out.join("runs").join(id)
    }

    /// The result of a run, if it has ended.
    pub(super) fn result(&self, run: &PlannedRun) -> Option<RunResult> {
        let result = self.kept(&run.id).ok()??;
        // The variant is the sweep's word for the run: its result may come from another sweep.
        Some(RunResult { variant: run.point.variant.clone(), ..result })
    }

    /// The result of a run that is trained and evaluated.
    pub(super) fn finished(&self, run: &PlannedRun) -> Option<RunResult> {
        let steps = run.point.config.training.steps;
        self.result(run).filter(|result| self.is_whole(result, steps))
    }

    /// Whether a result is that of a run with so many steps, or more, and has what was asked for.
    fn is_whole(&self, result: &RunResult, steps: u64) -> bool {
        is_of_length(result, steps) && self.suites.are_measured(result)
    }

    /// Whether a run is trained to so many steps and evaluated.
    pub(super) fn has_finished(&self, id: &str, steps: u64) -> bool {
        let result = self.kept(id).ok().flatten();
        result.is_some_and(|result| self.is_whole(&result, steps))
    }

    /// The result of a run that is finished or has failed: not that of an earlier rung.
    pub(super) fn ended(&self, run: &PlannedRun) -> Option<RunResult> {
        let steps = run.point.config.training.steps;
        self.result(run).filter(|r| r.status == RunStatus::Failed || self.is_whole(r, steps))
    }

    /// The file of a run's result.
    fn result_file(&self, id: &str) -> PathBuf {
        self.folder(id).join("result.json")
    }

    /// The result in a run's folder, if there is one; one of another run is an error.
    fn kept(&self, id: &str) -> Result<Option<RunResult>> {
        let file = self.result_file(id);
        if !file.exists() {
            return Ok(None);
        }
        let result: RunResult = read_json(&file)?;
        if result.run_id != id {
            bail!("{}: expected the result of run {id}, got {}", file.display(), result.run_id);
        }
        Ok(Some(result))
    }

    /// Moves what is no result of its run out of the way, so that the run is done; says so.
    pub(super) fn set_aside_foreign<'a>(
        &self,
        runs: impl Iterator<Item = &'a PlannedRun>,
    ) -> Result<()> {
        for run in runs {
            let Err(error) = self.kept(&run.id) else { continue };
            let file = self.result_file(&run.id);
            let free = |n: &u32| !file.with_extension(format!("json.aside-{n}")).exists();
            let n = (1..u32::MAX).find(free).context("a free name")?;
            let aside = file.with_extension(format!("json.aside-{n}"));
            std::fs::rename(&file, &aside).with_context(|| file.display().to_string())?;
            note(&format!("{error:#}; moved to {}, the run is done again", aside.display()));
        }
        Ok(())
    }

    /// Trains and evaluates a run, going on where an earlier attempt stopped.
    ///
    /// `tick` gets the resident memory of the process at work all the while. A failure of the run
    /// is a result; an error is one of the machinery, or an interruption.
    pub(super) fn carry_out(
        &self,
        id: &str,
        config: &RunConfig,
        place: &Place,
        mut tick: impl FnMut(u64),
    ) -> Result<RunResult> {
        let folder = self.folder(id);
        std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
        let log = Log::open(&folder.join("log.txt"), || tick(0))?;
        let steps = config.training.steps;
        if let Some(result) = self.kept(id)?.filter(|result| self.is_whole(result, steps)) {
            return Ok(result);
        }
        let config = self.begin(id, config, place)?;
        let started = account::start(&folder)?;
        let clock = Instant::now();
        let mut attempt = Attempt {
            job: self,
            log: &log,
            deadline: self.limits.time.map(|time| clock + time),
            tick: &mut tick,
        };
        let outcome = match self.inputs.changed() {
            Some(change) => Err(change),
            None => attempt.run(&folder, &config, place)?,
        };
        let outcome = outcome.and_then(|e| self.of_planned(e, &folder));
        let (evaluation, failure) = outcome.map_or_else(|e| (None, Some(e)), |e| (Some(e), None));
        let is_whole = self.whole.is_none_or(|steps| config.training.steps >= steps);
        // Only a run that is halved is made longer: otherwise another length is another run.
        if evaluation.is_some() && is_whole {
            let _ = std::fs::remove_dir_all(folder.join("training"));
        }
        let seconds = account::train_seconds(&folder);
        let result = RunResult {
            run_id: id.into(),
            variant: None,
            status: match evaluation {
                Some(_) if is_whole => RunStatus::Done,
                Some(_) => RunStatus::Stopped,
                None => RunStatus::Failed,
            },
            provenance: Some(account::provenance(&self.maker, &config.training.device, started)?),
            config,
            train_seconds: seconds.unwrap_or_else(|| clock.elapsed().as_secs_f64()),
            evaluation,
            failure,
        };
        self.keep(&result)?;
        Ok(result)
    }

    /// Writes the result of an attempt; one that failed does not take the place of what an earlier one
    /// has measured, such as where a suite that is asked for since cannot be measured.
    fn keep(&self, result: &RunResult) -> Result<()> {
        let (id, steps) = (&result.run_id, result.config.training.steps);
        let is_measured = self.kept(id)?.is_some_and(|kept| is_of_length(&kept, steps));
        if result.evaluation.is_none() && is_measured {
            return Ok(());
        }
        Ok(write_json(&self.result_file(id), result)?)
    }

    /// Makes the folder of a run ready for its training: gives what its run file says.
    pub(super) fn begin(&self, id: &str, config: &RunConfig, place: &Place) -> Result<RunConfig> {
        let folder = self.folder(id);
        self.clear(id, &folder)?;
        let mut config = self.activations.provided(config)?;
        config.training.device = device(&folder, &place.device);
        write_toml(&folder.join("run.toml"), &config)?;
        Ok(config)
    }

    /// Removes the pages of an earlier model, and the model of a run that was dropped.
    fn clear(&self, id: &str, folder: &Path) -> Result<()> {
        let pages = folder.join("features");
        if pages.exists() {
            std::fs::remove_dir_all(&pages).with_context(|| pages.display().to_string())?;
        }
        if self.kept(id)?.is_some_and(|result| result.status == RunStatus::Dropped) {
            // It has no state from which it could go on, and starts anew.
            let model = folder.join("checkpoint");
            if model.exists() {
                std::fs::remove_dir_all(&model).with_context(|| model.display().to_string())?;
            }
        }
        Ok(())
    }

    /// What was measured, unless what was read is no longer what the run's id stands for: then
    /// its model is removed too.
    fn of_planned(&self, evaluation: Evaluation, folder: &Path) -> Result<Evaluation, String> {
        let Some(change) = self.inputs.changed() else { return Ok(evaluation) };
        for name in ["training", "checkpoint"] {
            let place = folder.join(name);
            if place.exists() {
                std::fs::remove_dir_all(&place)
                    .map_err(|e| format!("{change}; {}: {e}", place.display()))?;
            }
        }
        Err(format!("{change}: start the sweep again"))
    }

    /// Writes that a run failed where no process of ours was left to write it.
    pub(super) fn write_failure(&self, run: &PlannedRun, failure: &str) -> Result<()> {
        let folder = self.folder(&run.id);
        std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
        let config = self.activations.provided(&run.point.config)?;
        let result = RunResult {
            run_id: run.id.clone(),
            variant: None,
            status: RunStatus::Failed,
            config,
            train_seconds: account::train_seconds(&folder).unwrap_or(0.0),
            evaluation: None,
            failure: Some(failure.into()),
            provenance: None,
        };
        Ok(write_json(&self.result_file(&run.id), &result)?)
    }

    /// Removes the result of a failed attempt, which must not pass for that of the next one.
    pub(super) fn forget_failure(&self, run: &PlannedRun) -> Result<()> {
        if self.result(run).is_some_and(|result| result.status != RunStatus::Failed) {
            return Ok(());
        }
        let file = self.result_file(&run.id);
        match std::fs::remove_file(&file) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).with_context(|| file.display().to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Whether a result is that of a run with so many steps, or more.
fn is_of_length(result: &RunResult, steps: u64) -> bool {
    result.evaluation.is_some() && result.config.training.steps >= steps
}

/// The device of a run: that of its first attempt, whose saved state it goes on from.
fn device(folder: &Path, default: &str) -> String {
    let started = ["training", "checkpoint"].iter().any(|name| folder.join(name).exists());
    let before = started.then(|| RunConfig::read(&folder.join("run.toml")).ok()).flatten();
    before.map_or_else(|| default.into(), |config| config.training.device)
}

/// How far a run of so many steps is: steps done, and how it goes.
pub(super) fn progress(folder: &Path, n_steps: u64) -> (u64, String) {
    match Metrics::last(&folder.join("metrics.jsonl")) {
        Some(metrics) if metrics.n_done() < n_steps => (metrics.n_done(), metrics.to_string()),
        // Not yet training, or no more: the process that is at work says how it goes.
        metrics => (metrics.map_or(0, |m| m.n_done()), child::tail(&folder.join("log.txt"), 1)),
    }
}

/// One line on how a run ended.
pub(super) fn describe(run: &PlannedRun, result: &RunResult) -> String {
    let seconds = result.train_seconds;
    match (&result.evaluation, &result.failure) {
        (Some(evaluation), _) => {
            let (r2, l0) = (evaluation.reconstruction.r2, evaluation.sparsity.l0_mean);
            format!("run {} ({}): R² {r2:.4}, L0 {l0:.1}, {seconds:.0} s", run.id, run.point)
        }
        (_, Some(failure)) => format!("run {} ({}) FAILED: {failure}", run.id, run.point),
        _ => format!("run {} ({}) FAILED after {seconds:.0} s", run.id, run.point),
    }
}
