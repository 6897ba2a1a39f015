//! An attempt at a run: its processes one after the other, those that were killed again.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sae_config::{Evaluation, RunConfig, read_json};

use super::account;
use super::child::{Bounds, Log};
use super::job::{Job, Place};
use super::stop;
use crate::exit::Interrupted;

/// Time before a process that was killed is started again; each further time is thrice as long.
const BACK_OFF: Duration = Duration::from_secs(2);

/// An attempt at a run: its processes, within its limits.
pub(super) struct Attempt<'a, T> {
    pub(super) job: &'a Job,
    pub(super) log: &'a Log,
    /// When it has to be over.
    pub(super) deadline: Option<Instant>,
    /// Gets the resident memory of the process at work.
    pub(super) tick: &'a mut T,
}

impl<T: FnMut(u64)> Attempt<'_, T> {
    /// Trains and evaluates; gives what was measured, or by what it failed.
    pub(super) fn run(
        &mut self,
        folder: &Path,
        config: &RunConfig,
        place: &Place,
    ) -> Result<Result<Evaluation, String>> {
        let saved: Vec<_> = ["training", "checkpoint"]
            .iter()
            .map(|name| folder.join(name))
            .filter(|path| path.exists())
            .map(|path| path.display().to_string())
            .collect();
        let trained = self.process("training", || Ok(self.job.train(folder, place)))?;
        if let Some(failure) = trained {
            let is_its_own = failure.contains("exit code") && !saved.is_empty();
            let from = saved.join(" and ");
            return Ok(Err(match is_its_own {
                true => format!("{failure}; it went on from {from}: delete that to start anew"),
                false => failure,
            }));
        }
        let file = folder.join("eval.json");
        let evaluated = self.process("evaluation", || self.job.eval(folder, &file, config, place));
        Ok(match evaluated? {
            Some(failure) => Err(failure),
            None => Ok(read_json(&file)?),
        })
    }

    /// Runs a process, again where a signal has ended it; gives by what it failed in the end.
    pub(super) fn process(
        &mut self,
        stage: &str,
        command: impl Fn() -> Result<Command>,
    ) -> Result<Option<String>> {
        let bounds = Bounds { deadline: self.deadline, memory: self.job.limits.memory };
        let mut wait = BACK_OFF;
        for retries_left in (0..=self.job.retries).rev() {
            let ending = self.log.run_within(&mut command()?, bounds, &mut *self.tick)?;
            let failure = account::failure(stage, ending, &self.job.limits);
            let Some(text) = &failure else { return Ok(None) };
            self.log.say(text)?;
            if retries_left == 0 || !account::was_killed(ending) {
                return Ok(failure);
            }
            pause(wait, || (self.tick)(0))?;
            wait *= 3;
        }
        bail!("{stage}: no attempt was made")
    }
}

/// Waits, but no longer than until the user stops the sweep.
fn pause(time: Duration, mut tick: impl FnMut()) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < time {
        if stop::requested() {
            bail!(Interrupted);
        }
        tick();
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}
