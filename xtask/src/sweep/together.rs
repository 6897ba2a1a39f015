//! Runs that read one stream of batches (`share = true`): trained in one process, from one pass over
//! it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result};
use sae_config::{RunResult, stream_difference};

use super::account;
use super::attempt::Attempt;
use super::child::Log;
use super::job::{Job, Place};
use super::plan::PlannedRun;

/// The runs of each stream, in the order of their first ones.
pub(super) fn streams<'a>(runs: &[&'a PlannedRun]) -> Result<Vec<Vec<&'a PlannedRun>>> {
    let mut streams: Vec<(_, Vec<&PlannedRun>)> = Vec::new();
    for run in runs {
        let config = run.point.config.check()?;
        match streams.iter_mut().find(|(first, _)| stream_difference(first, &config).is_none()) {
            Some((_, stream)) => stream.push(run),
            None => streams.push((config, vec![run])),
        }
    }
    Ok(streams.into_iter().map(|(_, runs)| runs).collect())
}

/// The folder of the logs of processes that train several runs.
fn logs(job: &Job) -> PathBuf {
    job.out.join("shared")
}

/// Waits for processes that train several runs and have outlived an earlier sweep.
pub(super) fn wait_for_earlier(job: &Job, mut waiting: impl FnMut()) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(logs(job)) else { return Ok(()) };
    for entry in entries {
        Log::open(&entry?.path(), &mut waiting)?;
    }
    Ok(())
}

impl Job {
    /// Trains runs of one stream as far as that works for all of them together: each goes on by itself
    /// with what is left of it, and says what is wrong with it. `tick` gets the resident memory of the
    /// process all the while.
    ///
    /// Where the time is over, which is that of one run for each, the results of those that are not
    /// done are given.
    pub(super) fn train_together(
        &self,
        runs: &[&PlannedRun],
        place: &Place,
        mut tick: impl FnMut(u64),
    ) -> Result<Vec<RunResult>> {
        let runs: Vec<&&PlannedRun> =
            runs.iter().filter(|run| self.finished(run).is_none()).collect();
        let ([first, _, ..], None) = (&runs[..], self.inputs.changed()) else {
            return Ok(vec![]);
        };
        let folder = logs(self);
        std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
        let path = folder.join(&first.id).with_extension("log");
        let log = Log::open(&path, || tick(0))?;
        let mut folders = Vec::new();
        for run in &runs {
            folders.push(self.join_in(run, &path, place)?);
        }
        let n_runs = u32::try_from(runs.len()).unwrap_or(u32::MAX);
        let time = self.limits.time.map(|time| time.saturating_mul(n_runs));
        let deadline = time.map(|time| Instant::now() + time);
        let mut attempt = Attempt { job: self, log: &log, deadline, tick: &mut tick };
        let failure = attempt.process("training", || Ok(self.train_all(&folders, place)))?;
        let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let Some(failure) = failure.filter(|_| is_over) else { return Ok(vec![]) };
        let late = runs.iter().filter(|run| !self.folder(&run.id).join("checkpoint").exists());
        let mut results = Vec::new();
        for run in late {
            self.write_failure(run, &failure)?;
            results.extend(self.result(run));
        }
        Ok(results)
    }

    /// Makes the folder of a run ready to be trained with others, as its log says; gives the folder.
    fn join_in(&self, run: &PlannedRun, shared: &Path, place: &Place) -> Result<PathBuf> {
        let folder = self.folder(&run.id);
        std::fs::create_dir_all(&folder).map_err(|e| crate::wheel::explain(e, &folder))?;
        self.begin(&run.id, &run.point.config, place)?;
        account::start(&folder)?;
        let log = Log::open(&folder.join("log.txt"), || ())?;
        let shared = shared.canonicalize().with_context(|| shared.display().to_string())?;
        log.say(&format!("trained with others that read the same: see {}", shared.display()))?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_stream_are_those_that_read_the_same() {
        let planned = |id: &str, more: &str| {
            let text = format!(
                "data.store = ''\nsae.n_features = 32\narchitecture = {{ name = 'topk', k = 2 }}\n\
                 [training]\nsteps = 9\nbatch_size = 8\n{more}"
            );
            let config = toml::from_str(&text).unwrap();
            let point = sae_config::SweepPoint { variant: None, settings: Vec::new(), config };
            PlannedRun { id: id.into(), point, is_selected: true }
        };
        let runs = [
            planned("a", ""),
            planned("b", "seed = 1"),
            planned("c", "lr = 0.5"),
            planned("d", "seed = 1\nlr = 0.5"),
            planned("e", "micro_batch = 2"),
        ];
        let ids = |streams: Vec<Vec<&PlannedRun>>| {
            let ids = |runs: Vec<&PlannedRun>| runs.iter().map(|run| run.id.clone()).collect();
            streams.into_iter().map(ids).collect::<Vec<Vec<String>>>()
        };
        let all: Vec<&PlannedRun> = runs.iter().collect();
        assert_eq!(ids(streams(&all).unwrap()), [vec!["a", "c", "e"], vec!["b", "d"]]);
    }
}
