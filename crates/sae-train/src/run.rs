//! Whole runs: from their configurations and a stream of activations to models on disk.

mod folder;
mod together;
mod training;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use sae_config::{DataConfig, RunConfig};

use crate::data::{Filtered, Open};
use crate::metrics::MetricsLine;
use crate::{Profile, Result, StepReport};

pub use together::train_runs;

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
    /// Once true, the run writes a checkpoint and returns [`crate::Error::Interrupted`].
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
    /// Seconds trained, those before a resumption included; 0 where nothing was left to do. Where
    /// several runs read one stream, each counts its own steps and its share of the reading.
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
    let mut ended =
        train_runs(&[(config, out)], options, &mut |_, now: &Progress<'_>| observer(now))?;
    ended.remove(0)
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
