//! A model on disk: `sae.safetensors` and, naming it by hash, `sae.json`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::{Device, Kind};

use crate::config::Written;
use crate::tensors::io;
use crate::{Error, Result, Sae, Tensors, TrainedOn, build, read_tensors_of_hash, write_tensors};

/// The file with the configuration.
pub const CONFIG_FILE: &str = "sae.json";

/// The file with the tensors.
pub const WEIGHTS_FILE: &str = "sae.safetensors";

const FORMAT: &str = "softsae";

/// Files of version 1, which have settings of training in their configuration, are read too.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest<C> {
    format: String,
    version: u32,
    weights_blake3: String,
    config: C,
    /// Absent from models of which nothing is known, and written before it was recorded.
    #[serde(default, skip_serializing_if = "TrainedOn::is_unknown")]
    trained_on: TrainedOn,
}

/// Writes `sae` into the folder `dir`, which is created if need be.
///
/// The weights are written first, then the configuration that holds their hash; each is synced
/// and renamed into place. Whatever moment the process dies at, the folder loads as the old or
/// the new model, or is refused.
///
/// # Errors
/// A file that cannot be written, by name.
pub fn save_checkpoint(sae: &Sae, dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(|e| io(dir, e))?;
    let constants = sae.constants();
    let tensors = sae
        .parameters()
        .into_iter()
        .chain(sae.buffers())
        .chain(constants.iter().map(|(name, tensor)| (*name, tensor)));
    let mut trained_on = sae.trained_on.clone();
    if sae.config().is_transcoder() {
        // What tells a transcoder from an SAE beside `d_out`.
        trained_on.target.get_or_insert_default();
    }
    let manifest = Manifest {
        format: FORMAT.into(),
        version: VERSION,
        weights_blake3: write_tensors(&dir.join(WEIGHTS_FILE), tensors)?,
        config: sae.config(),
        trained_on,
    };
    Ok(sae_config::write_json(&dir.join(CONFIG_FILE), &manifest)?)
}

/// Loads a model that [`save_checkpoint`] wrote.
///
/// # Errors
/// A file that is absent, damaged or of another version, or a tensor that does not fit the
/// configuration; each by name.
pub fn load_checkpoint(dir: &Path, device: Device) -> Result<Sae> {
    let manifest = read_manifest(dir)?;
    let path = dir.join(WEIGHTS_FILE);
    let map = read_tensors_of_hash(&path, &manifest.weights_blake3)?;
    let kind = map.get("decoder.weight").map_or(Kind::Float, tch::Tensor::kind);
    let tensors = Tensors::new(map, kind, device);
    let mut sae = build(manifest.config.config, tensors).map_err(|e| e.in_file(path))?;
    sae.trained_on = manifest.trained_on;
    Ok(sae)
}

/// The hash that stands for a model in the identity of what is made from it: that of its tensors
/// and its configuration.
///
/// # Errors
/// A configuration that is absent, damaged or of another version, by name.
pub fn checkpoint_hash(dir: &Path) -> Result<String> {
    let manifest = read_manifest(dir)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(manifest.weights_blake3.as_bytes());
    hasher.update(&manifest.config.bytes);
    Ok(hasher.finalize().to_hex().to_string())
}

/// What the model in `dir` was trained on, as far as it is known.
///
/// # Errors
/// A configuration that is absent, damaged or of another version, by name.
pub fn checkpoint_origin(dir: &Path) -> Result<TrainedOn> {
    Ok(read_manifest(dir)?.trained_on)
}

fn read_manifest(dir: &Path) -> Result<Manifest<Written>> {
    let path = dir.join(CONFIG_FILE);
    let manifest: Manifest<Value> = sae_config::read_json(&path)?;
    let Manifest { format, version, weights_blake3, config, trained_on } = manifest;
    if format != FORMAT || !(1..=VERSION).contains(&version) {
        return Err(Error::Format {
            path,
            expected: format!("format {FORMAT}, version 1 or {VERSION}"),
            got: format!("format {format}, version {version}"),
        });
    }
    let config = Written::read(config, version).map_err(|e| Error::Format {
        path: path.clone(),
        expected: format!("a configuration of version {version}"),
        got: e.to_string(),
    })?;
    let model = &config.config;
    if model.is_transcoder() != trained_on.target.is_some() {
        let told = |is_there| if is_there { "there" } else { "absent" };
        return Err(Error::Format {
            path,
            expected: "`d_out` and `trained_on.target` of a transcoder, or neither".into(),
            got: format!(
                "`d_out` {}, `trained_on.target` {}",
                told(model.is_transcoder()),
                told(trained_on.target.is_some())
            ),
        });
    }
    model.code.check(model.n_features).map_err(|e| e.in_file(path))?;
    Ok(Manifest { format, version, weights_blake3, config, trained_on })
}
