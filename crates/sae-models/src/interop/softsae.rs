//! The published code of SoftSAE: the state dict of its model in `ae.pt`, and `config.json`.
//!
//! Its k-estimator has as many hidden units as the dictionary has features; an estimator of fewer
//! gets units that are never active. It rounds k̂ down.

use std::path::Path;

use sae_config::{Code, EstimatorNetwork, Normalization, Rounding, SoftCode};
use tch::{Kind, Tensor};

use super::dictionary_learning::{CONFIG_FILE, WEIGHTS_FILE, origin, settings, trainer, write};
use super::files::{FileTensors, floats};
use super::own::{model, own_config};
use super::settings::{Keys, Settings};
use super::torch_file::{self, StateDict};
use super::{Exported, Imported, Origin, hidden_layer, no_counterpart, tensor};
use crate::{Error, ModelConfig, Result, Sae};

/// Keys of `trainer` beyond those of dictionary_learning.
pub(super) const TRAINER: Keys = Keys {
    read: &[],
    neutral: &[],
    ignored: &[
        (
            "of the loss, the optimiser or the run",
            &[
                "alpha_anneal_steps",
                "dead_feature_threshold",
                "hard_topk_steps",
                "k_loss_beta",
                "k_loss_type",
                "k_loss_weight",
                "soft_topk_alpha",
            ],
        ),
        ("the tensor of that name is read", &["k_max", "alpha"]),
        ("the mean of the tensor `shift_factor`", &["shift_factor_mean"]),
    ],
};

pub(super) fn export(sae: &Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let Code::Soft(soft) = &config.code else {
        return Err(no_counterpart(sae));
    };
    let k_max = soft.k_max;
    if k_max.fract() != 0.0 {
        let expected = "a whole number, as the published SoftSAE has";
        return Err(sae_config::Error::value("architecture.k_max", expected, k_max).into());
    }
    let f = config.n_features as i64;
    let (hidden, bias) = hidden_layer(sae, soft)?;
    let padded = |tensor: Tensor| -> Tensor {
        let missing = f - tensor.size()[0];
        let shape: Vec<i64> =
            std::iter::once(missing).chain(tensor.size()[1..].iter().copied()).collect();
        let zeros = Tensor::zeros(shape, (tensor.kind(), tensor.device()));
        Tensor::cat(&[tensor, zeros], 0)
    };
    let whole = |n: i64| Tensor::from(n).to_kind(Kind::Int);
    let float = |x: f64| Tensor::from(x as f32);
    let tensors = [
        ("encoder.weight", tensor(sae, "encoder.weight")?),
        ("encoder.bias", tensor(sae, "encoder.bias")?),
        ("decoder.weight", tensor(sae, "decoder.weight")?.tr()),
        ("b_dec", tensor(sae, "decoder.bias")?),
        ("k_estimator.0.weight", padded(hidden)),
        ("k_estimator.0.bias", padded(bias)),
        ("k_estimator.2.weight", padded(tensor(sae, "k_estimator.output.weight")?).unsqueeze(0)),
        ("k_estimator.2.bias", tensor(sae, "k_estimator.output.bias")?.reshape([1])),
        ("k", whole(soft.k as i64)),
        ("k_max", whole(k_max as i64)),
        ("alpha", float(soft.alpha)),
        ("norm_factor", float(1.0)),
    ];
    let mut trainer = trainer(config, origin);
    trainer["dict_class"] = "SoftSAE".into();
    trainer["trainer_class"] = "SoftSAETrainer".into();
    let exported = write(dir, &trainer, &tensors)?;
    let mut differences = Vec::new();
    if soft.rounding != Rounding::Down {
        differences.push("k̂ is rounded down there, to the nearest whole number here".into());
    }
    if soft.k_min.max(1.0) != 1.0 {
        differences.push(format!("k̂ may fall to 1 there, to {} here", soft.k_min));
    }
    Ok(Exported { differences, ..exported })
}

pub(super) fn import(dir: &Path) -> Result<Imported> {
    let path = dir.join(WEIGHTS_FILE);
    let StateDict { tensors, norm_factor } = torch_file::read(&path)?;
    let [f, d] = *tensors.get("encoder.weight").map(Tensor::size).unwrap_or_default() else {
        let error = Error::MissingTensor { name: "encoder.weight".into(), expected: vec![] };
        return Err(error.in_file(path));
    };
    let is_shifted = tensors.contains_key("shift_factor");
    let mut file = floats(&path, tensors);
    let mut all = vec![
        ("encoder.weight", file.take("encoder.weight", &[f, d])?),
        ("encoder.bias", file.take("encoder.bias", &[f])?),
        ("decoder.weight", file.take("decoder.weight", &[d, f])?.tr()),
        ("decoder.bias", file.take("b_dec", &[d])?),
        ("k_estimator.hidden.weight", file.take("k_estimator.0.weight", &[f, d])?),
        ("k_estimator.hidden.bias", file.take("k_estimator.0.bias", &[f])?),
        ("k_estimator.output.weight", file.take("k_estimator.2.weight", &[1, f])?.squeeze_dim(0)),
        ("k_estimator.output.bias", file.take("k_estimator.2.bias", &[1])?.reshape([])),
    ];
    let scale = scale(&mut file, norm_factor, is_shifted)?;
    let normalization = if is_shifted {
        all.push(("normalization.shift", file.take("shift_factor", &[d])?));
        Normalization::ShiftScale
    } else {
        Normalization::Scale
    };
    let unscaled = scale.double_value(&[]) == 1.0;
    let normalization = if unscaled && !is_shifted { Normalization::None } else { normalization };
    if normalization != Normalization::None {
        all.push(("normalization.scale", scale.to_kind(Kind::Double)));
    }
    let soft = SoftCode {
        k: file.size("k")?,
        k_max: file.size("k_max")? as f64,
        k_min: 1.0,
        alpha: file.take("alpha", &[])?.double_value(&[]),
        rounding: Rounding::Down,
        // Units that fill up the hidden layer stay.
        k_estimator: EstimatorNetwork::TwoLayers { hidden_units: f as usize },
    };
    // Ours bounds k̂ by F − 1.
    if soft.k_max > f as f64 {
        let error = sae_config::Error::value("k_max", format!("at most {f} features"), soft.k_max);
        return Err(Error::from(error).in_file(path));
    }
    let notes = file.finish("soft")?;
    let config = dir.join(CONFIG_FILE);
    let settings =
        if config.exists() { settings(config, &[&TRAINER])? } else { Settings::none(config) };
    check_settings(&settings, d, f)?;
    let own = own_config(&settings.map, &settings.path)?;
    let config = ModelConfig {
        d_model: d as usize,
        d_out: None,
        n_features: f as usize,
        normalization,
        code: Code::Soft(soft),
    };
    Ok(Imported { sae: model(&path, own, config, all)?, origin: origin(&settings)?, notes })
}

/// What activations are divided by.
fn scale(file: &mut FileTensors, norm_factor: Option<f64>, is_shifted: bool) -> Result<Tensor> {
    let scale = file.take("norm_factor", &[])?;
    // A run that goes on may have its factor beside the model, where the model's own is 1.
    Ok(match (norm_factor, scale.double_value(&[])) {
        (None, _) => scale,
        (Some(factor), own) if factor as f32 == own as f32 => scale,
        (Some(factor), 1.0) if !is_shifted => Tensor::from(factor).to_kind(Kind::Float),
        (Some(factor), own) => {
            return Err(Error::Format {
                path: file.path.clone(),
                expected: format!("`norm_factor` {own}, as the model's own"),
                got: factor.to_string(),
            });
        }
    })
}

/// Refuses settings of a model of another size or class.
fn check_settings(settings: &Settings, d: i64, f: i64) -> Result<()> {
    for (key, size) in [("activation_dim", d), ("dict_size", f)] {
        if settings.map.contains_key(key) && settings.size(key)? as i64 != size {
            let expected = format!("{size}, as the tensors of {WEIGHTS_FILE}");
            return Err(settings.wrong(key, &expected, settings.value(key)));
        }
    }
    match settings.text_or_none("dict_class")? {
        None | Some("SoftSAE" | "SoftTopKSAE") => Ok(()),
        Some(other) => Err(settings.wrong("dict_class", "`SoftSAE` or `SoftTopKSAE`", other)),
    }
}
