//! Runs on this machine: some at a time on each device.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use anyhow::Result;
use sae_config::{RunResult, RunStatus};

use super::job::{self, Job, Place};
use super::plan::PlannedRun;
use super::progress::Runs;
use super::stop;
use crate::exit;

/// Time between two looks at a run's metrics.
const LOOK: Duration = Duration::from_millis(500);

/// News from a run at work.
enum Event<'a> {
    Started(&'a PlannedRun),
    At(&'a PlannedRun, u64, String),
    Ended(&'a PlannedRun, Result<String>),
}

/// Carries out runs, `jobs` at once on each device; runs that fail do not stop the others.
pub(super) fn run(job: &Job, runs: &[&PlannedRun], devices: &[String], jobs: u16) -> Result<()> {
    let queue: Mutex<VecDeque<_>> = Mutex::new(runs.iter().copied().collect());
    let mut progress = Runs::new(runs.len(), runs.iter().map(|run| steps(run)).sum());
    let (sender, events) = mpsc::channel();
    std::thread::scope(|scope| {
        for device in devices {
            let threads = (jobs > 1 && device == "cpu").then(|| threads(jobs));
            for _ in 0..jobs {
                let (queue, sender) = (&queue, sender.clone());
                let place = Place { device: device.clone(), threads };
                scope.spawn(move || work(job, queue, &place, &sender));
            }
        }
        drop(sender);
        let mut first_error = Ok(());
        for event in events {
            match event {
                Event::Started(run) => {
                    progress.started(&run.id, &run.point.to_string(), steps(run))
                }
                Event::At(run, step, message) => progress.at(&run.id, step, &message),
                Event::Ended(run, Ok(line)) => progress.ended(&run.id, steps(run), &line),
                Event::Ended(run, Err(error)) => {
                    if !error.is::<exit::Interrupted>() {
                        let line = format!("run {}: {}", run.id, exit::message(&error));
                        progress.ended(&run.id, steps(run), &line);
                    }
                    first_error = first_error.and(Err(error));
                }
            }
        }
        first_error
    })
}

/// Takes runs from the queue until it is empty.
fn work<'a>(
    job: &Job,
    queue: &Mutex<VecDeque<&'a PlannedRun>>,
    place: &Place,
    events: &Sender<Event<'a>>,
) {
    // The receiver outlives the workers, and nothing panics while it holds the queue.
    let send = |event| drop(events.send(event));
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    while let Some(run) = next().filter(|_| !stop::requested()) {
        send(Event::Started(run));
        let folder = job.folder(&run.id);
        let mut last = Instant::now();
        let result = job.carry_out(&run.id, &run.point.config, place, || {
            if last.elapsed() >= LOOK {
                last = Instant::now();
                let (step, message) = job::progress(&folder, steps(run));
                send(Event::At(run, step, message));
            }
        });
        send(Event::Ended(run, result.map(|result| describe(run, &result))));
    }
}

/// One line on how a run ended.
fn describe(run: &PlannedRun, result: &RunResult) -> String {
    let seconds = result.train_seconds;
    match (&result.status, &result.evaluation) {
        (RunStatus::Done, Some(evaluation)) => {
            let (r2, l0) = (evaluation.reconstruction.r2, evaluation.sparsity.l0_mean);
            format!("run {} ({}): R² {r2:.4}, L0 {l0:.1}, {seconds:.0} s", run.id, run.point)
        }
        _ => format!("run {} ({}) FAILED after {seconds:.0} s", run.id, run.point),
    }
}

fn steps(run: &PlannedRun) -> u64 {
    run.point.config.training.steps
}

/// Threads for each of `jobs` runs that share the CPU.
fn threads(jobs: u16) -> usize {
    let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
    (n_cores / usize::from(jobs)).max(1)
}
