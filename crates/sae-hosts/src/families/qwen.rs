//! Qwen2 (Yang et al. 2024) and Qwen3 (Yang et al. 2025): Llama with biases on queries, keys and
//! values; or with a norm of each head's queries and keys.

use super::Family;
use super::llama::{Variant, load_variant};
use crate::Result;
use crate::config::HostConfig;
use crate::host::HostInfo;
use crate::weights::Weights;

pub(super) fn load_qwen2(
    config: &HostConfig,
    weights: &Weights,
) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_sliding_window", false)?;
    let variant =
        Variant { qkv_bias: true, attention_out_bias: false, mlp_bias: false, head_norms: false };
    load_variant(config, weights, variant)
}

pub(super) fn load_qwen3(
    config: &HostConfig,
    weights: &Weights,
) -> Result<(HostInfo, Box<dyn Family>)> {
    config.only("use_sliding_window", false)?;
    let bias = config.bool_or("attention_bias", false)?;
    let variant =
        Variant { qkv_bias: bias, attention_out_bias: bias, mlp_bias: false, head_norms: true };
    load_variant(config, weights, variant)
}
