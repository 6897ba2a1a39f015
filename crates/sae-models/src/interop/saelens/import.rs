//! From SAELens' files to a model of ours.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{
    ArchitectureConfig, GatedConfig, JumpReluConfig, Normalization, Parity, StandardConfig,
};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::super::files::{FileTensors, floats};
use super::super::own::{model, own_config, top_k};
use super::super::settings::{Settings, whole};
use super::super::{Imported, Origin, moved_bias, positive};
use super::{CONFIG_FILE, WEIGHTS_FILE, keys, scaler};
use crate::{Error, ModelConfig, Result, read_tensors};

/// The highest version whose files are read.
const MAJOR: u32 = 6;

/// Architectures that are refused, and what they are.
const OTHERS: [(&str, &str); 8] = [
    ("transcoder", TRANSCODER),
    ("skip_transcoder", TRANSCODER),
    ("jumprelu_transcoder", TRANSCODER),
    ("jumprelu_skip_transcoder", TRANSCODER),
    ("abstopk", ", which keeps the largest values of either sign"),
    ("matching_pursuit", ", which encodes by iteration"),
    ("temporal", ", which reads other positions of a text"),
    ("crosscoder", ", which reads several layers"),
];
const TRANSCODER: &str = ", whose output is not its input";

/// Element types; all are read as f32.
const DTYPES: [&str; 4] = ["float32", "float64", "float16", "bfloat16"];

/// Within this of 1 SAELens takes a factor of features for 1.
const ONES: (f64, f64) = (1e-5, 1e-8);

pub(in super::super) fn import(dir: &Path) -> Result<Imported> {
    let settings = Settings::read(dir.join(CONFIG_FILE))?;
    let metadata = settings.inner("metadata")?;
    let details = metadata.inner("training_architecture_details")?;
    let is_legacy = is_legacy(&settings, &metadata)?;
    let name = architecture_name(&settings, is_legacy)?;
    check_keys(&settings, &metadata, &details, name, is_legacy)?;
    // Versions before 6 have no `metadata`.
    let about = if is_legacy { &settings } else { &metadata };
    let mut notes = notes(&settings, about)?;

    let path = dir.join(WEIGHTS_FILE);
    let mut file = floats(&path, read_tensors(&path)?);
    let (d, f) = (settings.size("d_in")?, settings.size("d_sae")?);
    let (d_in, d_sae) = (d as i64, f as i64);
    let own = own_config(&metadata.map, &settings.path)?;
    let mut w_enc = file.take("W_enc", &[d_in, d_sae])?.tr();
    let mut w_dec = file.take("W_dec", &[d_sae, d_in])?;
    let mut b_dec = file.take("b_dec", &[d_in])?;
    let mut b_enc = file.take(if name == "gated" { "b_gate" } else { "b_enc" }, &[d_sae])?;
    let (architecture, mut more) =
        rule(name, &settings, &metadata, &details, own.as_ref(), &mut file, &mut notes)?;
    if let Some(factor) = finetuning_factor(&settings, is_legacy, &mut file, d_sae)? {
        // The reconstruction is of features multiplied by it, which are encoded without.
        w_dec *= factor.unsqueeze(1);
    }
    notes.extend(file.finish(architecture.name())?);

    if settings.flag("rescale_acts_by_decoder_norm", false)? {
        let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
        w_enc *= &norms;
        b_enc *= norms.squeeze_dim(1);
        w_dec /= norms;
    }
    let (normalization, scale) = normalization(dir, &settings, d)?;
    (w_enc, w_dec, b_dec) = (w_enc * scale, w_dec / scale, b_dec / scale);
    if let Some(hidden) = more.remove("k_estimator.hidden.weight") {
        more.insert("k_estimator.hidden.weight", hidden * scale);
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
    let parity = if settings.flag("round_down", false)? { Parity::Official } else { Parity::None };
    let own = own.map(|mut own| {
        if name == "softsae" {
            (own.architecture, own.parity) = (architecture.clone(), parity);
        }
        own
    });
    let config = ModelConfig { d_model: d, n_features: f, normalization, parity, architecture };
    more.extend([
        ("encoder.weight", w_enc),
        ("encoder.bias", b_enc),
        ("decoder.weight", w_dec),
        ("decoder.bias", b_dec),
    ]);
    let hook = match about.text_or_none("hook_name")? {
        None if is_legacy => about.text_or_none("hook_point")?,
        hook => hook,
    };
    let origin = Origin::of_transformer_lens(about.text_or_none("model_name")?, hook);
    Ok(Imported { sae: model(&path, own, config, more)?, origin, notes })
}

/// Whether the loader takes the file for one of before version 6.
fn is_legacy(settings: &Settings, metadata: &Settings) -> Result<bool> {
    let at_top = settings.text_or_none("sae_lens_version")?;
    let holder = if at_top.is_some() { settings } else { metadata };
    let Some(version) = holder.text_or_none("sae_lens_version")? else { return Ok(true) };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    match major {
        Some(major) if major <= MAJOR => Ok(major < MAJOR),
        _ => Err(holder.wrong("sae_lens_version", &format!("at most version {MAJOR}"), version)),
    }
}

/// The architecture that a file names, by SAELens' name.
fn architecture_name(settings: &Settings, is_legacy: bool) -> Result<&str> {
    const KNOWN: [&str; 7] =
        ["standard", "topk", "batchtopk", "matryoshka_batchtopk", "jumprelu", "gated", "softsae"];
    let name = match settings.text_or_none("architecture")? {
        None if is_legacy => "standard",
        _ => settings.text("architecture")?,
    };
    if !KNOWN.contains(&name) {
        let known = "`standard`, `topk`, `batchtopk`, `matryoshka_batchtopk`, `jumprelu`, \
                     `gated`, or a `softsae` of ours";
        let what = OTHERS.iter().find(|(other, _)| *other == name).map_or("", |(_, what)| what);
        return Err(settings.wrong("architecture", known, format!("{name}{what}")));
    }
    if !is_legacy {
        return Ok(name);
    }
    // Files of old versions tell TopK by its activation function.
    let mut is_top_k = false;
    for key in ["activation_fn", "activation_fn_str"] {
        match settings.text_or_none(key)? {
            None | Some("relu") => {}
            Some("topk") if matches!(name, "standard" | "topk") => is_top_k = true,
            Some(other) => {
                return Err(settings.wrong(key, "`relu`, or `topk` of a standard SAE", other));
            }
        }
    }
    let empty = matches!(settings.value("activation_fn_kwargs"), Value::Null)
        || settings.inner("activation_fn_kwargs")?.map.keys().all(|key| is_top_k && key == "k");
    if !empty {
        let expected = "`k` of `topk` alone";
        let got = settings.value("activation_fn_kwargs");
        return Err(settings.wrong("activation_fn_kwargs", expected, got));
    }
    Ok(if is_top_k { "topk" } else { name })
}

fn check_keys(
    settings: &Settings,
    metadata: &Settings,
    details: &Settings,
    name: &str,
    is_legacy: bool,
) -> Result<()> {
    let own = match name {
        "topk" | "batchtopk" | "matryoshka_batchtopk" => &keys::TOP_K,
        "softsae" => &keys::SOFT,
        _ => &keys::NOT_TOP_K,
    };
    if is_legacy {
        settings.check(&[&keys::LEGACY, own, &keys::SETTINGS, &keys::METADATA])?;
    } else {
        settings.check(&[own, &keys::SETTINGS])?;
    }
    metadata.check(&[&keys::METADATA])?;
    details.check(&[&keys::DETAILS])
}

/// What a user has to know of the host and of rounding.
fn notes(settings: &Settings, about: &Settings) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    let dtype = settings.text_or_none("dtype")?.unwrap_or("float32");
    let plain = dtype.trim_start_matches("torch.");
    if !DTYPES.contains(&plain) {
        return Err(settings.wrong("dtype", &DTYPES.join(", "), dtype));
    }
    if plain != "float32" {
        notes.push(format!("SAELens computes in {plain} here; the model is f32"));
    }
    let kwargs = about.inner("model_from_pretrained_kwargs")?;
    if !kwargs.map.is_empty() {
        notes.push(format!(
            "trained on a host that TransformerLens had changed by {}: activations of the \
             unchanged host are not those that it expects",
            Value::Object(kwargs.map)
        ));
    }
    match about.text_or_none("model_class_name")? {
        None | Some("HookedTransformer") => {}
        Some(class) => notes.push(format!("its host was loaded as {class}")),
    }
    if !about.flag("prepend_bos", true)? {
        notes.push("trained on texts without a BOS token".into());
    }
    match settings.text_or_none("reshape_activations")? {
        None | Some("none") => {}
        Some("hook_z") => notes.push("it reads the outputs of attention heads, joined".into()),
        Some(other) => {
            return Err(settings.wrong("reshape_activations", "`none` or `hook_z`", other));
        }
    }
    Ok(notes)
}

/// The architecture by ours, and what a file holds beyond encoder and decoder by our names.
fn rule(
    name: &str,
    settings: &Settings,
    metadata: &Settings,
    details: &Settings,
    own: Option<&ModelConfig>,
    file: &mut FileTensors,
    notes: &mut Vec<String>,
) -> Result<(ArchitectureConfig, BTreeMap<&'static str, Tensor>)> {
    let d_sae = settings.size("d_sae")? as i64;
    let own = own.map(|own| own.architecture.clone());
    Ok(match name {
        "topk" => {
            let config = ArchitectureConfig::TopK(top_k(top_k_size(settings)?));
            (config, BTreeMap::from([("threshold", Tensor::from(-1.0_f32))]))
        }
        "batchtopk" | "matryoshka_batchtopk" => {
            // Versions differ in what they do without it.
            if !settings.map.contains_key("rescale_acts_by_decoder_norm") {
                let key = "rescale_acts_by_decoder_norm";
                return Err(settings.wrong(key, "true or false in a training save", "no such key"));
            }
            let one = positive(&file.take("topk_threshold", &[])?, notes);
            settings.number("k")?;
            one_threshold(whole(settings.value("k")), one, d_sae)
        }
        "jumprelu" => {
            let threshold = match file.take_either(&["threshold"], &[d_sae])? {
                Some(threshold) => threshold,
                // Files of old versions have its logarithm.
                None => match file.take_either(&["log_threshold"], &[d_sae])? {
                    Some(logarithm) => logarithm.exp(),
                    None => file.take("threshold", &[d_sae])?,
                },
            };
            let threshold = positive(&threshold, notes);
            let trained_as = metadata.text_or_none("training_architecture")?;
            let k = trained_as.filter(|a| a.ends_with("batchtopk"));
            let k = k.and_then(|_| whole(details.value("k")));
            let one = threshold.min();
            match own {
                _ if one != threshold.max() => {
                    (jumprelu(), BTreeMap::from([("threshold", threshold)]))
                }
                Some(
                    own @ (ArchitectureConfig::BatchTopK(_)
                    | ArchitectureConfig::MatryoshkaBatchTopK(_)),
                ) => (own, BTreeMap::from([("threshold", one)])),
                _ => one_threshold(k, one, d_sae),
            }
        }
        "gated" => (
            ArchitectureConfig::Gated(GatedConfig { l1_penalty: 0.0, sparsity_warmup_steps: 0 }),
            BTreeMap::from([
                ("magnitude.log_scale", file.take("r_mag", &[d_sae])?),
                ("magnitude.bias", file.take("b_mag", &[d_sae])?),
            ]),
        ),
        "softsae" => {
            let Some(ArchitectureConfig::Soft(mut config)) = own else {
                let expected = "`softsae` with our own configuration beside it";
                return Err(settings.wrong("architecture", expected, name));
            };
            config.k_min = settings.number("k_min")?;
            let k_max = settings.number("k_max")?;
            if config.k_bound() != k_max {
                config.k_max = Some(k_max);
            }
            let (hidden, d_in) = (settings.size("d_hidden")? as i64, settings.size("d_in")? as i64);
            let tensors = BTreeMap::from([
                ("k_estimator.hidden.weight", file.take("W_k", &[d_in, hidden])?.tr()),
                ("k_estimator.hidden.bias", file.take("b_k", &[hidden])?),
                ("k_estimator.output.weight", file.take("w_k_out", &[hidden])?),
                ("k_estimator.output.bias", file.take("b_k_out", &[])?),
            ]);
            (ArchitectureConfig::Soft(config), tensors)
        }
        _ => (
            ArchitectureConfig::Standard(StandardConfig {
                l1_penalty: 0.0,
                sparsity_warmup_steps: 0,
                resample_steps: None,
            }),
            BTreeMap::new(),
        ),
    })
}

/// k of top-k, which files of old versions have with the activation function.
fn top_k_size(settings: &Settings) -> Result<usize> {
    let old = settings.inner("activation_fn_kwargs")?;
    match (settings.map.contains_key("k"), old.map.contains_key("k")) {
        (_, false) => settings.size("k"),
        (false, true) => old.size("k"),
        (true, true) => match (settings.size("k")?, old.size("k")?) {
            (k, same) if k == same => Ok(k),
            (k, other) => Err(settings.wrong("k", &format!("{other}, as activation_fn_kwargs"), k)),
        },
    }
}

/// BatchTopK of one threshold where its k is a whole number, else JumpReLU.
fn one_threshold(
    k: Option<usize>,
    one: Tensor,
    d_sae: i64,
) -> (ArchitectureConfig, BTreeMap<&'static str, Tensor>) {
    let (architecture, threshold) = match k {
        Some(k) => (ArchitectureConfig::BatchTopK(top_k(k)), one),
        None => (jumprelu(), one.expand([d_sae], false).copy()),
    };
    (architecture, BTreeMap::from([("threshold", threshold)]))
}

fn jumprelu() -> ArchitectureConfig {
    ArchitectureConfig::JumpRelu(JumpReluConfig {
        target_l0: 0.0,
        sparsity_weight: 0.0,
        bandwidth: 0.0,
        sparsity_warmup_steps: 0,
        subtract_b_dec: false,
    })
}

/// What features are multiplied by before they are decoded, unless that is 1.
fn finetuning_factor(
    settings: &Settings,
    is_legacy: bool,
    file: &mut FileTensors,
    d_sae: i64,
) -> Result<Option<Tensor>> {
    let is_said = is_legacy && settings.flag("finetuning_scaling_factor", false)?;
    let factor = file.take_either(&["scaling_factor", "finetuning_scaling_factor"], &[d_sae])?;
    let Some(factor) = factor else {
        if is_said {
            let expected = "false, as there is no tensor `scaling_factor`";
            return Err(settings.wrong("finetuning_scaling_factor", expected, true));
        }
        return Ok(None);
    };
    if factor.allclose(&factor.ones_like(), ONES.0, ONES.1, false) {
        return Ok(None);
    }
    if !is_said {
        let got = format!("{} to {}", number(&factor.min()), number(&factor.max()));
        let expected = "ones, as `finetuning_scaling_factor` is not true";
        let error = sae_config::Error::value("scaling_factor", expected, got);
        return Err(Error::from(error).in_file(&file.path));
    }
    Ok(Some(factor))
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_kind(Kind::Double).double_value(&[])
}

/// The normalisation, and what activations are multiplied by for our weights.
fn normalization(dir: &Path, settings: &Settings, d_in: usize) -> Result<(Normalization, f64)> {
    let name = match settings.value("normalize_activations") {
        // Old versions: whether to scale.
        Value::Null | Value::Bool(false) => "none",
        Value::Bool(true) => "expected_average_only_in",
        _ => settings.text("normalize_activations")?,
    };
    let scale = scaler::scale(dir, settings, name)?;
    Ok(match name {
        "none" | "expected_average_only_in" => (Normalization::None, scale),
        "layer_norm" => (Normalization::LayerNorm, 1.0),
        // There rows come to a norm of √d_in, here to one of 1.
        "constant_norm_rescale" => (Normalization::UnitNorm, (d_in as f64).sqrt()),
        other => {
            let known = "`none`, `expected_average_only_in`, `layer_norm` or \
                         `constant_norm_rescale`";
            return Err(settings.wrong("normalize_activations", known, other));
        }
    })
}
