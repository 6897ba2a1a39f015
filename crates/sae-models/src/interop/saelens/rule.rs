//! The code of SAELens' files by ours, and its tensors beyond encoder and decoder.

use std::collections::BTreeMap;

use sae_config::{Code, EstimatorNetwork, Rounding, SoftCode};
use tch::{Kind, Tensor};

use super::super::files::FileTensors;
use super::super::positive;
use super::super::settings::{Settings, whole};
use crate::{Error, ModelConfig, Result};

/// Within this of 1 SAELens takes a factor of features for 1.
const ONES: (f64, f64) = (1e-5, 1e-8);

/// The code by ours, and what a file holds beyond encoder and decoder by our names.
pub(super) fn rule(
    name: &str,
    settings: &Settings,
    metadata: &Settings,
    details: &Settings,
    own: Option<&ModelConfig>,
    file: &mut FileTensors,
    notes: &mut Vec<String>,
) -> Result<(Code, BTreeMap<&'static str, Tensor>)> {
    let d_sae = settings.size("d_sae")? as i64;
    let own = own.map(|own| own.code.clone());
    Ok(match name {
        "topk" => {
            let code = Code::TopK { k: top_k_size(settings)? };
            (code, BTreeMap::from([("threshold", Tensor::from(-1.0_f32))]))
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
            let threshold = positive(&thresholds(file, d_sae)?, notes);
            let trained_as = metadata.text_or_none("training_architecture")?;
            let k = trained_as.filter(|a| a.ends_with("batchtopk"));
            let k = k.and_then(|_| whole(details.value("k")));
            let one = threshold.min();
            match own {
                _ if one != threshold.max() => {
                    (JUMPRELU, BTreeMap::from([("threshold", threshold)]))
                }
                Some(own @ (Code::BatchTopK { .. } | Code::MatryoshkaBatchTopK { .. })) => {
                    (own, BTreeMap::from([("threshold", one)]))
                }
                _ => one_threshold(k, one, d_sae),
            }
        }
        "gated" => (
            Code::Gated {},
            BTreeMap::from([
                ("magnitude.log_scale", file.take("r_mag", &[d_sae])?),
                ("magnitude.bias", file.take("b_mag", &[d_sae])?),
            ]),
        ),
        "softsae" => {
            let (code, tensors) = soft(name, settings, own, file)?;
            (Code::Soft(code), tensors)
        }
        _ => (Code::Standard {}, BTreeMap::new()),
    })
}

/// The thresholds of JumpReLU.
fn thresholds(file: &mut FileTensors, d_sae: i64) -> Result<Tensor> {
    Ok(match file.take_either(&["threshold"], &[d_sae])? {
        Some(threshold) => threshold,
        // Files of old versions have its logarithm.
        None => match file.take_either(&["log_threshold"], &[d_sae])? {
            Some(logarithm) => logarithm.exp(),
            None => file.take("threshold", &[d_sae])?,
        },
    })
}

/// The code of a SoftSAE and the tensors of its k-estimator.
fn soft(
    name: &str,
    settings: &Settings,
    own: Option<Code>,
    file: &mut FileTensors,
) -> Result<(SoftCode, BTreeMap<&'static str, Tensor>)> {
    let Some(Code::Soft(own)) = own else {
        let expected = "`softsae` with our own configuration beside it";
        return Err(settings.wrong("architecture", expected, name));
    };
    let hidden_units = settings.size("d_hidden")?;
    let rounds_down = settings.flag("round_down", false)?;
    let code = SoftCode {
        k_min: settings.number("k_min")?,
        k_max: settings.number("k_max")?,
        rounding: if rounds_down { Rounding::Down } else { Rounding::Nearest },
        k_estimator: EstimatorNetwork::TwoLayers { hidden_units },
        ..own
    };
    let (hidden, d_in) = (hidden_units as i64, settings.size("d_in")? as i64);
    let tensors = BTreeMap::from([
        ("k_estimator.hidden.weight", file.take("W_k", &[d_in, hidden])?.tr()),
        ("k_estimator.hidden.bias", file.take("b_k", &[hidden])?),
        ("k_estimator.output.weight", file.take("w_k_out", &[hidden])?),
        ("k_estimator.output.bias", file.take("b_k_out", &[])?),
    ]);
    Ok((code, tensors))
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
) -> (Code, BTreeMap<&'static str, Tensor>) {
    let (code, threshold) = match k {
        Some(k) => (Code::BatchTopK { k }, one),
        None => (JUMPRELU, one.expand([d_sae], false).copy()),
    };
    (code, BTreeMap::from([("threshold", threshold)]))
}

/// The input is what `apply_b_dec_to_input` says, which is read later.
const JUMPRELU: Code = Code::JumpRelu { subtract_b_dec: false };

/// What features are multiplied by before they are decoded, unless that is 1.
pub(super) fn finetuning_factor(
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
