//! From a model of ours to SAELens' files.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{Code, Normalization, Rounding, SoftCode};
use serde_json::{Value, json};
use tch::Tensor;

use super::super::files::{check_finite, write_file};
use super::super::own::OWN_KEY;
use super::super::{Exported, Origin, check_thresholds, hidden_layer, no_counterpart, tensor};
use super::{CONFIG_FILE, WEIGHTS_FILE};
use crate::{ModelConfig, Result, Sae, write_tensors};

/// The version whose files these are.
const VERSION: &str = "6.54.12";

/// The class that reads a SoftSAE.
const SOFT_CLASS_FILE: &str = "softsae_saelens.py";
const SOFT_CLASS: &str = include_str!("softsae_saelens.py");

pub(in super::super) fn export(sae: &Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let mut weights = BTreeMap::from([
        ("W_enc", tensor(sae, "encoder.weight")?.tr()),
        ("W_dec", tensor(sae, "decoder.weight")?),
        ("b_dec", tensor(sae, "decoder.bias")?),
    ]);
    let b_enc = tensor(sae, "encoder.bias")?;
    let mut settings = common_settings(sae, origin);
    add_normalization(config, &mut weights, &mut settings);
    let mut files = vec![dir.join(WEIGHTS_FILE), dir.join(CONFIG_FILE)];
    settings["architecture"] = match &config.code {
        Code::TopK { k } => {
            settings["k"] = (*k).into();
            settings["rescale_acts_by_decoder_norm"] = false.into();
            "topk"
        }
        Code::BatchTopK { .. } | Code::MatryoshkaBatchTopK { .. } => {
            let least = tensor(sae, "threshold")?.clamp_min(0.0);
            weights.insert("threshold", least.expand([config.n_features as i64], false));
            "jumprelu"
        }
        Code::JumpRelu { .. } => {
            let threshold = tensor(sae, "threshold")?;
            check_thresholds(&threshold)?;
            weights.insert("threshold", threshold);
            "jumprelu"
        }
        Code::Gated {} => {
            weights.insert("r_mag", tensor(sae, "magnitude.log_scale")?);
            weights.insert("b_mag", tensor(sae, "magnitude.bias")?);
            "gated"
        }
        Code::Soft(c) => {
            add_estimator(sae, c, &mut weights, &mut settings)?;
            let path = dir.join(SOFT_CLASS_FILE);
            write_file(&path, SOFT_CLASS.as_bytes())?;
            files.push(path);
            "softsae"
        }
        Code::Standard {} | Code::StandardApril {} | Code::PAnneal {} => "standard",
        _ => return Err(no_counterpart(sae)),
    }
    .into();
    let gated = matches!(config.code, Code::Gated {});
    weights.insert(if gated { "b_gate" } else { "b_enc" }, b_enc);
    check_finite(weights.iter().map(|(name, tensor)| (*name, tensor)))?;
    write_tensors(&files[0], weights.iter().map(|(name, tensor)| (*name, tensor)))?;
    sae_config::write_json(&files[1], &settings)?;
    Ok(Exported { files, differences: vec![] })
}

/// The settings that every architecture has.
fn common_settings(sae: &Sae, origin: &Origin) -> Value {
    let config = sae.config();
    json!({
        "d_in": config.d_model,
        "d_sae": config.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.parameters.centre().is_some(),
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata(config, origin),
    })
}

/// The normalisation, with weights for rows of its norm.
fn add_normalization(
    config: &ModelConfig,
    weights: &mut BTreeMap<&'static str, Tensor>,
    settings: &mut Value,
) {
    match config.normalization {
        Normalization::LayerNorm => settings["normalize_activations"] = "layer_norm".into(),
        // There rows come to a norm of √d_in, here to one of 1.
        Normalization::UnitNorm => {
            settings["normalize_activations"] = "constant_norm_rescale".into();
            let root = (config.d_model as f64).sqrt();
            weights.insert("W_enc", &weights["W_enc"] / root);
            weights.insert("W_dec", &weights["W_dec"] * root);
            weights.insert("b_dec", &weights["b_dec"] * root);
        }
        _ => {}
    }
}

/// What SAELens keeps beside the settings; its loader asks for the version.
fn metadata(config: &ModelConfig, origin: &Origin) -> Value {
    let mut metadata = json!({ "sae_lens_version": VERSION, OWN_KEY: config });
    if let Some(host) = &origin.host {
        metadata["model_name"] = host.as_str().into();
    }
    if let Some(name) = origin.transformer_lens_name() {
        metadata["hook_name"] = name.into();
    }
    metadata
}

/// The k-estimator in the input that the encoder reads.
fn add_estimator(
    sae: &Sae,
    code: &SoftCode,
    weights: &mut BTreeMap<&'static str, Tensor>,
    settings: &mut Value,
) -> Result<()> {
    let (hidden, bias) = hidden_layer(sae, code)?;
    let scale = match sae.config().normalization {
        Normalization::UnitNorm => (sae.config().d_model as f64).sqrt(),
        _ => 1.0,
    };
    settings["d_hidden"] = hidden.size()[0].into();
    settings["k_min"] = code.k_min.into();
    settings["k_max"] = code.k_max.into();
    settings["round_down"] = (code.rounding == Rounding::Down).into();
    weights.insert("W_k", hidden.tr() / scale);
    weights.insert("b_k", bias);
    weights.insert("w_k_out", tensor(sae, "k_estimator.output.weight")?);
    weights.insert("b_k_out", tensor(sae, "k_estimator.output.bias")?);
    Ok(())
}
