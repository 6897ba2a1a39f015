//! Runs that read one stream, trained in one pass over it: each takes its step on a batch in turn,
//! on the calling thread, as it would alone.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use sae_config::{CheckedRun, RunConfig, stream_difference};

use super::folder::RunFolder;
use super::training::Run;
use super::{Progress, RunOptions, RunSummary};
use crate::batches::Batches;
use crate::data::{Filtered, Opened};
use crate::device::{run_device, tf32};
use crate::fault;
use crate::plan::check_memory;
use crate::{Error, Result};

/// What is told of a run: which of them, and how far it is.
type Observer<'a> = dyn FnMut(usize, &Progress<'_>) + 'a;

/// Trains runs that read the same stream of batches, each with the folder it is trained into, in one
/// pass over the stream, and gives how each ended. Each ends in the bits of [`train_run`] alone.
///
/// The stream goes on at the run that has done the fewest steps; those that are ahead of it wait. A run
/// that fails does not stop the others.
///
/// [`train_run`]: crate::train_run
///
/// # Errors
/// Before any run begins: those that read different streams, or do not fit the memory together, and
/// what [`train_run`] refuses. Afterwards a stream that cannot be read on.
pub fn train_runs(
    runs: &[(&RunConfig, &Path)],
    options: &RunOptions<'_>,
    observer: &mut Observer<'_>,
) -> Result<Vec<Result<RunSummary>>> {
    let configs: Vec<CheckedRun> =
        runs.iter().map(|(config, _)| config.check()).collect::<Result<_, _>>()?;
    let Some((first, others)) = configs.split_first() else { return Ok(vec![]) };
    for other in others {
        if let Some((key, expected, got)) = stream_difference(first, other) {
            let expected = format!("{expected}, as in the first of the runs that read one stream");
            return Err(sae_config::Error::value(key, expected, got).into());
        }
    }
    // What fails outside of the steps of a run.
    fault::named(first, 0, || train(runs, &configs, options, observer))
}

fn train(
    runs: &[(&RunConfig, &Path)],
    configs: &[CheckedRun],
    options: &RunOptions<'_>,
    observer: &mut Observer<'_>,
) -> Result<Vec<Result<RunSummary>>> {
    let mut folders = Vec::new();
    for ((written, out), config) in runs.iter().zip(configs) {
        folders.push(RunFolder::open(written, config.clone(), out, options.resume)?);
    }
    let Opened { mut source, filtered, .. } = (options.open)(&configs[0])?;
    let mut ended: Vec<Option<Result<RunSummary>>> = Vec::new();
    let mut folders_left = Vec::new();
    for (index, folder) in folders.into_iter().enumerate() {
        if folder.is_finished {
            ended.push(Some(Ok(folder.finished(&*source)?)));
        } else {
            folders_left.push((index, folder));
            ended.push(None);
        }
    }
    let left: Vec<&CheckedRun> = folders_left.iter().map(|(_, folder)| &folder.config).collect();
    let Some(first) = left.first() else { return Ok(all_of(ended)) };
    check_memory(&left, source.ports().as_ref().map(|port| port.dimension))?;
    let device = run_device(first)?;
    if let Some(allow) = tf32(&first.training, device) {
        // As each step does: so a live host computes its first rows as all that follow.
        tch_autograd::allow_tf32(allow)?;
    }
    let mut at_work = Vec::new();
    for (index, folder) in folders_left {
        at_work.push((index, Run::start(folder, source.as_mut(), device)?));
    }
    let slowest = at_work.iter().map(|(_, run)| run).min_by_key(|run| run.steps_done());
    if let Some((slowest, position)) = slowest.and_then(|run| Some((run, run.resumed()?))) {
        let beside = at_work.iter().filter(|(_, run)| run.steps_done() == slowest.steps_done());
        beside.map(|(_, run)| run).try_for_each(|run| run.check_position(position))?;
        source.resume(position)?;
    }
    let mut pass = Pass { batches: Batches::new(source, device)?, ended, filtered };
    pass.run(&mut at_work, options, observer)?;
    Ok(all_of(pass.ended))
}

/// How all runs ended.
fn all_of(ended: Vec<Option<Result<RunSummary>>>) -> Vec<Result<RunSummary>> {
    let untold = || Err(Error::Data(sae_data::Error::Stopped));
    ended.into_iter().map(|end| end.unwrap_or_else(untold)).collect()
}

/// A pass over a stream.
struct Pass {
    batches: Batches,
    /// How each run ended.
    ended: Vec<Option<Result<RunSummary>>>,
    filtered: Vec<Filtered>,
}

impl Pass {
    /// Gives each run its batches until all of them have ended.
    fn run(
        &mut self,
        at_work: &mut Vec<(usize, Run<'_>)>,
        options: &RunOptions<'_>,
        observer: &mut Observer<'_>,
    ) -> Result<()> {
        let mut step = at_work.iter().map(|(_, run)| run.steps_done()).min().unwrap_or(0);
        self.drop_ended(at_work);
        while !at_work.is_empty() {
            if options.stop.load(Ordering::Relaxed) {
                self.interrupt(at_work);
                return Ok(());
            }
            let clock = Instant::now();
            let Some((_, first)) = at_work.first() else { break };
            let batch = fault::named(first.config(), step, || self.batches.next())?;
            let next = self.batches.position();
            let n_steps = at_work.iter().filter(|(_, run)| run.steps_done() == step).count();
            let reading = clock.elapsed() / u32::try_from(n_steps).unwrap_or(u32::MAX).max(1);
            for (index, run) in at_work.iter_mut().filter(|(_, run)| run.steps_done() == step) {
                let observer = &mut |now: &Progress<'_>| observer(*index, now);
                let config = run.config().clone();
                let taken = fault::named(&config, step, || {
                    run.step(batch.as_ref(), &next, reading, &self.filtered, observer)
                });
                self.ended[*index] = taken.err().map(Err);
            }
            step += 1;
            self.drop_ended(at_work);
            // Those that were ahead, and now go on.
            for (index, run) in at_work.iter().filter(|(_, run)| run.is_as_resumed()) {
                if run.steps_done() == step {
                    self.ended[*index] = run.check_position(&next).err().map(Err);
                }
            }
            self.drop_ended(at_work);
        }
        Ok(())
    }

    /// Writes the models of the runs that are done, and lets go of those that have failed.
    fn drop_ended(&mut self, at_work: &mut Vec<(usize, Run<'_>)>) {
        let next = self.batches.position();
        let is_over =
            |(index, run): &mut (usize, Run<'_>)| self.ended[*index].is_some() || run.is_done();
        let over: Vec<_> = at_work.extract_if(.., is_over).collect();
        for (index, run) in over {
            if self.ended[index].is_none() {
                self.ended[index] = Some(run.finish(&next));
            }
        }
    }

    /// Saves the work of all runs; those that wait for the stream have theirs on disk.
    fn interrupt(&mut self, at_work: &mut Vec<(usize, Run<'_>)>) {
        let next = self.batches.position();
        for (index, run) in at_work.drain(..) {
            self.ended[index] = Some(Err(run.interrupt(&next)));
        }
    }
}
