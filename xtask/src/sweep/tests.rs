//! Runs for tests.

use sae_config::{RunConfig, RunResult, RunStatus};

use super::state::Known;

fn config(k: usize, seed: u64) -> RunConfig {
    let text = format!(
        "data.store = 's'\nsae.n_features = 64\narchitecture = {{ name = 'topk', k = {k} }}\n\
         training = {{ steps = 10, batch_size = 8, seed = {seed} }}"
    );
    toml::from_str::<RunConfig>(&text).unwrap().check().unwrap().settings().clone()
}

/// A run that a sweep has.
pub(super) fn known(id: &str) -> Known {
    Known { id: id.into(), variant: None, config: config(4, 7) }
}

/// A run that is done, with L0 = k.
pub(super) fn measured(k: usize, seed: u64, r2: f64) -> RunResult {
    let evaluation = serde_json::json!({
        "n_rows": 100,
        "reconstruction": {
            "r2": r2, "frac_variance_explained": 0.76, "mse_per_row": 1.0, "cosine": 0.9,
            "norm_ratio": 0.9, "relative_bias": 1.0
        },
        "sparsity": {
            "l0_mean": k as f64, "l0_sd": 0.5, "l0_p5": 4.0, "l0_p50": 4.0, "l0_p95": 4.0,
            "l1": 3.0, "dead_fraction": 0.125, "dense_fraction_1e2": 0.5,
            "dense_fraction_1e1": 0.0, "density_histogram": []
        },
        "k_hat": null,
        "cross_entropy": null
    });
    RunResult {
        run_id: format!("{k}-{seed}"),
        variant: None,
        status: RunStatus::Done,
        config: config(k, seed),
        train_seconds: 12.5,
        evaluation: serde_json::from_value(evaluation).unwrap(),
        failure: None,
        provenance: None,
    }
}

/// A run with k = 4 that is done.
pub(super) fn result(id: &str) -> RunResult {
    RunResult { run_id: id.into(), ..measured(4, 7, 0.75) }
}

/// A run with another learning rate, and an id that says so.
pub(super) fn with_lr(mut run: RunResult, lr: f64) -> RunResult {
    run.config.training.lr = Some(lr);
    RunResult { run_id: format!("{} {lr}", run.run_id), ..run }
}
