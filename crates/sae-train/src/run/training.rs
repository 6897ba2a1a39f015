//! A run under way.

use std::time::{Duration, Instant};

use sae_config::{CheckedRun, Timing};
use sae_data::{BatchSource, Ports, StreamPosition};
use sae_models::{TrainedOn, save_checkpoint};
use tch::{Device, Tensor};

use super::folder::RunFolder;
use super::{CHECKPOINT_FOLDER, CONFIG_FILE, METRICS_FILE, Progress, RunSummary, TIMING_FILE};
use crate::checkpoints::{Position, move_folder, write_folder};
use crate::data::Filtered;
use crate::metrics::{MetricsLine, MetricsLog};
use crate::prolong::free_of_length;
use crate::start::{new_trainer, origins};
use crate::{Error, Result, StepReport, Trainer};

/// A run under way.
pub(super) struct Run<'a> {
    folder: RunFolder<'a>,
    trainer: Trainer,
    log: MetricsLog,
    /// Identity of what it is trained on.
    data: String,
    /// The steps of the state that it goes on from, and where its next batch begins.
    resumed: Option<(u64, StreamPosition)>,
    seconds: f64,
    /// Of the log: seconds at its last line, and rows since.
    logged: (f64, usize),
    last: Option<StepReport>,
}

impl<'a> Run<'a> {
    /// Goes on from the newest state in the folder, or begins; `source` is where its stream begins.
    pub(super) fn start(
        folder: RunFolder<'a>,
        source: &mut dyn BatchSource,
        device: Device,
    ) -> Result<Self> {
        let data = source.identity()?;
        let RunFolder { written, out, states, .. } = &folder;
        let init = folder.init.as_deref();
        let (trainer, resumed, seconds) = match states.resume(written, &data, init, device)? {
            Some((trainer, position)) => {
                let resumed = (trainer.steps_done(), position.stream);
                (trainer, Some(resumed), position.seconds)
            }
            None => {
                let origin = origins(source.ports())?;
                let mut trainer = new_trainer(&folder.config, source)?;
                let (data_hash, init) = (Some(data.clone()), init.map(str::to_owned));
                trainer.set_origin(TrainedOn { data_hash, init, ..origin });
                (trainer, None, 0.0)
            }
        };
        let log = MetricsLog::open(&out.join(METRICS_FILE), trainer.steps_done())?;
        if let Some(steps) = folder.ended {
            // The model of another length stays, under another name.
            let place = out.join(format!("{CHECKPOINT_FOLDER}-{steps}"));
            move_folder(&folder.checkpoint, &place)?;
        }
        states.drop_after(trainer.steps_done())?;
        sae_config::write_toml(&out.join(CONFIG_FILE), trainer.config().settings())?;
        let (logged, last) = ((seconds, 0), None);
        Ok(Self { folder, trainer, log, data, resumed, seconds, logged, last })
    }

    pub(super) fn config(&self) -> &CheckedRun {
        self.trainer.config()
    }

    pub(super) fn steps_done(&self) -> u64 {
        self.trainer.steps_done()
    }

    pub(super) fn is_done(&self) -> bool {
        self.steps_done() >= self.config().training.steps
    }

    /// Whether it stands where the state that it went on from has it.
    pub(super) fn is_as_resumed(&self) -> bool {
        self.resumed.as_ref().is_some_and(|(step, _)| *step == self.steps_done())
    }

    /// Where its first batch begins, if it goes on from a state.
    pub(super) fn resumed(&self) -> Option<&StreamPosition> {
        self.resumed.as_ref().map(|(_, stream)| stream)
    }

    /// Refuses a stream that after the steps of the state stands elsewhere than the state says.
    pub(super) fn check_position(&self, stream: &StreamPosition) -> Result<()> {
        match &self.resumed {
            Some((step @ 1.., expected)) if expected != stream => {
                let told = |place| serde_json::to_string(place).unwrap_or_default();
                let field = format!("place of the stream after {step} steps");
                let (expected, got) = (told(expected), told(stream));
                Err(sae_data::Error::Value { field, expected, got }.into())
            }
            _ => Ok(()),
        }
    }

    /// Takes a step on a batch that took `reading`; `next` is where the batch after it begins.
    pub(super) fn step(
        &mut self,
        batch: Ports<&Tensor>,
        next: &StreamPosition,
        reading: Duration,
        filtered: &[Filtered],
        observer: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<()> {
        let clock = Instant::now();
        let training = self.config().training.clone();
        let taken = self.trainer.step_on(batch)?;
        let step = self.trainer.steps_done();
        self.logged.1 += training.batch_size;

        let mut line = None;
        if step == training.steps || (step - 1).is_multiple_of(training.log_every) {
            let report = taken.report()?;
            let now = self.seconds + (reading + clock.elapsed()).as_secs_f64();
            let (since, rows) = std::mem::replace(&mut self.logged, (now, 0));
            let rows_per_second = rows as f64 / (now - since);
            let (epoch, skipped) = (next.epoch(), next.skipped().filter(|n| *n > 0));
            let logged = line.insert(MetricsLine { report, epoch, skipped, rows_per_second });
            self.log.write(logged)?;
            self.last = Some(logged.report.clone());
        }
        let due = training.checkpoint_every > 0 && step.is_multiple_of(training.checkpoint_every);
        if due && step < training.steps {
            taken.report()?;
        }
        self.seconds += (reading + clock.elapsed()).as_secs_f64();
        if due && step < training.steps {
            self.save(next)?;
        }
        let logged = line.as_ref();
        observer(&Progress { step, steps: training.steps, logged, filtered });
        Ok(())
    }

    /// Writes a state; `next` is where the next batch begins.
    pub(super) fn save(&self, next: &StreamPosition) -> Result<()> {
        let (data, stream) = (self.data.clone(), next.clone());
        let position = Position { data, stream, seconds: self.seconds };
        self.folder.states.save(&self.trainer, &position, self.config().training.keep_checkpoints)
    }

    /// Saves its work; gives the error of a run that was asked to stop.
    pub(super) fn interrupt(self, next: &StreamPosition) -> Error {
        let (step, steps) = (self.steps_done(), self.config().training.steps);
        // What it has done is on disk if it is as it was.
        let saved = if self.is_as_resumed() { Ok(()) } else { self.save(next) };
        saved.map_or_else(|error| error, |()| Error::Interrupted { step, steps })
    }

    /// Writes the model.
    pub(super) fn finish(self, next: &StreamPosition) -> Result<RunSummary> {
        let config = self.trainer.config();
        let keeps_last = free_of_length(config) == config.training.steps;
        if keeps_last && config.training.checkpoint_every > 0 && !self.is_as_resumed() {
            self.save(next)?;
        }
        let (steps, seconds) = (config.training.steps, self.seconds);
        let RunFolder { out, checkpoint, states, .. } = &self.folder;
        sae_config::write_json(&out.join(TIMING_FILE), &Timing { train_seconds: seconds })?;
        write_folder(checkpoint, |folder| Ok(save_checkpoint(self.trainer.sae(), folder)?))?;
        states.end(config)?;
        let profile = self.trainer.profile().cloned();
        let resumed_at = self.resumed.map(|(step, _)| step).filter(|step| *step > 0);
        let (checkpoint, last) = (checkpoint.clone(), self.last);
        Ok(RunSummary { checkpoint, steps, seconds, last, profile, resumed_at })
    }
}
