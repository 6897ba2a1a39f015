//! The folder of a run before its training: what an earlier one has left there.

use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, RunConfig, difference};
use sae_data::{BatchSource, OutputLock, remove_unfinished};
use sae_models::{checkpoint_hash, checkpoint_origin, load_checkpoint};
use tch::Device;

use super::{
    CHECKPOINT_FOLDER, CONFIG_FILE, METRICS_FILE, RunSummary, TIMING_FILE, TRAINING_FOLDER, named,
};
use crate::checkpoints::{Checkpoints, check_init};
use crate::metrics::read_metrics;
use crate::prolong::{OF_LENGTH, checked_after, difference_before, refusal};
use crate::{Error, Result};

/// A run whose folder is locked and looked through.
pub(super) struct RunFolder<'a> {
    pub(super) written: &'a RunConfig,
    pub(super) config: CheckedRun,
    pub(super) out: &'a Path,
    pub(super) checkpoint: PathBuf,
    pub(super) states: Checkpoints,
    /// Hash of the checkpoint that the run starts from.
    pub(super) init: Option<String>,
    /// Steps of the run that has ended in the folder, where one has.
    pub(super) ended: Option<u64>,
    /// Whether that is the run itself.
    pub(super) is_finished: bool,
    _lock: OutputLock,
}

impl<'a> RunFolder<'a> {
    /// Locks the folder, and refuses what cannot be gone on with there.
    pub(super) fn open(
        written: &'a RunConfig,
        config: CheckedRun,
        out: &'a Path,
        resume: bool,
    ) -> Result<Self> {
        let _lock = OutputLock::directory(out)?;
        for file in [CONFIG_FILE, TIMING_FILE] {
            remove_unfinished(out, |name| name == file)?;
        }
        let checkpoint = out.join(CHECKPOINT_FOLDER);
        let states = Checkpoints::new(out.join(TRAINING_FOLDER));
        if !resume && (checkpoint.exists() || states.any()?) {
            return Err(Error::Exists { path: out.into() });
        }
        let init = config.training.init.as_deref().map(checkpoint_hash).transpose()?;
        let ended = checkpoint.exists().then(|| ended_after(out)).transpose()?;
        let is_finished = match ended {
            Some(steps) => is_finished(written, init.as_deref(), steps, out, &checkpoint)?,
            None => false,
        };
        if let Some(steps) = ended.filter(|_| !is_finished)
            && !states.any()?
        {
            let theirs = RunConfig::read(&out.join(CONFIG_FILE))?.check()?;
            let ours = checked_after(written, &theirs)?;
            let because = "training.decay_start";
            return Err(refusal(out.into(), (&ours, &theirs), steps, steps, because));
        }
        Ok(Self { written, config, out, checkpoint, states, init, ended, is_finished, _lock })
    }

    /// Checks that the model of the run, which has ended, is whole and of these activations.
    pub(super) fn finished(self, source: &dyn BatchSource) -> Result<RunSummary> {
        let model = load_checkpoint(&self.checkpoint, Device::Cpu)?;
        if let Some(got) = model.trained_on.data_hash.clone() {
            let hash = source.identity()?;
            if hash != got {
                let what = named(&self.config.data);
                let expected = format!("activations of hash {hash}");
                return Err(Error::OtherRun { path: self.checkpoint, what, expected, got });
            }
        }
        // A kill just before the end may have left more of them.
        self.states.end(&self.config)?;
        let (steps, seconds, resumed_at) = (self.config.training.steps, 0.0, None);
        let (checkpoint, last, profile) = (self.checkpoint, None, None);
        Ok(RunSummary { checkpoint, steps, seconds, last, profile, resumed_at })
    }
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
