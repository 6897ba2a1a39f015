//! A whole run: from its configuration and a store to a model on disk.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sae_config::{CheckedRun, DataConfig, RunConfig, Timing, difference};
use sae_data::{BatchSource, OutputLock, remove_unfinished};
use sae_models::{TrainedOn, checkpoint_hash, checkpoint_origin, load_checkpoint, save_checkpoint};
use tch::Device;

use crate::batches::Batches;
use crate::checkpoints::{Checkpoints, Position, check_init, move_folder, write_folder};
use crate::data::{Filtered, Open, Opened};
use crate::device::run_device;
use crate::fault;
use crate::metrics::{MetricsLine, MetricsLog, read_metrics};
use crate::plan::check_memory;
use crate::prolong::{OF_LENGTH, checked_after, difference_before, free_of_length, refusal};
use crate::start::{new_trainer, origins};
use crate::{Error, Profile, Result, StepReport, Trainer};

/// Folder of the trained model in a run's folder.
pub const CHECKPOINT_FOLDER: &str = "checkpoint";
/// File of the metrics log in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// File of the seconds trained in a run's folder.
const TIMING_FILE: &str = "timing.json";
/// File of the resolved configuration in a run's folder.
pub const CONFIG_FILE: &str = "run.toml";
/// Folder of the training states in a run's folder; of a run that has ended, the newest that a
/// longer run can go on from.
pub const TRAINING_FOLDER: &str = "training";

/// How a run is started and stopped.
#[derive(Clone, Copy)]
pub struct RunOptions<'a> {
    /// Opens what the run trains on: [`crate::open_stores`] where that are stores.
    pub open: &'a Open<'a>,
    /// Goes on where the folder's training stopped, or starts if there is none.
    pub resume: bool,
    /// Once true, the run writes a checkpoint and returns [`Error::Interrupted`].
    pub stop: &'a AtomicBool,
}

/// How far a run is; an observer gets it after each step.
#[derive(Debug)]
pub struct Progress<'a> {
    /// Steps done.
    pub step: u64,
    /// Steps of the run.
    pub steps: u64,
    /// What was logged, where this step was.
    pub logged: Option<&'a MetricsLine>,
    /// What the filters of the data kept.
    pub filtered: &'a [Filtered],
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// Folder of the trained model.
    pub checkpoint: PathBuf,
    /// Steps of the run.
    pub steps: u64,
    /// Seconds trained, those before a resumption included; 0 where nothing was left to do.
    pub seconds: f64,
    /// The last step, where one was taken.
    pub last: Option<StepReport>,
    /// Where the time of the steps went, where the engine measures it.
    pub profile: Option<Profile>,
    /// Steps that an earlier training had done, where this one went on from it.
    pub resumed_at: Option<u64>,
}

/// Trains `config` and leaves in the folder `out` the resolved configuration, the metrics log, its
/// TensorBoard events and the model. The model of a run that is made longer or shorter is kept as
/// `checkpoint-STEPS`.
///
/// # Errors
/// Data or a folder that cannot be used, or that another process is writing to; a state of another
/// run; a loss that is not finite; memory that runs out, a device that fails; an interruption.
pub fn train_run(
    config: &RunConfig,
    out: &Path,
    options: &RunOptions<'_>,
    observer: &mut dyn FnMut(&Progress<'_>),
) -> Result<RunSummary> {
    let checked = config.check()?;
    fault::named(&checked, observer, |observer| {
        train_to_the_end(config, &checked, out, options, observer)
    })
}

fn train_to_the_end(
    written: &RunConfig,
    config: &CheckedRun,
    out: &Path,
    options: &RunOptions<'_>,
    observer: &mut dyn FnMut(&Progress<'_>),
) -> Result<RunSummary> {
    let _lock = OutputLock::directory(out)?;
    for file in [CONFIG_FILE, TIMING_FILE] {
        remove_unfinished(out, |name| name == file)?;
    }
    let checkpoint = out.join(CHECKPOINT_FOLDER);
    let states = Checkpoints::new(out.join(TRAINING_FOLDER));
    if !options.resume && (checkpoint.exists() || states.any()?) {
        return Err(Error::Exists { path: out.into() });
    }
    let init = config.training.init.as_deref().map(checkpoint_hash).transpose()?;
    let init = init.as_deref();
    let ended = checkpoint.exists().then(|| ended_after(out)).transpose()?;
    if let Some(steps) = ended {
        let same_length = is_finished(written, init, steps, out, &checkpoint)?;
        if same_length {
            check_ended(config, &checkpoint, options.open)?;
            // A kill just before the end may have left more of them.
            states.end(config)?;
            let (seconds, resumed_at) = (0.0, None);
            let (last, profile) = (None, None);
            return Ok(RunSummary { checkpoint, steps, seconds, last, profile, resumed_at });
        }
        if !states.any()? {
            let theirs = RunConfig::read(&out.join(CONFIG_FILE))?.check()?;
            let ours = checked_after(written, &theirs)?;
            let because = "training.decay_start";
            return Err(refusal(out.into(), (&ours, &theirs), steps, steps, because));
        }
    }
    let Opened { source, filtered, .. } = (options.open)(config)?;
    check_memory(config, source.ports().as_ref().map(|port| port.dimension))?;
    let mut run = Run::start(written, out, source, states, init)?;
    let config = run.trainer.config().clone();
    let resumed_at = Some(run.trainer.steps_done()).filter(|step| *step > 0);
    if let Some(steps) = ended {
        // The model of another length stays, under another name.
        let place = out.join(format!("{CHECKPOINT_FOLDER}-{steps}"));
        move_folder(&checkpoint, &place)?;
    }
    run.states.drop_after(run.trainer.steps_done())?;
    sae_config::write_toml(&out.join(CONFIG_FILE), config.settings())?;
    let last = run.train(options.stop, &filtered, observer)?;
    let keeps_last = free_of_length(&config) == config.training.steps;
    if keeps_last && config.training.checkpoint_every > 0 {
        run.save(config.training.keep_checkpoints)?;
    }
    let (steps, seconds) = (config.training.steps, run.seconds());
    sae_config::write_json(&out.join(TIMING_FILE), &Timing { train_seconds: seconds })?;
    write_folder(&checkpoint, |folder| Ok(save_checkpoint(run.trainer.sae(), folder)?))?;
    run.states.end(&config)?;
    let profile = run.trainer.profile().cloned();
    Ok(RunSummary { checkpoint, steps, seconds, last, profile, resumed_at })
}

/// Checks that the model of a run that has ended is whole, and of the data that `config` names.
fn check_ended(config: &CheckedRun, checkpoint: &Path, open: &Open<'_>) -> Result<()> {
    let model = load_checkpoint(checkpoint, Device::Cpu)?;
    let Some(got) = model.trained_on.data_hash.clone() else { return Ok(()) };
    let hash = open(config)?.source.identity()?;
    if hash == got {
        return Ok(());
    }
    let (what, expected) = (named(&config.data), format!("activations of hash {hash}"));
    Err(Error::OtherRun { path: checkpoint.into(), what, expected, got })
}

/// The keys that name the activations of a run.
pub(crate) fn named(data: &DataConfig) -> String {
    let keys = match data.target {
        _ if data.live.is_some() => "data.host, data.corpus",
        Some(_) => "data.store, data.target",
        None => "data.store",
    };
    keys.into()
}

/// Steps of the run that has ended in the folder: the last one is always logged. Its run.toml, which
/// may have been edited since, tells where the log is gone.
fn ended_after(out: &Path) -> Result<u64> {
    let log = out.join(METRICS_FILE);
    if !log.exists() {
        return Ok(RunConfig::read(&out.join(CONFIG_FILE))?.training.steps);
    }
    Ok(read_metrics(&log)?.last().map_or(0, |line| line.report.step + 1))
}

/// Whether the run that has ended in the folder, after `steps`, is `written` itself; a run of
/// another length is not.
fn is_finished(
    written: &RunConfig,
    init: Option<&str>,
    steps: u64,
    out: &Path,
    checkpoint: &Path,
) -> Result<bool> {
    let path = out.join(CONFIG_FILE);
    let theirs = RunConfig::read(&path)?.check()?;
    let ours = checked_after(written, &theirs)?;
    if let Some((what, expected, got)) = difference(&ours, &theirs, &OF_LENGTH) {
        return Err(Error::OtherRun { path, what, expected, got });
    }
    check_init(checkpoint, init, checkpoint_origin(checkpoint)?.init.as_deref())?;
    Ok(steps == ours.training.steps && difference_before(steps, &ours, &theirs).is_none())
}

/// A run under way.
struct Run {
    trainer: Trainer,
    batches: Batches,
    states: Checkpoints,
    log: MetricsLog,
    data: String,
    started: Instant,
    seconds_before: f64,
}

impl Run {
    fn start(
        written: &RunConfig,
        out: &Path,
        mut source: Box<dyn BatchSource>,
        states: Checkpoints,
        init: Option<&str>,
    ) -> Result<Self> {
        let data = source.identity()?;
        let config = &written.check()?;
        let device = run_device(config)?;
        let (trainer, seconds_before) = match states.resume(written, &data, init, device)? {
            Some((trainer, position)) => {
                source.resume(&position.stream)?;
                (trainer, position.seconds)
            }
            None => {
                let origin = origins(source.ports())?;
                let mut trainer = new_trainer(config, source.as_mut())?;
                let (data_hash, init) = (Some(data.clone()), init.map(str::to_owned));
                trainer.set_origin(TrainedOn { data_hash, init, ..origin });
                (trainer, 0.0)
            }
        };
        let log = MetricsLog::open(&out.join(METRICS_FILE), trainer.steps_done())?;
        let batches = Batches::new(source, device)?;
        Ok(Self { trainer, batches, states, log, data, started: Instant::now(), seconds_before })
    }

    fn train(
        &mut self,
        stop: &AtomicBool,
        filtered: &[Filtered],
        observer: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Option<StepReport>> {
        let training = self.trainer.config().training.clone();
        let (mut since, mut rows) = (Instant::now(), 0);
        let mut last = None;
        while self.trainer.steps_done() < training.steps {
            if stop.load(Ordering::Relaxed) {
                self.save(training.keep_checkpoints)?;
                let step = self.trainer.steps_done();
                return Err(Error::Interrupted { step, steps: training.steps });
            }
            let taken = self.trainer.step_on(self.batches.next()?.as_ref())?;
            let step = self.trainer.steps_done();
            rows += training.batch_size;

            let mut line = None;
            if step == training.steps || (step - 1).is_multiple_of(training.log_every) {
                let rows_per_second = rows as f64 / since.elapsed().as_secs_f64();
                (since, rows) = (Instant::now(), 0);
                let (report, place) = (taken.report()?, self.batches.position());
                let (epoch, skipped) = (place.epoch(), place.skipped().filter(|n| *n > 0));
                let logged = line.insert(MetricsLine { report, epoch, skipped, rows_per_second });
                self.log.write(logged)?;
                last = Some(logged.report.clone());
            }
            let due =
                training.checkpoint_every > 0 && step.is_multiple_of(training.checkpoint_every);
            if due && step < training.steps {
                taken.report()?;
                self.save(training.keep_checkpoints)?;
            }
            let logged = line.as_ref();
            observer(&Progress { step, steps: training.steps, logged, filtered });
        }
        Ok(last)
    }

    fn save(&self, keep: usize) -> Result<()> {
        let stream = self.batches.position();
        let position = Position { data: self.data.clone(), stream, seconds: self.seconds() };
        self.states.save(&self.trainer, &position, keep)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }
}
