//! A whole run: from its configuration and a store to a model on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use sae_config::{Normalization, Parity, RunConfig};
use sae_data::{ActivationStore, Loader, LoaderConfig, OutputLock, Statistics};
use sae_models::{Normalizer, save_checkpoint};
use tch::{Device, Kind, Tensor};

use crate::checkpoints::{Checkpoints, Position, difference, write_folder};
use crate::data::{Filtered, open_data};
use crate::metrics::{MetricsLine, MetricsLog};
use crate::plan::check_memory;
use crate::trainer::device;
use crate::{Error, Profile, Result, StepReport, Trainer};

/// Folder of the trained model in a run's folder.
pub const CHECKPOINT_FOLDER: &str = "checkpoint";
/// File of the metrics log in a run's folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// File of the resolved configuration in a run's folder.
pub const CONFIG_FILE: &str = "run.toml";
/// Folder of the training states in a run's folder, there while the run lasts.
const TRAINING_FOLDER: &str = "training";

/// How a run is started and stopped.
#[derive(Debug, Clone, Copy)]
pub struct RunOptions<'a> {
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
}

/// Trains `config` and leaves in the folder `out` the resolved configuration, the metrics log, its
/// TensorBoard events and the model.
///
/// # Errors
/// Data or a folder that cannot be used, or that another process is writing to; a state of another
/// run; a loss that is not finite; an interruption.
pub fn train_run(
    config: &RunConfig,
    out: &Path,
    options: &RunOptions<'_>,
    observer: &mut dyn FnMut(&Progress<'_>),
) -> Result<RunSummary> {
    let config = config.clone().resolve()?;
    let _lock = OutputLock::directory(out)?;
    let checkpoint = out.join(CHECKPOINT_FOLDER);
    let states = Checkpoints::new(out.join(TRAINING_FOLDER));
    if !options.resume && (checkpoint.exists() || states.any()?) {
        return Err(Error::Exists { path: out.into() });
    }
    if checkpoint.exists() {
        let summary = finished(&config, out, checkpoint)?;
        // Left by a kill between the last two steps of a run.
        states.clear()?;
        return Ok(summary);
    }
    let (store, filtered) = open_data(&config.data)?;
    check_memory(&config, store.d_model())?;
    let mut run = Run::start(&config, out, store, states)?;
    sae_config::write_toml(&out.join(CONFIG_FILE), &config)?;
    let last = run.train(options.stop, &filtered, observer)?;
    write_folder(&checkpoint, |folder| Ok(save_checkpoint(run.trainer.sae(), folder)?))?;
    run.states.clear()?;
    let profile = run.trainer.profile().cloned();
    let (steps, seconds) = (config.training.steps, run.seconds());
    Ok(RunSummary { checkpoint, steps, seconds, last, profile })
}

/// The summary of a run that had ended before, if it is the same run.
fn finished(config: &RunConfig, out: &Path, checkpoint: PathBuf) -> Result<RunSummary> {
    let path = out.join(CONFIG_FILE);
    let theirs = RunConfig::read(&path)?;
    if let Some((what, expected, got)) = difference(config, &theirs) {
        return Err(Error::OtherRun { path, what, expected, got });
    }
    let steps = config.training.steps;
    Ok(RunSummary { checkpoint, steps, seconds: 0.0, last: None, profile: None })
}

/// The normalisation of a configuration, with constants measured on the whole store.
///
/// With `parity = "official"` shift_scale divides by √E‖x‖², as the published code does.
fn normalizer(config: &RunConfig, store: &dyn ActivationStore) -> Result<Normalizer> {
    let root = |mean_square: f64| {
        if mean_square > 0.0 {
            Ok(mean_square.sqrt())
        } else {
            let store = store.locate(0).0;
            Err(Error::NothingToScale { store, got: mean_square })
        }
    };
    Ok(match config.sae.normalization {
        Normalization::None => Normalizer::None,
        Normalization::Scale => {
            Normalizer::Scale { scale: root(Statistics::cached(store)?.mean_squared_norm)? }
        }
        Normalization::ShiftScale => {
            let statistics = Statistics::cached(store)?;
            let mean_square = match config.training.parity {
                Parity::Official => statistics.mean_squared_norm,
                Parity::None => statistics.mean_squared_centred_norm,
            };
            let shift = Tensor::from_slice(&statistics.mean).to_kind(Kind::Float);
            Normalizer::ShiftScale { shift, scale: root(mean_square)? }
        }
        Normalization::UnitNorm => Normalizer::UnitNorm,
        Normalization::LayerNorm => Normalizer::LayerNorm,
    })
}

/// A run under way.
struct Run {
    trainer: Trainer,
    loader: Loader,
    states: Checkpoints,
    log: MetricsLog,
    data: String,
    started: Instant,
    seconds_before: f64,
}

impl Run {
    fn start(
        config: &RunConfig,
        out: &Path,
        store: Arc<dyn ActivationStore>,
        states: Checkpoints,
    ) -> Result<Self> {
        let data = store.content_hash()?;
        let training = &config.training;
        let loader_config = LoaderConfig {
            batch_size: training.batch_size,
            seed: training.seed,
            ..LoaderConfig::default()
        };
        let (trainer, loader, seconds_before) =
            match states.resume(config, &data, device(&training.device)?)? {
                Some((trainer, position)) => {
                    let loader = Loader::resume(store, loader_config, &position.loader)?;
                    (trainer, loader, position.seconds)
                }
                None => {
                    let normalizer = normalizer(config, &*store)?;
                    let d_model = store.d_model();
                    let trainer = Trainer::new(config.clone(), d_model, &normalizer, Kind::Float)?;
                    (trainer, Loader::new(store, loader_config)?, 0.0)
                }
            };
        let log = MetricsLog::open(&out.join(METRICS_FILE), trainer.steps_done())?;
        Ok(Self { trainer, loader, states, log, data, started: Instant::now(), seconds_before })
    }

    fn train(
        &mut self,
        stop: &AtomicBool,
        filtered: &[Filtered],
        observer: &mut dyn FnMut(&Progress<'_>),
    ) -> Result<Option<StepReport>> {
        let training = self.trainer.config().training.clone();
        let shape = [training.batch_size as i64, self.loader.d_model() as i64];
        let (mut since, mut rows) = (Instant::now(), 0);
        let mut last = None;
        while self.trainer.steps_done() < training.steps {
            if stop.load(Ordering::Relaxed) {
                self.save(training.keep_checkpoints)?;
                let step = self.trainer.steps_done();
                return Err(Error::Interrupted { step, steps: training.steps });
            }
            let mut x = Tensor::empty(shape, (Kind::Float, Device::Cpu));
            self.loader.next_batch(tch_autograd::view_mut(&mut x)?)?;
            let taken = self.trainer.step(&x)?;
            let step = self.trainer.steps_done();
            rows += training.batch_size;

            let mut line = None;
            if step == training.steps || (step - 1).is_multiple_of(training.log_every) {
                let rows_per_second = rows as f64 / since.elapsed().as_secs_f64();
                (since, rows) = (Instant::now(), 0);
                let report = taken.report()?;
                let logged = line.insert(MetricsLine { report, rows_per_second });
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
        let loader = self.loader.position();
        let position = Position { data: self.data.clone(), loader, seconds: self.seconds() };
        self.states.save(&self.trainer, &position, keep)
    }

    fn seconds(&self) -> f64 {
        self.seconds_before + self.started.elapsed().as_secs_f64()
    }
}
