//! SAELens: `cfg.json` and `sae_weights.safetensors`.
//!
//! Its matrices are `W_enc [d_in, d_sae]` and `W_dec [d_sae, d_in]`. BatchTopK and Matryoshka are
//! `jumprelu` there, with one threshold for all features. SoftSAE is an architecture of its own
//! there, whose Python class is written beside it.

mod config;
mod export;
mod import;
pub(super) mod keys;
mod rule;
mod scaler;

pub(super) use export::export;
pub(super) use import::import;
#[cfg(test)]
pub(super) use scaler::KEYS as SCALER_KEYS;

const CONFIG_FILE: &str = "cfg.json";
const WEIGHTS_FILE: &str = "sae_weights.safetensors";
