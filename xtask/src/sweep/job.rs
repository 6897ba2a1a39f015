//! One run: its training process, its evaluation process, its result.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use sae_config::{Evaluation, RunConfig, RunResult, RunStatus, read_json, write_json, write_toml};
use serde::{Deserialize, Serialize};

use super::child::{self, Log};
use super::metrics::Metrics;
use super::plan::PlannedRun;
use super::stop;
use super::stores::Activations;

/// What all runs of a sweep share.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    /// The sweep's folder.
    pub(super) out: PathBuf,
    /// The `softsae` binary.
    pub(super) program: PathBuf,
    pub(super) activations: Activations,
}

/// Where one run computes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) device: String,
    /// Threads it may use; all if absent.
    pub(super) threads: Option<usize>,
}

/// Seconds spent on training, over all attempts (`timing.json`).
#[derive(Debug, Default, Serialize, Deserialize)]
struct Timing {
    train_seconds: f64,
}

impl Job {
    /// The folder of a run.
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.out.join("runs").join(id)
    }

    /// The result of a run, if it has ended.
    pub(super) fn result(&self, run: &PlannedRun) -> Option<RunResult> {
        let result: RunResult = read_json(&self.folder(&run.id).join("result.json")).ok()?;
        // The variant is the sweep's word for the run: its result may come from another sweep.
        (result.run_id == run.id)
            .then(|| RunResult { variant: run.point.variant.clone(), ..result })
    }

    /// The result of a run that is trained and evaluated.
    pub(super) fn finished(&self, run: &PlannedRun) -> Option<RunResult> {
        self.result(run).filter(|result| result.status == RunStatus::Done)
    }

    /// Trains and evaluates a run, going on where an earlier attempt stopped.
    ///
    /// `tick` is called all the while. A failure of the run is a result; an error
    /// is one of the machinery, or an interruption.
    pub(super) fn carry_out(
        &self,
        id: &str,
        config: &RunConfig,
        place: &Place,
        mut tick: impl FnMut(),
    ) -> Result<RunResult> {
        let folder = self.folder(id);
        std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
        let log = Log::open(&folder.join("log.txt"), &mut tick)?;
        let result_file = folder.join("result.json");
        if let Ok(result) = read_json::<RunResult>(&result_file)
            && result.status == RunStatus::Done
        {
            return Ok(result);
        }
        let mut config = config.clone();
        config.data.store = self.activations.train.clone();
        config.training.device = device(&folder, &place.device);
        write_toml(&folder.join("run.toml"), &config)?;

        let timing_file = folder.join("timing.json");
        let before: Timing = read_json(&timing_file).unwrap_or_default();
        let start = Instant::now();
        let trained = log.run(&mut self.train(&folder, place), &mut tick);
        let train_seconds = before.train_seconds + start.elapsed().as_secs_f64();
        write_json(&timing_file, &Timing { train_seconds })?;
        let is_trained = trained?.success();

        let eval_file = folder.join("eval.json");
        let mut evaluation = None;
        if is_trained {
            let mut eval = self.eval(&folder, &eval_file, &config, place);
            if log.run(&mut eval, &mut tick)?.success() {
                evaluation = Some(read_json::<Evaluation>(&eval_file)?);
            }
        }
        // A sweep's run is never made longer: another length is another run.
        if evaluation.is_some() {
            let _ = std::fs::remove_dir_all(folder.join("training"));
        }
        let status = if evaluation.is_some() { RunStatus::Done } else { RunStatus::Failed };
        let run_id = id.into();
        let result = RunResult { run_id, variant: None, status, config, train_seconds, evaluation };
        write_json(&result_file, &result)?;
        Ok(result)
    }

    fn train(&self, folder: &Path, place: &Place) -> Command {
        let mut command = self.command(place);
        command.arg("train").arg(folder.join("run.toml")).arg("--out").arg(folder).arg("--resume");
        command
    }

    fn eval(&self, folder: &Path, out: &Path, config: &RunConfig, place: &Place) -> Command {
        let mut command = self.command(place);
        command.arg("eval").arg(folder.join("checkpoint")).arg("--out").arg(out);
        command.args(["--device", &config.training.device]);
        command.arg("--data").arg(&self.activations.held_out);
        command.args(["--max-norm-ratio", &config.data.max_norm_ratio.to_string()]);
        if let Some(texts) = &self.activations.texts {
            command.arg("--host").arg(&texts.host).args(["--hook", &texts.harvest.hook]);
            // How the host reads is what the store says.
            if let Some(max_tokens) = texts.max_tokens {
                command.args(["--max-tokens", &max_tokens.to_string()]);
            }
            for text in &texts.texts {
                command.arg("--text").arg(text);
            }
        }
        command
    }

    fn command(&self, place: &Place) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(threads) = place.threads {
            command.args(["--threads", &threads.to_string()]);
        }
        command
    }
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

/// A prepared run, for a job scheduler to start (`OUT/tasks/N.json`).
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub(super) job: Job,
    pub(super) id: String,
    pub(super) config: RunConfig,
    pub(super) place: Place,
}

#[derive(Debug, Args)]
pub(crate) struct OneRunArgs {
    /// A prepared run
    task: PathBuf,
}

/// Carries out a prepared run.
pub(crate) fn run_one(args: &OneRunArgs) -> Result<()> {
    stop::install()?;
    let task: Task = read_json(&args.task)?;
    let result = task.job.carry_out(&task.id, &task.config, &task.place, || ());
    let result = result.with_context(|| format!("run {}", task.id))?;
    if result.status == RunStatus::Failed {
        bail!("run {} failed", task.id);
    }
    Ok(())
}
