//! From SAELens' files to a model of ours.

use std::collections::BTreeMap;
use std::path::Path;

use sae_config::{Code, Normalization};
use serde_json::Value;
use tch::Tensor;

use super::super::files::floats;
use super::super::own::{model, own_config};
use super::super::settings::Settings;
use super::super::{Imported, Origin, moved_bias};
use super::config::{architecture_name, check_keys, is_legacy, notes};
use super::rule::{finetuning_factor, rule};
use super::{CONFIG_FILE, WEIGHTS_FILE, scaler};
use crate::{ModelConfig, Result, read_tensors};

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
    let (code, mut more) =
        rule(name, &settings, &metadata, &details, own.as_ref(), &mut file, &mut notes)?;
    if let Some(factor) = finetuning_factor(&settings, is_legacy, &mut file, d_sae)? {
        // The reconstruction is of features multiplied by it, which are encoded without.
        w_dec *= factor.unsqueeze(1);
    }
    notes.extend(file.finish(code.name())?);

    if settings.flag("rescale_acts_by_decoder_norm", false)? {
        move_norms(&mut w_enc, &mut b_enc, &mut w_dec);
    }
    let (normalization, scale) = normalization(dir, &settings, d)?;
    (w_enc, w_dec, b_dec) = (w_enc * scale, w_dec / scale, b_dec / scale);
    if let Some(hidden) = more.remove("k_estimator.hidden.weight") {
        more.insert("k_estimator.hidden.weight", hidden * scale);
    }
    let subtracts = settings.flag("apply_b_dec_to_input", true)?;
    let code = match code {
        Code::JumpRelu { .. } => Code::JumpRelu { subtract_b_dec: subtracts },
        other if subtracts => other,
        other => {
            // Ours subtract it: the biases make up for that.
            move_biases(&mut more, &w_enc, &b_dec);
            b_enc = moved_bias(&b_enc, &w_enc, &b_dec, -1.0);
            other
        }
    };
    // Of a SoftSAE the settings say all that there is to say.
    let own = own.filter(|_| name != "softsae");
    let config = ModelConfig { d_model: d, d_out: None, n_features: f, normalization, code };
    more.extend([
        ("encoder.weight", w_enc),
        ("encoder.bias", b_enc),
        ("decoder.weight", w_dec),
        ("decoder.bias", b_dec),
    ]);
    let origin = origin(about, is_legacy)?;
    Ok(Imported { sae: model(&path, own, config, more)?, origin, notes })
}

/// Moves the norms of the decoder's rows to the encoder.
fn move_norms(w_enc: &mut Tensor, b_enc: &mut Tensor, w_dec: &mut Tensor) {
    let norms = w_dec.norm_scalaropt_dim(2.0, [1i64].as_slice(), true);
    *w_enc *= &norms;
    *b_enc *= norms.squeeze_dim(1);
    *w_dec /= norms;
}

/// Where the activations came from.
fn origin(about: &Settings, is_legacy: bool) -> Result<Origin> {
    let hook = match about.text_or_none("hook_name")? {
        None if is_legacy => about.text_or_none("hook_point")?,
        hook => hook,
    };
    Ok(Origin::of_transformer_lens(about.text_or_none("model_name")?, hook))
}

/// Makes the biases beyond the encoder's up for a b_dec that is subtracted from the input.
fn move_biases(more: &mut BTreeMap<&'static str, Tensor>, w_enc: &Tensor, b_dec: &Tensor) {
    if let Some(bias) = more.remove("magnitude.bias") {
        let factor = more["magnitude.log_scale"].exp().unsqueeze(1);
        let moved = moved_bias(&bias, &(w_enc * factor), b_dec, -1.0);
        more.insert("magnitude.bias", moved);
    }
    if let Some(hidden) = more.get("k_estimator.hidden.weight") {
        let moved = moved_bias(&more["k_estimator.hidden.bias"], hidden, b_dec, -1.0);
        more.insert("k_estimator.hidden.bias", moved);
    }
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
