//! Runs on a SLURM cluster: array jobs that outlive this process, followed by `squeue` and by each
//! run's own files.

mod ends;
mod follow;
mod kept;
mod queue;
mod sbatch;
mod submit;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::job::Job;
use super::plan::{Plan, PlannedRun};
use super::{program, stop};
use crate::exit::{Interrupted, note, usage};
use follow::Follower;
use kept::{Cluster, Submission, Submitted};
use queue::Pace;

/// How runs are submitted.
pub(super) struct Options {
    /// Tasks at once, in all.
    pub(super) jobs: Option<u16>,
    /// Whether to leave once all is submitted.
    pub(super) detach: bool,
}

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// All runs have ended.
    Ended,
    /// Array jobs go on without this process.
    Detached,
}

/// Submits the runs that are not queued or running already, and follows all to their ends. Ctrl-C
/// cancels them; a closed terminal leaves them alone.
pub(super) fn run(
    plan: &Plan,
    job: &Job,
    runs: &[&PlannedRun],
    options: &Options,
) -> Result<Outcome> {
    let [device] = &plan.devices[..] else {
        bail!(usage("--devices: expected one device for each task of slurm, got several"));
    };
    let table = plan.config.slurm.clone().unwrap_or_default();
    let xtask = program::keep(&job.out, &std::env::current_exe()?)?;
    let cluster = Cluster { table, xtask, device: device.clone(), jobs: options.jobs };
    let (attached, left) = attach(plan, job, runs)?;
    if !attached.is_empty() {
        let arrays: Vec<_> = attached.iter().filter_map(|s| s.array.as_deref()).collect();
        note(&format!(
            "{} runs are queued or running already, as array jobs {}",
            runs.len() - left.len(),
            arrays.join(", ")
        ));
    }
    let mut follower = Follower::new(plan, job, runs, attached, left);
    follower.follow(&cluster, options.detach)
}

/// The programs that kept submissions use: their tasks may start at any time.
pub(super) fn programs_in_use(out: &Path) -> Result<Vec<PathBuf>> {
    let kept = Submission::all(out)?.into_iter();
    Ok(kept.flat_map(|submission| submission.programs).collect())
}

/// The runs of kept submissions.
pub(super) fn submitted(out: &Path) -> Result<Vec<String>> {
    let runs = Submission::all(out)?.into_iter().flat_map(|submission| submission.runs);
    Ok(runs.map(|run| run.id).collect())
}

/// Drops what is kept of submissions whose runs are all finished, as a sweep does that is killed
/// just after their ends.
pub(super) fn drop_finished(job: &Job) -> Result<()> {
    let kept = Submission::all(&job.out)?;
    kept.iter().filter(|one| one.has_finished(job)).try_for_each(Submission::discard)
}

/// What SLURM says of the runs of kept submissions that are queued or running, by run.
pub(super) fn live(out: &Path) -> Result<BTreeMap<String, String>> {
    let kept = Submission::all(out)?;
    let arrays: Vec<String> = kept.iter().filter_map(|one| one.array.clone()).collect();
    let standings = queue::standings(&arrays)?;
    let tasks = kept.iter().flat_map(|one| {
        let task = |index| one.task(index).and_then(|task| standings.get(&task));
        let runs = (0..).zip(&one.runs);
        runs.filter_map(move |(index, run)| Some((run.id.clone(), task(index)?)))
    });
    Ok(tasks.filter(|(_, task)| task.is_live()).map(|(run, task)| (run, task.words())).collect())
}

/// Prints what would be submitted.
pub(super) fn print(plan: &Plan, out: &Path, jobs: Option<u16>) -> Result<()> {
    let table = plan.config.slurm.clone().unwrap_or_default();
    say!("\n{}", sbatch::preview(out, plan.selected().count(), &table, jobs));
    Ok(())
}

/// Finds the kept submissions that are queued or running, drops the others, and gives them with the
/// runs that none of them does.
fn attach<'a>(
    plan: &Plan,
    job: &Job,
    runs: &[&'a PlannedRun],
) -> Result<(Vec<Submission>, Vec<&'a PlannedRun>)> {
    let mut kept = Submission::all(&job.out)?;
    let mut live = BTreeMap::new();
    let mut pace = Pace::default();
    while !kept.is_empty() {
        let answer = look_up(&mut kept).and_then(|()| {
            let arrays: Vec<_> = kept.iter().filter_map(|s| s.array.clone()).collect();
            queue::standings(&arrays)
        });
        if let Some(line) = pace.answered(&answer, runs.len(), true) {
            note(&line);
        }
        if let Ok(standings) = answer {
            let is_live = |submission: &Submission, index: usize| {
                let standing = submission.task(index).and_then(|task| standings.get(&task));
                standing.is_some_and(queue::Standing::is_live)
            };
            let any_live = |s: &Submission| (0..s.runs.len()).any(|index| is_live(s, index));
            if !kept.iter().any(|s| s.cancelled && any_live(s)) {
                kept.retain(|s| any_live(s) || s.discard().is_err());
                for submission in &kept {
                    for (index, run) in submission.runs.iter().enumerate() {
                        *live.entry(run.clone()).or_insert(false) |= is_live(submission, index);
                    }
                }
                break;
            }
            note("waiting for cancelled tasks to save their work");
        }
        sleep(pace.wait)?;
    }
    let is_left = |run: &&&PlannedRun| {
        !live.get(&Submitted::from(**run)).copied().unwrap_or(false) && job.finished(run).is_none()
    };
    let left = runs.iter().filter(is_left).copied().collect();
    let foreign = live
        .iter()
        .filter(|(run, is_live)| **is_live && !plan.runs.iter().any(|known| known.id == run.id));
    match foreign.count() {
        0 => {}
        n => note(&format!("{n} queued tasks are of runs that the sweep has no more; they go on")),
    }
    Ok((kept, left))
}

/// Finds the ids of submissions that could not be written down; drops those that never arrived.
fn look_up(kept: &mut Vec<Submission>) -> Result<()> {
    for submission in kept.iter_mut().filter(|submission| submission.array.is_none()) {
        submission.array = queue::named(&submission.name)?;
        match submission.array {
            Some(_) => submission.write()?,
            None => submission.discard()?,
        }
    }
    kept.retain(|submission| submission.array.is_some());
    Ok(())
}

/// Sleeps, but no longer than until the user stops the sweep.
fn sleep(time: Duration) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        if stop::requested() {
            bail!(Interrupted);
        }
        std::thread::sleep(Duration::from_millis(50).min(time));
    }
    Ok(())
}
