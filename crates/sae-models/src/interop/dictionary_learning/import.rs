//! From dictionary_learning's files to a model of ours.

use std::path::Path;

use sae_config::{Code, Normalization};
use tch::Tensor;

use super::super::files::{FileTensors, floats};
use super::super::own::{model, own_config};
use super::super::settings::Settings;
use super::super::torch_file::{self, StateDict};
use super::super::{Imported, moved_bias, positive};
use super::{CONFIG_FILE, WEIGHTS_FILE, origin, settings};
use crate::{Error, ModelConfig, Result};

pub(in super::super) fn import(dir: &Path) -> Result<Imported> {
    let settings = settings(dir.join(CONFIG_FILE), &[])?;
    let path = dir.join(WEIGHTS_FILE);
    let StateDict { tensors, norm_factor } = torch_file::read(&path)?;
    let mut notes = Vec::new();
    let mut file = floats(&path, tensors);
    let (d, f) = (settings.size("activation_dim")?, settings.size("dict_size")?);
    let class = settings.text("dict_class")?;
    let (code, mut tensors) = code(class, &settings, &mut file, &mut notes, (d, f))?;
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

/// The code of a class and the tensors that it has, by our names.
fn code(
    class: &str,
    settings: &Settings,
    file: &mut FileTensors,
    notes: &mut Vec<String>,
    (d, f): (usize, usize),
) -> Result<(Code, Vec<(&'static str, Tensor)>)> {
    let (d_in, d_sae) = (d as i64, f as i64);
    Ok(match class {
        "AutoEncoderTopK" | "BatchTopKSAE" => {
            let mut tensors = Vec::from(linear(file, "encoder.bias", "b_dec", d_in, d_sae)?);
            let k = k(settings, file)?;
            if class == "BatchTopKSAE" {
                tensors.push(("threshold", one_threshold(file, notes)?));
                (Code::BatchTopK { k }, tensors)
            } else {
                // Files of old versions have none.
                let threshold = file.take_either(&["threshold"], &[])?;
                tensors.push(("threshold", threshold.unwrap_or_else(|| Tensor::from(-1.0_f32))));
                (Code::TopK { k }, tensors)
            }
        }
        "MatryoshkaBatchTopKSAE" => {
            let mut tensors = Vec::from(transposed(file, d_in, d_sae)?);
            tensors.push(("threshold", one_threshold(file, notes)?));
            let group_sizes = group_sizes(file, f)?;
            let k = k(settings, file)?;
            (Code::MatryoshkaBatchTopK { k, group_sizes }, tensors)
        }
        "JumpReluAutoEncoder" => {
            let mut tensors = Vec::from(transposed(file, d_in, d_sae)?);
            let threshold = file.take("threshold", &[d_sae])?;
            tensors.push(("threshold", positive(&threshold, notes)));
            (Code::JumpRelu { subtract_b_dec: false }, tensors)
        }
        "GatedAutoEncoder" => {
            let mut tensors = Vec::from(linear(file, "gate_bias", "decoder_bias", d_in, d_sae)?);
            tensors.push(("magnitude.log_scale", file.take("r_mag", &[d_sae])?));
            tensors.push(("magnitude.bias", file.take("mag_bias", &[d_sae])?));
            (Code::Gated {}, tensors)
        }
        "AutoEncoder" | "AutoEncoderNew" => {
            (Code::Standard {}, standard(class, file, d_in, d_sae)?.into())
        }
        other => {
            let known = "`AutoEncoder`, `AutoEncoderNew`, `GatedAutoEncoder`, \
                         `JumpReluAutoEncoder`, `AutoEncoderTopK`, `BatchTopKSAE` or \
                         `MatryoshkaBatchTopKSAE`";
            return Err(settings.wrong("dict_class", known, other));
        }
    })
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

/// The sizes of groups, which are all features together.
fn group_sizes(file: &mut FileTensors, n_features: usize) -> Result<Vec<usize>> {
    let group_sizes = file.sizes("group_sizes")?;
    if group_sizes.iter().sum::<usize>() != n_features {
        return Err(Error::Format {
            path: file.path.clone(),
            expected: format!("`group_sizes` of {n_features} features in all"),
            got: format!("{group_sizes:?}"),
        });
    }
    Ok(group_sizes)
}

/// The weights of an SAE with ReLU alone, of either of its classes.
fn standard(
    class: &str,
    file: &mut FileTensors,
    d_in: i64,
    d_sae: i64,
) -> Result<[(&'static str, Tensor); 4]> {
    let bias = if class == "AutoEncoder" { "bias" } else { "decoder.bias" };
    let mut tensors = linear(file, "encoder.bias", bias, d_in, d_sae)?;
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
    Ok(tensors)
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
