//! dictionary_learning: `config.json` and `ae.pt`, a pickled state dict.
//!
//! Linear layers have their weights `[out, in]`: `encoder.weight [F, D]`, `decoder.weight [D, F]`.

mod import;
pub(super) mod keys;
mod layers;

use std::path::{Path, PathBuf};

use sae_config::Code;
use serde_json::{Value, json};
use tch::Tensor;

pub(super) use self::import::import;
use self::layers::Layers;
use super::own::OWN_KEY;
use super::settings::{Keys, Settings};
use super::torch_file;
use super::{Exported, Origin, check_thresholds, no_counterpart, tensor};
use crate::{ModelConfig, Result, Sae};

pub(super) const CONFIG_FILE: &str = "config.json";
pub(super) const WEIGHTS_FILE: &str = "ae.pt";

pub(super) fn export(sae: &Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let layers = Layers::of(sae)?;
    let threshold = || tensor(sae, "threshold");
    let mut trainer = trainer(config, origin);
    let (class, trained_by, tensors) = match &config.code {
        &Code::TopK { k } => ("AutoEncoderTopK", "TopKTrainer", layers.top_k(k, threshold()?)),
        &Code::BatchTopK { k } => {
            ("BatchTopKSAE", "BatchTopKTrainer", layers.top_k(k, threshold()?))
        }
        Code::MatryoshkaBatchTopK { k, group_sizes } => {
            let sizes: Vec<i64> = group_sizes.iter().map(|size| *size as i64).collect();
            let share = |size: &usize| *size as f64 / config.n_features as f64;
            trainer["group_fractions"] = group_sizes.iter().map(share).collect::<Vec<_>>().into();
            trainer["group_sizes"] = sizes.clone().into();
            let tensors = layers.matryoshka(*k, &sizes, threshold()?);
            ("MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer", tensors)
        }
        Code::JumpRelu { subtract_b_dec } => {
            let threshold = threshold()?;
            check_thresholds(&threshold)?;
            ("JumpReluAutoEncoder", "JumpReluTrainer", layers.jumprelu(*subtract_b_dec, threshold))
        }
        Code::Gated {} => ("GatedAutoEncoder", "GatedSAETrainer", layers.gated(sae)?),
        // Its older class rescales features when it is loaded; this one has no input bias.
        Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => {
            ("AutoEncoderNew", "StandardTrainerAprilUpdate", layers.relu())
        }
        _ => return Err(no_counterpart(sae)),
    };
    trainer["dict_class"] = class.into();
    trainer["trainer_class"] = trained_by.into();
    write(dir, &trainer, &tensors)
}

/// Writes both files.
pub(super) fn write(dir: &Path, trainer: &Value, tensors: &[(&str, Tensor)]) -> Result<Exported> {
    let files = vec![dir.join(WEIGHTS_FILE), dir.join(CONFIG_FILE)];
    torch_file::write(&files[0], tensors)?;
    sae_config::write_json(&files[1], &json!({ "trainer": trainer, "buffer": null }))?;
    Ok(Exported { files, differences: vec![] })
}

/// What the settings of every trainer have.
pub(super) fn trainer(config: &ModelConfig, origin: &Origin) -> Value {
    let layer = origin.hook_point.as_deref().and_then(|hook| hook.rsplit_once('.'));
    let layer = layer.and_then(|(_, layer)| layer.parse::<i64>().ok());
    let mut trainer = json!({
        "activation_dim": config.d_model,
        "dict_size": config.n_features,
        "device": "cpu",
        "layer": layer,
        "lm_name": origin.host,
        "submodule_name": origin.hook_point,
        OWN_KEY: config,
    });
    if let Some(k) = config.code.k() {
        trainer["k"] = k.into();
    }
    trainer
}

/// `trainer` of `config.json`, every key of the file known.
pub(super) fn settings(path: PathBuf, more: &[&Keys]) -> Result<Settings> {
    let file = Settings::read(path)?;
    file.check(&[&keys::FILE])?;
    file.inner("buffer")?.check(&[&keys::BUFFER])?;
    let trainer = file.inner("trainer")?;
    trainer.check(&[&[&keys::TRAINER], more].concat())?;
    Ok(trainer)
}

/// Where the activations came from, as far as `trainer` tells for certain.
pub(super) fn origin(trainer: &Settings) -> Result<Origin> {
    let layer = trainer.value("layer").as_u64();
    let submodule = trainer.text_or_none("submodule_name")?;
    Ok(Origin::of_submodule(trainer.text_or_none("lm_name")?, submodule, layer))
}
