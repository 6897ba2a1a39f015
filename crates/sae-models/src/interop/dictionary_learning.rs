//! dictionary_learning: `config.json` and `ae.pt`, a pickled state dict.
//!
//! Linear layers have their weights `[out, in]`: `encoder.weight [F, D]`, `decoder.weight [D, F]`.

pub(super) mod keys;

use std::path::{Path, PathBuf};

use sae_config::{Code, Normalization};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::files::{FileTensors, floats};
use super::own::{OWN_KEY, model, own_config};
use super::settings::{Keys, Settings};
use super::torch_file::{self, StateDict};
use super::{
    Exported, Imported, Origin, check_thresholds, moved_bias, no_counterpart, positive, tensor,
};
use crate::{Error, ModelConfig, Result, Sae};

pub(super) const CONFIG_FILE: &str = "config.json";
pub(super) const WEIGHTS_FILE: &str = "ae.pt";

pub(super) fn export(sae: &dyn Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
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
        Code::AbsTopK { .. } | Code::Soft(_) => {
            let has = "topk, batch_topk, matryoshka_batch_topk, jumprelu, gated or a standard one";
            return Err(no_counterpart("dictionary_learning", has, sae));
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

/// k as the tensor has it, which the settings have to agree with, as its loader asks.
fn k(settings: &Settings, file: &mut FileTensors) -> Result<usize> {
    // Files of old versions have no tensor.
    if !file.contains("k") {
        return settings.size("k");
    }
    let k = file.size("k")?;
    if settings.map.contains_key("k") && settings.size("k")? != k {
        let expected = format!("{k}, as the tensor `k` of {WEIGHTS_FILE}");
        return Err(settings.wrong("k", &expected, settings.value("k")));
    }
    Ok(k)
}

/// The threshold of BatchTopK; −1 is one that training has not set yet.
fn one_threshold(file: &mut FileTensors, notes: &mut Vec<String>) -> Result<Tensor> {
    let threshold = file.take("threshold", &[])?;
    if threshold.double_value(&[]) < 0.0 {
        notes.push("its threshold was not set yet: every positive feature is active".into());
    }
    Ok(threshold)
}

pub(super) fn import(dir: &Path) -> Result<Imported> {
    let settings = settings(dir.join(CONFIG_FILE), &[])?;
    let path = dir.join(WEIGHTS_FILE);
    let StateDict { tensors, norm_factor } = torch_file::read(&path)?;
    let mut notes = Vec::new();
    let mut file = floats(&path, tensors);
    let (d, f) = (settings.size("activation_dim")?, settings.size("dict_size")?);
    let (d_in, d_sae) = (d as i64, f as i64);
    let class = settings.text("dict_class")?;
    let (code, mut tensors) = match class {
        "AutoEncoderTopK" | "BatchTopKSAE" => {
            let mut tensors = Vec::from(linear(&mut file, "encoder.bias", "b_dec", d_in, d_sae)?);
            let k = k(&settings, &mut file)?;
            if class == "BatchTopKSAE" {
                tensors.push(("threshold", one_threshold(&mut file, &mut notes)?));
                (Code::BatchTopK { k }, tensors)
            } else {
                // Files of old versions have none.
                let threshold = file.take_either(&["threshold"], &[])?;
                tensors.push(("threshold", threshold.unwrap_or_else(|| Tensor::from(-1.0_f32))));
                (Code::TopK { k }, tensors)
            }
        }
        "MatryoshkaBatchTopKSAE" => {
            let mut tensors = Vec::from(transposed(&mut file, d_in, d_sae)?);
            tensors.push(("threshold", one_threshold(&mut file, &mut notes)?));
            let group_sizes = file.sizes("group_sizes")?;
            if group_sizes.iter().sum::<usize>() != f {
                return Err(Error::Format {
                    path,
                    expected: format!("`group_sizes` of {f} features in all"),
                    got: format!("{group_sizes:?}"),
                });
            }
            let k = k(&settings, &mut file)?;
            (Code::MatryoshkaBatchTopK { k, group_sizes }, tensors)
        }
        "JumpReluAutoEncoder" => {
            let mut tensors = Vec::from(transposed(&mut file, d_in, d_sae)?);
            let threshold = file.take("threshold", &[d_sae])?;
            tensors.push(("threshold", positive(&threshold, &mut notes)));
            (Code::JumpRelu { subtract_b_dec: false }, tensors)
        }
        "GatedAutoEncoder" => {
            let mut tensors =
                Vec::from(linear(&mut file, "gate_bias", "decoder_bias", d_in, d_sae)?);
            tensors.push(("magnitude.log_scale", file.take("r_mag", &[d_sae])?));
            tensors.push(("magnitude.bias", file.take("mag_bias", &[d_sae])?));
            (Code::Gated {}, tensors)
        }
        "AutoEncoder" | "AutoEncoderNew" => {
            let bias = if class == "AutoEncoder" { "bias" } else { "decoder.bias" };
            let mut tensors = linear(&mut file, "encoder.bias", bias, d_in, d_sae)?;
            let [(_, w_enc), (_, b_enc), (_, w_dec), (_, b_dec)] = &mut tensors;
            if class == "AutoEncoderNew" {
                // Ours subtracts b_dec from the input: the bias makes up for that.
                *b_enc = moved_bias(b_enc, w_enc, b_dec, -1.0);
            } else {
                // As its loader does, where the decoder is not of unit norm.
                let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
                if !norms.allclose(&norms.ones_like(), 1e-5, 1e-8, false) {
                    *w_enc *= &norms;
                    *b_enc *= norms.squeeze_dim(1);
                    *w_dec /= norms;
                }
            }
            (Code::Standard {}, tensors.into())
        }
        other => {
            let known = "`AutoEncoder`, `AutoEncoderNew`, `GatedAutoEncoder`, \
                         `JumpReluAutoEncoder`, `AutoEncoderTopK`, `BatchTopKSAE` or \
                         `MatryoshkaBatchTopKSAE`";
            return Err(settings.wrong("dict_class", known, other));
        }
    };
    notes.extend(file.finish(code.name())?);
    // A run that goes on has weights for activations divided by this.
    let normalization = match norm_factor {
        Some(scale) => {
            tensors.push(("normalization.scale", Tensor::from(scale)));
            Normalization::Scale
        }
        None => Normalization::None,
    };
    let config = ModelConfig { d_model: d, d_out: None, n_features: f, normalization, code };
    let own = own_config(&settings.map, &settings.path)?;
    let sae = model(&path, own, config, tensors)?;
    Ok(Imported { sae, origin: origin(&settings)?, notes })
}

/// Encoder and decoder as linear layers, by our names.
fn linear(
    file: &mut FileTensors,
    b_enc: &str,
    b_dec: &str,
    d_in: i64,
    d_sae: i64,
) -> Result<[(&'static str, Tensor); 4]> {
    Ok([
        ("encoder.weight", file.take("encoder.weight", &[d_sae, d_in])?),
        ("encoder.bias", file.take(b_enc, &[d_sae])?),
        ("decoder.weight", file.take("decoder.weight", &[d_in, d_sae])?.tr()),
        ("decoder.bias", file.take(b_dec, &[d_in])?),
    ])
}

/// Encoder and decoder as matrices that rows are multiplied by, by our names.
fn transposed(
    file: &mut FileTensors,
    d_in: i64,
    d_sae: i64,
) -> Result<[(&'static str, Tensor); 4]> {
    Ok([
        ("encoder.weight", file.take("W_enc", &[d_in, d_sae])?.tr()),
        ("encoder.bias", file.take("b_enc", &[d_sae])?),
        ("decoder.weight", file.take("W_dec", &[d_sae, d_in])?),
        ("decoder.bias", file.take("b_dec", &[d_in])?),
    ])
}
