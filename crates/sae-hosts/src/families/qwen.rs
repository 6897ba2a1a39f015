//! Qwen2 (Yang et al. 2024) and Qwen3 (Yang et al. 2025): Llama with biases on queries, keys and
//! values; or with a norm of each head's queries and keys. Some layers may have a sliding window.

use super::llama::{Variant, is_unused, load_variant};
use super::{Family, Loader, masks};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::layers::Mask;
use crate::weights::Weights;

pub(super) const QWEN2: Loader =
    Loader { name: "qwen2", load: load_qwen2, defaults, ignored: &[], is_unused };

pub(super) const QWEN3: Loader =
    Loader { name: "qwen3", load: load_qwen3, defaults, ignored: &[], is_unused };

fn defaults() -> serde_json::Value {
    serde_json::json!({
        "max_window_layers": 28, "num_key_value_heads": 32, "sliding_window": 4096,
    })
}

fn load_qwen2(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_mrope", false)?;
    let variant = Variant {
        qkv_bias: true,
        attention_out_bias: false,
        mlp_bias: false,
        head_norms: false,
        head_dim: None,
        masks: windows(config)?,
    };
    load_variant(config, weights, variant)
}

fn load_qwen3(config: &HostConfig, weights: &Weights) -> Result<(HostInfo, Box<dyn Family>)> {
    let bias = config.bool_or("attention_bias", false)?;
    let variant = Variant {
        qkv_bias: bias,
        attention_out_bias: bias,
        mlp_bias: false,
        head_norms: true,
        head_dim: Some(128),
        masks: windows(config)?,
    };
    load_variant(config, weights, variant)
}

/// The layers from `max_window_layers` on have the window, if `use_sliding_window`.
fn windows(config: &HostConfig) -> Result<Vec<Mask>> {
    let first = config.whole_or("max_window_layers", 28)?;
    let window = config.size_optional("sliding_window")?;
    let window = if config.bool_or("use_sliding_window", false)? { window } else { None };
    masks(config, config.count("num_hidden_layers")?, window, |layer| layer as u64 >= first)
}
