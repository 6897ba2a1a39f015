//! Submitting what is left of a sweep, in array jobs that the cluster takes.

use anyhow::Result;

use super::super::stop;
use super::follow::Follower;
use super::kept::{Cluster, Submission};
use super::sbatch::Answer;
use super::{queue, sleep};

impl Follower<'_> {
    /// Submits what is left, as much as the queue takes.
    pub(super) fn submit(&mut self, cluster: &Cluster) -> Result<()> {
        while !self.left.is_empty() && !stop::requested() {
            let size = match self.chunk {
                Some(size) => size,
                None => {
                    let answer = queue::max_array_size();
                    self.hear(&answer, true);
                    let Ok(size) = answer else { return Ok(()) };
                    *self.chunk.insert(size)
                }
            };
            let n = size.min(self.left.len());
            let runs: Vec<_> = self.left.iter().take(n).copied().collect();
            let mut submission = Submission::prepare(self.job, &runs, cluster)?;
            // With a bound on tasks at once, array jobs wait for each other.
            let after = self.waiting.values().map(|watched| watched.task.0.clone());
            let after = after.max_by_key(|array| array.parse::<u64>().ok());
            let after = after.filter(|_| cluster.jobs.is_some());
            match submission.submit(cluster, after.as_deref()) {
                Ok(Answer::Queued(array)) => {
                    self.progress.say(&format!("submitted {n} runs as array job {array}"));
                }
                Ok(Answer::Full(said)) => {
                    submission.discard()?;
                    self.wait_for_room(n, &said);
                    return Ok(());
                }
                Ok(Answer::Unclear(said)) => {
                    self.hear(&Err::<(), _>(anyhow::anyhow!("{said}")), true);
                    if !self.arrived(&mut submission)? {
                        return Ok(());
                    }
                }
                Err(error) => {
                    submission.discard()?;
                    return Err(error);
                }
            }
            self.watch(&submission, |one| runs.iter().find(|run| run.id == one.id).copied());
            self.submissions.push(submission);
            self.left.drain(..n);
        }
        Ok(())
    }

    /// Waits until SLURM tells whether a submission has arrived; one that has not is dropped.
    fn arrived(&mut self, submission: &mut Submission) -> Result<bool> {
        loop {
            // Kept as it is, the next start looks for it.
            sleep(self.pace.wait)?;
            let answer = queue::named(&submission.name);
            self.hear(&answer, true);
            match answer {
                Ok(Some(array)) => {
                    submission.array = Some(array);
                    submission.write()?;
                    return Ok(true);
                }
                Ok(None) => {
                    submission.discard()?;
                    return Ok(false);
                }
                Err(_) => {}
            }
        }
    }

    /// The queue takes no job of `n` tasks: a smaller one, if none of ours is there to wait for.
    fn wait_for_room(&mut self, n: usize, said: &str) {
        if self.waiting.is_empty() && n > 1 {
            self.chunk = Some(n / 2);
        }
        self.progress.say(&format!("{said}; the rest is submitted as the queue drains"));
    }
}
