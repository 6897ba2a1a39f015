//! Runs on a SLURM cluster: one array job, followed by `squeue` and by each run's own files.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sae_config::write_json;

use super::child::{line, tail};
use super::job::{self, Job, Place, Task};
use super::plan::PlannedRun;
use super::progress::Runs;
use super::stop;
use crate::exit::{Interrupted, usage};
use crate::process;

/// Times between two questions to the scheduler: the first, and the longest while it answers.
const POLL: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(30)];

/// The longest time between two questions while it does not.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

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
    let mut pace = Pace::default();
    loop {
        if stop::requested() {
            process::run(Command::new("scancel").arg(array), "scancel")?;
            bail!(Interrupted);
        }
        // Asked before the results are looked at: what has left the queue has written its own.
        if let Some(line) = pace.answered(&is_queued("squeue", array)) {
            eprintln!("{line}");
        }
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
        if pace.n_gone > 1 {
            for index in waiting {
                let (run, log) = (runs[index], job.out.join(format!("tasks/{index}.log")));
                let steps = run.point.config.training.steps;
                let said = tail(&log, 10);
                let line = format!("run {} left the queue without a result: {said}", run.id);
                progress.ended(&run.id, steps, &line);
            }
            return Ok(());
        }
        sleep(pace.wait);
    }
}

/// How often the scheduler is asked: less and less often, and again and again while it does not
/// answer, since the array runs on.
struct Pace {
    /// Time to the next question.
    wait: Duration,
    fails: bool,
    /// Answers in a row that no task is left: results may show later than that on a shared disk.
    n_gone: u32,
}

impl Default for Pace {
    fn default() -> Self {
        Self { wait: POLL[0], fails: false, n_gone: 0 }
    }
}

impl Pace {
    /// Takes an answer; gives a line to print where the scheduler has begun to fail or to answer.
    fn answered(&mut self, answer: &Result<bool>) -> Option<String> {
        let fails = answer.is_err();
        let longest = if fails { LONGEST_WAIT } else { POLL[1] };
        let changed = fails != self.fails;
        self.n_gone = match answer {
            Ok(false) => self.n_gone + 1,
            Ok(true) => 0,
            Err(_) => self.n_gone,
        };
        let at_once = changed || (self.n_gone > 0 && !fails);
        self.wait = if at_once { POLL[0] } else { (self.wait * 3 / 2).min(longest) };
        self.fails = fails;
        match answer {
            _ if !changed => None,
            Err(error) => Some(format!("{error:#}; the runs go on, and it is asked again")),
            Ok(_) => Some("squeue answers again".into()),
        }
    }
}

/// Sleeps, but no longer than until the user stops the sweep.
fn sleep(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time && !stop::requested() {
        std::thread::sleep(Duration::from_millis(100).min(time));
    }
}

/// Whether any task of the array waits or works.
fn is_queued(squeue: &str, array: &str) -> Result<bool> {
    let mut command = Command::new(squeue);
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// What is made of a `squeue` that does this.
    fn asked(folder: &Path, does: &str) -> Result<bool> {
        let squeue = folder.join(format!("squeue-{}", does.len()));
        std::fs::write(&squeue, format!("#!/bin/sh\n{does}\n")).unwrap();
        std::fs::set_permissions(&squeue, std::fs::Permissions::from_mode(0o755)).unwrap();
        is_queued(squeue.to_str().unwrap(), "7")
    }

    #[test]
    fn a_scheduler_that_fails_is_asked_again_until_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let fails = "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1";
        let mut pace = Pace::default();
        assert!(asked(folder.path(), "echo 7_1").unwrap());
        assert!(pace.answered(&Ok(true)).is_none());
        let line = pace.answered(&asked(folder.path(), fails)).unwrap();
        assert!(line.contains("Unable to contact"), "{line}");
        for _ in 0..50 {
            assert!(pace.answered(&asked(folder.path(), fails)).is_none(), "it is said once");
        }
        assert_eq!((pace.wait, pace.n_gone), (LONGEST_WAIT, 0));
        assert_eq!(pace.answered(&Ok(true)).unwrap(), "squeue answers again");
        assert_eq!(pace.wait, POLL[0]);
    }

    #[test]
    fn a_job_is_gone_once_that_was_said_twice() {
        let folder = tempfile::tempdir().unwrap();
        let unknown = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1";
        let mut pace = Pace::default();
        for (n_gone, does) in ["exit 0", "echo 7_2", unknown, "exit 0"].into_iter().enumerate() {
            assert!(pace.answered(&asked(folder.path(), does)).is_none());
            assert_eq!(pace.n_gone, [1, 0, 1, 2][n_gone], "{does}");
        }
    }
}
