//! Which runs the engine computes, and the memory that it takes for them.

use sae_config::{CheckedRun, Engine, KTarget, Recipe};
use tch::Kind;

use super::FastEngine;
use crate::engine::{EngineKind, Needs};
use crate::plan::estimator_size;

/// The temperature from which on most activations are within reach of the threshold.
const DENSE_ALPHA: f64 = 1e-2;

/// The engine, before it runs.
pub(crate) const FAST: EngineKind = EngineKind {
    name: "fast",
    limits: "is for f32 on the CPU, with sparse codes and, in `soft`, the `mlp` or `narrow` estimator",
    computes,
    cuts: |_| true,
    needs,
    start: |config, sae| FastEngine::new(config, sae).map(|engine| Box::new(engine) as _),
};

fn computes(config: &CheckedRun, kind: Kind) -> bool {
    let (architecture, training) = (&config.settings().architecture, &config.training);
    let able = Engine::Fast.computes(architecture, &training.device, training.precision);
    able && kind == Kind::Float
}

/// z, and the hidden layer of SoftSAE's estimator; and the codes.
fn needs(config: &CheckedRun, d_model: usize) -> Needs {
    let (d, f) = (d_model as u64, config.sae.n_features as u64);
    let codes_per_row = codes_per_row(&config.recipe, d, f);
    // An entry of a code: index, value, gradient and, in SoftSAE, the operator; its copy by feature,
    // or space to grow, where codes are few.
    let is_soft = matches!(config.recipe, Recipe::Soft(_));
    let (entry, dense_entry) = if is_soft { (15, 10) } else { (8, 5) };
    // From some density on, the codes of a micro-batch are used up before the next one is encoded.
    let few = (sae_kernels::DENSE_FROM * f as f64).ceil() as u64;
    let streams = may_stream(&config.recipe) && codes_per_row > few;
    let (of_batch, of_micro) =
        if streams { (few, dense_entry * codes_per_row + f) } else { (codes_per_row, 0) };
    let (_, hidden_units) = estimator_size(config, d_model);
    Needs { micro_row: f + hidden_units + of_micro, batch_row: of_batch * entry }
}

/// Whether the engine uses up codes micro-batch by micro-batch where there are many.
fn may_stream(recipe: &Recipe) -> bool {
    match recipe {
        Recipe::Soft(c) => c.prefixes.len() == 1,
        Recipe::JumpRelu(_) => true,
        Recipe::TopK(_)
        | Recipe::Gated(_)
        | Recipe::Standard(_)
        | Recipe::StandardApril(_)
        | Recipe::PAnneal(_) => false,
    }
}

/// The most features that are active in a row, on average over a batch, in any step.
fn codes_per_row(recipe: &Recipe, d: u64, f: u64) -> u64 {
    let most = |target: &KTarget| {
        let k = target.k as u64;
        if target.anneal_steps > 0 { k.max(d).min(f) } else { k }
    };
    match recipe {
        Recipe::TopK(c) => most(&c.k),
        Recipe::Soft(c) => {
            let start = if c.alpha_anneal_steps > 0 { c.alpha_start } else { c.alpha };
            let dense = start.max(c.alpha) >= DENSE_ALPHA;
            if dense { f } else { c.k_max.ceil() as u64 }
        }
        // At first a feature is active in half of the rows.
        Recipe::JumpRelu(_) => f / 2,
        Recipe::Gated(_) | Recipe::Standard(_) | Recipe::StandardApril(_) | Recipe::PAnneal(_) => f,
    }
}
