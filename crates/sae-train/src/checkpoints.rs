//! The training states of a run on disk: whole or not there, the newest few kept.

use std::fs;
use std::path::{Path, PathBuf};

use sae_config::RunConfig;
use sae_data::LoaderPosition;
use serde::{Deserialize, Serialize};
use tch::Device;

use crate::{Error, Result, Trainer};

const POSITION_FILE: &str = "position.json";
const PARTIAL: &str = ".partial";

/// Where a run stood beside what its trainer knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// Hash of the activations.
    pub(crate) data: String,
    pub(crate) loader: LoaderPosition,
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

    /// Writes a state and drops those that are older than the newest `keep`.
    pub(crate) fn save(&self, trainer: &Trainer, position: &Position, keep: usize) -> Result<()> {
        let target = self.folder.join(format!("step-{:010}", trainer.steps_done()));
        write_folder(&target, |folder| {
            trainer.save(folder)?;
            Ok(sae_config::write_json(&folder.join(POSITION_FILE), position)?)
        })?;
        let states = self.states()?;
        for old in &states[..states.len().saturating_sub(keep)] {
            fs::remove_dir_all(old).map_err(|e| io(old, e))?;
        }
        Ok(())
    }

    /// The newest state, if there is one that `config` and the data of hash `data` may go on from.
    pub(crate) fn resume(
        &self,
        config: &RunConfig,
        data: &str,
        device: Device,
    ) -> Result<Option<(Trainer, Position)>> {
        let Some(newest) = self.states()?.pop() else { return Ok(None) };
        let trainer = Trainer::load(&newest, device)?;
        let position: Position = sae_config::read_json(&newest.join(POSITION_FILE))?;
        if let Some((what, expected, got)) = difference(config, trainer.config()) {
            return Err(Error::OtherRun { path: newest, what, expected, got });
        }
        if position.data != data {
            let (what, expected) = ("data.store".into(), format!("activations of hash {data}"));
            return Err(Error::OtherRun { path: newest, what, expected, got: position.data });
        }
        Ok(Some((trainer, position)))
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

    /// The states, the oldest first.
    fn states(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            other => other.map_err(|e| io(&self.folder, e))?,
        };
        let mut states = Vec::new();
        for entry in entries {
            let path = entry.map_err(|e| io(&self.folder, e))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("step-") && !name.ends_with(PARTIAL) {
                states.push(path);
            }
        }
        states.sort();
        Ok(states)
    }
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

fn sync(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|f| f.sync_all()).map_err(|e| io(folder, e))
}

/// The first setting that differs and shapes the training: its key, ours and theirs.
pub(crate) fn difference(ours: &RunConfig, theirs: &RunConfig) -> Option<(String, String, String)> {
    let (ours, theirs) = (settings(ours), settings(theirs));
    let keys = ours.iter().chain(&theirs).map(|(key, _)| key);
    let value = |all: &[(String, String)], key: &str| {
        let found = all.iter().find(|(k, _)| k == key);
        found.map_or_else(|| "nothing".to_string(), |(_, value)| value.clone())
    };
    keys.map(|key| (key.clone(), value(&ours, key), value(&theirs, key))).find(|(_, a, b)| a != b)
}

/// Keys that change nothing in the weights: where the data lie (their hash counts), and the
/// bookkeeping.
const FREE: [&str; 5] = [
    "data.store",
    "data.rows",
    "training.log_every",
    "training.checkpoint_every",
    "training.keep_checkpoints",
];

fn is_free(key: &str) -> bool {
    FREE.contains(&key) || (key.starts_with("data.stores[") && key.ends_with("].path"))
}

fn settings(config: &RunConfig) -> Vec<(String, String)> {
    let mut all = Vec::new();
    flatten("", &serde_json::to_value(config).unwrap_or_default(), &mut all);
    all.retain(|(key, _)| !is_free(key));
    all
}

fn flatten(key: &str, value: &serde_json::Value, all: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(map) => {
            for (name, value) in map {
                let dot = if key.is_empty() { "" } else { "." };
                flatten(&format!("{key}{dot}{name}"), value, all);
            }
        }
        serde_json::Value::Array(items) if items.iter().any(serde_json::Value::is_object) => {
            for (i, item) in items.iter().enumerate() {
                flatten(&format!("{key}[{i}]"), item, all);
            }
        }
        _ => all.push((key.into(), value.to_string())),
    }
}

fn io(path: &Path, source: std::io::Error) -> Error {
    Error::Io { path: path.into(), source }
}
