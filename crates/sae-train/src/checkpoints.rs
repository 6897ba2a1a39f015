//! The training states of a run on disk: whole or not there, the newest few kept.

use std::fs;
use std::path::{Path, PathBuf};

use sae_config::{CheckedRun, RunConfig, difference};
use sae_data::StreamPosition;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::prolong::{OF_LENGTH, checked_after, difference_before, free_of_length, refusal};
use crate::run::named;
use crate::{Error, Result, Trainer};

const POSITION_FILE: &str = "position.json";
const PARTIAL: &str = ".partial";

/// Where a run stood beside what its trainer knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Position {
    /// Identity of the source of the batches.
    pub(crate) data: String,
    /// Where its next batch begins, under the name of its kind: `loader`, of stores.
    #[serde(flatten)]
    pub(crate) stream: StreamPosition,
    /// Seconds trained so far.
    pub(crate) seconds: f64,
}

/// The folder of a run's training states.
pub(crate) struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Writes a state and drops those that are older than the newest `keep`, but for the newest
    /// that a longer run can go on from.
    pub(crate) fn save(&self, trainer: &Trainer, position: &Position, keep: usize) -> Result<()> {
        let target = self.folder.join(format!("step-{:010}", trainer.steps_done()));
        write_folder(&target, |folder| {
            trainer.save(folder)?;
            Ok(sae_config::write_json(&folder.join(POSITION_FILE), position)?)
        })?;
        self.drop_old(keep, free_of_length(trainer.config()))
    }

    /// Leaves of a training that has ended the newest state that a longer run can go on from; none
    /// where the run is to write no checkpoints, whatever an interruption has left.
    pub(crate) fn end(&self, config: &CheckedRun) -> Result<()> {
        if config.training.checkpoint_every == 0 {
            return self.clear();
        }
        self.drop_old(0, free_of_length(config))?;
        if self.any()? { Ok(()) } else { self.clear() }
    }

    /// Drops all states but the newest `keep` and the newest of at most `spared` steps.
    fn drop_old(&self, keep: usize, spared: u64) -> Result<()> {
        let states = self.states()?;
        let spared = states.iter().rposition(|(step, _)| *step <= spared);
        for (i, (_, old)) in states[..states.len().saturating_sub(keep)].iter().enumerate() {
            if Some(i) != spared {
                remove(old)?;
            }
        }
        Ok(())
    }

    /// Drops the states after `step`, which a longer or shorter run did not go through.
    pub(crate) fn drop_after(&self, step: u64) -> Result<()> {
        let states = self.states()?;
        states.iter().filter(|(at, _)| *at > step).try_for_each(|(_, path)| remove(path))
    }

    /// The newest state that the run `written` may go on from; none where there is no state.
    ///
    /// `data` is the hash of the activations, `init` that of the model it starts from.
    pub(crate) fn resume(
        &self,
        written: &RunConfig,
        data: &str,
        init: Option<&str>,
        device: Device,
    ) -> Result<Option<(Trainer, Position)>> {
        let mut refused = None;
        for (step, state) in self.states()?.into_iter().rev() {
            let theirs = Trainer::saved_config(&state)?;
            let ours = checked_after(written, &theirs)?;
            let elsewhere = || {
                // A state is one of the device and the engine that computed it.
                let (ours, theirs) = (&ours.training.device, &theirs.training.device);
                (ours != theirs).then(|| ("training.device".into(), ours.clone(), theirs.clone()))
            };
            let different = difference(&ours, &theirs, &OF_LENGTH).or_else(elsewhere);
            if let Some((what, expected, got)) = different {
                return Err(Error::OtherRun { path: state, what, expected, got });
            }
            let steps = ours.training.steps;
            let different = match difference_before(step, &ours, &theirs) {
                _ if step > steps => Some("training.steps"),
                different => different,
            };
            if let Some(because) = different {
                let taken = theirs.training.steps;
                refused.get_or_insert(refusal(state, (&ours, &theirs), taken, step, because));
                continue;
            }
            let position: Position = sae_config::read_json(&state.join(POSITION_FILE))?;
            if position.data != data {
                let what = named(&ours.data);
                let expected = format!("activations of hash {data}");
                return Err(Error::OtherRun { path: state, what, expected, got: position.data });
            }
            let trainer = Trainer::load_for(&state, ours, device)?;
            check_init(&state, init, trainer.sae().trained_on.init.as_deref())?;
            return Ok(Some((trainer, position)));
        }
        refused.map_or(Ok(None), Err)
    }

    /// Whether there is a state.
    pub(crate) fn any(&self) -> Result<bool> {
        Ok(!self.states()?.is_empty())
    }

    /// Removes all states.
    pub(crate) fn clear(&self) -> Result<()> {
        match fs::remove_dir_all(&self.folder) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(io(&self.folder, e)),
            _ => Ok(()),
        }
    }

    /// The states and their steps, the oldest first.
    fn states(&self) -> Result<Vec<(u64, PathBuf)>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            other => other.map_err(|e| io(&self.folder, e))?,
        };
        let mut states = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| io(&self.folder, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if let Some(step) = name.strip_prefix("step-").and_then(|step| step.parse().ok()) {
                states.push((step, path));
            }
        }
        states.sort();
        Ok(states)
    }
}

/// Checks that a model in training started from the weights of hash `expected`.
pub(crate) fn check_init(path: &Path, expected: Option<&str>, got: Option<&str>) -> Result<()> {
    if got == expected {
        return Ok(());
    }
    let told = |hash: Option<&str>| {
        hash.map_or("no checkpoint".into(), |hash| format!("the checkpoint of hash {hash}"))
    };
    let (what, expected, got) = ("training.init".into(), told(expected), told(got));
    Err(Error::OtherRun { path: path.into(), what, expected, got })
}

/// Lets `fill` write a folder under another name, syncs it and renames it to `target`.
pub(crate) fn write_folder(target: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let mut partial = target.as_os_str().to_owned();
    partial.push(PARTIAL);
    let partial = PathBuf::from(partial);
    for stale in [&partial, &target.to_path_buf()] {
        if stale.exists() {
            fs::remove_dir_all(stale).map_err(|e| io(stale, e))?;
        }
    }
    fs::create_dir_all(&partial).map_err(|e| io(&partial, e))?;
    fill(&partial)?;
    sync(&partial)?;
    fs::rename(&partial, target).map_err(|e| io(target, e))?;
    target.parent().map_or(Ok(()), sync)
}

/// Renames a folder to `target`, which it replaces if it is there.
pub(crate) fn move_folder(folder: &Path, target: &Path) -> Result<()> {
    if target.exists() {
        remove(target)?;
    }
    fs::rename(folder, target).map_err(|e| io(target, e))?;
    target.parent().map_or(Ok(()), sync)
}

fn remove(folder: &Path) -> Result<()> {
    fs::remove_dir_all(folder).map_err(|e| io(folder, e))
}

fn sync(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(folder, e))
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.into(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_read_as_earlier_versions_wrote_them() {
        let text = r#"{
            "data": "3f",
            "loader": {
                "epoch": 2, "row": 56, "seed": 1, "world_size": 1, "rank": 0, "block_rows": 9,
                "window_rows": 99, "n_rows": 100, "d_model": 3
            },
            "seconds": 1.5
        }"#;
        let position: Position = serde_json::from_str(text).unwrap();
        let place: sae_data::LoaderPosition = position.stream.read("loader").unwrap();
        assert_eq!((place.epoch, place.row, place.d_model), (2, 56, 3));
        let (written, read) =
            (serde_json::to_value(&position), serde_json::from_str::<serde_json::Value>(text));
        assert_eq!(written.unwrap(), read.unwrap(), "and written as they were");
        for wrong in [text.replace("\"loader\"", "\"loader\": {}, \"other\""), "{}".into()] {
            assert!(serde_json::from_str::<Position>(&wrong).is_err(), "{wrong}");
        }
    }
}
