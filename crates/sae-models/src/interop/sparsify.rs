//! sparsify: `cfg.json` and `sae.safetensors`; TopK alone.

use std::path::Path;

use sae_config::{ArchitectureConfig, Normalization, Parity};
use serde_json::json;
use tch::Tensor;

use super::{
    Exported, OWN_KEY, Settings, floats, model, no_counterpart, own_config, tensor, top_k,
};
use crate::{ModelConfig, Result, Sae, read_tensors, write_tensors};

const CONFIG_FILE: &str = "cfg.json";
const WEIGHTS_FILE: &str = "sae.safetensors";

/// The latents a dimension where a file tells neither these nor their number.
const EXPANSION_FACTOR: usize = 32;

pub(super) fn export(sae: &dyn Sae, dir: &Path) -> Result<Exported> {
    let config = sae.config();
    let ArchitectureConfig::TopK(top_k) = &config.architecture else {
        return Err(no_counterpart("sparsify", "`topk`", sae));
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
        "k": top_k.k,
        "multi_topk": false,
        "skip_connection": false,
        "transcode": false,
        "d_in": config.d_model,
        OWN_KEY: config,
    });
    let files = vec![dir.join(WEIGHTS_FILE), dir.join(CONFIG_FILE)];
    write_tensors(&files[0], weights.iter().map(|(name, tensor)| (*name, tensor)))?;
    sae_config::write_json(&files[1], &settings)?;
    Ok(Exported { files, differences: vec![] })
}

pub(super) fn import(dir: &Path) -> Result<Box<dyn Sae>> {
    let settings = Settings::read(dir.join(CONFIG_FILE))?;
    let path = dir.join(WEIGHTS_FILE);
    let mut file = floats(&path, read_tensors(&path)?);
    for flag in ["skip_connection", "transcode"] {
        if settings.flag(flag, false)? {
            return Err(settings.wrong(flag, "false: an autoencoder", true));
        }
    }
    if settings.map.contains_key("activation") && settings.text("activation")? != "topk" {
        return Err(settings.wrong("activation", "`topk`", settings.text("activation")?));
    }
    let d = settings.size("d_in")?;
    let f = match settings.size("num_latents") {
        Ok(f) => f,
        Err(_) if settings.map.contains_key("expansion_factor") => {
            d * settings.size("expansion_factor")?
        }
        Err(_) => d * EXPANSION_FACTOR,
    };
    let (d_in, n_latents) = (d as i64, f as i64);
    let tensors = [
        ("encoder.weight", file.take("encoder.weight", &[n_latents, d_in])?),
        ("encoder.bias", file.take("encoder.bias", &[n_latents])?),
        ("decoder.weight", file.take("W_dec", &[n_latents, d_in])?),
        ("decoder.bias", file.take("b_dec", &[d_in])?),
        ("threshold", Tensor::from(-1.0_f32)),
    ];
    file.finish("topk")?;
    let config = ModelConfig {
        d_model: d,
        n_features: f,
        normalization: Normalization::None,
        parity: Parity::None,
        architecture: ArchitectureConfig::TopK(top_k(settings.size("k")?)),
    };
    model(&path, own_config(&settings.map, &settings.path)?, config, tensors)
}
