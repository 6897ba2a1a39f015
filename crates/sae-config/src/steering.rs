//! What a host writes when one feature is added to its activations, as written by `steer`.

use serde::{Deserialize, Serialize};

/// One prompt gone on with at several strengths of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Steering {
    /// The feature.
    pub feature: usize,
    /// Where its direction is added.
    pub hook_point: String,
    /// The prompt.
    pub prompt: String,
    /// 0: the likeliest token each time.
    pub temperature: f64,
    /// Seed of the draws, the same at each strength.
    pub seed: u64,
    /// A continuation for each strength.
    pub continuations: Vec<Continuation>,
}

/// What a host writes at one strength.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Continuation {
    /// The activation that is added to the feature's at each position.
    pub strength: f64,
    /// Norm of what that adds to an activation of the host, over the norm of the activation; the mean
    /// over the positions of the prompt that are steered.
    pub relative_norm: f64,
    /// The new tokens.
    pub tokens: Vec<u32>,
    /// Their text, where the host has a tokenizer.
    pub text: Option<String>,
    /// Whether the host ended the text itself.
    pub ended: bool,
    /// Mean loss of the new tokens under the untouched host, in nats.
    pub loss: f64,
    /// Its exponential.
    pub perplexity: f64,
    /// Mean activation of the feature on the new tokens where the untouched host reads them.
    pub activation: f64,
}
