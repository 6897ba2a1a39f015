//! Follows runs from the sweep to the queue to their results.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use sae_config::write_json;
use serde::Serialize;

use super::super::job::{self, Job};
use super::super::plan::{Plan, PlannedRun};
use super::super::progress::Runs;
use super::super::results::Refresher;
use super::super::stop;
use super::kept::{Cluster, Submission, Submitted};
use super::queue::{self, Pace, Standing, TaskId};
use super::{Outcome, sleep};

/// Where each task stands, by run, in the sweep's folder.
pub(super) const TASKS: &str = "slurm/tasks.json";

/// Time between two looks at the results of tasks that run.
const LOOK: Duration = Duration::from_secs(1);

/// Answers in a row that a task is gone before it counts as that: on a shared disk, what it wrote
/// may show later.
const N_GONE: u32 = 2;

/// Follows the runs of a sweep.
pub(super) struct Follower<'a> {
    plan: &'a Plan,
    pub(super) job: &'a Job,
    /// All that it follows to their ends.
    pub(super) followed: BTreeSet<Submitted>,
    pub(super) submissions: Vec<Submission>,
    /// Runs that are not submitted yet.
    pub(super) left: VecDeque<&'a PlannedRun>,
    /// Runs that have not ended, by id.
    pub(super) waiting: BTreeMap<&'a str, Watched<'a>>,
    pub(super) progress: Runs,
    refresher: Refresher,
    pub(super) pace: Pace,
    /// Most tasks of an array job, once that is known; less where the queue takes fewer.
    pub(super) chunk: Option<usize>,
    /// What was told last of the queue.
    told: String,
}

/// A submitted run.
pub(super) struct Watched<'a> {
    run: &'a PlannedRun,
    pub(super) task: TaskId,
    pub(super) standing: Option<Standing>,
    n_gone: u32,
    is_started: bool,
}

/// Where a run stands.
#[derive(Serialize)]
struct Told<'a> {
    task: String,
    #[serde(flatten)]
    standing: &'a Standing,
}

impl<'a> Follower<'a> {
    /// Of all `runs`, those in `left` are to be submitted; the others are in `submissions`.
    pub(super) fn new(
        plan: &'a Plan,
        job: &'a Job,
        runs: &[&'a PlannedRun],
        submissions: Vec<Submission>,
        left: Vec<&'a PlannedRun>,
    ) -> Self {
        let n_steps = runs.iter().map(|run| steps(run)).sum();
        let mut follower = Self {
            plan,
            job,
            followed: runs.iter().map(|run| Submitted::from(*run)).collect(),
            submissions: Vec::new(),
            left: left.into(),
            waiting: BTreeMap::new(),
            progress: Runs::new(runs.len(), n_steps),
            refresher: Refresher::default(),
            pace: Pace::default(),
            chunk: None,
            told: String::new(),
        };
        let is_left: BTreeSet<_> = follower.left.iter().map(|run| run.id.as_str()).collect();
        let attached: BTreeMap<_, _> = runs
            .iter()
            .filter(|run| !is_left.contains(run.id.as_str()))
            .map(|run| (Submitted::from(*run), *run))
            .collect();
        for submission in submissions {
            follower.watch(&submission, |run| attached.get(run).copied());
            follower.submissions.push(submission);
        }
        follower
    }

    /// Watches the tasks of a submission whose runs are wanted.
    pub(super) fn watch(
        &mut self,
        submission: &Submission,
        run_of: impl Fn(&Submitted) -> Option<&'a PlannedRun>,
    ) {
        for (index, run) in submission.runs.iter().enumerate() {
            let (Some(run), Some(task)) = (run_of(run), submission.task(index)) else { continue };
            let watched = Watched { run, task, standing: None, n_gone: 0, is_started: false };
            self.waiting.insert(&run.id, watched);
        }
    }

    /// Submits and waits until all runs have ended.
    pub(super) fn follow(&mut self, cluster: &Cluster, detach: bool) -> Result<Outcome> {
        let mut asked: Option<Instant> = None;
        loop {
            if stop::hung_up() {
                return Ok(Outcome::Detached);
            }
            if stop::requested() {
                return self.cancel();
            }
            if asked.is_none_or(|asked| asked.elapsed() >= self.pace.wait) {
                self.submit(cluster)?;
                if detach {
                    return Ok(self.detach());
                }
                self.ask()?;
                asked = Some(Instant::now());
            }
            self.look()?;
            if self.waiting.is_empty() && self.left.is_empty() {
                self.forget_submissions()?;
                return Ok(Outcome::Ended);
            }
            // A signal is dealt with at the head of the loop.
            let _ = sleep(LOOK.min(self.pace.wait));
        }
    }

    /// Takes in whether SLURM answers.
    pub(super) fn hear<T>(&mut self, answer: &Result<T>, is_news: bool) {
        if let Some(line) = self.pace.answered(answer, self.waiting.len(), is_news) {
            self.progress.say(&line);
        }
    }

    /// Asks where all tasks stand.
    fn ask(&mut self) -> Result<()> {
        let tasks = self.waiting.values().map(|watched| watched.task.0.clone());
        let arrays: Vec<_> = tasks.collect::<BTreeSet<_>>().into_iter().collect();
        let answer = queue::standings(&arrays);
        let mut is_news = false;
        if let Ok(standings) = &answer {
            for watched in self.waiting.values_mut() {
                let standing = standings.get(&watched.task);
                is_news |= standing != watched.standing.as_ref();
                // What is known of a task that the queue has forgotten stays known.
                watched.standing = standing.or(watched.standing.as_ref()).cloned();
                let is_live = standing.is_some_and(Standing::is_live);
                watched.n_gone = if is_live { 0 } else { watched.n_gone + 1 };
                is_news |= !is_live;
            }
        }
        self.hear(&answer, is_news);
        if answer.is_ok() {
            self.tell()?;
        }
        Ok(())
    }

    /// Tells how many tasks stand where, and keeps where each stands.
    fn tell(&mut self) -> Result<()> {
        let mut counts = BTreeMap::new();
        let mut tasks = BTreeMap::new();
        for (id, watched) in &self.waiting {
            let Some(standing) = &watched.standing else { continue };
            *counts.entry(standing.words()).or_insert(0_usize) += 1;
            let task = format!("{}_{}", watched.task.0, watched.task.1);
            tasks.insert(*id, Told { task, standing });
        }
        write_json(&self.job.out.join(TASKS), &tasks)?;
        let counts: Vec<_> = counts.iter().map(|(words, n)| format!("{n} {words}")).collect();
        let told = format!("slurm: {}", counts.join(", "));
        if !counts.is_empty() && told != self.told {
            self.progress.say(&told);
            self.told = told;
        }
        Ok(())
    }

    /// Looks at the results of all tasks that may have one.
    fn look(&mut self) -> Result<()> {
        let may_have = |watched: &Watched<'_>| {
            watched.standing.as_ref().is_some_and(|standing| !standing.is_pending())
                || watched.n_gone > 0
        };
        let waiting = self.waiting.iter().filter(|(_, watched)| may_have(watched));
        let ids: Vec<_> = waiting.map(|(id, _)| *id).collect();
        let mut any_ended = false;
        for id in ids {
            let watched = &mut self.waiting.get_mut(id).expect("just listed");
            let run = watched.run;
            let folder = self.job.folder(id);
            if !watched.is_started && folder.join("log.txt").exists() {
                watched.is_started = true;
                self.progress.started(id, &run.point.to_string(), steps(run));
            }
            let mut result = self.job.ended(run);
            if result.is_none() && watched.n_gone >= N_GONE {
                let failure = self.fate(id);
                self.job.write_failure(run, &failure)?;
                result = self.job.ended(run);
            }
            if let Some(result) = result {
                self.waiting.remove(id);
                self.progress.ended(id, steps(run), &job::describe(run, &result));
                any_ended = true;
            } else if self.waiting[id].is_started {
                let (step, message) = job::progress(&folder, steps(run));
                self.progress.at(id, step, &message);
            }
        }
        if any_ended {
            self.refresher.refresh(self.plan, self.job);
        }
        Ok(())
    }
}

fn steps(run: &PlannedRun) -> u64 {
    run.point.config.training.steps
}
