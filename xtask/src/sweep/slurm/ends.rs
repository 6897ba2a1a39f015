//! How the tasks of a sweep end, and how a sweep leaves those that go on.

use anyhow::{Result, bail};

use super::super::child::tail;
use super::Outcome;
use super::follow::{Follower, TASKS};
use super::kept::Submitted;
use super::queue;
use crate::exit::Interrupted;

/// What SLURM writes of a task that it kills for its memory. Where it uses no control groups, the
/// state is that of any task that a signal has ended.
const OVER_MEMORY: &str = "exceeded memory limit";

impl Follower<'_> {
    /// What became of a task that has left the queue without a result.
    pub(super) fn fate(&self, id: &str) -> String {
        let watched = &self.waiting[id];
        let last_seen = watched.standing.clone().filter(|standing| !standing.is_live());
        let standing = queue::account(&watched.task).filter(|s| !s.is_live()).or(last_seen);
        let task = format!("{}_{}", watched.task.0, watched.task.1);
        let said = self.submissions.iter().find(|s| s.array.as_ref() == Some(&watched.task.0));
        let said = said.map_or_else(String::new, |s| tail(&s.log(watched.task.1), 4));
        let what = match standing {
            _ if said.contains(OVER_MEMORY) => "out of memory".into(),
            Some(standing) => standing.words(),
            None => "left the queue without a result".into(),
        };
        let said = if said.is_empty() { said } else { format!(": {}", said.replace('\n', "; ")) };
        format!("slurm task {task}: {what}{said}")
    }

    /// Cancels all that is queued or running.
    pub(super) fn cancel(&mut self) -> Result<Outcome> {
        let arrays: Vec<_> = self.submissions.iter().filter_map(|s| s.array.clone()).collect();
        if !arrays.is_empty() {
            let list = arrays.join(", ");
            self.progress.say(&format!(
                "cancelling array jobs {list}; what runs saves its work (a closed terminal or \
                 --detach leaves jobs alone)"
            ));
            for submission in &mut self.submissions {
                submission.cancelled = true;
                submission.write()?;
            }
            if let Err(error) = queue::cancel(&arrays) {
                for submission in &mut self.submissions {
                    submission.cancelled = false;
                    submission.write()?;
                }
                bail!(error.context(format!("array jobs {list} go on: cancelling failed")));
            }
        }
        bail!(Interrupted)
    }

    /// Leaves the jobs alone.
    pub(super) fn detach(&self) -> Outcome {
        let arrays: Vec<_> = self.submissions.iter().filter_map(|s| s.array.as_deref()).collect();
        self.progress.say(&format!(
            "array jobs {} go on; the same command without --detach follows them",
            arrays.join(", ")
        ));
        if !self.left.is_empty() {
            let n = self.left.len();
            self.progress.say(&format!("{n} runs are not submitted yet: the same command does it"));
        }
        Outcome::Detached
    }

    /// Drops what was kept of submissions whose runs are done; of failures, logs are kept until the
    /// next start. Those that have runs which are not followed here stay.
    pub(super) fn forget_submissions(&mut self) -> Result<()> {
        let mut left = Vec::new();
        for submission in std::mem::take(&mut self.submissions) {
            let is_over = |run: &Submitted| {
                self.followed.contains(run) || self.job.has_finished(&run.id, run.steps)
            };
            if submission.has_finished(self.job) {
                submission.discard()?;
            } else if submission.runs.iter().all(is_over) {
                submission.close()?;
            } else {
                left.push(submission);
            }
        }
        self.submissions = left;
        let tasks = self.job.out.join(TASKS);
        if tasks.exists() {
            std::fs::remove_file(&tasks)?;
        }
        if self.submissions.is_empty() {
            // Kept where a record of an earlier sweep is in it.
            let _ = tasks.parent().map(std::fs::remove_dir);
        }
        Ok(())
    }
}
