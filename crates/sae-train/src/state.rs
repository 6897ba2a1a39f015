//! All that a training step changes, and how it is kept on disk.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{CheckedRun, Recipe, RunConfig};
use sae_models::{
    CONFIG_FILE, Role, Sae, load_checkpoint, read_tensors_of_hash, save_checkpoint, write_tensors,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::dead::DeadFeatures;
use crate::optimizer::AdamState;
use crate::schedule::lr_factor;
use crate::{Error, Result};

const MANIFEST_FILE: &str = "trainer.json";
const TENSORS_FILE: &str = "trainer.safetensors";
const ROWS_SINCE_FIRED: &str = "rows_since_fired";

/// All that a training step changes.
pub(crate) struct TrainerState {
    pub(crate) config: CheckedRun,
    /// The owner of the parameters.
    pub(crate) sae: Sae,
    pub(crate) history: History,
    /// Steps done.
    pub(crate) step: u64,
}

/// What the steps so far have left beside the parameters.
pub(crate) struct History {
    /// In the order of the parameters.
    pub(crate) adam: Vec<AdamState>,
    pub(crate) dead: DeadFeatures,
}

impl History {
    pub(crate) fn new(config: &CheckedRun, sae: &Sae) -> Self {
        let estimator_lr = match &config.recipe {
            Recipe::Soft(soft) => soft.k_estimator_lr,
            _ => 1.0,
        };
        let adam = |(role, value): (Role, &Tensor)| {
            let lr_factor = if role.is_of_estimator() { estimator_lr } else { 1.0 };
            AdamState { lr_factor, ..AdamState::new(role, value) }
        };
        let adam = sae.parameters.trained().map(adam).collect();
        Self { adam, dead: DeadFeatures::new(sae.config().n_features, sae.device()) }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    step: u64,
    rows_seen: u64,
    updates: BTreeMap<String, u64>,
    tensors_blake3: String,
    engine: Value,
    /// As `run.toml` has it.
    config: RunConfig,
}

impl TrainerState {
    pub(crate) fn new(config: CheckedRun, sae: Sae) -> Self {
        let history = History::new(&config, &sae);
        Self { config, sae, history, step: 0 }
    }

    /// The learning rate of the step to come.
    pub(crate) fn lr(&self) -> f64 {
        let training = &self.config.training;
        training.lr * lr_factor(training, self.step)
    }

    /// Writes the model, the moments and the counters into the folder `dir`.
    pub(crate) fn save(&self, engine: Value, dir: &Path) -> Result<()> {
        save_checkpoint(&self.sae, dir)?;
        let mut tensors = BTreeMap::new();
        let History { adam, dead } = &self.history;
        for of in adam {
            let name = of.role.name();
            tensors.insert(format!("{name}.mean"), &of.mean);
            tensors.insert(format!("{name}.square"), &of.square);
        }
        tensors.insert(ROWS_SINCE_FIRED.into(), &dead.rows_since_fired);
        let path = dir.join(TENSORS_FILE);
        let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor));
        let tensors_blake3 = write_tensors(&path, tensors)?;
        let manifest = Manifest {
            step: self.step,
            rows_seen: dead.rows_seen,
            updates: adam.iter().map(|of| (of.role.name().into(), of.updates)).collect(),
            tensors_blake3,
            engine,
            config: self.config.settings().clone(),
        };
        Ok(sae_config::write_json(&dir.join(MANIFEST_FILE), &manifest)?)
    }

    /// The configuration of what `save` wrote.
    pub(crate) fn config(dir: &Path) -> Result<CheckedRun> {
        let path = dir.join(MANIFEST_FILE);
        let manifest: Manifest = sae_config::read_json(&path)?;
        Ok(manifest.config.check().map_err(|e| e.in_file(path))?)
    }

    /// Reads what `save` wrote, to go on with `config`, and the engine's part of it.
    pub(crate) fn load(dir: &Path, config: CheckedRun, device: Device) -> Result<(Self, Value)> {
        let manifest: Manifest = sae_config::read_json(&dir.join(MANIFEST_FILE))?;
        let sae = load_checkpoint(dir, device)?;
        let (ours, theirs) = (config.code(sae.config().d_model), &sae.config().code);
        if ours != *theirs {
            let (path, what) = (dir.join(CONFIG_FILE), "config.code".into());
            let (expected, got) = (json!(ours).to_string(), json!(theirs).to_string());
            return Err(Error::OtherRun { path, what, expected, got });
        }
        let mut state = Self::new(config, sae);
        let path = dir.join(TENSORS_FILE);
        let mut tensors = read_tensors_of_hash(&path, &manifest.tensors_blake3)?;
        let History { adam, dead } = &mut state.history;
        for of in adam {
            let name = of.role.name();
            take(&mut tensors, &format!("{name}.mean"), &mut of.mean, &path)?;
            take(&mut tensors, &format!("{name}.square"), &mut of.square, &path)?;
            of.updates = manifest.updates.get(name).copied().unwrap_or(0);
        }
        take(&mut tensors, ROWS_SINCE_FIRED, &mut dead.rows_since_fired, &path)?;
        dead.rows_seen = manifest.rows_seen;
        state.step = manifest.step;
        Ok((state, manifest.engine))
    }
}

/// Puts the tensor `name` of a file into `slot`, whose shape and kind it must have.
fn take(
    tensors: &mut BTreeMap<String, Tensor>,
    name: &str,
    slot: &mut Tensor,
    path: &Path,
) -> Result<()> {
    let describe = |shape: Vec<i64>, kind: Kind| format!("shape {shape:?} of {kind:?}");
    let expected = describe(slot.size(), slot.kind());
    let found = tensors.remove(name);
    let got = found.as_ref().map_or("nothing".into(), |t| describe(t.size(), t.kind()));
    match found {
        Some(tensor) if got == expected => slot.copy_(&tensor),
        _ => {
            let what = name.to_string();
            return Err(Error::OtherRun { path: path.into(), what, expected, got });
        }
    }
    Ok(())
}
