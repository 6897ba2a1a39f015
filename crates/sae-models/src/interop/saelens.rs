//! SAELens 6: `cfg.json` and `sae_weights.safetensors`.
//!
//! Its matrices are `W_enc [d_in, d_sae]` and `W_dec [d_sae, d_in]`. BatchTopK and Matryoshka are
//! `jumprelu` there, with one threshold for all features. SoftSAE is an architecture of its own
//! there, whose Python class is written beside it.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{
    ArchitectureConfig, GatedConfig, JumpReluConfig, Normalization, Parity, SoftConfig,
    StandardConfig,
};
use serde_json::{Value, json};
use tch::{Kind, Tensor};

use super::{
    Exported, FileTensors, OWN_KEY, Origin, Settings, check_thresholds, floats, hidden_layer,
    model, moved_bias, own_config, tensor, top_k, write_file,
};
use crate::{Error, ModelConfig, Result, Sae, read_tensors, write_tensors};

const CONFIG_FILE: &str = "cfg.json";
const WEIGHTS_FILE: &str = "sae_weights.safetensors";

/// The version whose files these are.
const VERSION: &str = "6.54.12";

/// The class that reads a SoftSAE.
const SOFT_CLASS_FILE: &str = "softsae_saelens.py";
const SOFT_CLASS: &str = include_str!("softsae_saelens.py");

pub(super) fn export(sae: &dyn Sae, origin: &Origin, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let mut weights = BTreeMap::from([
        ("W_enc", tensor(sae, "encoder.weight")?.tr()),
        ("W_dec", tensor(sae, "decoder.weight")?),
        ("b_dec", tensor(sae, "decoder.bias")?),
    ]);
    let b_enc = tensor(sae, "encoder.bias")?;
    let mut settings = json!({
        "d_in": config.d_model,
        "d_sae": config.n_features,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": sae.subtracts_b_dec(),
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata(config, origin),
    });
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
    let mut files = vec![dir.join(WEIGHTS_FILE), dir.join(CONFIG_FILE)];
    settings["architecture"] = match &config.architecture {
        ArchitectureConfig::TopK(c) => {
            settings["k"] = c.k.into();
            settings["rescale_acts_by_decoder_norm"] = false.into();
            "topk"
        }
        ArchitectureConfig::BatchTopK(_) | ArchitectureConfig::MatryoshkaBatchTopK(_) => {
            let least = tensor(sae, "threshold")?.clamp_min(0.0);
            weights.insert("threshold", least.expand([config.n_features as i64], false));
            "jumprelu"
        }
        ArchitectureConfig::JumpRelu(_) => {
            let threshold = tensor(sae, "threshold")?;
            check_thresholds(&threshold)?;
            weights.insert("threshold", threshold);
            "jumprelu"
        }
        ArchitectureConfig::Gated(_) => {
            weights.insert("r_mag", tensor(sae, "magnitude.log_scale")?);
            weights.insert("b_mag", tensor(sae, "magnitude.bias")?);
            "gated"
        }
        ArchitectureConfig::Soft(c) => {
            add_estimator(sae, c, &mut weights, &mut settings)?;
            let path = dir.join(SOFT_CLASS_FILE);
            write_file(&path, SOFT_CLASS.as_bytes())?;
            files.push(path);
            "softsae"
        }
        _ => "standard",
    }
    .into();
    let gated = matches!(config.architecture, ArchitectureConfig::Gated(_));
    weights.insert(if gated { "b_gate" } else { "b_enc" }, b_enc);
    write_tensors(&files[0], weights.iter().map(|(name, tensor)| (*name, tensor)))?;
    sae_config::write_json(&files[1], &settings)?;
    Ok(Exported { files, differences: vec![] })
}

/// What SAELens keeps beside the settings; its loader asks for the version.
fn metadata(config: &ModelConfig, origin: &Origin) -> Value {
    let mut metadata = json!({ "sae_lens_version": VERSION, OWN_KEY: config });
    if let Some(host) = &origin.host {
        metadata["model_name"] = host.as_str().into();
    }
    if let Some((point, layer)) = origin.hook_point.as_deref().and_then(|h| h.split_once('.')) {
        metadata["hook_name"] = format!("blocks.{layer}.hook_{point}").into();
    }
    metadata
}

/// The k-estimator in the input that the encoder reads.
fn add_estimator(
    sae: &dyn Sae,
    config: &SoftConfig,
    weights: &mut BTreeMap<&'static str, Tensor>,
    settings: &mut Value,
) -> Result<()> {
    let (hidden, bias) = hidden_layer(sae, config)?;
    let scale = match sae.config().normalization {
        Normalization::UnitNorm => (sae.config().d_model as f64).sqrt(),
        _ => 1.0,
    };
    settings["d_hidden"] = hidden.size()[0].into();
    settings["k_min"] = config.k_min.into();
    settings["k_max"] = config.k_bound().into();
    settings["round_down"] = (sae.config().parity == Parity::Official).into();
    weights.insert("W_k", hidden.tr() / scale);
    weights.insert("b_k", bias);
    weights.insert("w_k_out", tensor(sae, "k_estimator.output.weight")?);
    weights.insert("b_k_out", tensor(sae, "k_estimator.output.bias")?);
    Ok(())
}

pub(super) fn import(dir: &Path) -> Result<Box<dyn Sae>> {
    let settings = Settings::read(dir.join(CONFIG_FILE))?;
    let path = dir.join(WEIGHTS_FILE);
    let mut file = floats(&path, read_tensors(&path)?);
    let metadata = settings.inner("metadata");
    let (d, f) = (settings.size("d_in")?, settings.size("d_sae")?);
    let (d_in, d_sae) = (d as i64, f as i64);
    let architecture = architecture(&settings, &metadata)?;
    match settings.map.get("reshape_activations").and_then(Value::as_str) {
        None | Some("none" | "hook_z") => {}
        Some(other) => {
            return Err(settings.wrong("reshape_activations", "`none` or `hook_z`", other));
        }
    }

    let mut w_enc = file.take("W_enc", &[d_in, d_sae])?.tr();
    let mut w_dec = file.take("W_dec", &[d_sae, d_in])?;
    let mut b_dec = file.take("b_dec", &[d_in])?;
    let gated = matches!(architecture, ArchitectureConfig::Gated(_));
    let mut b_enc = file.take(if gated { "b_gate" } else { "b_enc" }, &[d_sae])?;
    let mut more = own_tensors(&architecture, &settings, &mut file, d_in, d_sae)?;

    let (normalization, scale) = normalization(&settings, d)?;
    (w_enc, w_dec, b_dec) = (w_enc * scale, w_dec / scale, b_dec / scale);
    if let Some(hidden) = more.remove("k_estimator.hidden.weight") {
        more.insert("k_estimator.hidden.weight", hidden * scale);
    }
    if settings.flag("rescale_acts_by_decoder_norm", false)? {
        let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        w_enc *= &norms;
        b_enc *= norms.squeeze_dim(1);
        w_dec /= norms;
    }
    let subtracts = settings.flag("apply_b_dec_to_input", true)?;
    let architecture = match architecture {
        ArchitectureConfig::JumpRelu(c) => {
            ArchitectureConfig::JumpRelu(JumpReluConfig { subtract_b_dec: subtracts, ..c })
        }
        other if subtracts => other,
        other => {
            // Ours subtract it: the bias makes up for that.
            if let Some(bias) = more.remove("magnitude.bias") {
                let factor = more["magnitude.log_scale"].exp().unsqueeze(1);
                let moved = moved_bias(&bias, &(&w_enc * factor), &b_dec, -1.0);
                more.insert("magnitude.bias", moved);
            }
            if let Some(hidden) = more.get("k_estimator.hidden.weight") {
                let moved = moved_bias(&more["k_estimator.hidden.bias"], hidden, &b_dec, -1.0);
                more.insert("k_estimator.hidden.bias", moved);
            }
            b_enc = moved_bias(&b_enc, &w_enc, &b_dec, -1.0);
            other
        }
    };
    file.finish(architecture.name())?;
    let own = own_config(&metadata.map, &settings.path)?;
    let parity = if settings.flag("round_down", false)? { Parity::Official } else { Parity::None };
    let config = ModelConfig { d_model: d, n_features: f, normalization, parity, architecture };
    more.extend([
        ("encoder.weight", w_enc),
        ("encoder.bias", b_enc),
        ("decoder.weight", w_dec),
        ("decoder.bias", b_dec),
    ]);
    model(&path, own, config, more)
}

/// The architecture that a file's settings name, by ours.
fn architecture(settings: &Settings, metadata: &Settings) -> Result<ArchitectureConfig> {
    // Files of old versions name none, or tell TopK by its activation function.
    let old_top_k = ["activation_fn", "activation_fn_str"]
        .iter()
        .any(|key| settings.map.get(*key).and_then(Value::as_str) == Some("topk"));
    let name = match settings.map.get("architecture") {
        _ if old_top_k => "topk",
        None => "standard",
        Some(_) => settings.text("architecture")?,
    };
    let trained_as = metadata.map.get("training_architecture").and_then(Value::as_str);
    let details = metadata.inner("training_architecture_details");
    let own = own_config(&metadata.map, &settings.path)?.map(|own| own.architecture);
    Ok(match (name, own) {
        ("topk", _) => {
            let old = settings.inner("activation_fn_kwargs");
            let holder = if settings.map.contains_key("k") { settings } else { &old };
            ArchitectureConfig::TopK(top_k(holder.size("k")?))
        }
        (
            "jumprelu",
            Some(
                own @ (ArchitectureConfig::BatchTopK(_)
                | ArchitectureConfig::MatryoshkaBatchTopK(_)),
            ),
        ) => own,
        ("jumprelu", _) if trained_as.is_some_and(|a| a.ends_with("batchtopk")) => {
            ArchitectureConfig::BatchTopK(top_k(details.size("k")?))
        }
        ("batchtopk" | "matryoshka_batchtopk", _) => {
            ArchitectureConfig::BatchTopK(top_k(settings.size("k")?))
        }
        ("jumprelu", _) => ArchitectureConfig::JumpRelu(JumpReluConfig {
            target_l0: 0.0,
            sparsity_weight: 0.0,
            bandwidth: 0.0,
            sparsity_warmup_steps: 0,
            subtract_b_dec: false,
        }),
        ("gated", _) => {
            ArchitectureConfig::Gated(GatedConfig { l1_penalty: 0.0, sparsity_warmup_steps: 0 })
        }
        ("standard", _) => ArchitectureConfig::Standard(StandardConfig {
            l1_penalty: 0.0,
            sparsity_warmup_steps: 0,
            resample_steps: None,
        }),
        ("softsae", Some(own @ ArchitectureConfig::Soft(_))) => own,
        _ => {
            let known = "`standard`, `topk`, `batchtopk`, `matryoshka_batchtopk`, `jumprelu`, \
                         `gated`, or a `softsae` of ours";
            return Err(settings.wrong("architecture", known, name));
        }
    })
}

/// What a file holds beyond encoder and decoder, by our names.
fn own_tensors(
    architecture: &ArchitectureConfig,
    settings: &Settings,
    file: &mut FileTensors,
    d_in: i64,
    d_sae: i64,
) -> Result<BTreeMap<&'static str, Tensor>> {
    Ok(match architecture {
        ArchitectureConfig::TopK(_) => BTreeMap::from([("threshold", Tensor::from(-1.0_f32))]),
        ArchitectureConfig::BatchTopK(_) | ArchitectureConfig::MatryoshkaBatchTopK(_) => {
            let one = match settings.text("architecture")? {
                "jumprelu" => {
                    let all = file.take("threshold", &[d_sae])?;
                    let (least, most) = (all.min(), all.max());
                    if least != most {
                        let got = format!(
                            "{:?} to {:?}",
                            least.double_value(&[]),
                            most.double_value(&[])
                        );
                        let error = sae_config::Error::value("threshold", "one value", got);
                        return Err(Error::from(error).in_file(&file.path));
                    }
                    least
                }
                _ => file.take("topk_threshold", &[])?,
            };
            BTreeMap::from([("threshold", one.to_kind(Kind::Float))])
        }
        ArchitectureConfig::JumpRelu(_) => {
            let threshold = match file.take("threshold", &[d_sae]) {
                Ok(threshold) => threshold,
                // Files of old versions have its logarithm.
                Err(error) => match file.take("log_threshold", &[d_sae]) {
                    Ok(logarithm) => logarithm.exp(),
                    Err(_) => return Err(error),
                },
            };
            check_thresholds(&threshold).map_err(|e| e.in_file(&file.path))?;
            BTreeMap::from([("threshold", threshold)])
        }
        ArchitectureConfig::Gated(_) => BTreeMap::from([
            ("magnitude.log_scale", file.take("r_mag", &[d_sae])?),
            ("magnitude.bias", file.take("b_mag", &[d_sae])?),
        ]),
        ArchitectureConfig::Soft(_) => {
            let hidden = settings.size("d_hidden")? as i64;
            BTreeMap::from([
                ("k_estimator.hidden.weight", file.take("W_k", &[d_in, hidden])?.tr()),
                ("k_estimator.hidden.bias", file.take("b_k", &[hidden])?),
                ("k_estimator.output.weight", file.take("w_k_out", &[hidden])?),
                ("k_estimator.output.bias", file.take("b_k_out", &[])?),
            ])
        }
        _ => BTreeMap::new(),
    })
}

/// The normalisation, and what our weights have to be multiplied by for it.
fn normalization(settings: &Settings, d_in: usize) -> Result<(Normalization, f64)> {
    let name = match settings.map.get("normalize_activations") {
        // Old versions: whether to scale in training.
        None | Some(Value::Null | Value::Bool(_)) => "none",
        Some(_) => settings.text("normalize_activations")?,
    };
    Ok(match name {
        // The second is a factor of training; at inference SAELens does nothing.
        "none" | "expected_average_only_in" => (Normalization::None, 1.0),
        "layer_norm" => (Normalization::LayerNorm, 1.0),
        "constant_norm_rescale" => (Normalization::UnitNorm, (d_in as f64).sqrt()),
        other => {
            let known = "`none`, `expected_average_only_in`, `layer_norm` or \
                         `constant_norm_rescale`";
            return Err(settings.wrong("normalize_activations", known, other));
        }
    })
}
