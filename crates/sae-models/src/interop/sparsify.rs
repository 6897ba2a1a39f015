//! sparsify: `cfg.json` and `sae.safetensors`; TopK, and of its first versions AbsTopK, which the
//! present ones would read as TopK.

use std::path::Path;

use sae_config::{Code, Normalization};
use serde_json::json;
use tch::Tensor;

use super::files::{check_finite, floats};
use super::own::{OWN_KEY, model, own_config};
use super::settings::{Keys, Settings};
use super::{Exported, Imported, Origin, no_counterpart, tensor};
use crate::{ModelConfig, Result, Sae, read_tensors, write_tensors};

const CONFIG_FILE: &str = "cfg.json";
const WEIGHTS_FILE: &str = "sae.safetensors";

/// The latents a dimension where a file tells neither these nor their number.
const EXPANSION_FACTOR: usize = 32;

/// Every key of `cfg.json`.
pub(super) const KEYS: Keys = Keys {
    read: &["d_in", "num_latents", "expansion_factor", "k", "signed", OWN_KEY],
    neutral: &[
        ("activation", &["\"topk\""], "another selection"),
        ("skip_connection", &["false"], "a linear path beside the features"),
        ("transcode", &["false"], "a transcoder, whose output is not its input"),
    ],
    ignored: &[(
        "of training: the decoder is saved as it is used",
        &["normalize_decoder", "multi_topk"],
    )],
};

pub(super) fn export(sae: &Sae, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let Code::TopK { k } = &config.code else {
        return Err(no_counterpart(sae));
    };
    let weights = [
        ("encoder.weight", tensor(sae, "encoder.weight")?),
        ("encoder.bias", tensor(sae, "encoder.bias")?),
        ("W_dec", tensor(sae, "decoder.weight")?),
        ("b_dec", tensor(sae, "decoder.bias")?),
    ];
    let settings = json!({
        "activation": "topk",
        "expansion_factor": config.n_features.div_ceil(config.d_model),
        "normalize_decoder": false,
        "num_latents": config.n_features,
        "k": k,
        "multi_topk": false,
        "skip_connection": false,
        "transcode": false,
        "d_in": config.d_model,
        OWN_KEY: config,
    });
    let weights = weights.iter().map(|(name, tensor)| (*name, tensor));
    check_finite(weights.clone())?;
    let files = vec![dir.join(WEIGHTS_FILE), dir.join(CONFIG_FILE)];
    write_tensors(&files[0], weights)?;
    sae_config::write_json(&files[1], &settings)?;
    Ok(Exported { files, differences: vec![] })
}

pub(super) fn import(dir: &Path) -> Result<Imported> {
    let settings = Settings::read(dir.join(CONFIG_FILE))?;
    settings.check(&[&KEYS])?;
    let path = dir.join(WEIGHTS_FILE);
    let mut file = floats(&path, read_tensors(&path)?);
    let d = settings.size("d_in")?;
    let has = |key: &str| settings.map.contains_key(key);
    // 0 latents are as many as the factor says.
    let f = if has("num_latents") && settings.value("num_latents").as_u64() != Some(0) {
        settings.size("num_latents")?
    } else if has("expansion_factor") {
        d.saturating_mul(settings.size("expansion_factor")?)
    } else {
        d.saturating_mul(EXPANSION_FACTOR)
    };
    let (d_in, n_latents) = (d as i64, f as i64);
    let mut tensors = vec![
        ("encoder.weight", file.take("encoder.weight", &[n_latents, d_in])?),
        ("encoder.bias", file.take("encoder.bias", &[n_latents])?),
        ("decoder.weight", file.take("W_dec", &[n_latents, d_in])?),
        ("decoder.bias", file.take("b_dec", &[d_in])?),
    ];
    let notes = file.finish("topk")?;
    let k = settings.size("k")?;
    let code = if settings.flag("signed", false)? {
        Code::AbsTopK { k }
    } else {
        tensors.push(("threshold", Tensor::from(-1.0_f32)));
        Code::TopK { k }
    };
    let config = ModelConfig {
        d_model: d,
        d_out: None,
        n_features: f,
        normalization: Normalization::None,
        code,
    };
    let own = own_config(&settings.map, &settings.path)?;
    let sae = model(&path, own, config, tensors)?;
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.into());
    Ok(Imported { sae, origin: Origin::of_module(&dir), notes })
}
