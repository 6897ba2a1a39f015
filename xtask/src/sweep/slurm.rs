//! Runs on a SLURM cluster: one array job, followed by `squeue` and by each run's own files.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sae_config::write_json;

use super::child::{line, tail};
use super::job::{self, Job, Place, Task};
use super::plan::PlannedRun;
use super::progress::Runs;
use super::stop;
use crate::exit::{Interrupted, usage};
use crate::process;

/// Time between two questions to the scheduler.
const POLL: Duration = Duration::from_secs(2);

/// Submits the runs as one array job and follows it to its end; Ctrl-C cancels it.
pub(super) fn run(
    job: &Job,
    runs: &[&PlannedRun],
    devices: &[String],
    jobs: Option<u16>,
) -> Result<()> {
    let folder = job.out.join("tasks");
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let [device] = devices else {
        bail!(usage("--devices: expected one device for each task of slurm, got several"));
    };
    for (index, run) in runs.iter().enumerate() {
        let task = Task {
            job: job.clone(),
            id: run.id.clone(),
            config: run.point.config.clone(),
            place: Place { device: device.clone(), threads: None },
        };
        write_json(&folder.join(format!("{index}.json")), &task)?;
        // A result of an earlier attempt must not pass for this one's.
        match std::fs::remove_file(job.folder(&run.id).join("result.json")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(e.into()),
            _ => {}
        }
    }
    let array = submit(&folder, runs.len(), jobs)?;
    eprintln!("submitted {} runs as array job {array}", runs.len());
    follow(job, runs, &array)
}

/// Submits the array job and gives its id.
fn submit(folder: &Path, n_tasks: usize, jobs: Option<u16>) -> Result<String> {
    let program = std::env::current_exe()?;
    let mut task = Command::new(program);
    task.arg("sweep-run").arg(folder);
    // `line` quotes the words; the index is the scheduler's.
    let script = format!("#!/bin/sh\nexec {}/$SLURM_ARRAY_TASK_ID.json\n", line(&task));
    let script_file = folder.join("task.sh");
    std::fs::write(&script_file, script)?;
    let limit = jobs.map_or_else(String::new, |jobs| format!("%{jobs}"));
    let mut command = Command::new("sbatch");
    command.args(["--parsable", "--job-name=softsae-sweep"]);
    command.arg(format!("--array=0-{}{limit}", n_tasks - 1));
    command.arg("--output").arg(folder.join("%a.log")).arg(script_file);
    let said = process::output(&mut command, "sbatch")?;
    // With several clusters it is `id;cluster`.
    Ok(said.trim().split(';').next().unwrap_or_default().into())
}

/// Waits until no task is left in the queue.
fn follow(job: &Job, runs: &[&PlannedRun], array: &str) -> Result<()> {
    let n_steps = runs.iter().map(|run| run.point.config.training.steps).sum();
    let mut progress = Runs::new(runs.len(), n_steps);
    let mut waiting: BTreeSet<usize> = (0..runs.len()).collect();
    let mut started = BTreeSet::new();
    loop {
        if stop::requested() {
            process::run(Command::new("scancel").arg(array), "scancel")?;
            bail!(Interrupted);
        }
        let is_queued = is_queued(array)?;
        for index in waiting.clone() {
            let run = runs[index];
            let steps = run.point.config.training.steps;
            let folder = job.folder(&run.id);
            if folder.join("log.txt").exists() && started.insert(index) {
                progress.started(&run.id, &run.point.to_string(), steps);
            }
            if let Some(result) = job.result(run) {
                waiting.remove(&index);
                let line = format!("run {} ({}): {:?}", run.id, run.point, result.status);
                progress.ended(&run.id, steps, &line);
            } else if started.contains(&index) {
                let (step, message) = job::progress(&folder, steps);
                progress.at(&run.id, step, &message);
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if !is_queued {
            for index in waiting {
                let (run, log) = (runs[index], job.out.join(format!("tasks/{index}.log")));
                let steps = run.point.config.training.steps;
                let said = tail(&log, 10);
                let line = format!("run {} left the queue without a result: {said}", run.id);
                progress.ended(&run.id, steps, &line);
            }
            return Ok(());
        }
        std::thread::sleep(POLL);
    }
}

/// Whether any task of the array waits or works.
fn is_queued(array: &str) -> Result<bool> {
    let mut command = Command::new("squeue");
    command.args(["--noheader", "--format=%i", "--jobs", array]);
    let output = command.output().context("cannot start `squeue`")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() {
        return Ok(!output.stdout.trim_ascii().is_empty());
    }
    // A job that ended some minutes ago is not known any more.
    if said.contains("Invalid job id") {
        return Ok(false);
    }
    bail!("squeue failed ({}): {}", output.status, said.trim())
}
