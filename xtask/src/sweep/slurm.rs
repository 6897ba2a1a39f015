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

/// Time between two looks at the runs' own files.
const POLL: Duration = Duration::from_secs(2);

/// Time between two questions to the scheduler while it answers.
const ASK: Duration = Duration::from_secs(10);

/// The longest time between two questions to a scheduler that does not answer.
const ASK_AT_LAST: Duration = Duration::from_secs(120);

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
    let mut queue = Queue::new(array);
    loop {
        if stop::requested() {
            process::run(Command::new("scancel").arg(array), "scancel")?;
            bail!(Interrupted);
        }
        // Asked before the results are read: what has left the queue has written its own.
        let is_queued = queue.is_queued(Instant::now());
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

/// What the scheduler says of the array.
///
/// A scheduler that does not answer (a controller that restarts, a network that is gone) says
/// nothing of the tasks: it is asked again, less and less often, until it answers.
struct Queue<'a> {
    array: &'a str,
    program: &'a str,
    next: Option<Instant>,
    pause: Duration,
    is_failing: bool,
}

impl<'a> Queue<'a> {
    fn new(array: &'a str) -> Self {
        Self { array, program: "squeue", next: None, pause: ASK, is_failing: false }
    }

    /// Whether any task of the array waits or works, as far as is known.
    fn is_queued(&mut self, now: Instant) -> bool {
        if self.next.is_some_and(|next| now < next) {
            return true;
        }
        let answer = self.ask();
        self.pause = match &answer {
            Ok(_) => ASK,
            Err(_) if self.is_failing => (2 * self.pause).min(ASK_AT_LAST),
            Err(_) => POLL,
        };
        self.next = Some(now + self.pause);
        match &answer {
            Err(reason) if !self.is_failing => {
                eprintln!("squeue does not answer ({reason}); the array goes on, asking again");
            }
            Ok(_) if self.is_failing => eprintln!("squeue answers again"),
            _ => {}
        }
        self.is_failing = answer.is_err();
        answer.unwrap_or(true)
    }

    fn ask(&self) -> Result<bool> {
        let mut command = Command::new(self.program);
        command.args(["--noheader", "--format=%i", "--jobs", self.array]);
        let output =
            command.output().with_context(|| format!("cannot start `{}`", self.program))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if output.status.success() {
            return Ok(!output.stdout.trim_ascii().is_empty());
        }
        // A job that ended some minutes ago is not known any more.
        if said.contains("Invalid job id") {
            return Ok(false);
        }
        bail!("{}: {}", output.status, said.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A `squeue` that does as the file `answer` beside it says.
    fn fake(folder: &Path) -> String {
        let path = folder.join("squeue");
        // A shell writes it: a program that is open for writing does not start.
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "printf '#!/bin/sh\\n. %s/answer\\n' \"$1\" > \"$1/squeue\"; chmod +x \"$1/squeue\"",
            "sh",
        ]);
        assert!(shell.arg(folder).status().unwrap().success());
        path.display().to_string()
    }

    #[test]
    fn a_scheduler_that_does_not_answer_is_asked_again_ever_less_often() {
        let folder = tempfile::tempdir().unwrap();
        let program = fake(folder.path());
        let answer = |text: &str| std::fs::write(folder.path().join("answer"), text).unwrap();
        let mut queue = Queue { program: &program, ..Queue::new("7") };
        let start = Instant::now();
        answer("echo 7_1");
        assert!(queue.is_queued(start) && !queue.is_failing);

        answer("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1");
        let mut now = start;
        let mut pauses = Vec::new();
        for _ in 0..9 {
            now = queue.next.unwrap();
            assert!(queue.is_queued(now) && queue.is_failing);
            pauses.push(queue.pause.as_secs());
        }
        assert_eq!(pauses, [2, 4, 8, 16, 32, 64, 120, 120, 120]);

        // Until it is time to ask again, nothing has changed.
        answer("true");
        assert!(queue.is_queued(now + Duration::from_secs(1)));
        assert!(!queue.is_queued(queue.next.unwrap()) && !queue.is_failing);
        answer("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1");
        assert!(!queue.is_queued(queue.next.unwrap()));
    }

    #[test]
    fn a_squeue_that_cannot_be_started_is_no_end_of_the_array() {
        let mut queue = Queue { program: "/no/such/squeue", ..Queue::new("7") };
        assert!(queue.is_queued(Instant::now()) && queue.is_failing);
    }
}
