//! dictionary_learning: `config.json` and `ae.pt`, a pickled state dict.
//!
//! Linear layers have their weights `[out, in]`: `encoder.weight [F, D]`, `decoder.weight [D, F]`.

mod import;
pub(super) mod keys;

use std::path::{Path, PathBuf};

use sae_config::Code;
use serde_json::{Value, json};
use tch::{Kind, Tensor};

pub(super) use self::import::import;
use super::own::OWN_KEY;
use super::settings::{Keys, Settings};
use super::torch_file;
use super::{Exported, Origin, check_thresholds, moved_bias, no_counterpart, tensor};
use crate::{ModelConfig, Result, Sae};

pub(super) const CONFIG_FILE: &str = "config.json";
pub(super) const WEIGHTS_FILE: &str = "ae.pt";

pub(super) fn export(sae: &Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let (w_enc, b_enc) = (tensor(sae, "encoder.weight")?, tensor(sae, "encoder.bias")?);
    let (w_dec, b_dec) = (tensor(sae, "decoder.weight")?, tensor(sae, "decoder.bias")?);
    let threshold = || tensor(sae, "threshold");
    let whole = |k: usize| Tensor::from(k as i64).to_kind(Kind::Int);
    let top_k = |k: usize| -> Result<Vec<(&str, Tensor)>> {
        Ok(vec![
            ("encoder.weight", w_enc.shallow_clone()),
            ("encoder.bias", b_enc.shallow_clone()),
            ("decoder.weight", w_dec.tr()),
            ("b_dec", b_dec.shallow_clone()),
            ("k", whole(k)),
            ("threshold", threshold()?),
        ])
    };
    let mut trainer = trainer(config, origin);
    let (class, trained_by, tensors) = match &config.code {
        &Code::TopK { k } => ("AutoEncoderTopK", "TopKTrainer", top_k(k)?),
        &Code::BatchTopK { k } => ("BatchTopKSAE", "BatchTopKTrainer", top_k(k)?),
        Code::MatryoshkaBatchTopK { k, group_sizes } => {
            let sizes: Vec<i64> = group_sizes.iter().map(|size| *size as i64).collect();
            let share = |size: &usize| *size as f64 / config.n_features as f64;
            trainer["group_fractions"] = group_sizes.iter().map(share).collect::<Vec<_>>().into();
            trainer["group_sizes"] = sizes.clone().into();
            let tensors = vec![
                ("W_enc", w_enc.tr()),
                ("b_enc", b_enc),
                ("W_dec", w_dec),
                ("b_dec", b_dec),
                ("k", whole(*k)),
                ("threshold", threshold()?),
                ("group_sizes", Tensor::from_slice(&sizes)),
            ];
            ("MatryoshkaBatchTopKSAE", "MatryoshkaBatchTopKTrainer", tensors)
        }
        Code::JumpRelu { subtract_b_dec } => {
            // There b_dec is not subtracted from the input.
            let subtracted = subtract_b_dec.then(|| moved_bias(&b_enc, &w_enc, &b_dec, 1.0));
            let threshold = threshold()?;
            check_thresholds(&threshold)?;
            let tensors = vec![
                ("W_enc", w_enc.tr()),
                ("b_enc", subtracted.unwrap_or(b_enc)),
                ("W_dec", w_dec),
                ("b_dec", b_dec),
                ("threshold", threshold),
            ];
            ("JumpReluAutoEncoder", "JumpReluTrainer", tensors)
        }
        Code::Gated {} => {
            let tensors = vec![
                ("decoder_bias", b_dec),
                ("encoder.weight", w_enc),
                ("r_mag", tensor(sae, "magnitude.log_scale")?),
                ("gate_bias", b_enc),
                ("mag_bias", tensor(sae, "magnitude.bias")?),
                ("decoder.weight", w_dec.tr()),
            ];
            ("GatedAutoEncoder", "GatedSAETrainer", tensors)
        }
        // Its older class rescales features when it is loaded; this one has no input bias.
        Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => {
            let tensors = vec![
                ("encoder.weight", w_enc.shallow_clone()),
                ("encoder.bias", moved_bias(&b_enc, &w_enc, &b_dec, 1.0)),
                ("decoder.weight", w_dec.tr()),
                ("decoder.bias", b_dec),
            ];
            ("AutoEncoderNew", "StandardTrainerAprilUpdate", tensors)
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
